//! Limits hold over all splits and writers, and records keep their columns while they wait.

use thalweg_engine::sink::{Sink, Start, WriteStatus};
use thalweg_engine::source::{ReadStatus, ReaderContext, Source};
use thalweg_engine::{Batch, ErrorKind, EventTime, Result};

use super::*;
use crate::testing::{at, check_resumes_anywhere, read_once, writer_context};
use crate::{generator, memory, sink};

/// Reads both splits of `source` for `millis` as a driver does: records by time.
fn drive(source: &impl Source<Item = u64>, millis: i64) -> Result<Vec<(i64, u64)>> {
    let splits = source.splits()?;
    let mut readers = Vec::new();
    for split in &splits {
        readers.push(source.reader(split, None, &ReaderContext::default())?);
    }
    let mut records = Vec::new();
    for now in 0..millis {
        for reader in &mut readers {
            loop {
                let reads = read_once(&mut **reader, 1_024, now)?;
                records.extend(reads.records.into_iter().map(|record| (now, record)));
                match reads.status {
                    ReadStatus::More => {}
                    ReadStatus::End => break,
                    ReadStatus::Pending { until } => {
                        assert!(until.is_some_and(|until| until > at(now)));
                        break;
                    }
                }
            }
        }
    }
    Ok(records)
}

#[test]
fn splits_share_one_limit() -> Result<()> {
    let numbers = generator(Some(1_000), |i| i).splits(2).records_per_second(500);
    let records = drive(&numbers, 1_000)?;
    assert_eq!(records.len(), 500);
    for window in (0..1_000).step_by(10) {
        let now = records.iter().filter(|(t, _)| (window..window + 10).contains(t)).count();
        assert_eq!(now, 5, "records from {window} ms on");
    }
    Ok(())
}

#[test]
fn what_one_split_does_not_need_is_left_to_the_others() -> Result<()> {
    let splits = vec![vec![0, 1, 2], (3..40).collect()];
    let records = drive(&memory::from_splits(splits).records_per_second(1_000), 20)?;
    let times: Vec<i64> = records.iter().map(|(now, _)| *now).collect();
    assert_eq!(times, [[0; 10], [10; 10]].concat());
    Ok(())
}

#[test]
fn a_limited_source_resumes_where_it_was_and_passes_on_what_it_wraps() {
    let source = memory::source((0..9).collect::<Vec<u64>>()).records_per_second(1_000_000);
    assert_eq!(source.record_count_hint(), Some(9));
    assert_eq!(source.describe(), "9 records in memory, at most 1000000 records per second");
    check_resumes_anywhere(&source);
}

#[test]
fn a_limit_of_zero_is_an_error() {
    let none = limit_source(memory::source(vec![1]), 0);
    assert_eq!(none.splits().expect_err("no records").kind(), ErrorKind::Config);
    let none = limit_sink(memory::discard::<u8>(), 0);
    let refused = none.writer(&writer_context(0)).err().expect("no records");
    assert_eq!(refused.kind(), ErrorKind::Config);
}

/// A batch of the records `first .. first + 6`, every second one behind its watermark.
fn marked(first: i64) -> Batch<i64> {
    let mut batch = Batch::default();
    for i in first..first + 6 {
        let mark = (i % 2 == 0).then(|| EventTime::from_millis(1_000 + i));
        batch.push_marked(i, EventTime::from_millis(i), mark);
        batch.hashes.push(i as u64);
    }
    batch
}

fn check_columns(batch: &Batch<i64>) {
    let mut marks = batch.marks();
    for (i, record) in batch.values.iter().enumerate() {
        assert_eq!(batch.times[i].millis(), *record);
        assert_eq!(batch.hashes[i], *record as u64);
        let expected = (record % 2 == 0).then(|| EventTime::from_millis(1_000 + record));
        assert_eq!(marks.at(i), expected, "mark of {record}");
    }
    assert!(marks.is_empty());
}

#[test]
fn what_has_to_wait_stays_in_the_batch_with_its_columns() -> Result<()> {
    let (counting, count) = sink::count();
    let limited = limit_sink(counting, 400);
    let mut writer = limited.writer(&writer_context(0))?;
    let mut batch = marked(0);
    let mut now = 0;
    let mut rests = Vec::new();
    while let WriteStatus::Wait { until } = writer.write(&mut batch, at(now))? {
        check_columns(&batch);
        rests.push(batch.len());
        assert_eq!(count.records() as usize + batch.len(), 6);
        now = until.millis();
    }
    assert_eq!((rests.as_slice(), now), ([2].as_slice(), 10));
    assert!(batch.is_empty());
    Ok(())
}

/// A writer that takes one record per call.
struct Reluctant(Vec<i64>);

impl SinkWriter<i64> for Reluctant {
    fn write(&mut self, batch: &mut Batch<i64>, now: ProcessingTime) -> Result<WriteStatus> {
        check_columns(batch);
        self.0.push(batch.values[0]);
        batch.drain_front(1);
        match batch.is_empty() {
            true => Ok(WriteStatus::Done),
            false => Ok(WriteStatus::Wait { until: now.plus_millis(1) }),
        }
    }

    fn prepare_commit(&mut self, _id: CheckpointId) -> Result<Vec<Committable>> {
        Ok(vec![self.0.iter().map(|record| *record as u8).collect()])
    }
}

#[test]
fn a_writer_that_waits_itself_leaves_its_records_in_front() -> Result<()> {
    let bucket = Arc::new(TokenBucket::new(300));
    let mut writer =
        LimitedWriter { writer: Box::new(Reluctant(Vec::new())), bucket, front: Batch::default() };
    let mut batch = marked(0);
    let mut now = 0;
    while let WriteStatus::Wait { until } = writer.write(&mut batch, at(now))? {
        check_columns(&batch);
        now = until.millis();
    }
    assert_eq!(writer.prepare_commit(CheckpointId(1))?, [vec![0, 1, 2, 3, 4, 5]]);
    assert_eq!(now, 12, "three records from 0 ms on and three from 10 ms on, one each");
    Ok(())
}

#[test]
fn a_limited_sink_commits_what_it_wraps() -> Result<()> {
    let (sink, collected) = memory::sink();
    let limited = sink.records_per_second(1_000_000);
    let mut writer = limited.writer(&writer_context(0))?;
    let committables = crate::testing::write_and_prepare(&mut *writer, [1, 2, 3], 1)?;
    limited.committer()?.recover(&committables, Start::Resumed)?;
    assert_eq!(collected.take(), [1, 2, 3]);
    Ok(())
}
