//! One image drawn through the release's Service, compared with the same image of the mesh in one process.

use std::error::Error;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::access::Access;
use super::release::PIPELINE;
use crate::wait;
use crate::workspace::Workspace;
use crate::{png, process};

const SIDE: u32 = 256;

/// The command `reverie` of this checkout.
pub(super) struct Client<'w> {
    pub(super) reverie: PathBuf,
    pub(super) onnxruntime: PathBuf,
    pub(super) workspace: &'w Workspace,
}

/// kubectl that forwards a port; ended with this value.
struct Forward {
    kubectl: Child,
    port: u16,
}

impl Drop for Forward {
    fn drop(&mut self) {
        let _ = self.kubectl.kill();
        let _ = self.kubectl.wait();
    }
}

impl Client<'_> {
    /// Draws it both ways: the PNG must have the size asked for and be the same to the byte.
    pub(super) fn draws_the_same(&self, access: &Access) -> Result<(), Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let alone = folder.path().join("one-process.png");
        process::capture(
            &mut self.generate(self.workspace.command(&self.reverie.display().to_string()), &alone),
        )?;
        let forward = forward(access)?;
        let served = folder.path().join("cluster.png");
        let mut client = access.program(&self.reverie);
        client.current_dir(self.workspace.root());
        let mut client = self.generate(client, &served);
        process::capture(client.args(["--server", &format!("http://127.0.0.1:{}", forward.port)]))?;
        let (alone, served) = (fs::read(alone)?, fs::read(served)?);
        let sides = png::dimensions(&served)?;
        if sides != (SIDE, SIDE) {
            return Err(format!("the image is {} x {} (asked for {SIDE} x {SIDE})", sides.0, sides.1).into());
        }
        if alone != served {
            return Err("the cluster's image is not the one that the mesh in one process draws".into());
        }
        Ok(())
    }

    fn generate(&self, mut command: Command, out: &Path) -> Command {
        command.env("ORT_DYLIB_PATH", &self.onnxruntime);
        command.args([
            "generate",
            "a large zunin in the middle, snow",
            "--seed",
            "7",
            "--size",
            &SIDE.to_string(),
        ]);
        command.arg("--out").arg(out);
        command
    }
}

fn forward(access: &Access) -> Result<Forward, Box<dyn Error>> {
    // A free port of this machine's; the namespace of our own cluster has next to none in use.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut kubectl =
        access.kubectl(&["port-forward", &format!("service/{PIPELINE}"), &format!("{port}:7100")]);
    let log = tempfile::NamedTempFile::new()?;
    let kubectl = kubectl.stdin(Stdio::null()).stdout(log.reopen()?).stderr(log.reopen()?).spawn()?;
    let mut forward = Forward { kubectl, port };
    let said = || fs::read_to_string(log.path()).unwrap_or_default();
    wait::until("kubectl port-forward", Duration::from_secs(30), || {
        (said().contains("Forwarding from") || matches!(forward.kubectl.try_wait(), Ok(Some(_))))
            .then_some(())
    })?;
    if matches!(forward.kubectl.try_wait(), Ok(Some(_))) {
        return Err(format!("kubectl port-forward ended: {}", said().trim()).into());
    }
    Ok(forward)
}
