//! State that expires, against a naive model in every mode; its clean-up; its declarations.

use std::time::Duration;

use thalweg_connectors::memory;
use thalweg_engine::ProcessingTime;
use thalweg_engine::graph::{ExecutionPlan, JobGraph, PlanFormat};
use thalweg_engine::state::{BackendConfig, KeyGroupRange, LimitedRun, SnapshotPart};
use thalweg_engine::testing::take_runs;

use super::*;
use crate::process::tests::clock;
use crate::{Job, Watermarks};

/// An operation, and the time at which a timer is to tell everything.
type Asked = (Operation, Option<i64>);

struct Expiring(Operated);

impl Expiring {
    fn declare(states: &mut StateDeclarations<u8>, ttl: Ttl) -> Self {
        let list = Ttl { renewal: Renewal::Write, ..ttl };
        Expiring(Operated {
            value: states.with_ttl(ttl).value("value"),
            list: states.with_ttl(list).list("list"),
            map: states.with_ttl(ttl).map("map"),
            greatest: states.with_ttl(ttl).reducing("greatest", |a: &i64, b| *a.max(b)),
            count: states.with_ttl(ttl).aggregating("count", Count),
        })
    }
}

impl ProcessFunction<u8, Asked> for Expiring {
    type State = ();
    type Out = Text;

    fn on_record(
        &self,
        (operation, alarm): Asked,
        context: &mut ProcessContext<'_, u8, (), Text>,
    ) -> Result<()> {
        if let Some(alarm) = alarm {
            context.register_timer(at(alarm));
        }
        self.0.on_record(operation, context)
    }

    fn on_timer(
        &self,
        _time: EventTime,
        context: &mut ProcessContext<'_, u8, (), Text>,
    ) -> Result<()> {
        self.0.on_record(Operation::Tell, context)
    }
}

/// Something and when it expires.
type Until<T> = (T, i64);

/// The state of one key from scratch: what has expired is removed before anything else happens.
#[derive(Default)]
struct ExpiringModel {
    value: Option<Until<i64>>,
    list: Vec<Until<i64>>,
    /// In order of insertion.
    map: Vec<(String, Until<i64>)>,
    greatest: Option<Until<i64>>,
    count: Option<Until<u64>>,
}

/// When something is done.
#[derive(Clone, Copy)]
struct When {
    now: i64,
    /// When what is created now expires.
    until: i64,
    renewal: Renewal,
}

impl When {
    fn at(ttl: Ttl, event_now: i64, time: i64, now: i64) -> Self {
        let Ttl { ms, domain, renewal } = ttl;
        match domain {
            Domain::EventTime => When { now: event_now, until: time.max(event_now) + ms, renewal },
            Domain::ProcessingTime => When { now, until: now + ms, renewal },
        }
    }

    fn write<T>(self, old: Option<Until<T>>, value: T) -> Until<T> {
        match old {
            Some((_, until)) if self.renewal == Renewal::Creation => (value, until),
            Some((_, until)) => (value, until.max(self.until)),
            None => (value, self.until),
        }
    }

    fn read<T: Copy>(self, entry: &mut Until<T>) -> T {
        if self.renewal == Renewal::ReadAndWrite {
            entry.1 = entry.1.max(self.until);
        }
        entry.0
    }
}

impl ExpiringModel {
    fn expire(&mut self, now: i64) {
        self.value.take_if(|(_, until)| *until <= now);
        self.greatest.take_if(|(_, until)| *until <= now);
        self.count.take_if(|(_, until)| *until <= now);
        self.list.retain(|(_, until)| now < *until);
        self.map.retain(|(_, (_, until))| now < *until);
    }

    fn put(&mut self, name: String, when: When, f: impl FnOnce(Option<i64>) -> i64) -> i64 {
        let found = self.map.iter_mut().find(|(other, _)| *other == name);
        let value = f(found.as_ref().map(|(_, (value, _))| *value));
        match found {
            Some((_, entry)) => *entry = when.write(Some(*entry), value),
            None => self.map.push((name, when.write(None, value))),
        }
        value
    }

