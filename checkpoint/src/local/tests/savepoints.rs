//! Every operation of writing a savepoint fails in every way: afterwards it is whole or not there,
//! and can be written again.

use std::path::{Path, PathBuf};

use super::faults::aftermaths;
use super::model::{Fault, Model};
use crate::local::disk::{Disk, FileSystem};
use crate::local::savepoint::SavepointWriter;
use crate::manifest::sample;
use crate::{Error, Manifest, Result};

const DIR: &str = "user/savepoints";
const PARTS: [(&str, &[u8]); 2] = [("1-0-count", b"zero"), ("1-2-count", b"two")];

/// Writes the savepoint of the sample manifest.
fn write(model: &Model) -> Result<PathBuf> {
    let disk = Disk::new(Box::new(model.clone()));
    let mut writer = SavepointWriter::create_on(disk, Path::new(DIR), "one")?;
    for (name, contents) in PARTS {
        writer.write(name, contents)?;
    }
    writer.finish(&sample::manifest())
}

/// Whether the savepoint is there; panics if it is, and not whole.
fn is_there(model: &Model, story: &str) -> bool {
    let path = Path::new(DIR).join("one");
    if model.look(&path).is_err() {
        return false;
    }
    let read = |name: &str| {
        let contents = model.read(&path.join(name), 0, u64::MAX);
        contents.unwrap_or_else(|error| panic!("{story}: {name}: {error}"))
    };
    let manifest = Manifest::decode(&path, &read("manifest"));
    assert_eq!(manifest.expect(story).id, sample::manifest().id, "{story}");
    for (name, contents) in PARTS {
        assert_eq!(read(name), contents, "{story}: {name}");
    }
    true
}

/// Writes with a fault at an operation; false if there are fewer.
fn strike(at: u64, fault: Fault) -> bool {
    let model = Model::new(true);
    model.plant(Some((at, fault)));
    let written = write(&model);
    let is_within = model.operations() > at;
    if model.struck().is_none() && is_within {
        return true;
    }
    let story = format!("{fault:?} at {at}: {written:?}");
    assert!(written.is_ok() || is_within, "{story}: nothing failed");
    for (aftermath, disk) in aftermaths(&model) {
        let story = format!("{story}, {aftermath}");
        let is_there = is_there(&disk, &story);
        assert!(is_there || written.is_err(), "{story}: it is gone");
        match write(&disk) {
            Ok(_) => assert!(!is_there, "{story}: it was replaced"),
            Err(Error::Exists { .. }) => assert!(is_there, "{story}: something is in its place"),
            Err(error) => panic!("{story}, and then again: {error}"),
        }
        assert!(self::is_there(&disk, &story), "{story}: it was not written again");
    }
    is_within
}

#[test]
fn every_fault_at_every_operation_leaves_a_whole_savepoint_or_none() {
    for fault in Fault::ALL {
        let struck = (0..).take_while(|at| strike(*at, fault)).count();
        assert!(struck > 20, "{struck} operations");
    }
}

#[test]
fn what_an_earlier_attempt_has_left_is_not_in_it() {
    let model = Model::new(true);
    let disk = Disk::new(Box::new(model.clone()));
    let mut dead = SavepointWriter::create_on(disk, Path::new(DIR), "one").expect("begins");
    dead.write("another", b"x").expect("is written");
    // The process of the first one has ended.
    let model = model.copy();
    let names = model.entries(&write(&model).expect("is written")).expect("exists");
    let names: Vec<&str> = names.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["1-0-count", "1-2-count", "manifest"]);
}

#[test]
fn what_is_dropped_disappears() {
    let model = Model::new(true);
    let disk = Disk::new(Box::new(model.clone()));
    let mut dropped = SavepointWriter::create_on(disk, Path::new(DIR), "two").expect("begins");
    dropped.write("part", b"x").expect("is written");
    assert!(!model.entries(Path::new(DIR)).expect("exists").is_empty());
    drop(dropped);
    assert!(model.entries(Path::new(DIR)).expect("exists").is_empty());
}
