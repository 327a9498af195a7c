//! What a simulated job is deployed from.

use std::collections::BTreeSet;

use thalweg_checkpoint::Manifest;
use thalweg_state::{BackendConfig, KeyGroupCount};

use crate::deploy::{Committers, DeployContext, Deployment, open_committers};
use crate::error::Result;
use crate::external::External;
use crate::graph::{ExecutionPlan, JobGraph};
use crate::park::Waker;
use crate::sim::World;
use crate::sim::external::SimExternal;
use crate::sim::plan::SimPlan;

/// Deploys some tasks, after what their sinks have prepared is settled.
pub(super) fn deploy(
    (plan, (graph, execution)): (&SimPlan, (&JobGraph, &ExecutionPlan)),
    tasks: &BTreeSet<usize>,
    restored: Option<&Manifest>,
    world: &mut World,
    external: &SimExternal,
) -> Result<(Deployment, Committers)> {
    let nodes = execution.nodes_of(tasks).into_iter();
    let committers = open_committers(graph, nodes, restored, Some(&world.store))?;
    let mut bounds = || {
        let mut bounds = plan.channels;
        if plan.crash_per_million > 0 {
            bounds.messages = 1 + world.random.below(bounds.messages);
            bounds.records = 1 + world.random.below(bounds.records);
        }
        bounds
    };
    let deployment = Deployment::new(DeployContext {
        graph,
        plan: execution,
        tasks,
        key_groups: KeyGroupCount::default(),
        bounds: &mut bounds,
        batch_records: plan.batch_records,
        waker: &|_, _| Waker::default(),
        backend: &|_, _| Ok(BackendConfig::Memory),
        restored,
        store: Some(&world.store),
        is_checkpointed: true,
        leave_from: Some(if plan.leaves_state { 0 } else { u64::MAX }),
        mode: plan.mode,
        external: External::new(external.executor()),
        suspect: None,
    })?;
    Ok((deployment, committers))
}
