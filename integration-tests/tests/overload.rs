//! More requests than the mesh can draw: it draws as many as ever, and refuses the others at once.

use std::time::{Duration, Instant};

use futures::future::join_all;
use reverie::client;
use reverie_integration_tests::Fallible;
use reverie_integration_tests::mesh::with_mesh;
use reverie_integration_tests::requests::{PATIENCE, steps};
use reverie_proto::generation::v1::GenerateRequest;
use reverie_service_kit::Address;
use tonic::Code;

const STEPS: u32 = 16;
const DEADLINE: Duration = Duration::from_secs(3);
/// How long requests come, at each load.
const SPAN: Duration = Duration::from_secs(9);

fn request(seed: u64) -> GenerateRequest {
    GenerateRequest {
        prompt: "a zunin, cave".to_owned(),
        size: Some(64),
        seed: Some(seed),
        base_sampling: Some(steps(STEPS)),
        ..Default::default()
    }
}

/// Images per second that callers get who ask for the next one when they have one.
async fn capacity(pipeline: &Address) -> Fallible<f64> {
    let (callers, images) = (4, 5);
    let begun = Instant::now();
    let draw_some = async |caller: u64| {
        for image in 0..images {
            client::ask(pipeline, request(100 * caller + image), PATIENCE, |_| ()).await?;
        }
        Ok::<_, tonic::Status>(())
    };
    for outcome in join_all((0..callers).map(draw_some)).await {
        outcome?;
    }
    Ok((callers * images) as f64 / begun.elapsed().as_secs_f64())
}

/// What became of requests that came at a steady rate.
#[derive(Debug, Default)]
struct Told {
    done: usize,
    late: usize,
    /// How long each refusal took.
    refused: Vec<Duration>,
}

async fn open_loop(pipeline: &Address, per_second: f64) -> Fallible<Told> {
    let count = (per_second * SPAN.as_secs_f64()) as u64;
    let mut calls = Vec::new();
    let mut clock = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
    for seed in 0..count {
        clock.tick().await;
        let pipeline = pipeline.clone();
        calls.push(tokio::spawn(async move {
            let begun = Instant::now();
            let outcome = client::ask(&pipeline, request(seed), DEADLINE, |_| ()).await;
            (outcome.map(|_| ()), begun.elapsed())
        }));
    }
    let mut told = Told::default();
    for call in calls {
        match call.await? {
            (Ok(()), _) => told.done += 1,
            (Err(status), took) if status.code() == Code::ResourceExhausted => told.refused.push(took),
            (Err(status), took) if status.code() == Code::DeadlineExceeded && took < DEADLINE / 2 => {
                told.refused.push(took);
            }
            (Err(status), _) if status.code() == Code::DeadlineExceeded => told.late += 1,
            (Err(status), _) => return Err(status.into()),
        }
    }
    told.refused.sort();
    Ok(told)
}

/// The figures hold on a machine that does nothing else; the limits leave room for one that does.
#[test]
fn goodput_holds_whatever_comes() -> Fallible<()> {
    with_mesh(async |pipeline| {
        capacity(&pipeline).await?;
        for times in [2.0, 5.0, 10.0] {
            let peak = capacity(&pipeline).await?;
            let told = open_loop(&pipeline, times * peak).await?;
            let goodput = told.done as f64 / SPAN.as_secs_f64();
            let quantile = |share: f64| told.refused[(share * (told.refused.len() - 1) as f64) as usize];
            println!(
                "{times} times {peak:.2} images/s: {goodput:.2} done in time ({:.2} of the peak), {} late, {} refused in {:?} (median), {:?} (99 %)",
                goodput / peak,
                told.late,
                told.refused.len(),
                quantile(0.5),
                quantile(0.99),
            );
            assert!(goodput > 0.6 * peak, "{times}: {goodput} of {peak}: {told:?}");
            assert!(told.late < told.done / 4, "{times}: {told:?}");
            assert!(quantile(0.5) < Duration::from_millis(100), "{times}: {told:?}");
        }
        Ok(())
    })
}
