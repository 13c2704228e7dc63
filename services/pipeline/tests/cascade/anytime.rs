//! An image as large as the time suffices for, if a smaller one will do.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reverie_proto::generation::v1::GenerateRequest;
use tonic::Code;

use crate::mesh::{Mesh, PATIENCE, completed, images, request};
use crate::stages::{Conduct, SIDES, Stages};

const DEADLINE: Duration = Duration::from_secs(2);

fn anytime(count: u32) -> GenerateRequest {
    GenerateRequest { seed: Some(7), count: Some(count), allow_degraded: true, previews: false, ..request() }
}

/// Where the time ends: the width of each image, whether it is degraded, and the number of its level.
async fn drawn(change: impl FnOnce(&mut Stages), count: u32) -> Vec<(u32, bool, u32)> {
    let mesh = Mesh::start(change).await;
    let begun = Instant::now();
    let (told, outcome) = mesh.draw_for(anytime(count), DEADLINE).await;
    outcome.unwrap();
    assert!(begun.elapsed() < DEADLINE);
    let completed = completed(&told);
    let mut drawn = images(&told);
    drawn.sort_by_key(|image| image.index);
    for (image, report) in drawn.iter().zip(&completed.images) {
        assert_eq!((image.degraded, image.level), (report.degraded, report.level));
        assert_eq!(report.stages.len(), 1 + report.level as usize, "of the stages that were done");
    }
    assert_eq!(completed.degraded, drawn.iter().any(|image| image.degraded));
    while mesh.seen.hanging.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    drawn.iter().map(|one| (one.image.as_ref().unwrap().width, one.degraded, one.level)).collect()
}

#[tokio::test]
async fn at_the_deadline_the_last_finished_level_is_sent() {
    assert_eq!(drawn(|stages| stages.level = Conduct::Hangs, 1).await, [(16, true, 1)]);
    // With time enough, it is the image that was asked for.
    assert_eq!(drawn(|_| (), 1).await, [(64, false, 3)]);
}

/// Callers that are far away need the answer earlier; what the caller itself lags behind comes on top.
#[tokio::test]
async fn the_time_to_answer_is_kept() {
    let mesh = Mesh::start_with(
        |stages| stages.level = Conduct::Hangs,
        |settings| settings.limits.answer_milliseconds = 800,
    )
    .await;
    let begun = Instant::now();
    let (told, outcome) = mesh.draw_for(anytime(1), DEADLINE).await;
    outcome.unwrap();
    assert_eq!(images(&told)[0].level, 1);
    assert!(begun.elapsed() < Duration::from_millis(1600), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn each_of_several_images_is_degraded_by_itself() {
    let hangs = |stages: &mut Stages| {
        stages.level = Conduct::Hangs;
        stages.odd_seed = Some(8);
    };
    assert_eq!(drawn(hangs, 3).await, [(64, false, 3), (16, true, 1), (64, false, 3)]);
}

#[tokio::test]
async fn a_smaller_image_is_the_one_that_is_drawn_for_itself() {
    let mesh = Mesh::start(|stages| stages.level = Conduct::Hangs).await;
    let (told, outcome) = mesh.draw_for(anytime(1), DEADLINE).await;
    outcome.unwrap();
    let own = GenerateRequest { size: Some(SIDES[1]), allow_degraded: false, ..anytime(1) };
    let (own, outcome) = mesh.draw_for(own, PATIENCE).await;
    outcome.unwrap();
    assert_eq!(images(&told)[0].image, images(&own)[0].image);
}

#[tokio::test]
async fn a_level_that_is_predicted_to_be_late_is_not_begun() {
    let mesh = Mesh::start(|stages| stages.predicted = Some([0.1, 0.1, 100.0, 0.1])).await;
    let begun = Instant::now();
    let (told, outcome) = mesh.draw_for(anytime(1), Duration::from_secs(20)).await;
    outcome.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(10), "nothing is waited for");
    assert_eq!((images(&told)[0].level, completed(&told).degraded), (1, true));
    assert_eq!(mesh.seen.calls.load(Ordering::SeqCst), 2, "the base model and one level");
    // A caller that wants all of it hears at once that this cannot be.
    let all = GenerateRequest { allow_degraded: false, ..anytime(1) };
    let status = mesh.draw_for(all, Duration::from_secs(20)).await.1.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("it takes 110.33 s alone"), "{status}");
}

#[tokio::test]
async fn a_level_that_has_no_room_is_left_out_and_one_that_is_broken_is_a_failure() {
    let refuses = |stages: &mut Stages| stages.level = Conduct::Fails(Code::ResourceExhausted);
    assert_eq!(drawn(refuses, 1).await, [(16, true, 1)]);
    let mesh = Mesh::start(|stages| stages.level = Conduct::Fails(Code::Internal)).await;
    let (told, outcome) = mesh.draw_for(anytime(1), PATIENCE).await;
    assert_eq!(outcome.unwrap_err().code(), Code::Internal);
    assert!(images(&told).is_empty());
}

#[tokio::test]
async fn what_no_level_can_do_in_time_is_a_deadline_exceeded() {
    let mesh = Mesh::start(|stages| stages.predicted = Some([100.0, 0.1, 0.1, 0.1])).await;
    let status = mesh.draw_for(anytime(1), Duration::from_secs(20)).await.1.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("it takes 110.00 s alone"), "{status}");
    assert_eq!(mesh.seen.calls.load(Ordering::SeqCst), 0, "it was not begun");

    let mesh = Mesh::start(|stages| stages.base = Conduct::Hangs).await;
    let status = mesh.draw_for(anytime(1), Duration::from_secs(1)).await.1.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("in stage base, after 1 of 3 steps"), "{status}");
}
