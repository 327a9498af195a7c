//! Tests of epochs: whatever the order in which the steps of two processes take place, at most one
//! of them goes on, and nothing that was reported as published is lost.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::{Place, everywhere, large, manifest, manifest_key, names, numbers, open};
use super::{options, publish, write};
use crate::memory::Map;
use crate::objects::{LocalFile, Objects, Summary};
use crate::{CheckpointId, CheckpointStore, Error, ErrorKind, Manifest, Repository, Result};

fn open_as(place: Place<'_>, pid: u32) -> Repository {
    Repository::open(place(), &options(pid)).expect("can be opened")
}

fn expect_taken_over(error: &Error, pid: u32) {
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let by = format!("taken over by process {pid} on test, started 1970-01-01");
    assert!(error.to_string().contains(&by), "{error}");
}

#[test]
fn the_newcomer_goes_on_and_the_other_is_told_who_took_over() {
    everywhere(|place| {
        let mut old = open_as(place, 1);
        publish(&mut old, 7);
        let part = write(&mut old, 8, &large(1));
        let mut new = open_as(place, 2);
        assert_eq!(new.latest().expect("sound").map(|found| found.id.0), Some(7));
        assert!(!names(place).contains(&part.name), "nobody may publish it any more");
        // It does not know yet, and writes what nobody will read.
        let part = write(&mut old, 8, &large(2));
        expect_taken_over(&old.publish(&manifest(8, &[&part])).expect_err("fenced"), 2);
        let refused = [
            old.publish(&manifest(9, &[&part])),
            old.write_part(CheckpointId(8), "part", b"").map(drop),
            old.adopt_file(CheckpointId(8), "part", Path::new("none")).map(drop),
            old.retain(1),
            old.discard(CheckpointId(8)),
            old.mark_committed(CheckpointId(7)),
        ];
        for result in refused {
            expect_taken_over(&result.expect_err("fenced"), 2);
        }
        publish(&mut new, 8);
        assert_eq!(numbers(&new), [7, 8]);
        assert_eq!(numbers(&open_as(place, 3)), [7, 8]);
    });
}

#[test]
fn a_manifest_that_came_too_late_is_void() {
    everywhere(|place| {
        let mut old = open_as(place, 1);
        publish(&mut old, 7);
        let mut new = open_as(place, 2);
        // What the old process sent long ago arrives now.
        let late = Manifest { epoch: 1, ..manifest(8, &[]) }.encode().expect("sound");
        assert!(place().create(&manifest_key(CheckpointId(8)), &late).expect("writes"));
        assert_eq!(numbers(&new), [7]);
        let error = new.publish(&manifest(8, &[])).expect_err("the number is taken");
        assert_eq!(error.kind(), ErrorKind::Fenced);
        let mut third = open_as(place, 3);
        assert_eq!(third.latest().expect("sound").map(|found| found.id.0), Some(7));
        assert_eq!(third.next_id(), CheckpointId(9));
        publish(&mut third, 9);
        third.retain(2).expect("deletes");
        assert_eq!(numbers(&open_as(place, 4)), [7, 9]);
        let left = place().list("checkpoints").expect("lists");
        assert!(!left.iter().any(|(key, _)| *key == manifest_key(CheckpointId(8))), "{left:?}");
    });
}