    fn operate(&mut self, operation: Operation, when: When) -> String {
        self.expire(when.now);
        match operation {
            Operation::Set(n) => self.value = Some(when.write(self.value, n)),
            Operation::AddToValue(n) => {
                let sum = self.value.map_or(100, |(value, _)| value) + n;
                self.value = Some(when.write(self.value, sum));
                return format!("{sum}");
            }
            Operation::TakeValue => {
                return format!("{:?}", self.value.take().map(|(value, _)| value));
            }
            Operation::Push(n, times) => {
                self.list.extend((0..times).map(|i| (n + i64::from(i), when.until)));
                return format!("{} {}", self.list.len(), self.list.is_empty());
            }
            Operation::KeepMultiples(n) => self.list.retain(|(value, _)| value % n == 0),
            Operation::Replace(length) => {
                self.list = (0..i64::from(length)).map(|n| (n, when.until)).collect();
            }
            Operation::TakeList => {
                let list = std::mem::take(&mut self.list);
                return format!("{:?}", list.iter().map(|(n, _)| *n).collect::<Vec<_>>());
            }
            Operation::Insert(name, n) => {
                self.put(name.clone(), when, |_| n);
                let entry = self.map.iter_mut().find(|(other, _)| *other == name);
                return format!("{:?}", entry.map(|(_, entry)| when.read(entry)));
            }
            Operation::AddTo(name, n) => {
                return format!("{}", self.put(name, when, |old| old.unwrap_or(7) + n));
            }
            Operation::Remove(name) => {
                let found = self.map.iter().position(|(other, _)| *other == name);
                let value = found.map(|index| self.map.remove(index).1.0);
                return format!("{} {value:?} {}", value.is_some(), self.map.len());
            }
            Operation::KeepAbove(n) => {
                for (_, entry) in &mut self.map {
                    when.read(entry);
                }
                self.map.retain(|(_, (value, _))| *value > n);
            }
            Operation::ClearMap => self.map.clear(),
            Operation::Reduce(n) => {
                let greatest = self.greatest.map_or(n, |(value, _)| value.max(n));
                self.greatest = Some(when.write(self.greatest, greatest));
            }
            Operation::ClearReduced => self.greatest = None,
            Operation::Aggregate => {
                let count = self.count.map_or(0, |(count, _)| count) + 1;
                self.count = Some(when.write(self.count, count));
            }
            Operation::ClearAggregated => self.count = None,
            Operation::Tell => return self.tell(when),
        }
        String::new()
    }

    fn tell(&mut self, when: When) -> String {
        let value = self.value.as_mut().map(|entry| when.read(entry));
        let list: Vec<i64> = self.list.iter().map(|(n, _)| *n).collect();
        let entries = self.map.iter_mut().map(|(name, entry)| (name.clone(), when.read(entry)));
        let entries: Vec<_> = entries.collect();
        let greatest = self.greatest.as_mut().map(|entry| when.read(entry));
        let count = self.count.as_mut().map(|entry| when.read(entry));
        format!("{value:?} {list:?} {entries:?} {greatest:?} {count:?}")
    }
}

/// A script, and what it must give.
struct Played {
    ttl: Ttl,
    models: BTreeMap<u8, ExpiringModel>,
    timers: std::collections::BTreeSet<(i64, u8)>,
    event_now: i64,
    now: i64,
    script: Vec<Input<Keyed<u8, Asked>>>,
    expected: Vec<String>,
}

impl Played {
    fn operate(&mut self, key: u8, operation: Operation, event_now: i64, time: i64) {
        let when = When::at(self.ttl, event_now, time, self.now);
        let told = self.models.entry(key).or_default().operate(operation, when);
        self.expected.push(format!("{told:?} at {time}"));
    }

    fn watermark(&mut self, watermark: EventTime) {
        let until = watermark.millis();
        while let Some(&(time, key)) = self.timers.first()
            && time <= until
        {
            self.timers.pop_first();
            self.operate(key, Operation::Tell, self.event_now.max(time), time);
        }
        self.event_now = until;
        self.script.push(Input::Watermark(watermark));
    }

