//! The services as processes, as an operator runs them: JSON logs, an admin port, a collector.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::background::{Background, free_port};
use super::collector::Collector;
use super::logs::Log;
use crate::onnxruntime::ORT_DYLIB_PATH;
use crate::process;
use crate::workspace::Workspace;

/// The services that the bundled models need, each after those it calls.
pub(super) const SERVICES: [&str; 6] =
    ["vector", "encoder", "denoiser", "super-resolution", "retrieval", "pipeline"];
/// For models to load on a machine that does other things.
const PATIENCE: Duration = Duration::from_mins(2);

/// One service.
#[derive(Debug)]
struct Service {
    name: &'static str,
    port: u16,
    admin: u16,
    program: Background,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Mesh<'w> {
    workspace: &'w Workspace,
    services: Vec<Service>,
    client: PathBuf,
    folder: PathBuf,
}

impl<'w> Mesh<'w> {
    /// Starts them and waits until all are ready.
    pub(super) fn start(
        workspace: &'w Workspace,
        binaries: &[(String, PathBuf)],
        library: &Path,
        collector: &Collector,
        folder: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        let binary = |name: &str| {
            let found = binaries.iter().find(|(built, _)| built == name).map(|(_, path)| path.clone());
            found.ok_or_else(|| format!("cargo built no {name}"))
        };
        let mut services: Vec<Service> = Vec::new();
        for name in SERVICES {
            let (port, admin) = (free_port()?, free_port()?);
            let mut command = workspace.command(&binary(&format!("reverie-{name}"))?.display().to_string());
            command.env(ORT_DYLIB_PATH, library);
            for setting in [
                format!("server.listen=127.0.0.1:{port}"),
                format!("admin.listen=127.0.0.1:{admin}"),
                format!("telemetry.otlp_endpoint={}", collector.endpoint()),
                "telemetry.metrics_interval_seconds=1".to_owned(),
                "telemetry.log_format=json".to_owned(),
            ] {
                command.args(["--set", &setting]);
            }
            for stage in services.iter().filter(|stage| calls(name).contains(&stage.name)) {
                let key = stage.name.replace('-', "_");
                command.args(["--set", &format!("stages.{key}=http://127.0.0.1:{}", stage.port)]);
            }
            let program = Background::start(name, &mut command, folder)?;
            services.push(Service { name, port, admin, program });
        }
        for service in &mut services {
            let url = format!("http://127.0.0.1:{}/readyz", service.admin);
            service.program.wait_until(PATIENCE, || get(&url).is_ok())?;
        }
        Ok(Self { workspace, services, client: binary("reverie")?, folder: folder.to_owned() })
    }

    /// Asks the pipeline for an image.
    pub(super) fn generate(&self, prompt: &str, flags: &[&str]) -> Result<(), Box<dyn Error>> {
        let pipeline = self.services.last().ok_or("there is no pipeline")?;
        let server = format!("http://127.0.0.1:{}", pipeline.port);
        let mut client = self.workspace.command(&self.client.display().to_string());
        client.args(["generate", prompt, "--server", &server, "--size", "256", "--seed", "7"]).args(flags);
        process::capture(client.arg("--out").arg(self.folder.join("image.png")))?;
        Ok(())
    }

    /// The admin ports, each with its service.
    pub(super) fn admin_ports(&self) -> impl Iterator<Item = (&'static str, u16)> {
        self.services.iter().map(|service| (service.name, service.admin))
    }

    /// What the admin ports show.
    pub(super) fn pages(&self) -> Result<Vec<(&'static str, String)>, Box<dyn Error>> {
        let mut pages = Vec::new();
        for (service, port) in self.admin_ports() {
            for page in ["metrics", "settings", "version"] {
                pages.push((service, get(&format!("http://127.0.0.1:{port}/{page}"))?));
            }
        }
        Ok(pages)
    }

    /// Ends them all, and gives their logs.
    pub(super) fn stop(mut self) -> Result<Vec<Log>, Box<dyn Error>> {
        for service in &self.services {
            service.program.terminate()?;
        }
        let ended = |service: &mut Service| {
            service.program.ended()?;
            Ok(Log { service: service.name, text: service.program.log() })
        };
        self.services.iter_mut().map(ended).collect()
    }
}

/// The services that a service calls.
fn calls(service: &str) -> &'static [&'static str] {
    match service {
        "retrieval" => &["encoder", "vector"],
        "pipeline" => &["encoder", "retrieval", "denoiser", "super-resolution"],
        _ => &[],
    }
}

/// The page at `url`.
pub(super) fn get(url: &str) -> Result<String, process::ProcessError> {
    let page = process::capture(Command::new("curl").args(["--silent", "--show-error", "--fail", url]))?;
    Ok(String::from_utf8_lossy(&page.stdout).into_owned())
}
