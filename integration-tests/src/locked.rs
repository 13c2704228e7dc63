//! The mesh as an operator runs it: six processes that speak TLS both ways, and a public door that asks for API keys.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use reverie::client;
use reverie_service_kit::Address;
use reverie_service_kit::client::credential;
use reverie_service_kit::tls::{self, ClientTls, ClientTlsSettings};
use tempfile::TempDir;
use tokio::process::Command;
use tonic::Code;

use crate::Fallible;
use crate::authority::Authority;
use crate::processes::{Process, binary, command};

/// How long a key may take to be known.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Who calls whom.
pub type Link = (&'static str, &'static str);

/// Six services. Stages take the calls of those whose certificates are named for it. Dropping it kills them.
pub struct LockedMesh {
    /// Whom all of them believe.
    pub authority: Authority,
    /// Encoder.
    pub encoder: Process,
    /// Retrieval.
    pub retrieval: Process,
    /// Vector.
    pub vector: Process,
    /// Denoiser.
    pub denoiser: Process,
    /// Super-resolution.
    pub super_resolution: Process,
    /// Pipeline.
    pub pipeline: Process,
    folder: TempDir,
}

impl LockedMesh {
    /// Starts all; they may still be loading then. `prepare` changes the command of each service, and `way` gives the HOST:PORT by which
    /// a service reaches another one, which listens where its second argument says.
    pub async fn start(
        prepare: impl Fn(&str, &mut Command),
        mut way: impl FnMut(Link, &str) -> Fallible<String>,
    ) -> Fallible<Self> {
        let (authority, folder) = (Authority::new("a mesh's own")?, tempfile::tempdir()?);
        let start = async |service: &'static str, callers: &str, settings: &[String]| {
            let callers = format!("server.tls.callers={{{callers}}}");
            let all = [&authority.settings(service)?[..], &[callers], settings].concat();
            let mut command = command(service, &all)?;
            prepare(service, &mut command);
            Process::spawn(service, command).await
        };
        let mut stage = |caller, callee: &Process| {
            way((caller, callee.service()), callee.listens()).map(|address| format!("https://{address}"))
        };
        let pipeline_alone = "pipeline = [\"*\"]";
        let of_both = "pipeline = [\"*\"], retrieval = [\"reverie.encoder.v1.EncoderService/*\"]";
        let encoder = start("encoder", of_both, &[]).await?;
        let vector = start("vector", "retrieval = [\"reverie.vector.v1.VectorService/*\"]", &[]).await?;
        let denoiser = start("denoiser", pipeline_alone, &[]).await?;
        let super_resolution = start("super-resolution", pipeline_alone, &[]).await?;
        let stages = [
            format!("stages.encoder={}", stage("retrieval", &encoder)?),
            format!("stages.vector={}", stage("retrieval", &vector)?),
        ];
        let retrieval = start("retrieval", pipeline_alone, &stages).await?;
        let keys = folder.path().join("keys.toml");
        std::fs::write(&keys, "")?;
        let settings = [
            format!("stages.encoder={}", stage("pipeline", &encoder)?),
            format!("stages.retrieval={}", stage("pipeline", &retrieval)?),
            format!("stages.denoiser={}", stage("pipeline", &denoiser)?),
            format!("stages.super_resolution=[\"{}\"]", stage("pipeline", &super_resolution)?),
            format!("access.keys={}", keys.display()),
            // Whoever has a key may call, with a certificate or without.
            "server.tls.client_authorities=".to_owned(),
            "server.tls.callers={}".to_owned(),
        ];
        let pipeline = start("pipeline", "", &settings).await?;
        Ok(Self { authority, encoder, retrieval, vector, denoiser, super_resolution, pipeline, folder })
    }

    /// Waits until all of them say that they are ready.
    pub async fn serving(&mut self) -> Fallible<()> {
        try_join_all(self.all().map(Process::ready)).await?;
        Ok(())
    }

    /// All of them, the pipeline first.
    pub fn all(&mut self) -> [&mut Process; 6] {
        let Self { encoder, retrieval, vector, denoiser, super_resolution, pipeline, .. } = self;
        [pipeline, encoder, retrieval, vector, denoiser, super_resolution]
    }

    /// How the public door is reached.
    pub fn door(&self) -> Fallible<Address> {
        Ok(format!("https://{}", self.pipeline.listens()).parse()?)
    }

    /// The file of API keys.
    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys.toml")
    }

    /// Makes a key as an operator does.
    pub async fn key(&self, name: &str, arguments: &[&str]) -> Fallible<String> {
        let made = Command::new(binary("reverie")?)
            .args(["keys", "new", name, "--file"])
            .arg(self.keys())
            .args(arguments)
            .output()
            .await?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into());
        }
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    /// Lets this process call the door, which serves: it believes the mesh's authority and shows `key`, and waits until that is known.
    /// The first one stays.
    pub async fn let_in(&self, key: &str) -> Fallible<()> {
        let authorities = self.authority.file();
        tls::install(ClientTls::start(&ClientTlsSettings { authorities, ..Default::default() }).await?);
        credential::show(key)?;
        let (door, begun) = (self.door()?, Instant::now());
        loop {
            match client::capabilities(&door, PATIENCE).await {
                Err(status) if status.code() == Code::Unauthenticated && begun.elapsed() < PATIENCE => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                }
                outcome => return Ok(outcome.map(drop)?),
            }
        }
    }
}
