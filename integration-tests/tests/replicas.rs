//! Several processes of a stage, one of which is stopped or restarted: callers notice nothing of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use reverie_integration_tests::Fallible;
use reverie_integration_tests::processes::Process;
use reverie_integration_tests::requests::{PATIENCE, dimensions, draw, quick};
use reverie_proto::encoder::v1::EncodeTextRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_service_kit::client::{Addresses, Upstream};
use reverie_service_kit::{Context, Shutdown};

/// Callers at a time.
const CALLERS: u64 = 3;
/// By then a caller has noticed that a replica is silent.
const NOTICED: Duration = Duration::from_secs(5);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The value of a setting that names all of `processes`.
fn list(processes: &[Process]) -> String {
    processes.iter().map(Process::url).collect::<Vec<_>>().join(",")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_replica_is_left_out_until_it_goes_on() -> Fallible<()> {
    let mut encoders = try_join_all((0..3).map(|_| Process::start("encoder", &[]))).await?;
    try_join_all(encoders.iter_mut().map(Process::serving)).await?;
    let upstream = Upstream::new("encoder", list(&encoders).parse::<Addresses>()?);
    let call = async || {
        let request = EncodeTextRequest { texts: vec!["a zunin".to_owned()], ..Default::default() };
        let mut client = EncoderServiceClient::new(upstream.channel());
        client.encode_text(Context::with_timeout(PATIENCE).outgoing(request)).await.map(drop)
    };
    call().await?;
    encoders[0].pause().await?;
    let stopped = Instant::now();
    let caller = async || {
        let (mut failures, mut calls) = (Vec::new(), 0);
        while stopped.elapsed() < 2 * NOTICED {
            let (begun, noticed) = (Instant::now(), stopped.elapsed() > NOTICED);
            let outcome = call().await;
            if noticed {
                calls += 1;
                failures.extend(outcome.err());
                assert!(begun.elapsed() < NOTICED, "a call waited for the one that is stopped");
            }
        }
        (failures, calls)
    };
    let seen = join_all((0..CALLERS).map(|_| caller())).await;
    let calls: usize = seen.iter().map(|(_, calls)| calls).sum();
    let failures: Vec<_> = seen.into_iter().flat_map(|(failures, _)| failures).collect();
    assert!(calls > 100 && 100 * failures.len() < calls, "of {calls}: {failures:?}");
    // The two others end, so that only the one that was stopped can answer.
    encoders[0].resume().await?;
    let begun = Instant::now();
    for encoder in &mut encoders[1..] {
        encoder.kill().await?;
    }
    while let Err(status) = call().await {
        assert!(begun.elapsed() < PATIENCE, "{status}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Each process of the stages is restarted while callers draw. A call is repeated as clients of the mesh repeat
/// it, until its answer begins: one that fails ends the test.
#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_one_of_two_replicas_are_not_noticed() -> Fallible<()> {
    // A replica that is left by its callers does not wait for them.
    let settings = ["server.lame_duck_seconds=2".to_owned(), "server.drain_seconds=60".to_owned()];
    let two = async |service, further: &[String]| {
        let settings = [&settings, further].concat();
        let mut two = try_join_all((0..2).map(|_| Process::start(service, &settings))).await?;
        try_join_all(two.iter_mut().map(Process::serving)).await?;
        Fallible::Ok(two)
    };
    let (encoders, vectors, denoisers, levels) = tokio::try_join!(
        two("encoder", &[]),
        two("vector", &[]),
        two("denoiser", &[]),
        two("super-resolution", &[]),
    )?;
    let stages = [format!("stages.encoder={}", list(&encoders)), format!("stages.vector={}", list(&vectors))];
    let retrievals = two("retrieval", &stages).await?;
    let stages = [
        format!("stages.encoder={}", list(&encoders)),
        format!("stages.retrieval={}", list(&retrievals)),
        format!("stages.denoiser={}", list(&denoisers)),
        format!("stages.super_resolution=[\"{}\"]", list(&levels)),
    ];
    let mut pipeline = Process::start("pipeline", &stages).await?;
    pipeline.serving().await?;
    let (address, drawn, over) = (pipeline.address()?, AtomicU64::new(0), Shutdown::new());
    let caller = async |caller: u64| {
        let mut seed = caller;
        while !over.is_cancelled() {
            seed += CALLERS;
            let image = draw(&address, quick("a small zunin on the left, snow", 256, seed)).await;
            let image = image.map_err(|status| format!("image {seed}: {status}\n{}", pipeline.log()))?;
            assert_eq!(dimensions(&image)?, (256, 256));
            drawn.fetch_add(1, Ordering::Relaxed);
        }
        Fallible::Ok(())
    };
    let restarts = async {
        let _over = over.clone().drop_guard();
        // Those that were restarted, which are killed when they are dropped.
        let mut kept = Vec::new();
        for mut process in [encoders, retrievals, vectors, denoisers, levels].into_iter().flatten() {
            let ended = process.terminate().await?;
            if ended.code() != Some(0) {
                return Err(format!("{} ended with {ended}\n{}", process.service(), process.log()).into());
            }
            process.start_again().await?;
            // The next one, which may be the other of two, ends when this one is called again.
            let before = drawn.load(Ordering::Relaxed);
            while drawn.load(Ordering::Relaxed) < before + CALLERS {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            kept.push(process);
        }
        Fallible::Ok(kept)
    };
    tokio::try_join!(try_join_all((0..CALLERS).map(caller)), restarts)?;
    Ok(())
}
