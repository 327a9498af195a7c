//! Tests of snapshots: restored at any parallelism, on either backend, as if nothing had happened.

use std::collections::BTreeMap;

use super::*;
use crate::error::StateError;
use crate::hash_key;
use crate::key_group::{KeyGroup, subtask_of};
use crate::table::StateTable;
use crate::testing::{BACKENDS, Bed, SplitMix, Writer, bed};

const PLAIN: TableId = TableId(1);
const SLICED: TableId = TableId(2);

type Contents = BTreeMap<(Option<Namespace>, String), Vec<u32>>;

/// One subtask of an operator with two tables.
struct Subtask {
    bed: Bed,
    plain: Table<String, Vec<u32>>,
    sliced: SlicedTable<String, Vec<u32>>,
    writer: Writer,
    leaves_slices: bool,
}

fn count() -> KeyGroupCount {
    KeyGroupCount::new(20).expect("in range")
}

fn hash(key: &String) -> u64 {
    hash_key(key).expect("hashes")
}

impl Subtask {
    fn new(mut bed: Bed) -> Self {
        let (plain, sliced) = (bed.state.table(PLAIN), bed.state.sliced(SLICED));
        Subtask { bed, plain, sliced, writer: Writer::default(), leaves_slices: false }
    }

    fn restore(&mut self, parts: &[RestoreSource]) -> Result<()> {
        let Subtask { bed, plain, sliced, writer, .. } = self;
        *writer = Writer::restored(parts, bed.state.key_groups());
        let mut restore = bed.state.begin_restore(parts)?;
        restore.leave(plain)?;
        if self.leaves_slices {
            restore.leave(sliced)?;
        }
        restore.run(&mut |key, value| match key.table {
            PLAIN => plain.restore_entry(&key, value),
            _ => sliced.restore_entry(&key, value),
        })
    }

    /// From now on restores leave tables in runs, some or all or none.
    fn leave_at_random(&mut self, random: &mut SplitMix) {
        let leaves = random.below(3);
        self.bed.state.leave_from(if leaves > 0 { 0 } else { u64::MAX });
        self.leaves_slices = leaves > 1;
    }

    fn freeze(&mut self) -> SnapshotPart {
        let mut snapshot = self.bed.state.begin_snapshot();
        self.plain.snapshot_into(&mut snapshot).expect("encodes");
        self.sliced.snapshot_into(&mut snapshot).expect("encodes");
        self.bed.state.finish_snapshot(snapshot)
    }

    fn sweep(&mut self, mut budget: usize) {
        self.plain.sweep(&mut budget).expect("encodes");
        self.sliced.sweep(&mut budget).expect("encodes");
        self.writer.take(&self.bed.state, count());
    }

    fn snapshot(&mut self) -> RestoreSource {
        let part = self.freeze();
        self.sweep(usize::MAX);
        self.writer.snapshot(part)
    }

    /// A snapshot while the state goes on changing.
    fn snapshot_beside_changes(
        &mut self,
        random: &mut SplitMix,
        model: &mut Contents,
    ) -> RestoreSource {
        let part = self.freeze();
        for _ in 0..random.below(4) {
            self.change(random, model);
            self.sweep(random.below(50) as usize);
        }
        self.sweep(usize::MAX);
        self.writer.snapshot(part)
    }

    /// Random changes, applied to the model too.
    fn change(&mut self, random: &mut SplitMix, model: &mut Contents) {
        let range = self.bed.state.key_groups();
        let owns = |key: &String| range.contains(KeyGroup::of(hash(key), count()));
        for _ in 0..600 {
            let key = format!("key {}", random.below(200));
            let h = hash(&key);
            if !owns(&key) {
                continue;
            }
            let start = random.below(3) as i64 - 1;
            let namespace = (random.below(2) == 0).then_some(Namespace(start, 10));
            let table = match namespace {
                None => &mut self.plain,
                Some(namespace) => self.sliced.slice(namespace),
            };
            if random.below(4) == 0 {
                let found = table.remove(h, &key).expect("removes");
                assert_eq!(found, model.remove(&(namespace, key)));
            } else {
                let value = random.next() as u32;
                table.update(h, &key, Vec::new, |list| list.push(value)).expect("updates");
                model.entry((namespace, key)).or_default().push(value);
            }
            match random.below(40) {
                3 if random.below(20) == 0 => {
                    self.plain.clear().expect("clears");
                    model.retain(|(namespace, key), _| namespace.is_some() || !owns(key));
                }
                4 => {
                    self.sliced.drop_slice(Namespace(start, 10)).expect("drops");
                    let gone = Some(Namespace(start, 10));
                    model.retain(|(namespace, key), _| *namespace != gone || !owns(key));
                }
                0 => self.plain.evict(random.below(20) as usize).expect("evicts"),
                1 => self.sliced.evict(1).expect("evicts"),
                5 => self.plain.load(&mut 1).expect("reads"),
                6 => self.sliced.load(&mut 1).expect("reads"),
                2 => self.plain.relieve().and_then(|()| self.sliced.relieve()).expect("relieves"),
                _ => {}
            }
        }
    }

