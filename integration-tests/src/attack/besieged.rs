//! A locked mesh that faults can happen to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use reverie::client;
use reverie_proto::generation::v1::GenerateRequest;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_service_kit::client::Upstream;
use reverie_service_kit::{Address, Context};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;

use super::fault::{DOOR, LINKS};
use super::{Fault, Kind, Proxy, Traffic, Usage, Wire, own_mounts};
use crate::locked::{Link, LockedMesh};
use crate::processes::Process;
use crate::requests::quick;
use crate::{BUNDLE, Fallible, bases, folders, servers};

/// The knowledge base that callers write to.
pub(super) const BASE: &str = "besieged";
/// The disk that it is on, bytes.
const DISK: u64 = 64 << 20;
/// What a service may still take from the system where there is little memory, bytes.
const LITTLE: u64 = 256 << 10;
/// By then services have given back what nobody uses.
const GIVEN_BACK: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long each burden of the warm-up lasts.
const WARM_UP: Duration = Duration::from_secs(5);
/// How many callers burden the mesh at a time.
const SLOW_READERS: u64 = 16;
const SILENT_CONNECTIONS: usize = 400;
const REQUESTS_OF_A_BURST: u64 = 100;
const CALLERS_WHO_GIVE_UP: u64 = 8;

/// A mesh with TLS, keys, models in a store with a cache, a knowledge base that can be written to, and a proxy on every way.
pub struct Besieged {
    mesh: LockedMesh,
    ways: BTreeMap<Link, Proxy>,
    place: TempDir,
    has_own_disk: bool,
    burdens: JoinSet<()>,
    /// Services that had no memory in their present life.
    starved: BTreeSet<&'static str>,
    /// What panicked in lives that are over.
    panics: Vec<String>,
}

impl Besieged {
    /// Starts it, each service with `further` settings, and waits until all of it serves.
    pub async fn start(further: &[String]) -> Fallible<Self> {
        let place = tempfile::tempdir()?;
        let [base, cache] = ["base", "cache"].map(|name| place.path().join(name));
        fs::create_dir(&base)?;
        let has_own_disk = mount(&base).await?;
        bases::create(&base, BASE).await?;
        let store = format!("http://{}", servers::web(Path::new(BUNDLE))?);
        let prepare = |service: &str, command: &mut Command| {
            let knowledge = [
                format!("knowledge_bases.creatures={store}/knowledge/creatures"),
                format!("knowledge_bases.{BASE}={}", base.display()),
            ];
            let mut settings = match service {
                "retrieval" => [&knowledge[..], &[format!("writable=[\"{BASE}\"]")]].concat(),
                "vector" => knowledge.to_vec(),
                "pipeline" => Vec::new(),
                _ => vec![format!("inference.bundle={store}")],
            };
            settings.push("admin.listen=127.0.0.1:0".to_owned());
            settings.extend_from_slice(further);
            if service != "pipeline" {
                settings.push(format!("storage.cache={}", cache.display()));
            }
            for setting in settings {
                command.args(["--set", &setting]);
            }
            // As in the container images.
            command.env("MALLOC_ARENA_MAX", "2");
        };
        let mut ways = BTreeMap::new();
        let mut mesh = LockedMesh::start(prepare, |link, listens| {
            let proxy = Proxy::start(listens)?;
            // By its name, which is in the certificates, too.
            let address = format!("localhost:{}", proxy.address().port());
            ways.insert(link, proxy);
            Ok(address)
        })
        .await?;
        ways.insert(DOOR, Proxy::start(mesh.pipeline.listens())?);
        if !LINKS.iter().eq(ways.keys()) {
            return Err(format!("services call each other otherwise: {:?}", ways.keys()).into());
        }
        let key =
            mesh.key("callers", &["--scope", "generate", "--scope", "retrieve", "--scope", "write"]).await?;
        mesh.let_in(&key).await?;
        mesh.serving().await?;
        let (burdens, starved, panics) = (JoinSet::new(), BTreeSet::new(), Vec::new());
        Ok(Self { mesh, ways, place, has_own_disk, burdens, starved, panics })
    }

    /// How callers reach it.
    pub fn door(&self) -> Fallible<Address> {
        let proxy = self.ways.get(&DOOR).ok_or("there is no door")?;
        Ok(format!("https://localhost:{}", proxy.address().port()).parse()?)
    }

    /// Gives its callers, once it has borne what it has to bear in the worst case, so that services hold the most that they ever need from
    /// now on: buffers of models, threads of pools.
    pub async fn callers(&mut self) -> Fallible<Arc<Traffic>> {
        let traffic = Traffic::learn(&self.door()?).await?;
        for kind in [Kind::SlowReaders, Kind::Burst] {
            let burden = Fault { lasts: WARM_UP, ..Fault::of(kind) };
            self.begin(&burden).await?;
            tokio::time::sleep(burden.lasts).await;
            self.end(&[burden]).await?;
        }
        let (is_well, calls) = (traffic.all_is_well().await, traffic.take_calls());
        if is_well { Ok(traffic) } else { Err(format!("all is not well: {calls:?}").into()) }
    }

