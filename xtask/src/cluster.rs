//! The chart and the images on a real Kubernetes: installed, upgraded under load, broken and undone, drained, scaled,
//! uninstalled.

mod access;
mod certificates;
mod control_plane;
mod daemon;
mod layout;
mod leftovers;
mod node;
mod own_cluster;
mod pause;
mod programs;
mod wait;

use crate::workspace::Workspace;
use crate::{Outcome, cache_folder};

/// Options of `cargo xtask cluster`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A context of your kubeconfig (kind, minikube, ...) that has the images; default: a cluster of our own, for which this
    /// must run as root
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

pub(crate) fn run(_workspace: &Workspace, _arguments: &Arguments) -> Outcome {
    let folder = cache_folder::locate()?.join("cluster");
    wait::catch_signals()?;
    programs::missing_from_system()?;
    programs::ensure_cluster(&folder)?;
    let began = std::time::Instant::now();
    let cluster = own_cluster::OwnCluster::up(&folder, &[])?;
    eprintln!("up in {:?}", began.elapsed());
    println!("{}", cluster.access().run(&["get", "nodes,pods", "-A", "-o", "wide"])?);
    println!("{}", cluster.logs().display());
    let _ = wait::until("Ctrl-C", std::time::Duration::from_secs(if std::env::var_os("STAY").is_some() { 3000 } else { 0 }), || None::<()>);
    Ok(())
}