    fn contents(&mut self) -> Contents {
        let mut found = Contents::new();
        let mut put = |namespace, key: &String, value: &Vec<u32>| {
            assert!(found.insert((namespace, key.clone()), value.clone()).is_none());
        };
        self.plain.for_each(|key, _, value| put(None, key, value)).expect("reads");
        for namespace in self.sliced.namespaces().collect::<Vec<_>>() {
            let slice = self.sliced.get_slice(namespace).expect("is there");
            slice.for_each(|key, _, value| put(Some(namespace), key, value)).expect("reads");
        }
        found
    }
}

/// The subtasks of one backend at a parallelism.
fn subtasks(backend: &str, parallelism: usize) -> Vec<Subtask> {
    let open = |index| {
        let range = KeyGroupRange::of_subtask(index, parallelism, count());
        Subtask::new(bed(backend, 3_000, range, count()))
    };
    (0..parallelism).map(open).collect()
}

/// Runs an operator in several attempts, each at its own backend and parallelism.
fn run_attempts(random: &mut SplitMix, attempts: &[(&str, usize)]) {
    let mut model = Contents::new();
    let mut parts = Vec::new();
    for &(backend, parallelism) in attempts {
        let mut tasks = subtasks(backend, parallelism);
        let mut found = Contents::new();
        let reads_all = random.below(2) == 0;
        for task in &mut tasks {
            task.leave_at_random(random);
            task.restore(&parts).expect("restores");
            task.writer.never_merges = random.below(2) == 0;
            if reads_all {
                found.append(&mut task.contents());
            }
        }
        assert!(!reads_all || found == model, "restored at {parallelism}");
        let mut now = model.clone();
        for _ in 0..random.below(7) + 1 {
            for task in &mut tasks {
                task.change(random, &mut now);
            }
            // Changes beside and after the snapshot are not part of it.
            model = now.clone();
            let beside = |task: &mut Subtask| task.snapshot_beside_changes(&mut *random, &mut now);
            parts = tasks.iter_mut().map(beside).collect();
        }
        let all = tasks.iter_mut().flat_map(|task| task.contents()).collect::<Contents>();
        assert_eq!(all, now, "changed at {parallelism}");
    }
}

#[test]
fn snapshots_restore_at_any_parallelism_on_any_backend() {
    for &from in BACKENDS {
        for &to in BACKENDS {
            let random = &mut SplitMix((from.len() * 10 + to.len()) as u64);
            run_attempts(random, &[(from, 2), (to, 3), (from, 1), (to, 2), (from, 2), (to, 2)]);
        }
    }
}

#[test]
fn snapshots_restore_with_more_subtasks_than_key_groups() {
    for seed in 0..60 {
        run_attempts(&mut SplitMix(seed), &[7, 25, 4, 20, 1].map(|n| ("memory", n)));
    }
}

#[test]
fn a_snapshot_holds_what_has_changed_and_no_more() {
    for backend in BACKENDS {
        let mut task = subtasks(backend, 1).remove(0);
        let keys: Vec<String> = (0..1_000).map(|key| format!("key {key}")).collect();
        for key in &keys {
            task.plain.insert(hash(key), key, vec![1, 2, 3]).expect("inserts");
        }
        let first = task.snapshot();
        assert_eq!(task.snapshot().runs().len(), first.runs().len(), "nothing has changed");
        task.plain.update(hash(&keys[7]), &keys[7], Vec::new, |v| v.push(4)).expect("updates");
        task.plain.remove(hash(&keys[8]), &keys[8]).expect("removes");
        task.plain.get(hash(&keys[9]), &keys[9]).expect("reads");
        let second = task.snapshot();
        let (delta, _) = second.runs().last().expect("there is one");
        assert_eq!((second.runs().len(), delta.entries()), (first.runs().len() + 1, 2));
    }
}

