//! How processes end, and what they leave behind: no picture in flight is lost, no file is left, nothing hangs.

use std::time::Duration;

use futures::future::{join_all, try_join_all};
use reverie_integration_tests::processes::{self, Process, Processes};
use reverie_integration_tests::requests::{PATIENCE, dimensions, draw, quick};
use reverie_integration_tests::{Fallible, health};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_service_kit::Address;
use reverie_service_kit::client::Stage;
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
    four_in_flight(&address, signal(&mut six)).await?;
    for process in six.all() {
        assert_eq!(process.ended().await?.code(), Some(0), "{}", process.service());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_in_one_process_loses_no_picture() -> Fallible<()> {
    let mut mesh = Process::serve().await?;
    let address = mesh.address()?;
    four_in_flight(&address, mesh.signal()).await?;
    assert_eq!(mesh.ended().await?.code(), Some(0));
    Ok(())
}

/// Asks for four pictures, awaits `signal` when all of them are drawn, and checks that all arrive.
async fn four_in_flight(address: &Address, signal: impl Future<Output = Fallible<()>>) -> Fallible<()> {
    let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
    let pictures = (0..4).map(|seed| {
        let begun = begun.clone();
        let watch = move |event: &Event| {
            if matches!(event, Event::Progress(_)) {
                let _ = begun.send(seed);
            }
        };
        reverie::client::ask(address, quick("a small zunin on the left, snow", 1024, seed), PATIENCE, watch)
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
async fn a_stage_alone_ends_when_its_drain_time_is_over() -> Fallible<()> {
    let mut six = Processes::start(&["server.drain_seconds=2".to_owned()]).await?;
    draw(&six.pipeline.address()?, quick("a small zunin on the left, snow", 256, 1)).await?;
    let begun = std::time::Instant::now();
    assert_eq!(six.super_resolution.terminate().await?.code(), Some(0));
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(4), "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_process_at_once() -> Fallible<()> {
    let mut process = Process::start("vector", &["server.drain_seconds=3600".to_owned()]).await?;
    process.serving().await?;
    let address = process.address()?;
    // A caller that stays.
    let caller = Stage::new("vector", &address);
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