    fn step(&mut self, random: &mut Random, time: i64) {
        if random.is_chosen(12) {
            self.watermark(at((time - random.between(-20, 5)).max(self.event_now)));
        }
        if random.is_chosen(12) {
            self.now += random.between(0, 40);
            self.script.push(Input::Time(clock(self.now)));
        }
        let key = random.below(3) as u8;
        let time = time - random.between(0, 9);
        let alarm = random.is_chosen(25).then(|| time + random.between(-5, 30));
        self.timers.extend(alarm.map(|alarm| (alarm, key)));
        let operation = operation(random);
        self.operate(key, operation.clone(), self.event_now, time);
        let value = (operation, alarm);
        self.script.push(Input::Record(Keyed { key, value }, at(time), None));
    }
}

#[test]
fn what_expires_is_seen_as_long_as_in_the_model() {
    let mut told = [0, 0];
    for seed in 0..120_u64 {
        let mut random = Random::new(seed);
        let ttl = Duration::from_millis([1, 7, 40, 90][random.below(4)]);
        let ttl = match seed % 2 {
            0 => Ttl::by_event_time(ttl),
            _ => Ttl::by_processing_time(ttl),
        };
        let ttl = match random.below(3) {
            0 => ttl,
            1 => ttl.from_creation(),
            _ => ttl.renewed_by_reads(),
        };
        let mut played = Played {
            ttl,
            models: BTreeMap::new(),
            timers: std::collections::BTreeSet::new(),
            event_now: EventTime::MIN.millis(),
            now: 0,
            script: Vec::new(),
            expected: Vec::new(),
        };
        for time in 0..120 {
            played.step(&mut random, 3 * time);
        }
        played.watermark(EventTime::MAX);
        let Played { script, mut expected, .. } = played;
        expected.sort_unstable();
        let given = verify(|states| Expiring::declare(states, ttl), &script);
        let given = given.unwrap_or_else(|e| panic!("seed {seed}: {e}"));
        assert_eq!(given.main, expected, "seed {seed}, {ttl:?}");
        told[0] += given.main.iter().filter(|line| line.contains("None [] [] None None")).count();
        told[1] += given.main.iter().filter(|line| line.contains("Some(")).count();
    }
    assert!(told[0] > 100 && told[1] > 1_000, "some is expired and some is not: {told:?}");
}

/// A map of a thousand entries for each of ten keys, all written at once; and its operator.
fn maps(ttl: Ttl) -> (OperatorState, Named<u8>, Slot) {
    let mut declarations = StateDeclarations::<u8>::new();
    let slot = declarations.with_ttl(ttl).map::<u32, u8>("map").slot;
    let (declared, problems) = declarations.finish();
    assert_eq!(problems, Vec::<String>::new());
    let count = KeyGroupCount::default();
    let range = KeyGroupRange::all(count);
    let mut state = OperatorState::open(BackendConfig::Memory, range, count).expect("opens");
    let named = Named::open(&declared, &mut state, count);
    (state, named, slot)
}

fn clocks(time: i64) -> Clocks {
    Clocks { event_now: at(time), time: at(time), now: ProcessingTime::from_millis(time) }
}

fn insert(named: &mut Named<u8>, slot: Slot, entry: (u8, u32), time: i64) {
    let (key, map_key) = entry;
    let owner = Owner { key: &key, hash: hash_key(&key).expect("a number has a hash") };
    let map: MapAt<'_, u8, u32, u8> = named.map(slot, clocks(time));
    MapEntries { map, owner }.insert(&map_key, 1).expect("inserts");
}

fn remove(named: &mut Named<u8>, slot: Slot, entry: (u8, u32), time: i64) {
    let (key, map_key) = entry;
    let owner = Owner { key: &key, hash: hash_key(&key).expect("a number has a hash") };
    let map: MapAt<'_, u8, u32, u8> = named.map(slot, clocks(time));
    MapEntries { map, owner }.remove(&map_key).expect("removes");
}

