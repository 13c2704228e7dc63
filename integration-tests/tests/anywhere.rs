//! Services start wherever a container, a pod or a person puts them, and say why where they cannot.
#![cfg(target_os = "linux")]
#![expect(clippy::print_stderr, reason = "a test that is left out says so")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use reverie_integration_tests::processes::{Process, Processes, command, serve_command};
use reverie_integration_tests::requests::{dimensions, draw, quick};
use reverie_integration_tests::{Fallible, WORKSPACE, folders, health};
use reverie_service_kit::settings::SERVICES;
use reverie_service_kit::{Address, client};
use tempfile::TempDir;
use tokio::process::Command;
use tonic_health::ServingStatus;

/// How long something may take that should come at once.
const SOON: Duration = Duration::from_secs(20);

/// Runs `$0 $@` without a place to write, without privileges, as a user that nobody knows, with few file handles.
const CONFINED: &str = r#"
    mount --make-rprivate /
    for place in / /tmp /dev/shm; do
        mountpoint -q $place && { mount -o remount,bind,ro $place || exit 99; }
    done
    ulimit -n 64
    exec setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs --bounding-set=-all "$0" "$@"
"#;

/// `program ARGUMENTS... COMMAND`.
fn before(command: &Command, program: &str, arguments: &[&str]) -> Command {
    let inner = command.as_std();
    let mut outer = Command::new(program);
    outer.args(arguments).arg(inner.get_program()).args(inner.get_args());
    outer.current_dir(WORKSPACE).stdin(Stdio::null()).kill_on_drop(true);
    outer.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer
}

/// Whether `script` succeeds; if not, the test is left out because of `what`.
fn can(script: &str, what: &str) -> bool {
    let tried = std::process::Command::new("sh").args(["-c", script]).current_dir(WORKSPACE).output();
    let can = tried.is_ok_and(|tried| tried.status.success());
    if !can {
        eprintln!("left out: {what}");
    }
    can
}

