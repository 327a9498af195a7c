//! What the tests of sources and sinks share: reading splits by hand, as a source head does.

use thalweg_engine::sink::{SinkWriter, WriteStatus, WriterContext};
use thalweg_engine::source::{ReadInto, ReadStatus, ReaderContext, Source, SplitReader};
use thalweg_engine::{Batch, CheckpointId, ProcessingTime, Result};

/// What some reads gave.
#[derive(Debug)]
pub(crate) struct Reads<T, D> {
    pub(crate) records: Vec<T>,
    pub(crate) dead: Vec<D>,
    pub(crate) skipped: u64,
    pub(crate) status: ReadStatus,
}

pub(crate) fn at(millis: i64) -> ProcessingTime {
    ProcessingTime::from_millis(millis)
}

/// One read of up to `max` records.
pub(crate) fn read_once<T, D>(
    reader: &mut dyn SplitReader<T, D>,
    max: usize,
    now: i64,
) -> Result<Reads<T, D>> {
    let (mut records, mut dead, mut skipped) = (Batch::default(), Batch::default(), 0);
    let mut into =
        ReadInto { records: &mut records, dead: &mut dead, skipped: &mut skipped, now: at(now) };
    let status = reader.read(&mut into, max)?;
    Ok(Reads { records: records.values, dead: dead.values, skipped, status })
}

/// Reads, `max` records at a time, until the end or an error, which is returned beside.
pub(crate) fn read_to_end<T, D>(
    reader: &mut dyn SplitReader<T, D>,
    max: usize,
) -> (Reads<T, D>, Result<()>) {
    let mut all =
        Reads { records: Vec::new(), dead: Vec::new(), skipped: 0, status: ReadStatus::More };
    while all.status == ReadStatus::More {
        match read_once(reader, max, 0) {
            Ok(reads) => {
                assert!(reads.records.len() + reads.dead.len() <= max, "more than was asked for");
                all.records.extend(reads.records);
                all.dead.extend(reads.dead);
                all.skipped += reads.skipped;
                all.status = reads.status;
            }
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}

/// All records of all splits, split by split.
pub(crate) fn read_all<S: Source>(source: &S) -> Result<Vec<S::Item>> {
    let mut records = Vec::new();
    for split in source.splits()? {
        let mut reader = source.reader(&split, None, &ReaderContext::default())?;
        let (reads, result) = read_to_end(&mut *reader, 7);
        result?;
        records.extend(reads.records);
    }
    Ok(records)
}

/// Stops after every number of records, resumes from the position, and expects the same records
/// as without a stop.
pub(crate) fn check_resumes_anywhere<S>(source: &S)
where
    S: Source<Item: PartialEq + std::fmt::Debug>,
{
    let context = ReaderContext::default();
    for split in source.splits().expect("the splits") {
        let open = |position: Option<&[u8]>| {
            source.reader(&split, position, &context).expect("opens where it was left")
        };
        let (whole, result) = read_to_end(&mut *open(None), 1_024);
        result.expect("reads to the end");
        for stop in 0..=whole.records.len() + 1 {
            let mut reader = open(None);
            let mut records = Vec::new();
            for _ in 0..stop {
                let reads = read_once(&mut *reader, 1, 0).expect("reads one record");
                records.extend(reads.records);
                if reads.status == ReadStatus::End {
                    break;
                }
            }
            let position = reader.position();
            let mut resumed = open(Some(&position));
            assert_eq!(resumed.position(), position, "split {} at {stop}", split.id);
            let (rest, result) = read_to_end(&mut *resumed, 3);
            result.expect("reads on to the end");
            records.extend(rest.records);
            assert_eq!(records, whole.records, "split {} stopped at {stop}", split.id);
        }
    }
}

/// The context of writer `subtask_index` in a job with checkpoints.
pub(crate) fn writer_context(subtask_index: usize) -> WriterContext {
    WriterContext { subtask_index, parallelism: 2, restored_from: None, commits_when_rolled: false }
}

/// A batch of `records` without times.
pub(crate) fn batch<T>(records: impl IntoIterator<Item = T>) -> Batch<T> {
    Batch { values: records.into_iter().collect(), ..Batch::default() }
}

/// Writes `records` and prepares them as checkpoint `id`.
pub(crate) fn write_and_prepare<T>(
    writer: &mut dyn SinkWriter<T>,
    records: impl IntoIterator<Item = T>,
    id: u64,
) -> Result<Vec<Vec<u8>>> {
    let mut batch = batch(records);
    assert_eq!(writer.write(&mut batch, at(0))?, WriteStatus::Done);
    writer.prepare_commit(CheckpointId(id))
}
