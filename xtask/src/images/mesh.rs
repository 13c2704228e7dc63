//! The mesh as containers: six services that share one loopback and nothing else, asked for an image, then ended.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

use crate::images::builder::Builder;
use crate::images::{confinement, name_of};
use crate::{Outcome, png};

/// The services that the bundled models need, each after those it calls.
const SERVICES: [&str; 6] = ["vector", "encoder", "denoiser", "super-resolution", "retrieval", "pipeline"];
/// Those that read the bundled models, and those that read the knowledge base.
const WITH_MODELS: [&str; 5] = ["vector", "encoder", "denoiser", "super-resolution", "retrieval"];
/// For models to load, and for an image on a machine that does other things.
const PATIENCE: Duration = Duration::from_mins(2);
/// Nobody says when health changes.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// For a service without calls in flight to end; a container engine kills it when the time is over.
const SECONDS_TO_END: &str = "10";
const MODELS: &str = "reverie-models";

/// Starts, checks, draws, ends.
pub(super) fn check(builder: &Builder) -> Outcome {
    fill_models(builder)?;
    for service in SERVICES {
        start(builder, service)?;
    }
    for service in SERVICES {
        let began = Instant::now();
        becomes_healthy(builder, service)?;
        let pid = builder.podman(&["inspect", "--format", "{{.State.Pid}}", service])?.parse()?;
        let mounts: &[&str] = if WITH_MODELS.contains(&service) { &["models"] } else { &[] };
        confinement::check(pid, mounts).map_err(|error| format!("the container of {service}: {error}"))?;
        eprintln!("{service} is healthy (+{:.1} s) and confined", began.elapsed().as_secs_f64());
    }
    draw(builder)?;
    // Those that call others end first.
    for service in SERVICES.into_iter().rev() {
        ends(builder, service)?;
    }
    Ok(())
}

/// Copies the models into a volume as an init container does.
fn fill_models(builder: &Builder) -> Outcome {
    builder.podman(&["volume", "create", MODELS])?;
    let mut arguments = vec!["run", "--rm", "--user", "0:0", "--network", "none", "--volume"];
    let volume = format!("{MODELS}:/volume");
    let image = name_of("bestiary");
    arguments.push(&volume);
    arguments.extend(CONFINED);
    arguments.extend([image.as_str(), "-r", "/models/.", "/volume"]);
    builder.podman(&arguments)?;
    Ok(())
}

/// How an operator would run it. The limits are those of a careful one, and the engine cannot raise any here.
const CONFINED: [&str; 11] = [
    "--runtime",
    "runc",
    "--read-only",
    "--read-only-tmpfs=false",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
    "--ulimit",
    "nofile=1024:1024",
    "--ulimit=nproc=1024:1024",
];

fn start(builder: &Builder, service: &str) -> Outcome {
    // The first has a loopback of its own, which the others share: settings need no addresses.
    let network = match SERVICES[0] {
        first if first == service => "none".to_owned(),
        first => format!("container:{first}"),
    };
    let image = name_of(service);
    let variable = format!("REVERIE_{}", service.to_uppercase().replace('-', "_"));
    let bundle = format!("{variable}__INFERENCE__BUNDLE=/models/bestiary");
    let knowledge = format!("{variable}__KNOWLEDGE_BASES__CREATURES=/models/bestiary/knowledge/creatures");
    let volume = format!("{MODELS}:/models:ro");
    let mut arguments = vec!["run", "--detach", "--name", service, "--network", &network];
    arguments.extend(CONFINED);
    if WITH_MODELS.contains(&service) {
        arguments.extend(["--volume", &volume, "--env"]);
        arguments.push(if matches!(service, "vector" | "retrieval") { &knowledge } else { &bundle });
    }
    arguments.push(&image);
    builder.podman(&arguments)?;
    Ok(())
}

fn becomes_healthy(builder: &Builder, service: &str) -> Outcome {
    let program = format!("/usr/local/bin/reverie-{service}");
    let began = Instant::now();
    while let Err(error) = builder.podman(&["exec", service, &program, "--check-health"]) {
        if began.elapsed() > PATIENCE {
            return Err(with_log(builder, service, &format!("is not healthy after {PATIENCE:?}: {error}")));
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Asks through the pipeline, as users do, from a container of the command.
fn draw(builder: &Builder) -> Outcome {
    let network = format!("container:{}", SERVICES[0]);
    let image = name_of("reverie");
    // The one folder that can be written to.
    let folder = tempfile::tempdir()?;
    std::os::unix::fs::chown(folder.path(), Some(confinement::USER), Some(confinement::USER))?;
    let volume = format!("{}:/out", folder.path().display());
    let mut arguments = vec!["run", "--rm", "--network", &network, "--volume", &volume];
    arguments.extend(CONFINED);
    arguments.extend([&image, "generate", "a large zunin in the middle, snow", "--size", "1024"]);
    arguments.extend(["--server", "http://127.0.0.1:7100", "--seed", "7", "--out", "/out/zunin.png"]);
    let began = Instant::now();
    builder.podman(&arguments)?;
    let (width, height) = png::dimensions(&std::fs::read(folder.path().join("zunin.png"))?)?;
    if (width, height) != (1024, 1024) {
        return Err(format!("asked for 1024 x 1024 pixels, drawn: {width} x {height}").into());
    }
    eprintln!("drawn in {:.1} s: {width} x {height} pixels", began.elapsed().as_secs_f64());
    Ok(())
}

/// SIGTERM ends it in time, and with success.
fn ends(builder: &Builder, service: &str) -> Outcome {
    let began = Instant::now();
    builder.podman(&["stop", "--time", SECONDS_TO_END, service])?;
    let code = builder.podman(&["inspect", "--format", "{{.State.ExitCode}}", service])?;
    if code != "0" {
        return Err(with_log(builder, service, &format!("ended with status {code} after SIGTERM")));
    }
    eprintln!("{service} ended {:.1} s after SIGTERM", began.elapsed().as_secs_f64());
    Ok(())
}

fn with_log(builder: &Builder, service: &str, what: &str) -> Box<dyn Error> {
    let logs = builder.command("podman").args(["logs", service]).output();
    let log = logs.map(|output| String::from_utf8_lossy(&output.stderr).into_owned()).unwrap_or_default();
    format!("{service} {what}\n{log}").into()
}