/// The runs that a snapshot after others consists of.
fn snapshot(state: &mut OperatorState, named: &mut Named<u8>, runs: &mut Vec<LimitedRun>) {
    let mut snapshot = state.begin_snapshot();
    named.snapshot_into(&mut snapshot).expect("encodes");
    let SnapshotPart::Epoch(epoch) = state.finish_snapshot(snapshot) else {
        panic!("there is state")
    };
    let swept = named.each_table(&mut |table| table.sweep(&mut usize::MAX.clone()));
    swept.expect("encodes");
    let stream = state.stream().expect("snapshots are taken");
    take_runs(&stream, epoch, runs).expect("is complete");
}

/// What a snapshot after others takes.
fn byte_len(state: &mut OperatorState, named: &mut Named<u8>, runs: &mut Vec<LimitedRun>) -> usize {
    snapshot(state, named, runs);
    runs.iter().map(|(run, _)| run.length() as usize).sum()
}

#[test]
fn expired_state_leaves_memory_and_snapshots_untouched_and_in_steps() {
    for ttl in [Duration::from_millis(64), Duration::from_secs(1)] {
        let (mut state, mut named, slot) = maps(Ttl::by_event_time(ttl));
        let mut runs = Vec::new();
        for map_key in 0..1_000 {
            for key in 0..10 {
                insert(&mut named, slot, (key, map_key), 0);
            }
        }
        let ms = ttl.as_millis() as i64;
        assert!(named.clean_up(clocks(ms - 1)).expect("cleans up"), "nothing is due");
        assert!(byte_len(&mut state, &mut named, &mut runs) > 10_000 * 8);
        let mut steps = 0;
        let late = clocks(ms + ms / SLICES);
        while !named.clean_up(late).expect("cleans up") {
            steps += 1;
        }
        assert!((9..=12).contains(&steps), "{steps} steps");
        snapshot(&mut state, &mut named, &mut runs);
        assert!(runs.is_empty());
    }
}

#[test]
fn what_is_written_again_and_again_takes_the_room_of_what_is_alive() {
    let (mut state, mut named, slot) = maps(Ttl::by_processing_time(Duration::from_millis(320)));
    let (mut most, mut runs) = ([0, 0], Vec::new());
    for time in 0..6_000_i64 {
        // Some are kept alive by writes, some are removed and come again, some expire.
        insert(&mut named, slot, ((time % 7) as u8, (time % 20) as u32), time);
        remove(&mut named, slot, (8, (time % 20) as u32), time);
        insert(&mut named, slot, (8, (time % 20) as u32), time);
        insert(&mut named, slot, (9, time as u32), time);
        while !named.clean_up(clocks(time)).expect("cleans up") {}
        if time % 100 == 99 {
            let most = &mut most[usize::from(time > 1_000)];
            *most = byte_len(&mut state, &mut named, &mut runs).max(*most);
        }
    }
    assert!(most[1] <= most[0] + most[0] / 8, "{most:?} bytes");
    let end = named.wake_at().expect("something is to expire").millis();
    assert!((6_000..6_000 + 320).contains(&end), "{end}");
    while !named.clean_up(clocks(7_000)).expect("cleans up") {}
    snapshot(&mut state, &mut named, &mut runs);
    assert!(runs.is_empty());
    assert_eq!(named.wake_at(), None);
}

#[test]
fn a_wrong_ttl_is_a_problem() {
    let mut states = StateDeclarations::<u8>::new();
    states.with_ttl(Ttl::by_event_time(Duration::ZERO)).value::<u8>("brief");
    states.with_ttl(Ttl::by_event_time(Duration::MAX).renewed_by_reads()).list::<u8>("read");
    states.with_ttl(Ttl::by_processing_time(Duration::MAX)).list::<u8>("right");
    let (declared, problems) = states.finish();
    assert_eq!(
        problems,
        [
            "the state `brief` lives for less than a millisecond, so it is never there",
            "the elements of the list `read` cannot be renewed by reads",
        ]
    );
    assert!(declared.needs_event_time, "the list does");
    assert_eq!(declared.note(), None);
}

