//! What the Helm chart and its monitoring must pass: renders compared with those committed, values that the schema must refuse,
//! Kubernetes' own schemas, Prometheus' own checks.
//!
//! The tests beside these modules check what needs no program: comments, closed schemas, names of metrics, runbook entries.

pub(crate) mod monitoring;
mod programs;
mod renders;
mod schemas;
#[cfg(test)]
mod values;

use std::path::PathBuf;

use crate::workspace::Workspace;
use crate::{Outcome, missing};
use programs::Programs;
pub(crate) use schemas::crds;

/// The chart's folder.
pub(crate) fn folder(workspace: &Workspace) -> PathBuf {
    workspace.root().join("charts/reverie")
}

/// Checks everything. `update` writes the renders that are committed anew instead of comparing them.
pub(crate) fn check(workspace: &Workspace, update: bool) -> Outcome {
    run(workspace, &Programs::ensure()?, update)
}

/// Checks everything where Helm and its companions are there or can be built, and says so where not.
pub(crate) fn check_if_possible(workspace: &Workspace) -> Outcome {
    missing::skip(Programs::ensure().and_then(|programs| run(workspace, &programs, false)))
}

fn run(workspace: &Workspace, programs: &Programs, update: bool) -> Outcome {
    let renders = renders::check(workspace, programs, update)?;
    renders::check_refusals(workspace, programs)?;
    schemas::check(programs, &renders)?;
    monitoring::check_rules(workspace, &programs.promtool)?;
    println!(
        "{} renders of the chart are as committed and valid from Kubernetes {} to {}",
        renders.len(),
        schemas::OLDEST,
        schemas::NEWEST
    );
    Ok(())
}
