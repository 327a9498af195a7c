//! The operator in front of a sink's writer.

use std::sync::Arc;

use super::erased::{ErasedOperator, OperatorCell};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::operator::{Context, OpenContext, Operator, Outputs, SnapshotContext};
use crate::sink::{Committer, Sink, SinkWriter, WriteStatus, WriterContext};

/// A sink without its record type.
pub(crate) trait ErasedSink: Send + Sync {
    fn operator(&self) -> Box<dyn ErasedOperator>;
    fn committer(&self) -> Result<Box<dyn Committer>>;
}

impl<S: Sink> ErasedSink for Arc<S> {
    fn operator(&self) -> Box<dyn ErasedOperator> {
        Box::new(OperatorCell::new(SinkOperator::<S> {
            sink: self.clone(),
            writer: None,
            commits_when_rolled: false,
        }))
    }

    fn committer(&self) -> Result<Box<dyn Committer>> {
        S::committer(self)
    }
}

struct SinkOperator<S: Sink> {
    sink: Arc<S>,
    writer: Option<Box<dyn SinkWriter<S::Item>>>,
    commits_when_rolled: bool,
}

impl<S: Sink> SinkOperator<S> {
    fn writer(&mut self) -> Result<&mut Box<dyn SinkWriter<S::Item>>> {
        self.writer.as_mut().ok_or_else(|| Error::bug("the sink was not opened"))
    }
}

impl<S: Sink> Operator for SinkOperator<S> {
    type In = S::Item;
    type Out = ();
    type Side = ();

    fn open(&mut self, context: &mut OpenContext<'_>) -> Result<()> {
        self.commits_when_rolled = !context.is_checkpointed;
        self.writer = Some(self.sink.writer(&WriterContext {
            subtask_index: context.subtask_index,
            parallelism: context.parallelism,
            restored_from: context.restored_from,
            commits_when_rolled: self.commits_when_rolled,
        })?);
        Ok(())
    }

    fn process(
        &mut self,
        input: &mut Batch<S::Item>,
        _out: &mut Outputs<'_, (), ()>,
        context: &mut Context<'_>,
    ) -> Result<()> {
        let commits_when_rolled = self.commits_when_rolled;
        let writer = self.writer()?;
        match writer.write(input, context.now)? {
            WriteStatus::Done => input.clear(),
            WriteStatus::Wait { until } => context.wake_at(until),
        }
        if commits_when_rolled {
            let rolled = writer.poll_rolled();
            context.commit_rolled(rolled);
        }
        Ok(())
    }

    fn snapshot(&mut self, context: &mut SnapshotContext) -> Result<()> {
        let committables = self.writer()?.prepare_commit(context.id)?;
        context.put_committables(committables);
        Ok(())
    }
}