/// The ONNX Runtime library where every user can read it.
fn library_for_all() -> Fallible<(TempDir, PathBuf)> {
    let library = match std::env::var_os("ORT_DYLIB_PATH") {
        Some(library) => PathBuf::from(library),
        None => reverie_engine::runtime::cached().ok_or("no cache folder")?,
    };
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let copy = folder.path().join("libonnxruntime.so");
    std::fs::copy(library, &copy)?;
    std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(0o755))?;
    Ok((folder, copy))
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_home_privileges_a_place_to_write_or_many_files() -> Fallible<()> {
    let bundle = format!("{WORKSPACE}/models/bestiary/bundle.toml");
    let binaries = std::env::current_exe()?;
    let reads = format!(
        "unshare --mount sh -c '{CONFINED}' test -r {bundle} && \
         setpriv --reuid 65534 --regid 65534 --clear-groups test -x {}",
        binaries.parent().unwrap_or(Path::new("/")).display()
    );
    if !can(&reads, "it needs root, unshare, setpriv, and a workspace that every user can read") {
        return Ok(());
    }
    let (_folder, library) = library_for_all()?;
    let confine = |command: Command| {
        let mut confined = before(&command, "unshare", &["--mount", "sh", "-c", CONFINED]);
        confined.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        confined.env("ORT_DYLIB_PATH", &library);
        Ok(confined)
    };
    let mut six = Processes::start_as(&[], confine).await?;
    let address = six.pipeline.address()?;
    let drawn = draw(&address, quick("a small zunin on the left, snow", 1024, 5)).await?;
    assert_eq!(dimensions(&drawn)?, (1024, 1024));
    // More callers than a process has file handles are no end of it either.
    let mut idle = Vec::new();
    for _ in 0..100 {
        let connect = tokio::net::TcpStream::connect(six.pipeline.listens());
        idle.push(tokio::time::timeout(SOON, connect).await??);
    }
    drop(idle);
    let drawn = draw(&address, quick("a small zunin on the left, snow", 64, 5)).await?;
    assert_eq!(dimensions(&drawn)?, (64, 64));
    for process in six.all() {
        assert_eq!(process.terminate().await?.code(), Some(0), "{}\n{}", process.service(), process.log());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn beside_services_of_their_own_names() -> Fallible<()> {
    let inject = |mut command: Command| {
        for release in ["REVERIE", "REVERIE_REVERIE", "REVERIE_MY", "MY_REVERIE"] {
            let own = [String::new()].into_iter().chain(SERVICES.map(|service| format!("_{service}")));
            for service in own.chain(["_SUPER_RESOLUTION_256".to_owned(), "__ADMIN".to_owned()]) {
                let name = format!("{release}{service}").to_uppercase().replace('-', "_");
                for (shape, text) in [
                    ("SERVICE_HOST", "10.0.0.1"),
                    ("SERVICE_PORT", "7100"),
                    ("SERVICE_PORT_GRPC", "7100"),
                    ("PORT", "tcp://10.0.0.1:7100"),
                    ("PORT_7100_TCP", "tcp://10.0.0.1:7100"),
                    ("PORT_7100_TCP_PROTO", "tcp"),
                    ("PORT_7100_TCP_PORT", "7100"),
                    ("PORT_7100_TCP_ADDR", "10.0.0.1"),
                ] {
                    command.env(format!("{name}_{shape}"), text);
                }
            }
        }
        Ok(command)
    };
    let mut six = Processes::start_as(&[], inject).await?;
    for process in six.all() {
        assert!(process.listens().starts_with("127.0.0.1:"), "{}", process.listens());
    }
    // The bundled models do not work on latents, so the seventh says that it lacks one and not that a variable is wrong.
    let output = inject(command("autoencoder", &[])?)?.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("latent") && !said.contains("variable"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_every_interface_and_by_name() -> Fallible<()> {
    let mut hosts =
        vec![("localhost", vec!["localhost", "127.0.0.1"]), ("0.0.0.0", vec!["127.0.0.1", "localhost"])];
    if std::net::TcpListener::bind("[::1]:0").is_ok() {
        hosts.push(("[::]", vec!["127.0.0.1", "[::1]", "localhost"]));
    }
    for (listen, reached) in hosts {
        let mut vector = Process::start("vector", &[format!("server.listen={listen}:0")]).await?;
        let port = vector.listens().rsplit(':').next().unwrap_or_default().to_owned();
        for host in reached {
            let address: Address = format!("http://{host}:{port}").parse()?;
            health::becomes(&address, ServingStatus::Serving)
                .await
                .map_err(|error| format!("{host}: {error}"))?;
        }
        assert_eq!(vector.terminate().await?.code(), Some(0));
    }
    Ok(())
}

async fn soon(mut command: Command) -> Fallible<Output> {
    let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output();
    Ok(tokio::time::timeout(SOON, output).await.map_err(|_| "it loads first")??)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_said_before_anything_is_loaded() -> Fallible<()> {
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let slow = folders::that_takes_for_ever_to_read()?;
    let slow = slow.path().display();
    let vector = command(
        "vector",
        &[format!("server.listen={address}"), format!("knowledge_bases.creatures={slow}")],
    )?;
    let mut mesh = serve_command(&address)?;
    mesh.arg("--with-knowledge-base").arg(format!("slow={slow}"));
    for command in [vector, mesh] {
        let output = soon(command).await?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&address) && said.contains("in use"), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn before_the_stages_that_they_call() -> Fallible<()> {
    // Ports that were free a moment ago.
    let free = || -> Fallible<String> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        Ok(listener.local_addr()?.to_string())
    };
    let (encoder, vector, denoiser, levels) = (free()?, free()?, free()?, free()?);
    let stages = [format!("stages.encoder=http://{encoder}"), format!("stages.vector=http://{vector}")];
    let retrieval = Process::start("retrieval", &stages).await?;
    let stages = [
        format!("stages.encoder=http://{encoder}"),
        format!("stages.retrieval={}", retrieval.url()),
        format!("stages.denoiser=http://{denoiser}"),
        format!("stages.super_resolution=[\"http://{levels}\"]"),
    ];
    let pipeline = Process::start("pipeline", &stages).await?;
    let address = pipeline.address()?;
    health::becomes(&address, ServingStatus::NotServing).await?;
    health::becomes(&retrieval.address()?, ServingStatus::NotServing).await?;
    // One after another, the slowest last: nobody lost patience meanwhile.
    let mut started = Vec::new();
    for (service, listen) in
        [("vector", vector), ("super-resolution", levels), ("encoder", encoder), ("denoiser", denoiser)]
    {
        let waiting = client::Upstream::new("pipeline", &address).check_health(SOON).await;
        assert!(waiting.is_err(), "without {service}");
        let mut process = Process::start(service, &[format!("server.listen={listen}")]).await?;
        process.serving().await?;
        started.push(process);
    }
    health::becomes(&address, ServingStatus::Serving).await?;
    assert_eq!(dimensions(&draw(&address, quick("a zunin, sea", 256, 3)).await?)?, (256, 256));
    Ok(())
}

/// A CPU cgroup of version 1 that is removed when it is dropped.
struct Quota(PathBuf);

impl Quota {
    fn of(cores: &str) -> Option<Self> {
        let name = format!("reverie-test-{}", std::process::id());
        let cores: f64 = cores.parse().ok()?;
        let first = Path::new("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").exists();
        let folder = Path::new("/sys/fs/cgroup").join(if first { "cpu" } else { "" }).join(name);
        std::fs::create_dir(&folder).ok()?;
        let quota = Self(folder);
        let micros = (cores * 100_000.0) as u64;
        let (file, text) = if first {
            ("cpu.cfs_quota_us", micros.to_string())
        } else {
            ("cpu.max", format!("{micros} 100000"))
        };
        std::fs::write(quota.0.join(file), text).ok()?;
        Some(quota)
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_as_many_threads_as_the_cpu_quota_allows() -> Fallible<()> {
    let cores = std::thread::available_parallelism()?.get();
    let Some(quota) = Quota::of("1").filter(|_| cores > 1) else {
        eprintln!("left out: it needs two cores, and a CPU cgroup that it may make");
        return Ok(());
    };
    let script = format!("echo $$ > {}/cgroup.procs && exec \"$0\" \"$@\"", quota.0.display());
    let json = ["telemetry.log_format=json".to_owned()];
    let mut encoder =
        Process::spawn("encoder", before(&command("encoder", &json)?, "sh", &["-c", &script])).await?;
    encoder.serving().await?;
    let log = encoder.log();
    let line = log.lines().find(|line| line.contains("CPU cores that the models")).ok_or(log.clone())?;
    assert!(line.contains("\"cores\":1,"), "{line}");
    assert_eq!(encoder.terminate().await?.code(), Some(0));
    Ok(())
}