#[test]
fn a_state_that_has_changed_as_a_whole_needs_no_run_before() {
    for backend in BACKENDS {
        let mut task = subtasks(backend, 1).remove(0);
        // Not so many that memory is relieved.
        let keys: Vec<String> = (0..9).map(|key| format!("key {key}")).collect();
        let update = |task: &mut Subtask, key: &String| {
            task.plain.update(hash(key), key, Vec::new, |list| list.push(1)).expect("updates");
        };
        for _ in 0..3 {
            keys.iter().for_each(|key| update(&mut task, key));
            assert_eq!(task.snapshot().runs().len(), 1, "{backend}");
        }
        // As many entries are logged as there are, but one of them twice, or one that is gone.
        let (skipped, others) = keys.split_first().expect("nine");
        others.iter().for_each(|key| update(&mut task, key));
        if *backend == "memory" {
            task.plain.remove(hash(&keys[3]), &keys[3]).expect("removes");
        } else {
            task.plain.evict(9).expect("evicts");
            update(&mut task, &keys[3]);
        }
        let part = task.freeze();
        task.sweep(0);
        update(&mut task, skipped);
        task.sweep(usize::MAX);
        let found = task.writer.snapshot(part);
        let mut restored = subtasks("memory", 1).remove(0);
        restored.restore(&[found]).expect("restores");
        let contents = restored.contents();
        assert_eq!(contents[&(None, skipped.clone())].len(), 3, "{backend}");
        let gone = usize::from(*backend == "memory");
        assert_eq!(contents.len(), 9 - gone, "{backend}");
    }
}

#[test]
fn state_without_entries_has_no_runs() {
    for backend in BACKENDS {
        let mut task = subtasks(backend, 1).remove(0);
        assert!(task.snapshot().runs().is_empty());
        let key = "key".to_owned();
        task.plain.insert(hash(&key), &key, vec![1]).expect("inserts");
        assert_eq!(task.snapshot().runs().len(), 1);
        task.plain.remove(hash(&key), &key).expect("removes");
        assert!(task.snapshot().runs().is_empty());
    }
}

/// What a restore hands over and nobody keeps must not come back at the next one.
#[test]
fn entries_that_are_not_kept_at_a_restore_are_gone() {
    for backend in BACKENDS {
        let mut task = subtasks(backend, 1).remove(0);
        for key in ["kept", "left out", "kept too"].map(str::to_owned) {
            task.plain.insert(hash(&key), &key, vec![1]).expect("inserts");
        }
        let parts = [task.snapshot()];
        let mut restored = subtasks(backend, 1).remove(0);
        let Subtask { bed, plain, writer, .. } = &mut restored;
        *writer = Writer::restored(&parts, bed.state.key_groups());
        bed.state
            .restore(&parts, &mut |key, value| {
                let text: String = crate::codec::decode_key(key.key)?;
                if text == "left out" { Ok(()) } else { plain.restore_entry(&key, value) }
            })
            .expect("restores");
        plain.evict(1).expect("evicts");
        let again = [restored.snapshot()];
        let mut last = subtasks("memory", 1).remove(0);
        last.restore(&again).expect("restores");
        let kept: Vec<String> = last.contents().into_keys().map(|(_, key)| key).collect();
        assert_eq!(kept, ["kept", "kept too"], "{backend}");
    }
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let mut random = SplitMix(5);
    let mut task = subtasks("memory", 1).remove(0);
    task.change(&mut random, &mut Contents::new());
    let parts = [task.snapshot()];
    let restore_as = |state: &mut OperatorState, parts: &[RestoreSource]| {
        let mut plain = state.table::<String, Vec<u32>>(PLAIN);
        let mut sliced = state.sliced::<String, Vec<u32>>(SLICED);
        state.restore(parts, &mut |key, value| match key.table {
            PLAIN => plain.restore_entry(&key, value),
            _ => sliced.restore_entry(&key, value),
        })
    };
    let default = KeyGroupCount::default();
    let mut other_count =
        OperatorState::open(BackendConfig::Memory, KeyGroupRange::all(default), default)
            .expect("opens");
    let found = restore_as(&mut other_count, &parts);
    assert!(matches!(found, Err(StateError::Unsupported(_))), "{found:?}");

    let all = KeyGroupRange::all(count());
    let mut twice = OperatorState::open(BackendConfig::Memory, all, count()).expect("opens");
    let found = restore_as(&mut twice, &[parts[0].clone(), parts[0].clone()]);
    assert!(matches!(found, Err(StateError::Corrupt { .. })), "{found:?}");

    // A type of equal encoding but another hash: its keys belong to other key groups.
    let mut other_type = OperatorState::open(BackendConfig::Memory, all, count()).expect("opens");
    let mut table = other_type.table::<Vec<u8>, Vec<u32>>(PLAIN);
    let found = other_type.restore(&parts, &mut |key, value| match key.table {
        PLAIN => table.restore_entry(&key, value),
        _ => Ok(()),
    });
    assert!(matches!(found, Err(StateError::Corrupt { .. })), "{found:?}");
}

#[test]
fn every_entry_goes_to_the_subtask_that_owns_its_key() {
    let mut random = SplitMix(6);
    let mut task = subtasks("memory", 1).remove(0);
    task.change(&mut random, &mut Contents::new());
    let parts = [task.snapshot()];
    for (index, task) in subtasks("memory", 7).iter_mut().enumerate() {
        task.restore(&parts).expect("restores");
        for (_, key) in task.contents().keys() {
            assert_eq!(subtask_of(KeyGroup::of(hash(key), count()), 7, count()), index);
        }
    }
}

