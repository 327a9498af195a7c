//! `Outage`: a source whose last split has nothing to read at first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use thalweg::Result;
use thalweg::engine::park::Waker;
use thalweg::engine::source::{ReadInto, ReadStatus, ReaderContext, Source, Split, SplitReader};

/// A source whose last split is cut off for some time, by the clock, from the start of a run. A
/// run that is resumed has it again if nothing was read from that split before.
pub(crate) struct Outage<S> {
    source: S,
    outage: Duration,
}

impl<S> Outage<S> {
    /// `source`, with its last split cut off for `outage`.
    pub(crate) fn new(source: S, outage: Duration) -> Self {
        Outage { source, outage }
    }
}

impl<S: Source> Source for Outage<S> {
    type Item = S::Item;
    type Dead = S::Dead;

    fn splits(&self) -> Result<Vec<Split>> {
        self.source.splits()
    }

    fn reader(
        &self,
        split: &Split,
        position: Option<&[u8]>,
        context: &ReaderContext,
    ) -> Result<Box<dyn SplitReader<S::Item, S::Dead>>> {
        let reader = self.source.reader(split, position, context)?;
        let begin = self.source.reader(split, None, context)?.position();
        let is_last = self.source.splits()?.last().is_some_and(|last| last.id == split.id);
        let is_at_begin = position.is_none_or(|position| position == begin);
        if self.outage.is_zero() || !is_last || !is_at_begin {
            return Ok(reader);
        }
        let is_over = Arc::new(AtomicBool::new(false));
        end_outage(self.outage, is_over.clone(), context.waker.clone());
        Ok(Box::new(CutOff { reader, is_over }))
    }

    fn describe(&self) -> String {
        self.source.describe()
    }

    fn record_count_hint(&self) -> Option<u64> {
        self.source.record_count_hint()
    }
}

/// Ends the outage after `outage`, from a thread of its own.
///
/// A reader that said when it is to be asked again would not count as idle.
#[expect(clippy::disallowed_methods, reason = "the outside world has a clock of its own")]
fn end_outage(outage: Duration, is_over: Arc<AtomicBool>, waker: Waker) {
    thread::spawn(move || {
        thread::sleep(outage);
        is_over.store(true, Ordering::Release);
        waker.wake();
    });
}

struct CutOff<T, D> {
    reader: Box<dyn SplitReader<T, D>>,
    is_over: Arc<AtomicBool>,
}

impl<T, D> SplitReader<T, D> for CutOff<T, D> {
    fn read(&mut self, out: &mut ReadInto<'_, T, D>, max: usize) -> Result<ReadStatus> {
        if !self.is_over.load(Ordering::Acquire) {
            return Ok(ReadStatus::Pending { until: None });
        }
        self.reader.read(out, max)
    }

    fn position(&self) -> Vec<u8> {
        self.reader.position()
    }
}