    /// What can happen to it here: a disk can be full only where this process may mount one, and memory be little only where there is
    /// `prlimit` (Linux).
    pub fn kinds(&self) -> Vec<Kind> {
        let has_limits = std::process::Command::new("prlimit")
            .arg("--version")
            .output()
            .is_ok_and(|ended| ended.status.success());
        let can_happen = |kind: &Kind| match kind {
            Kind::FullDisk => self.has_own_disk,
            Kind::LittleMemory => has_limits,
            _ => true,
        };
        Kind::ALL.into_iter().filter(can_happen).collect()
    }

    /// What each service holds.
    pub async fn usage(&mut self) -> Fallible<BTreeMap<&'static str, Usage>> {
        let mut usage = BTreeMap::new();
        for process in self.mesh.all() {
            usage.insert(process.service(), Usage::of(process).await?);
        }
        Ok(usage)
    }

    /// What the services hold that they should have given back since, once nobody calls any more.
    pub async fn leaks_since(&mut self, before: &BTreeMap<&str, Usage>) -> Fallible<Vec<String>> {
        let begun = Instant::now();
        loop {
            let now = self.usage().await?;
            let leaks: Vec<String> = now
                .iter()
                .filter_map(|(service, now)| {
                    let leaked = now.leaked_since(before.get(service)?)?;
                    Some(format!("{service} has {leaked}"))
                })
                .collect();
            if leaks.is_empty() || begun.elapsed() > GIVEN_BACK {
                return Ok(leaks);
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// What each service has logged, of its present life.
    pub fn logs(&mut self) -> String {
        self.mesh.all().map(|process| format!("{}:\n{}\n", process.service(), process.log())).concat()
    }

    /// Lets a fault happen.
    pub async fn begin(&mut self, fault: &Fault) -> Fallible<()> {
        if let Some(wire) = fault.wire() {
            self.way(fault.link)?.set(wire);
        }
        match fault.kind {
            Kind::Killed => self.kill(fault.service).await?,
            Kind::Stopped => self.service(fault.service)?.pause().await?,
            Kind::FullDisk => fill(&self.filler())?,
            Kind::LittleMemory => {
                let id = self.service(fault.service)?.id()?;
                limit_memory(id, Some(virtual_bytes(id)? + LITTLE)).await?;
                self.starved.insert(fault.service);
            }
            Kind::DamagedCache => {
                self.damage_cache()?;
                self.kill(fault.service).await?;
            }
            Kind::SilentConnections => {
                // At the service itself: a proxy would need two more descriptors for each.
                let listens = self.mesh.pipeline.listens();
                let connections = (0..SILENT_CONNECTIONS).map(|_| TcpStream::connect(listens));
                let held = try_join_all(connections).await?;
                self.burdens.spawn(async move {
                    let _held = held;
                    std::future::pending::<()>().await;
                });
            }
            Kind::SlowReaders | Kind::Burst | Kind::Resets => self.burden(fault)?,
            Kind::Cut | Kind::Silent | Kind::Slow => {}
        }
        Ok(())
    }

    /// Ends faults: what was broken is mended, and what has died of them is started again. Nothing else may have died.
    pub async fn end(&mut self, faults: &[Fault]) -> Fallible<()> {
        self.burdens.shutdown().await;
        for fault in faults {
            if fault.wire().is_some() {
                self.way(fault.link)?.set(Wire::Sound);
            }
            match fault.kind {
                Kind::FullDisk => fs::remove_file(self.filler())?,
                Kind::Stopped if self.service(fault.service)?.is_running()? => {
                    self.service(fault.service)?.resume().await?;
                }
                Kind::LittleMemory if self.service(fault.service)?.is_running()? => {
                    limit_memory(self.service(fault.service)?.id()?, None).await?;
                }
                _ => {}
            }
        }
        for process in self.mesh.all() {
            if process.is_running()? {
                continue;
            }
            let (name, log) = (process.service(), process.log());
            if !faults.iter().any(|fault| fault.may_end(name)) {
                let status = process.ended().await?;
                return Err(format!("{name} ended, {status}, and no fault should end it:\n{log}").into());
            }
            self.panics.extend(panics(name, &log, &self.starved));
            self.starved.remove(name);
            process.begin_again().await?;
        }
        Ok(())
    }

    /// Kills services without a warning, and starts them again.
    pub async fn restart(&mut self, services: &[&'static str]) -> Fallible<()> {
        let of = |&service: &&'static str| Fault { service, ..Fault::of(Kind::Killed) };
        let kills: Vec<Fault> = services.iter().map(of).collect();
        for kill in &kills {
            self.begin(kill).await?;
        }
        self.end(&kills).await
    }

    /// What has panicked in any life of any service: nothing should, whatever happens.
    pub fn panics(&mut self) -> Vec<String> {
        let mut all = self.panics.clone();
        all.extend(
            self.mesh
                .all()
                .iter()
                .flat_map(|process| panics(process.service(), &process.log(), &self.starved)),
        );
        all
    }

    fn way(&self, link: Link) -> Fallible<&Proxy> {
        Ok(self.ways.get(&link).ok_or("there is no such way")?)
    }

    fn service(&mut self, name: &str) -> Fallible<&mut Process> {
        let found = self.mesh.all().into_iter().find(|process| process.service() == name);
        Ok(found.ok_or_else(|| format!("{name} is no service"))?)
    }

    async fn kill(&mut self, service: &str) -> Fallible<()> {
        let process = self.service(service)?;
        if process.is_running()? { process.kill().await } else { Ok(()) }
    }

    fn filler(&self) -> PathBuf {
        self.place.path().join("base").join("filler")
    }

    /// Changes every file of the cache in its middle.
    fn damage_cache(&self) -> Fallible<()> {
        for path in folders::files(&self.place.path().join("cache").join("sha256"))? {
            let mut bytes = fs::read(&path)?;
            let middle = bytes.len() / 2;
            if let Some(byte) = bytes.get_mut(middle) {
                *byte ^= 0x55;
            }
            fs::write(path, bytes)?;
        }
        Ok(())
    }

    /// Callers that ask for more than they should.
    fn burden(&mut self, fault: &Fault) -> Fallible<()> {
        let (door, kind, lasts) = (self.door()?, fault.kind, fault.lasts);
        match kind {
            Kind::Burst => {
                for seed in 0..REQUESTS_OF_A_BURST {
                    let door = door.clone();
                    self.burdens.spawn(async move {
                        let _ = client::ask(&door, quick("a zunin, cave", 256, seed), lasts, |_| ()).await;
                    });
                }
            }
            Kind::Resets => {
                for caller in 0..CALLERS_WHO_GIVE_UP {
                    let door = door.clone();
                    self.burdens.spawn(async move {
                        loop {
                            let asked = client::ask(&door, quick("a zunin", 256, caller), lasts, |_| ());
                            let _ = tokio::time::timeout(Duration::from_millis(2 * caller), asked).await;
                        }
                    });
                }
            }
            _ => {
                for seed in 0..SLOW_READERS {
                    let stage = Upstream::new("pipeline", &door);
                    self.burdens.spawn(async move {
                        let request = GenerateRequest { previews: true, ..quick("a zunin", 1024, seed) };
                        let request = Context::with_timeout(lasts).outgoing(request);
                        let _unread = GenerationServiceClient::new(stage.channel()).generate(request).await;
                        std::future::pending::<()>().await;
                    });
                }
            }
        }
        Ok(())
    }
}

impl Drop for Besieged {
    fn drop(&mut self) {
        if self.has_own_disk {
            // Nobody else sees it, and it ends with this process at the latest.
            let _ = std::process::Command::new("umount")
                .arg("--lazy")
                .arg(self.place.path().join("base"))
                .status();
        }
    }
}

/// Lines of a log that tell of a panic, but where there was no memory: the standard library has no other way to tell of that.
fn panics(service: &str, log: &str, starved: &BTreeSet<&str>) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains("panicked") && !starved.contains(service));
    lines.map(|line| format!("{service}: {line}")).collect()
}

/// Mounts a small disk there; whether that is allowed here.
async fn mount(place: &Path) -> Fallible<bool> {
    if !own_mounts::are_here() {
        return Ok(false);
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", &format!("size={DISK}"), "tmpfs"]).arg(place);
    Ok(mount.status().await?.success())
}

/// Writes to a file until the disk is full.
fn fill(file: &Path) -> Fallible<()> {
    let mut filler = fs::File::create(file)?;
    let much = vec![0; 64 << 10];
    loop {
        match filler.write(&much) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// The address space of a process, bytes.
fn virtual_bytes(id: u32) -> Fallible<u64> {
    let pages: u64 =
        fs::read_to_string(format!("/proc/{id}/statm"))?.split(' ').next().ok_or("no size")?.parse()?;
    Ok(pages * 4096)
}

/// Sets the most address space that a process may have.
async fn limit_memory(id: u32, bytes: Option<u64>) -> Fallible<()> {
    let most = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    // The soft limit alone, so that it can be raised again.
    let limited = Command::new("prlimit").arg(format!("--pid={id}")).arg(format!("--as={most}:")).status();
    if limited.await?.success() { Ok(()) } else { Err("prlimit failed".into()) }
}