#[test]
fn claims_that_make_nothing_void_go() {
    everywhere(|place| {
        for _ in 0..3 {
            drop(open(place));
        }
        let claims = || {
            let listed = place().list("epochs").expect("lists").into_iter();
            let mut keys: Vec<_> =
                listed.map(|(key, _)| key["epochs/".len()..].to_owned()).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(claims(), ["0000000003", "0000000003-from-0000000000"]);
        publish(&mut open(place), 7);
        drop(open(place));
        assert_eq!(claims().len(), 4, "manifest 7 is of epoch 4, the newest claim is 5");
        let mut store = open(place);
        publish(&mut store, 8);
        store.retain(1).expect("deletes");
        assert_eq!(claims(), ["0000000006", "0000000006-from-0000000007"]);
    });
}

#[test]
fn a_claim_that_cannot_be_read_is_one_all_the_same() {
    everywhere(|place| {
        let mut old = open(place);
        place().create("epochs/0000000002", b"{").expect("writes");
        let error = old.publish(&manifest(7, &[])).expect_err("fenced");
        assert!(error.to_string().contains("taken over by another process"), "{error}");
    });
}

/// How often one process is interrupted by the other. Without a bound there are 39,163 orders of
/// the first test and 590,601 of the second, all of which pass, in minutes.
const INTERRUPTIONS: usize = 5;

/// Decides in which order two threads take their steps, and remembers where there was a choice.
#[derive(Default)]
struct Turns {
    state: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Default)]
struct Turn {
    next: usize,
    has_ended: [bool; 2],
    /// Whether the other process interrupts, at each step so far; not, at those beyond.
    choices: Vec<bool>,
    taken: usize,
}

impl Turn {
    fn choose(&mut self) {
        match self.has_ended {
            [true, _] => self.next = 1,
            [_, true] => self.next = 0,
            _ => {
                let interruptions = self.choices[..self.taken].iter().filter(|other| **other);
                if interruptions.count() == INTERRUPTIONS {
                    return;
                }
                if self.taken == self.choices.len() {
                    self.choices.push(false);
                }
                if self.choices[self.taken] {
                    self.next = 1 - self.next;
                }
                self.taken += 1;
            }
        }
    }
}

impl Turns {
    fn new(choices: Vec<bool>) -> Self {
        let mut turn = Turn { choices, ..Turn::default() };
        turn.choose();
        Self { state: Mutex::new(turn), changed: Condvar::new() }
    }

    fn step<T>(&self, process: usize, step: impl FnOnce() -> T) -> T {
        let turn = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_while(turn, |turn| turn.next != process);
        let mut turn = waited.unwrap_or_else(PoisonError::into_inner);
        let value = step();
        turn.choose();
        self.changed.notify_all();
        value
    }
}

/// Ends the steps of a process, whatever happens to it.
struct End<'a>(&'a Turns, usize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let mut turn = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        turn.has_ended[self.1] = true;
        if turn.next == self.1 {
            turn.choose();
        }
        self.0.changed.notify_all();
    }
}

/// A map in which calls that matter to others wait for their turn.
struct InTurn {
    map: Map,
    turns: Arc<Turns>,
    process: usize,
}

impl Objects for InTurn {
    fn locate(&self, key: &str) -> PathBuf {
        self.map.locate(key)
    }

    fn put(&mut self, key: &str, bytes: &[u8]) -> Result<()> {
        self.map.put(key, bytes)
    }

    fn adopt(&mut self, key: &str, file: &Path) -> Result<Summary> {
        self.map.adopt(key, file)
    }

    fn settle(&mut self) -> Result<()> {
        self.map.settle()
    }

    fn create(&mut self, key: &str, bytes: &[u8]) -> Result<bool> {
        self.turns.step(self.process, || self.map.create(key, bytes))
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.map.read(key)
    }

    fn read_range(&self, key: &str, offset: u64, bytes: u64) -> Result<Option<Vec<u8>>> {
        self.map.read_range(key, offset, bytes)
    }

    fn local_file(&self, key: &str) -> Result<Option<LocalFile>> {
        self.map.local_file(key)
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        self.map.size(key)
    }

    fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        self.turns.step(self.process, || self.map.list(folder))
    }

    fn delete(&mut self, key: &str) -> Result<()> {
        self.turns.step(self.process, || self.map.delete(key))
    }

    fn sweep(&mut self, folder: &str) -> Result<()> {
        self.map.sweep(folder)
    }

    fn recover(&mut self) -> Result<()> {
        self.map.recover()
    }

    fn work_directory(&self) -> Option<&Path> {
        None
    }
}

