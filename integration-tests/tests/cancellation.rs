//! Callers that go away: hardly a row is computed for them.

use std::time::Duration;

use futures::future::try_join_all;
use reverie::Failure;
use reverie_integration_tests::processes::{Process, Processes};
use reverie_integration_tests::requests::{draw, quick};
use reverie_integration_tests::{Fallible, admin};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_proto::generation::v1::{GenerateRequest, Stage};
use reverie_service_kit::Context;
use reverie_service_kit::client::Upstream;
use tokio::process::Command;
use tokio::sync::mpsc;

const POLL_INTERVAL: Duration = Duration::from_millis(20);
const CALLS: u64 = 1000;
/// Of them: the first three of each ten go on.
const STAY: u64 = 300;

fn request(seed: u64) -> GenerateRequest {
    quick("a small zunin on the left, snow", 64, seed)
}

/// Longer than a slow machine takes for all of them: none is refused for its deadline.
const DEADLINE: Duration = Duration::from_mins(30);

/// Room for all calls at a time, and time.
fn roomy(mut command: Command) -> Command {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    let runs_rows = ["denoiser", "super-resolution"].iter().any(|service| program.ends_with(service));
    let setting = if runs_rows { "lane.max_jobs" } else { "limits.max_in_flight" };
    command.args(["--set", &format!("{setting}={}", CALLS + 24)]);
    if program.ends_with("pipeline") {
        command.args(["--set", &format!("limits.max_request_seconds={}", DEADLINE.as_secs())]);
    }
    command
}

/// Rows that the lanes of a process have computed, once they have nothing to do.
async fn computed(process: &Process) -> Fallible<f64> {
    let address = admin::address(process)?;
    loop {
        let (_, metrics) = admin::page(&address, "/metrics").await?;
        let sum = |name| admin::sum(&metrics, name).ok_or_else(|| format!("there is no {name}"));
        if sum("reverie_lane_active")? + sum("reverie_lane_queue_depth")? < 0.5 {
            return Ok(sum("reverie_lane_row_duration_seconds_count")?);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Draws an image, says when it has begun, and gives the rows of the base model that it is made of.
async fn rows_of(stage: &Upstream, seed: u64, begun: &mpsc::Sender<Option<String>>) -> Result<u32, Failure> {
    let mut client = GenerationServiceClient::new(stage.channel());
    let context = Context::with_timeout(DEADLINE);
    let mut news = client.generate(context.outgoing(request(seed))).await?.into_inner();
    while let Some(message) = news.message().await? {
        match message.event {
            Some(Event::Started(_)) => begun.send(None).await?,
            Some(Event::Completed(completed)) => {
                let base = completed.stages.iter().find(|report| report.stage() == Stage::Base);
                return Ok(base.and_then(|report| report.timings).ok_or("no timings")?.rows);
            }
            _ => {}
        }
    }
    Err("the stream ended without an image".into())
}

#[tokio::test(flavor = "multi_thread")]
async fn hardly_a_row_is_computed_for_callers_that_are_gone() -> Fallible<()> {
    let six =
        Processes::start_as(&["admin.listen=127.0.0.1:0".to_owned()], |command| Ok(roomy(command))).await?;
    let address = six.pipeline.address()?;
    draw(&address, request(0)).await?;
    let before = computed(&six.denoiser).await?;

    // Those who stay and those who leave share connections.
    let callers: Vec<_> = (0..10).map(|_| Upstream::new("pipeline", &address)).collect();
    // Each says that it has begun, and why it failed.
    let (begun, mut has_begun) = mpsc::channel(2 * CALLS as usize);
    let calls = (0..CALLS).map(|seed| {
        let (stage, begun) = (callers[(seed / 10 % 10) as usize].clone(), begun.clone());
        tokio::spawn(async move {
            let rows = rows_of(&stage, seed, &begun).await;
            if let Err(error) = &rows {
                begun.send(Some(error.to_string())).await?;
            }
            rows
        })
    });
    let (stay, leave): (Vec<_>, Vec<_>) = (0..CALLS).zip(calls).partition(|(seed, _)| seed % 10 < 3);
    for _ in 0..CALLS {
        if let Some(failure) = has_begun.recv().await.ok_or("nothing begins")? {
            return Err(failure.into());
        }
    }
    for (_, call) in &leave {
        call.abort();
    }
    let mut useful = 0;
    let mut finished = 0;
    for (_, call) in leave {
        // Some had their image before all had begun.
        if let Ok(rows) = call.await {
            (useful, finished) = (useful + rows?, finished + 1);
        }
    }
    let stayed = try_join_all(stay.into_iter().map(|(_, call)| call)).await?;
    assert_eq!(stayed.len() as u64, STAY);
    for rows in stayed {
        useful += rows?;
    }
    let computed = computed(&six.denoiser).await? - before;
    let wasted = computed - f64::from(useful);
    println!("{computed} rows, {wasted} of them for callers that were gone; {finished} had left too late");
    assert!((0.0..0.01 * computed).contains(&wasted), "{wasted} of {computed} rows");
    Ok(())
}
