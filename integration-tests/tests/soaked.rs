//! A mesh with TLS, keys and telemetry under load that comes and goes: every call is answered as it should be or refused for a reason that
//! is documented, and what the services hold does not grow.
//!
//! `REVERIE_SOAK_SECONDS` sets for how long (20 otherwise). `cargo xtask soak` does it for hours.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie_integration_tests::attack::{Besieged, Usage, promises};
use reverie_integration_tests::collector::Collector;
use reverie_integration_tests::{Fallible, number};
use tokio::task::JoinSet;

/// Callers at a time, drawn anew for each span.
const CALLERS: std::ops::RangeInclusive<u64> = 0..=12;
const SPAN: Duration = Duration::from_secs(10);
/// The usage is told so often.
const TOLD_EVERY: Duration = Duration::from_mins(5);
/// The most that memory may grow from the middle to the end, bytes.
const MORE_MEMORY: f64 = 64.0 * 1024.0 * 1024.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_under_load_stays_as_it_is() -> Fallible<()> {
    let lasts = Duration::from_secs(number("REVERIE_SOAK_SECONDS", 20)?);
    let seed = number("REVERIE_SEED", 1)?;
    let collector = Collector::start().await?;
    let telemetry = [
        format!("telemetry.otlp_endpoint={}", collector.endpoint()),
        "telemetry.metrics_interval_seconds=5".to_owned(),
    ];
    let mut mesh = Besieged::start(&telemetry).await?;
    let traffic = mesh.callers().await?;

    let (before, begun) = (mesh.usage().await?, Instant::now());
    let (mut random, mut ends) = (StdRng::seed_from_u64(seed), BTreeMap::<String, usize>::new());
    let (mut told, mut middle, mut last_told, mut spans) = (Vec::new(), None, begun, 0);
    while begun.elapsed() < lasts {
        let mut callers = JoinSet::new();
        for caller in 0..random.random_range(CALLERS) {
            callers.spawn(traffic.clone().go_on(random.random::<u64>() + caller));
        }
        tokio::time::sleep(SPAN.min(lasts / 2)).await;
        callers.shutdown().await;
        let calls = traffic.take_calls();
        told.extend(promises::broken(&calls, &[]));
        for call in calls {
            *ends.entry(call.outcome.name()).or_default() += 1;
        }
        if middle.is_none() && 2 * begun.elapsed() >= lasts {
            middle = Some(mesh.usage().await?);
        }
        if last_told.elapsed() >= TOLD_EVERY {
            last_told = Instant::now();
            println!("after {:.0} s, {ends:?}", begun.elapsed().as_secs_f64());
            show(&mesh.usage().await?);
        }
        spans += collector.take_spans().len();
    }

    told.extend(mesh.leaks_since(&before).await?);
    let end = mesh.usage().await?;
    for (service, middle) in middle.unwrap_or_default() {
        let grown = end.get(service).map_or(0.0, |end| end.memory - middle.memory);
        if grown > MORE_MEMORY {
            told.push(format!("{service} has {grown} bytes more than at half the time"));
        }
    }
    let stored = traffic.stored().await?;
    told.extend(promises::lost(&stored));
    println!("{lasts:?}, seed {seed}: {ends:?}, {} entries stored, {spans} spans", stored.len());
    show(&before);
    show(&end);
    told.extend(mesh.panics());
    let right = ends.get("right").copied().unwrap_or_default();
    let all: usize = ends.values().sum();
    assert!(spans > 0, "nothing was traced");
    assert!(right > 0 && 2 * right > all, "{right} of {all} calls went well: {ends:?}");
    assert!(told.is_empty(), "{}\n{}", told.join("\n"), mesh.logs());
    Ok(())
}

fn show(usage: &BTreeMap<&str, Usage>) {
    for (service, Usage { files, threads, memory, .. }) in usage {
        println!(
            "{service}: {:.0} MiB, {files} file descriptors, {threads} threads",
            memory / f64::from(1 << 20)
        );
    }
}
