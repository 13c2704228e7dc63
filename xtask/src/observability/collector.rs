//! A real OpenTelemetry collector, which sends on as JSON what it is sent.

use std::error::Error;
use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::background::{Background, free_port};
use super::programs::Programs;
use super::sink::Sink;

/// The running collector.
#[derive(Debug)]
pub(super) struct Collector {
    program: Background,
    port: u16,
    sink: Sink,
}

impl Collector {
    /// Starts it on a free port.
    pub(super) fn start(programs: &Programs, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let (port, sink, config) = (free_port()?, Sink::start()?, folder.join("collector.yaml"));
        let pipeline = "{receivers: [otlp], exporters: [otlphttp]}";
        fs::write(
            &config,
            format!(
                "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: \"127.0.0.1:{port}\"}}}}}}}}\n\
                 exporters: {{otlphttp: {{endpoint: \"http://{}\", encoding: json, compression: none}}}}\n\
                 service: {{telemetry: {{metrics: {{level: none}}}}, pipelines: {{traces: {pipeline}, metrics: {pipeline}}}}}\n",
                sink.address()
            ),
        )?;
        let mut command = Command::new(&programs.collector);
        let mut program = Background::start("collector", command.arg("--config").arg(&config), folder)?;
        program.wait_until(Duration::from_mins(1), || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok(Self { program, port, sink })
    }

    /// For `telemetry.otlp_endpoint`.
    pub(super) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Ends it, and gives the messages that it was sent.
    pub(super) fn stop(mut self) -> Result<Vec<String>, Box<dyn Error>> {
        self.program.terminate()?;
        self.program.ended()?;
        Ok(self.sink.bodies())
    }
}
