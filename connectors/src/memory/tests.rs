//! Memory sources resume anywhere; the memory sink shows each record once, whatever crashes.

use thalweg_engine::sink::{Sink, Start};
use thalweg_engine::source::{ReaderContext, Source, Split};
use thalweg_engine::{ErrorKind, Result};

use super::*;
use crate::testing::{
    at, batch, check_resumes_anywhere, read_all, write_and_prepare, writer_context,
};

static WORDS: [&str; 7] = ["a", "b", "c", "d", "e", "f", "g"];

#[test]
fn sources_give_all_records_in_order_and_resume_anywhere() {
    let vectors = from_splits(vec![vec![1, 2, 3], vec![], vec![4, 5]]);
    assert_eq!(read_all(&vectors).expect("reads"), [1, 2, 3, 4, 5]);
    assert_eq!(vectors.record_count_hint(), Some(5));
    check_resumes_anywhere(&vectors);
    check_resumes_anywhere(&source(vec!["x".to_owned(), "y".to_owned()]));
    for splits in [1, 2, 3, 8] {
        let statics = from_static(&WORDS).splits(splits);
        let mut words: Vec<&str> =
            read_all(&statics).expect("reads").into_iter().copied().collect();
        if splits == 2 {
            assert_eq!(words, ["a", "c", "e", "g", "b", "d", "f"]);
        }
        words.sort_unstable();
        assert_eq!(words, WORDS);
        check_resumes_anywhere(&statics);
    }
}

#[test]
fn enumerated_records_know_their_place_in_every_split() {
    for splits in [1, 2, 3, 8] {
        let enumerated = from_static(&WORDS).splits(splits).enumerated();
        let mut words = read_all(&enumerated).expect("reads");
        if splits == 2 {
            assert_eq!(words.iter().map(|&(at, _)| at).collect::<Vec<_>>(), [0, 2, 4, 6, 1, 3, 5]);
        }
        words.sort_unstable();
        assert!(words.into_iter().eq((0..).zip(&WORDS)), "{splits} splits");
        assert_eq!(enumerated.record_count_hint(), Some(7));
        check_resumes_anywhere(&enumerated);
    }
}

#[test]
fn positions_that_are_none_are_refused_or_end_the_split() {
    let numbers = source(vec![1, 2, 3]);
    let context = ReaderContext::default();
    let open = |position: &[u8]| numbers.reader(&Split::new("0"), Some(position), &context);
    let short = open(&[1, 2]).err().expect("two bytes are no position");
    assert_eq!(short.kind(), ErrorKind::Corrupt);
    let mut beyond = open(&u64::MAX.to_le_bytes()).expect("a number is a position");
    let (reads, result) = crate::testing::read_to_end(&mut *beyond, 5);
    result.expect("ends");
    assert!(reads.records.is_empty());
    let other = numbers.reader(&Split::new("1"), None, &context).err().expect("there is one split");
    assert_eq!(other.kind(), ErrorKind::Config);
}

#[test]
fn records_are_visible_only_by_their_commit_and_once() -> Result<()> {
    let (sink, collected) = sink();
    let mut committer = sink.committer()?;
    committer.recover(&[], Start::Fresh)?;
    let mut writer = sink.writer(&writer_context(0))?;
    let first = write_and_prepare(&mut *writer, [1, 2], 1)?;
    assert!(collected.is_empty(), "visible before the commit");
    assert_eq!(collected.prepared_len(), 2);
    assert!(writer.prepare_commit(thalweg_engine::CheckpointId(2))?.is_empty());
    committer.commit(&first)?;
    committer.commit(&first)?;
    assert_eq!(collected.snapshot(), [1, 2]);
    assert_eq!(collected.take(), [1, 2]);
    committer.commit(&first)?;
    assert!(collected.is_empty(), "committed again");
    let unknown = committer.commit(&[vec![9; 8]]).expect_err("never prepared");
    assert_eq!(unknown.kind(), ErrorKind::Corrupt);
    assert!(committer.commit(&[vec![9; 7]]).is_err());
    Ok(())
}

#[test]
fn a_crash_between_the_phases_loses_and_repeats_nothing() -> Result<()> {
    let (sink, collected) = sink();
    let mut writer = sink.writer(&writer_context(0))?;
    let committed = write_and_prepare(&mut *writer, [1], 1)?;
    sink.committer()?.commit(&committed)?;
    let pending = write_and_prepare(&mut *writer, [2], 2)?;
    let lost = write_and_prepare(&mut *writer, [3], 3)?;
    writer.write(&mut batch([4]), at(0))?;
    drop(writer);
    // Checkpoint 2 has a manifest, 3 has none; the commit of 1 was not acknowledged either.
    let mut committer = sink.committer()?;
    committer.recover(&[committed, pending].concat(), Start::Resumed)?;
    assert_eq!(collected.snapshot(), [1, 2]);
    assert_eq!(collected.prepared_len(), 0);
    assert!(committer.commit(&lost).is_err(), "output of a lost attempt is gone");
    let again = write_and_prepare(&mut *sink.writer(&writer_context(0))?, [3, 4], 3)?;
    assert_ne!(again, lost, "ids are given once");
    committer.commit(&again)?;
    assert_eq!(collected.take(), [1, 2, 3, 4]);
    Ok(())
}

#[test]
fn without_checkpoints_records_are_ready_as_they_come() -> Result<()> {
    let (sink, collected) = sink();
    let mut context = writer_context(0);
    context.commits_when_rolled = true;
    let mut writer = sink.writer(&context)?;
    writer.write(&mut batch([1, 2]), at(0))?;
    let rolled = writer.poll_rolled();
    assert!(writer.poll_rolled().is_empty());
    sink.committer()?.commit(&rolled)?;
    assert_eq!(collected.take(), [1, 2]);
    Ok(())
}

#[test]
fn functions_and_counters_see_each_batch() -> Result<()> {
    let (counting, count) = crate::sink::count();
    for records in [vec![1, 2], vec![], vec![3]] {
        let mut records = batch(records);
        counting.writer(&writer_context(0))?.write(&mut records, at(0))?;
        assert!(records.is_empty());
    }
    assert_eq!(count.records(), 3);
    let mut forgotten = batch([1]);
    discard().writer(&writer_context(0))?.write(&mut forgotten, at(0))?;
    assert!(forgotten.is_empty());
    Ok(())
}
