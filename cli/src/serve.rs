//! `reverie serve`: the whole mesh in one process, listening.

use std::net::SocketAddr;

use reverie_service_kit::process::cancel_on_signal;
use reverie_service_kit::{Listener, RunError, Shutdown, say};

use crate::Failure;
use crate::mesh::{Mesh, MeshArguments, MeshSettings};

/// Keeps the mesh listening.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Address and port to listen on.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7100", value_parser = address)]
    pub listen: SocketAddr,
    #[command(flatten)]
    mesh: MeshArguments,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "write ADDRESS:PORT, such as 127.0.0.1:7100 or [::1]:7100".to_owned())
}

/// Runs the command until SIGTERM or SIGINT.
pub async fn run(arguments: Arguments) -> Result<(), Failure> {
    let settings = MeshSettings::load(&arguments.mesh).await?;
    let address = arguments.listen;
    let listener = Listener::bind(address).await.map_err(|source| RunError::Listen { address, source })?;
    let told = listener.describe();
    let mut mesh = Mesh::start(settings, Some(listener)).await?;
    if let Err(error) = say!("listening on {told}") {
        tracing::warn!(%error, "the mesh serves all the same");
    }
    let shutdown = Shutdown::new();
    tokio::spawn(cancel_on_signal(shutdown.clone()));
    tokio::select! {
        () = shutdown.cancelled() => {
            mesh.shutdown().await;
            Ok(())
        }
        why = mesh.ended() => {
            mesh.shutdown().await;
            Err(why)
        }
    }
}
