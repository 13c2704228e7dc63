//! The programs: the collector is built once if Go is there, Prometheus and promtool come with the system.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::go_build::{self, Build, GoError, Toolchain};
use crate::missing::{self, PROMETHEUS};
use crate::workspace::Workspace;
use crate::{Outcome, cache_folder, process};

/// Where the programs are.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) collector: PathBuf,
    pub(super) prometheus: PathBuf,
    pub(crate) promtool: PathBuf,
}

const COLLECTOR: Build = Build { version: "0.165.0", programs: &["otelcol"], run: collector };

impl Programs {
    /// Finds them, and builds the collector in the cache folder.
    pub(super) fn ensure() -> Result<Self, Box<dyn Error>> {
        let find = |program, remedy| missing::find("telemetry is tried", program, remedy);
        let (prometheus, promtool) = (find("prometheus", PROMETHEUS)?, find("promtool", PROMETHEUS)?);
        find("curl", "install curl")?;
        let folder = cache_folder::locate()?.join("observability");
        if !go_build::is_built(&COLLECTOR, &folder) {
            find("go", missing::GO)?;
        }
        go_build::ensure(&[COLLECTOR], &folder)?;
        Ok(Self { collector: folder.join("bin/otelcol"), prometheus, promtool })
    }

    /// Lets both read what docker/compose.yaml gives them.
    pub(super) fn check_compose(&self, workspace: &Workspace) -> Outcome {
        let file = |name: &str| workspace.root().join("docker/observe").join(name);
        let config = file("collector.yaml");
        process::capture(Command::new(&self.collector).arg("validate").arg("--config").arg(config))?;
        let promtool = Command::new(&self.promtool)
            .args(["check", "config", "--syntax-only"])
            .arg(file("prometheus.yml"))
            .output()?;
        if promtool.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&promtool.stderr).into_owned().into())
        }
    }
}

/// The collector is put together from its parts: those that docker/observe/collector.yaml names, and one that sends JSON on.
fn collector(go: Toolchain<'_>, version: &str) -> Result<(), GoError> {
    let source = go.folder.join("build/otelcol");
    let bin = go.folder.join("bin");
    let part = |module: &str| format!("  - gomod: {module} v{version}\n");
    let core = "go.opentelemetry.io/collector";
    let manifest = format!(
        "dist: {{name: otelcol, output_path: {:?}}}\nreceivers:\n{}processors:\n{}{}exporters:\n{}{}",
        source.display().to_string(),
        part(&format!("{core}/receiver/otlpreceiver")),
        part(&format!("{core}/processor/batchprocessor")),
        part(&format!("{core}/processor/memorylimiterprocessor")),
        part(&format!("{core}/exporter/debugexporter")),
        part(&format!("{core}/exporter/otlphttpexporter")),
    );
    let file = go.folder.join("build/otelcol.yaml");
    go_build::write(&file, &manifest)?;
    go.install(&format!("{core}/cmd/builder@v{version}"))?;
    go.run("builder", go.folder, &["--config", &file.display().to_string()])?;
    move_program(&source.join("otelcol"), &bin.join("otelcol"))
}

fn move_program(from: &Path, to: &Path) -> Result<(), GoError> {
    std::fs::rename(from, to).map_err(|error| GoError::Write(to.to_owned(), error))
}