/// A subtask with nothing but a table of parts.
type PartsSubtask = (Bed, Table<(String, u32), u64>, Writer);

fn parts_subtasks(backend: &str, parallelism: usize) -> Vec<PartsSubtask> {
    let open = |index| {
        let range = KeyGroupRange::of_subtask(index, parallelism, count());
        let mut bed = bed(backend, 3_000, range, count());
        let table = bed.state.parts::<String, u32, u64>(PLAIN);
        (bed, table, Writer::default())
    };
    (0..parallelism).map(open).collect()
}

#[test]
fn parts_of_a_key_are_in_its_key_group_and_are_found_when_restored() {
    for (&from, &to) in BACKENDS.iter().flat_map(|from| BACKENDS.iter().map(move |to| (from, to))) {
        let random = &mut SplitMix(6);
        let mut model = BTreeMap::<(String, u32), u64>::new();
        let mut parts = Vec::new();
        for (backend, parallelism) in [(from, 2), (to, 3), (from, 1), (to, 4)] {
            let mut tasks = parts_subtasks(backend, parallelism);
            for (bed, table, writer) in &mut tasks {
                let restored =
                    &mut |key: StateKey<'_>, value: &[u8]| table.restore_entry(&key, value);
                *writer = Writer::restored(&parts, bed.state.key_groups());
                bed.state.restore(&parts, restored).expect("restores");
            }
            let mut found = 0;
            for _ in 0..2_000 {
                let pair = (format!("key {}", random.below(15)), random.below(60) as u32);
                let key_hash = hash(&pair.0);
                let group = KeyGroup::of(key_hash, count());
                let place = crate::hash_part(key_hash, &pair.1, count()).expect("hashes");
                assert_eq!(KeyGroup::of(place, count()), group);
                let (_, table, _) = &mut tasks[subtask_of(group, parallelism, count())];
                let there = table.get(place, &pair).expect("reads").copied();
                assert_eq!(there, model.get(&pair).copied(), "{pair:?} on {backend}");
                found += usize::from(there.is_some());
                match random.below(3) {
                    0 => assert_eq!(
                        table.remove(place, &pair).expect("removes"),
                        model.remove(&pair)
                    ),
                    _ => {
                        let value = random.next();
                        table.insert(place, &pair, value).expect("inserts");
                        model.insert(pair, value);
                    }
                }
                if random.below(50) == 0 {
                    table.evict(random.below(40) as usize).expect("evicts");
                }
            }
            let mut listed = BTreeMap::new();
            for (_, table, _) in &mut tasks {
                table
                    .for_each(|pair, _, value| {
                        listed.insert(pair.clone(), *value);
                    })
                    .expect("reads");
            }
            assert!(found > 500 && listed == model, "all parts are listed, each once");
            parts = tasks
                .iter_mut()
                .map(|(bed, table, writer)| {
                    let mut snapshot = bed.state.begin_snapshot();
                    table.snapshot_into(&mut snapshot).expect("encodes");
                    let part = bed.state.finish_snapshot(snapshot);
                    table.sweep(&mut usize::MAX.clone()).expect("encodes");
                    writer.take(&bed.state, count());
                    writer.snapshot(part)
                })
                .collect();
        }
    }
}

/// What every subtask writes to one key group, its own or not, is found there in every part.
#[test]
fn an_entry_in_a_key_group_of_others_is_read_where_it_was_written() {
    for backend in BACKENDS {
        let mut bed = bed(backend, 3_000, KeyGroupRange::new(10, 20), count());
        let mut table = bed.state.table::<String, u32>(PLAIN);
        let key = "everywhere".to_owned();
        let place = crate::hash_part(0, &key, count()).expect("hashes");
        table.insert(place, &key, 7).expect("inserts");
        let mut snapshot = bed.state.begin_snapshot();
        table.snapshot_into(&mut snapshot).expect("encodes");
        let part = bed.state.finish_snapshot(snapshot);
        table.sweep(&mut usize::MAX.clone()).expect("encodes");
        let mut writer = Writer::default();
        writer.take(&bed.state, count());
        let source = writer.snapshot(part);
        for (range, expected) in [((0, 1), 1), ((1, 20), 0)] {
            let mut found = 0;
            let count = |_: StateKey<'_>, _: &[u8]| {
                found += 1;
                Ok(())
            };
            source.for_each(KeyGroupRange::new(range.0, range.1), count).expect("reads");
            assert_eq!(found, expected, "{backend} {range:?}");
        }
    }
}
