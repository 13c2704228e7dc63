//! Every service of a mesh of processes is restarted, one after another, while callers draw: none of them sees a failure.
//!
//! `REVERIE_ROLLS` says how often (2 unless set). A caller does what any client of a rolling update does: it repeats a call that ended
//! with UNAVAILABLE, which says that nothing came of it.
#![expect(clippy::print_stdout, reason = "it measures, and says what")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use reverie_integration_tests::Fallible;
use reverie_integration_tests::processes::{Process, Processes};
use reverie_integration_tests::requests::{PATIENCE, dimensions, draw, quick};
use reverie_service_kit::{Address, Shutdown};
use tonic::Code;

/// Callers that draw at a time.
const CALLERS: u64 = 3;
/// Between two tries of one caller.
const RETRY_WAIT: Duration = Duration::from_millis(100);
/// Rolls unless `REVERIE_ROLLS` says otherwise.
const ROLLS: u32 = 2;

/// What callers saw.
#[derive(Debug, Default)]
struct Seen {
    drawn: AtomicU64,
    repeated: AtomicU64,
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_every_service_under_load_lose_no_image() -> Fallible<()> {
    let rolls = std::env::var("REVERIE_ROLLS").map_or(Ok(ROLLS), |rolls| rolls.parse())?;
    // Callers that stay are waited for three seconds.
    let settings = ["server.drain_seconds=4".to_owned()];
    let mut six = Processes::start(&settings).await?;
    let (address, begun) = (six.pipeline.address()?, Instant::now());
    let (seen, over) = (Seen::default(), Shutdown::new());
    let callers =
        futures::future::try_join_all((0..CALLERS).map(|caller| call(&address, caller, &seen, &over)));
    let restarts = async {
        let _over = over.clone().drop_guard();
        let mut starts: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        for roll in 0..rolls {
            for process in six.all() {
                let before = seen.drawn.load(Ordering::Relaxed);
                let start = restart(process).await.map_err(|error| format!("roll {roll}: {error}"))?;
                starts.entry(process.service()).or_default().push(start);
                // Not before the mesh has drawn with it, as a rolling update waits for readiness.
                while seen.drawn.load(Ordering::Relaxed) < before + CALLERS {
                    tokio::time::sleep(RETRY_WAIT).await;
                }
            }
        }
        Fallible::Ok(starts)
    };
    let restarts = async { tokio::time::timeout(PATIENCE * (rolls + 1), restarts).await? };
    let (_, starts) = tokio::try_join!(callers, restarts)?;
    let (drawn, repeated) = (seen.drawn.into_inner(), seen.repeated.into_inner());
    let seconds = begun.elapsed().as_secs_f64();
    println!("{rolls} rolls of six services in {seconds:.0} s: {drawn} images, {repeated} calls repeated");
    for (service, mut starts) in starts {
        starts.sort_unstable();
        let (median, longest) = (starts[starts.len() / 2], starts[starts.len() - 1]);
        println!("{service}: SERVING after {median:?} (median), {longest:?} (longest)");
    }
    Ok(())
}

/// Draws until it is over. Only UNAVAILABLE may be repeated, and only so long.
async fn call(address: &Address, caller: u64, seen: &Seen, over: &Shutdown) -> Fallible<()> {
    let mut seed = caller;
    while !over.is_cancelled() {
        seed += CALLERS;
        let first = Instant::now();
        let drawn = loop {
            match draw(address, quick("a small zunin on the left, snow", 256, seed)).await {
                Ok(drawn) => break drawn,
                Err(status) if status.code() == Code::Unavailable && first.elapsed() < PATIENCE => {
                    seen.repeated.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(RETRY_WAIT).await;
                }
                Err(status) => return Err(format!("image {seed}: {status}").into()),
            }
        };
        assert_eq!(dimensions(&drawn)?, (256, 256));
        seen.drawn.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Ends a process and starts it anew where it listened; gives the time from its start to SERVING.
async fn restart(process: &mut Process) -> Fallible<Duration> {
    let ended = process.terminate().await?;
    if ended.code() != Some(0) {
        return Err(format!("{} ended with {ended}\n{}", process.service(), process.log()).into());
    }
    process.start_again().await
}
