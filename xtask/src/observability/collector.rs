//! A real OpenTelemetry collector, which writes what it is sent to a file.

use std::error::Error;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::background::{Background, free_port};
use super::programs::Programs;

/// The running collector.
#[derive(Debug)]
pub(super) struct Collector {
    program: Background,
    port: u16,
    file: PathBuf,
}

impl Collector {
    /// Starts it on a free port.
    pub(super) fn start(programs: &Programs, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let (port, file, config) =
            (free_port()?, folder.join("collected.jsonl"), folder.join("collector.yaml"));
        let pipeline = "{receivers: [otlp], exporters: [file]}";
        fs::write(
            &config,
            format!(
                "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{port}\"}}}}}}}}\n\
                 exporters: {{file: {{path: {:?}}}}}\n\
                 service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {pipeline}, metrics: {pipeline}}}}}\n",
                file.display().to_string()
            ),
        )?;
        let mut command = Command::new(&programs.collector);
        let mut program = Background::start("collector", command.arg("--config").arg(&config), folder)?;
        program.wait_until(Duration::from_mins(1), || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { program, port, file })
    }

    /// For `telemetry.otlp_endpoint`.
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it, and gives the file with what it was sent.
    pub(super) fn stop(mut self) -> Result<PathBuf, Box<dyn Error>> {
        self.program.terminate()?;
        self.program.ended()?;
        Ok(self.file)
    }
}
