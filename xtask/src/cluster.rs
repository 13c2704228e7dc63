//! The chart and the images on a real Kubernetes: installed, drawn from, upgraded under load, broken and undone, drained, scaled,
//! uninstalled.

mod access;
mod certificates;
mod control_plane;
mod daemon;
mod disruption;
mod draw;
mod evidence;
mod extras;
mod layout;
mod leftovers;
mod load;
mod metrics_adapter;
mod node;
mod own_cluster;
mod pause;
mod pod_times;
mod programs;
mod release;
mod scaling;
mod scenario;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use self::access::Access;
use self::own_cluster::OwnCluster;
use self::release::Release;
use crate::cargo_build::{self, Profile};
use crate::workspace::Workspace;
use crate::{Outcome, cache_folder, images, onnxruntime, wait};

/// Options of `cargo xtask cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A context of your kubeconfig (kind, minikube, ...) whose nodes have the images localhost/reverie/*:dev. Default: a
    /// cluster of our own, for which this must run as root
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// The chart: a folder or a packed one
    #[arg(long, value_name = "PATH", default_value = "charts/reverie")]
    chart: PathBuf,
}

/// What CI does, after it has built the images: the whole, where all that it needs is there.
pub(crate) fn check(workspace: &Workspace) -> Outcome {
    match not_at_hand()? {
        None => run(workspace, &Arguments { context: None, chart: "charts/reverie".into() }),
        Some(what) => {
            eprintln!("The chart is not installed on a cluster here: {what}");
            Ok(())
        }
    }
}

/// What a cluster of our own lacks here, if something.
fn not_at_hand() -> Result<Option<String>, Box<dyn Error>> {
    if let Some(missing) = images::missing() {
        return Ok(Some(format!("there are no images of it ({missing})")));
    }
    if let Err(missing) = programs::missing_from_system() {
        return Ok(Some(missing.to_string()));
    }
    if programs::are_built(&cache_folder::locate()?.join("cluster")) {
        return Ok(None);
    }
    Ok(Some("Kubernetes is not built; `cargo xtask cluster` builds it once, in about ten minutes".to_owned()))
}

/// Brings a cluster up or takes the one named, and runs a release's whole life on it.
pub(crate) fn run(workspace: &Workspace, arguments: &Arguments) -> Outcome {
    let cache = cache_folder::locate()?;
    let folder = cache.join("cluster");
    fs::create_dir_all(&folder)?;
    wait::catch_signals()?;
    let began = Instant::now();
    let client = draw::Client {
        reverie: cargo_build::of(cargo_build::REVERIE, Profile::Dev, workspace)?,
        onnxruntime: onnxruntime::ensure()?,
        workspace,
    };
    let tell = |access: &Access, logs: Option<&Path>| {
        let values = ["charts/reverie/values-small.yaml", "xtask/src/cluster/values.yaml"];
        let values = values.map(|file| workspace.root().join(file)).to_vec();
        let release = Release { access, chart: workspace.root().join(&arguments.chart), values };
        scenario::run(&release, &client).inspect_err(|_| {
            let kept = workspace.root().join("target/cluster-logs");
            evidence::gather(access, logs, &kept);
            eprintln!("logs and events are in {}", kept.display());
        })
    };
    if let Some(context) = &arguments.context {
        programs::ensure_helm(&folder)?;
        let access = Access::context(context, folder.join("bin/helm"), &folder);
        // They are deleted in the end.
        for namespace in [access::NAMESPACE, scenario::GUIDES_NAMESPACE] {
            if !access
                .run(&["get", "namespace", namespace, "--ignore-not-found", "--output=name"])?
                .is_empty()
            {
                return Err(format!(
                    "the cluster has a namespace {namespace}, which this command would use and delete"
                )
                .into());
            }
        }
        let outcome = tell(&access, None);
        // Also after a failure; nothing of ours stays in another's cluster.
        let _ =
            access.run(&["delete", "namespace", access::NAMESPACE, "--ignore-not-found", "--timeout=120s"]);
        outcome?;
    } else {
        programs::missing_from_system()?;
        let archives = archives(&cache.join("images"))?;
        programs::ensure_cluster(&folder)?;
        let mut cluster =
            scenario::step("up: two nodes ready, images imported", || OwnCluster::up(&folder, &archives))?;
        let logs = cluster.logs();
        let outcome = tell(cluster.access(), Some(&logs));
        let ended = cluster.ended();
        scenario::step("down", || {
            drop(cluster);
            Ok(())
        })?;
        outcome?;
        if !ended.is_empty() {
            return Err(format!("parts of the cluster ended by themselves: {}", ended.join(", ")).into());
        }
    }
    println!("{:<58} {:>7.1} s", "all steps", began.elapsed().as_secs_f64());
    Ok(())
}

/// The images to import, as `docker save` writes them.
fn archives(folder: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let archives: Vec<_> =
        entries.filter(|path| path.extension().is_some_and(|kind| kind == "tar")).collect();
    if archives.is_empty() {
        return Err(format!("{} has no images: save localhost/reverie/SERVICE:dev of every service there, as docker-archives (SERVICE.tar)",
            folder.display()
        ).into());
    }
    Ok(archives)
}
