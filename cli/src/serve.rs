//! `reverie serve`: the whole mesh in one process, listening.

use reverie_service_kit::process::cancel_on_signal;
use reverie_service_kit::{ListenAddress, Listener, RunError, Shutdown, say};

use crate::Failure;
use crate::mesh::{Mesh, MeshArguments, MeshSettings};

/// Keeps the mesh listening.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Where to listen: an IP address or a host name, and a port (0.0.0.0:7100, `[::]:7100`, localhost:7100).
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7100")]
    pub listen: ListenAddress,
    /// Lets everyone who can call the mesh change its knowledge bases (`reverie knowledge add` and the like).
    #[arg(long)]
    writable: bool,
    #[command(flatten)]
    mesh: MeshArguments,
}

/// Runs the command until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    // Before anybody can call: a call that has begun is finished.
    let shutdown = Shutdown::new();
    cancel_on_signal(shutdown.clone());
    let mesh = MeshArguments { writable: arguments.writable, ..arguments.mesh };
    let settings = MeshSettings::load(&mesh).await?;
    let address = arguments.listen;
    let listener = Listener::bind(&address).await.map_err(|source| RunError::Listen { address, source })?;
    let told = listener.describe();
    let mut mesh = Mesh::launch(settings, Some(listener));
    let serves = async {
        mesh.ready().await?;
        if let Err(error) = say!("listening on {told}") {
            tracing::warn!(%error, "the mesh serves all the same");
        }
        Err(mesh.ended().await)
    };
    let outcome = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        why = serves => why,
    };
    mesh.shutdown().await;
    outcome
}
