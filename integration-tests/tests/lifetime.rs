//! How processes end, and what they leave behind: no picture in flight is lost, no file is left, nothing hangs.

#[cfg(unix)]
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use reverie_integration_tests::processes::{self, Process, Processes, serve_command};
use reverie_integration_tests::requests::{PATIENCE, dimensions, draw, quick, steps};
use reverie_integration_tests::{Fallible, folders, health};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GenerateRequest, NoMemory, Stage};
use reverie_service_kit::{Address, client};
use tonic::Code;
use tonic_health::ServingStatus;

/// Longer than the first time that ONNX Runtime would call home, 10 s after it is loaded.
const HOME_IS_WATCHED_FOR: Duration = Duration::from_secs(13);

#[tokio::test(flavor = "multi_thread")]
async fn six_processes_signalled_at_once_lose_no_picture() -> Fallible<()> {
    let mut six = Processes::start(&[]).await?;
    let address = six.pipeline.address()?;
    let signal = async |six: &mut Processes| {
        try_join_all(six.all().map(async |process| process.signal().await)).await.map(|_| ())
    };
    four_in_flight(&address, None, signal(&mut six)).await?;
    for process in six.all() {
        assert_eq!(process.ended().await?.code(), Some(0), "{}", process.service());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_in_one_process_loses_no_picture() -> Fallible<()> {
    let mut mesh = Process::serve().await?;
    let address = mesh.address()?;
    four_in_flight(&address, None, mesh.signal()).await?;
    assert_eq!(mesh.ended().await?.code(), Some(0));
    Ok(())
}

/// It draws what it can before it is ready: here one of its knowledge bases takes for ever to load.
#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_in_one_process_that_is_not_ready_loses_no_picture() -> Fallible<()> {
    let slow = folders::that_takes_for_ever_to_read()?;
    let listens = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = serve_command(&listens.to_string())?;
    command.arg("--with-knowledge-base").arg(format!("slow={}", slow.path().display()));
    let mut mesh = command.spawn()?;
    let address: Address = format!("http://{listens}").parse()?;
    let without_neighbours = Some(Memory::None(NoMemory {}));
    let first = GenerateRequest { memory: without_neighbours.clone(), ..quick("a zunin", 64, 1) };
    let begun = Instant::now();
    while let Err(status) = draw(&address, first.clone()).await {
        assert!(begun.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = mesh.id().ok_or("it has ended")?;
    four_in_flight(&address, without_neighbours, processes::send("TERM", id)).await?;
    let ended = tokio::time::timeout(PATIENCE, mesh.wait()).await??;
    assert_eq!(ended.code(), Some(0), "{ended}");
    Ok(())
}

/// Asks for four pictures, awaits `signal` when all of them are drawn, and checks that all arrive.
async fn four_in_flight(
    address: &Address,
    memory: Option<Memory>,
    signal: impl Future<Output = Fallible<()>>,
) -> Fallible<()> {
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let pictures = (0..4).map(|seed| {
        let begun = begun.clone();
        let watch = move |event: &Event| {
            if matches!(event, Event::Progress(_)) {
                let _ = begun.send(seed);
            }
        };
        let request = GenerateRequest {
            memory: memory.clone(),
            ..quick("a small zunin on the left, snow", 1024, seed)
        };
        reverie::client::ask(address, request, PATIENCE, watch)
    });
    let pictures = join_all(pictures);
    let signalled = async {
        let mut in_flight = std::collections::BTreeSet::new();
        while in_flight.len() < 4 {
            in_flight.insert(has_begun.recv().await.ok_or("the pictures ended")?);
        }
        signal.await
    };
    let (pictures, signalled) = tokio::join!(pictures, signalled);
    signalled?;
    for picture in pictures {
        assert_eq!(dimensions(&picture?)?, (1024, 1024));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_alone_waits_for_its_callers_three_quarters_of_its_drain_time() -> Fallible<()> {
    let mut six = Processes::start(&["server.drain_seconds=4".to_owned()]).await?;
    draw(&six.pipeline.address()?, quick("a small zunin on the left, snow", 256, 1)).await?;
    let begun = Instant::now();
    assert_eq!(six.super_resolution.terminate().await?.code(), Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(3) && took < Duration::from_secs(4), "{took:?}");
    Ok(())
}

/// A forward pass cannot be interrupted: the process ends beneath it all the same, and the caller hears why.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_still_drawn_when_the_drain_time_is_over_is_cut_off() -> Fallible<()> {
    let mut six = Processes::start(&["server.drain_seconds=1".to_owned()]).await?;
    let address = six.pipeline.address()?;
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let long = GenerateRequest {
        base_sampling: Some(steps(500)),
        ..quick("a small zunin on the left, snow", 64, 1)
    };
    // So long that it is admitted however busy the machine is.
    let timeout = Duration::from_mins(5);
    let drawing = tokio::spawn(async move {
        let watch = move |event: &Event| {
            if matches!(event, Event::Progress(progress) if progress.stage() == Stage::Base) {
                let _ = begun.send(());
            }
        };
        reverie::client::ask(&address, long, timeout, watch).await
    });
    if has_begun.recv().await.is_none() {
        return Err(format!("it ended before its first step: {:?}", drawing.await?.map(|_| ())).into());
    }
    let signalled = Instant::now();
    try_join_all(six.all().map(async |process| process.signal().await)).await?;
    let status = drawing.await?.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("drain time is over"), "{status}");
    for process in six.all() {
        assert_eq!(process.ended().await?.code(), Some(0), "{}", process.service());
    }
    assert!(signalled.elapsed() < Duration::from_secs(6), "{:?}", signalled.elapsed());
    Ok(())
}

/// Nothing is in flight yet, so nothing is waited for.
#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_while_a_service_loads_ends_it_at_once() -> Fallible<()> {
    let folder = folders::that_takes_for_ever_to_read()?;
    let setting = format!("knowledge_bases.creatures={}", folder.path().display());
    let mut vector = Process::start("vector", &[setting]).await?;
    let signalled = Instant::now();
    let ended = vector.terminate().await?;
    // By its handler, or before it had one.
    assert!(ended.code() == Some(143) || ended.signal() == Some(15), "{ended}");
    assert!(signalled.elapsed() < Duration::from_secs(5), "{:?}", signalled.elapsed());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_process_at_once() -> Fallible<()> {
    let mut process = Process::start("vector", &["server.drain_seconds=3600".to_owned()]).await?;
    process.serving().await?;
    let address = process.address()?;
    // A caller that stays.
    let caller = client::Upstream::new("vector", &address);
    caller.check_health(PATIENCE).await?;
    process.signal().await?;
    health::becomes(&address, ServingStatus::NotServing).await?;
    process.signal().await?;
    assert_eq!(process.ended().await?.code(), Some(143));
    drop(caller);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fresh_home_stays_empty() -> Fallible<()> {
    let home = tempfile::tempdir()?;
    let library = match std::env::var_os("ORT_DYLIB_PATH") {
        Some(library) => library,
        None => reverie_engine::runtime::cached().ok_or("no cache folder")?.into_os_string(),
    };
    let mut command = processes::command("encoder", &[])?;
    command.env("HOME", home.path()).env("ORT_DYLIB_PATH", library);
    for variable in
        ["ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"]
    {
        command.env_remove(variable);
    }
    let mut process = Process::spawn("encoder", command).await?;
    process.serving().await?;
    tokio::time::sleep(HOME_IS_WATCHED_FOR).await;
    process.serving().await?;
    assert_eq!(process.terminate().await?.code(), Some(0));
    let left: Vec<_> = std::fs::read_dir(home.path())?.map(|entry| entry.map(|entry| entry.path())).collect();
    assert!(left.is_empty(), "{left:?}");
    Ok(())
}