#[test]
fn state_does_not_change_whether_it_expires() {
    for expires in [false, true] {
        let mut declarations = StateDeclarations::<u8>::new();
        match expires {
            true => declarations.with_ttl(Ttl::by_event_time(Duration::MAX)).value::<u8>("x"),
            false => declarations.value::<u8>("x"),
        };
        let (declared, _) = declarations.finish();
        let count = KeyGroupCount::default();
        let range = KeyGroupRange::all(count);
        let mut state = OperatorState::open(BackendConfig::Memory, range, count).expect("opens");
        let mut named = Named::open(&declared, &mut state, count);
        let tables = StateTables::of("x");
        let table = if expires { tables.plain[0] } else { tables.expiring[1] };
        let key = StateKey {
            key_group: thalweg_engine::state::KeyGroup::new(0),
            table,
            namespace: thalweg_engine::state::Namespace::default(),
            key: &[],
        };
        let error = named.restore_entry(&key, &[]).expect_err("it is refused").to_string();
        let expected = if expires { "without a time to live" } else { "with a time to live" };
        assert!(error.contains("the state `x`") && error.contains(expected), "{error}");
    }
}

struct Keeps {
    last: ValueState<u64>,
    seen: MapState<u64, u64>,
    recent: ListState<u64>,
}

impl ProcessFunction<u64, u64> for Keeps {
    type State = ();
    type Out = u64;

    fn on_record(&self, record: u64, context: &mut ProcessContext<'_, u64, (), u64>) -> Result<()> {
        context.value(&self.last).set(record)?;
        context.map(&self.seen).insert(&record, record)?;
        context.list(&self.recent).push(record)
    }
}

/// A job with state of all sorts, some of which expires.
fn job(has_event_time: bool) -> JobGraph {
    let job = Job::new();
    let numbers = job.source("numbers", memory::source(vec![1_u64]));
    let numbers = match has_event_time {
        true => numbers.event_time(|n: &u64| *n, Watermarks::monotonic()),
        false => numbers.map(|n| n),
    };
    let keyed = numbers.key_by(|n| *n);
    keyed.aggregate("running", Count).sink("counts", memory::sink().0);
    let joined = keyed.connect(&keyed).inner_join("joined", |_, a, b| a + b);
    joined.sink("sums", memory::sink().0);
    let keeps = keyed.process_with("keeps", |states| Keeps {
        last: states.value("last"),
        seen: states.map("seen"),
        recent: states.with_ttl(Ttl::by_event_time(Duration::from_secs(60))).list("recent"),
    });
    keeps.sink("kept", memory::sink().0);
    job.into_graph()
}

#[test]
fn plans_note_state_that_grows_without_end() {
    let graph = job(true);
    let plan = ExecutionPlan::new(&graph, 1).expect("a plan");
    let plan = plan.render(&graph, "notes", PlanFormat::Text);
    let lines: Vec<&str> = plan.lines().map(str::trim).collect();
    let mut notes = Vec::new();
    for pair in lines.windows(2) {
        if let Some(note) = pair[1].strip_prefix("note: ") {
            notes.push((pair[0].split_whitespace().nth(1).unwrap_or_default(), note));
        }
    }
    notes.sort_unstable();
    let expected = [
        (
            "joined",
            "keeps every row of both sides for good; joins with an interval or a window do not",
        ),
        ("keeps", "keeps `last`, `seen` until the function clears it; `with_ttl` gives it an end"),
        ("running", "keeps a value for every key for good; a window gives it an end"),
    ];
    assert_eq!(notes, expected, "{plan}");
}

#[test]
fn a_ttl_by_event_time_needs_event_time() {
    let error = job(false).validate().expect_err("there is none").to_string();
    assert!(error.contains("`keeps`") && error.contains("event time"), "{error}");
    job(true).validate().expect("there is");
}