/// Runs `run` under every order of steps, and says how many there are.
fn explore(run: impl Fn(Arc<Turns>)) -> usize {
    let mut choices = Vec::new();
    for count in 1.. {
        let turns = Arc::new(Turns::new(choices));
        run(turns.clone());
        let mut turn = turns.state.lock().expect("nobody has panicked");
        choices = std::mem::take(&mut turn.choices);
        while choices.last() == Some(&true) {
            choices.pop();
        }
        match choices.last_mut() {
            Some(last) => *last = true,
            None => return count,
        }
    }
    0
}

/// A process that opens the store, starts from its newest checkpoint, and takes the next one.
fn take_over(map: &Map, turns: &Arc<Turns>, process: usize) -> Result<(u64, u64)> {
    let _end = End(turns, process);
    let objects = InTurn { map: map.clone(), turns: turns.clone(), process };
    let options = options(process as u32 + 1);
    let mut store = Repository::open(Box::new(objects), &options)?;
    let from = store.list().expect("lists").last().map_or(0, |id| id.0);
    let id = store.next_id();
    let part = write(&mut store, id.0, &large(process as u8));
    store.publish(&manifest(id.0, &[&part]))?;
    store.retain(2)?;
    Ok((from, id.0))
}

/// What a third process finds is sound, and its newest checkpoint is that number.
fn expect_newest(map: &Map, newest: u64) {
    let store = Repository::open(Box::new(map.clone()), &options(9)).expect("can be opened");
    assert_eq!(store.list().expect("lists").last().map(|id| id.0), Some(newest));
    for id in store.list().expect("lists") {
        for part in store.load(id).expect("sound").part_files() {
            store.read_part(part).expect("sound");
        }
    }
}

#[test]
fn a_process_that_publishes_while_another_takes_over() {
    let orders = explore(|turns| {
        let map = Map::default();
        let mut old = Repository::open(Box::new(map.clone()), &options(1)).expect("opens");
        publish(&mut old, 7);
        let part = write(&mut old, 8, &large(7));
        old.objects = Box::new(InTurn { map: map.clone(), turns: turns.clone(), process: 0 });
        let mut publish = || {
            let _end = End(&turns, 0);
            let published = old.publish(&manifest(8, &[&part]));
            published.inspect(|()| drop(old.retain(1)))
        };
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| take_over(&map, &turns, 1));
            (publish(), second.join().expect("does not panic"))
        });
        match (first, second) {
            // What was reported as published, and committed, is what the other starts from.
            (Ok(()), second) => {
                let (from, id) = second.expect("nobody is in its way");
                assert_eq!(from, 8);
                expect_newest(&map, id);
            }
            (Err(error), Ok((_, id))) => {
                expect_taken_over(&error, 2);
                expect_newest(&map, id);
            }
            // A late manifest has taken its number: neither has reported anything.
            (Err(error), Err(collision)) => {
                expect_taken_over(&error, 2);
                assert_eq!(collision.kind(), ErrorKind::Fenced);
                expect_newest(&map, 7);
            }
        }
    });
    assert!(orders > 1_000, "{orders}");
}

#[test]
fn two_processes_that_open_at_once() {
    let orders = explore(|turns| {
        let map = Map::default();
        let (first, second) = std::thread::scope(|scope| {
            let second = scope.spawn(|| take_over(&map, &turns, 1));
            (take_over(&map, &turns, 0), second.join().expect("does not panic"))
        });
        match (first, second) {
            // One went on where the other had come to.
            (Ok((from, id)), Ok((other_from, other))) => {
                assert!(
                    from == other || other_from == id,
                    "{from} to {id}, {other_from} to {other}"
                );
                expect_newest(&map, id.max(other));
            }
            (Ok((_, id)), Err(error)) | (Err(error), Ok((_, id))) => {
                assert_eq!(error.kind(), ErrorKind::Fenced);
                expect_newest(&map, id);
            }
            (Err(error), Err(other)) => panic!("both gave up: {error}; {other}"),
        }
    });
    assert!(orders > 1_000, "{orders}");
}
