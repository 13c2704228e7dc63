//! Several images of one request.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reverie_pipeline::Settings;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GenerateRequest, GetCapabilitiesRequest, Stage};
use tonic::Code;

use crate::mesh::{Mesh, PATIENCE, completed, images, request};
use crate::stages::Conduct;

fn several(seed: u64, count: u32) -> GenerateRequest {
    GenerateRequest { seed: Some(seed), count: Some(count), ..request() }
}

#[tokio::test]
async fn each_image_is_that_of_a_request_of_its_own() {
    let mesh = Mesh::start(|_| ()).await;
    let (told, outcome) = mesh.draw_for(several(7, 3), PATIENCE).await;
    outcome.unwrap();
    assert_eq!(mesh.seen.encodings.load(Ordering::SeqCst), 1, "the prompt is encoded once");
    let Event::Started(started) = &told[0] else { panic!("{told:?}") };
    assert_eq!((started.seed, &started.seeds[..]), (7, &[7, 8, 9][..]));

    let mut images = images(&told);
    images.sort_by_key(|image| image.index);
    assert_eq!(
        images.iter().map(|image| (image.index, image.seed)).collect::<Vec<_>>(),
        [(0, 7), (1, 8), (2, 9)]
    );
    for image in images {
        let (own, outcome) = mesh.draw_for(several(image.seed, 1), PATIENCE).await;
        outcome.unwrap();
        let own = crate::mesh::images(&own)[0];
        assert!(own.image == image.image && own.index == 0, "seed {}", image.seed);
        let previews = told
            .iter()
            .filter(|event| matches!(event, Event::Preview(preview) if preview.index == image.index));
        assert_eq!(previews.count(), 3);
        let done = |event: &&Event| {
            matches!(event, Event::Progress(progress)
                if progress.index == image.index && progress.stage() == Stage::Base && progress.step == progress.steps)
        };
        assert_eq!(told.iter().filter(done).count(), 1);
    }

    let completed = completed(&told);
    assert_eq!(completed.seed, 7);
    assert_eq!(
        completed.images.iter().map(|image| (image.index, image.seed)).collect::<Vec<_>>(),
        [(0, 7), (1, 8), (2, 9)]
    );
    for image in &completed.images {
        let stages: Vec<_> = image.stages.iter().map(|report| (report.stage(), report.level)).collect();
        let level = Stage::SuperResolution;
        assert_eq!(stages, [(Stage::Base, 0), (level, 1), (level, 2), (level, 3)]);
        assert_eq!(image.step_kinds.len(), 3);
        assert!(image.total_seconds > 0.0 && image.total_seconds <= completed.total_seconds);
    }
    // As a caller who knows of one image only reads it: what ran once, and the first image's own.
    assert_eq!(completed.stages.len(), 5);
    assert_eq!(completed.stages[0].stage(), Stage::Encode);
    assert_eq!(completed.stages[1..], completed.images[0].stages);
}

#[tokio::test]
async fn an_image_is_sent_when_it_is_done() {
    let mesh = Mesh::start(|stages| {
        stages.base = Conduct::Hangs;
        stages.odd_seed = Some(7);
    });
    let mut answers = mesh.await.ask_for(several(7, 3), PATIENCE).await.unwrap();
    let mut done = Vec::new();
    while done.len() < 2 {
        if let Some(Event::Image(image)) = answers.message().await.unwrap().unwrap().event {
            done.push(image.index);
        }
    }
    done.sort_unstable();
    assert_eq!(done, [1, 2], "the first is not waited for");
}

#[tokio::test]
async fn the_others_are_drawn_when_one_fails_and_the_status_says_which() {
    for stage in ["base", "level"] {
        let mesh = Mesh::start(|stages| {
            let conduct = if stage == "base" { &mut stages.base } else { &mut stages.level };
            *conduct = Conduct::Fails(Code::Internal);
            stages.odd_seed = Some(8);
        });
        let (told, outcome) = mesh.await.draw_for(several(7, 4), PATIENCE).await;
        let status = outcome.unwrap_err();
        assert_eq!(status.code(), Code::Internal);
        let told_first = "image at index 1 (seed 8; 3 of 4 images were drawn): stage ";
        assert!(status.message().starts_with(told_first), "{status}");
        assert!(!status.details().is_empty());
        let mut drawn: Vec<_> = images(&told).iter().map(|image| image.index).collect();
        drawn.sort_unstable();
        assert_eq!(drawn, [0, 2, 3]);
        assert!(!told.iter().any(|event| matches!(event, Event::Completed(_))), "{told:?}");
    }
}

/// The time is up for the one that hangs, and its stage is named; those that were done have come.
#[tokio::test]
async fn an_image_that_is_late_does_not_take_the_others_with_it() {
    let mesh = Mesh::start(|stages| {
        stages.level = Conduct::Hangs;
        stages.odd_seed = Some(9);
    });
    let (told, outcome) = mesh.await.draw_for(several(7, 3), Duration::from_secs(2)).await;
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let told_first = "image at index 2 (seed 9; 2 of 3 images were drawn): the caller's deadline passed";
    assert!(status.message().starts_with(told_first), "{status}");
    assert!(status.message().ends_with("in stage super-resolution-2, after 1 of 3 steps"), "{status}");
    assert_eq!(images(&told).len(), 2);
}

#[tokio::test]
async fn all_images_are_of_one_bundle() {
    let mesh = Mesh::start(|stages| {
        stages.level = Conduct::IsReplaced;
        stages.odd_seed = Some(8);
    });
    let (told, outcome) = mesh.await.draw_for(several(7, 3), PATIENCE).await;
    outcome.unwrap();
    let starts: Vec<_> = told
        .iter()
        .enumerate()
        .filter_map(
            |(place, event)| if let Event::Started(started) = event { Some((place, started)) } else { None },
        )
        .collect();
    assert_eq!(starts.len(), 2, "planned anew, once");
    assert_eq!(starts[0].1, starts[1].1);
    let mut anew: Vec<_> = images(&told[starts[1].0..]).iter().map(|image| image.index).collect();
    anew.sort_unstable();
    assert_eq!(anew, [0, 1, 2], "all are drawn anew");
    completed(&told);
}

fn at_most(images: usize) -> impl FnOnce(&mut Settings) {
    move |settings| settings.limits.max_in_flight = images
}

#[tokio::test]
async fn more_than_can_ever_be_drawn_is_refused_with_the_field() {
    for (limit, most) in [(64, 16), (3, 3)] {
        let mesh = Mesh::start_with(|_| (), at_most(limit)).await;
        let capabilities = mesh.client().get_capabilities(GetCapabilitiesRequest {}).await.unwrap();
        assert_eq!(capabilities.into_inner().limits.unwrap().max_images, most);
        mesh.draw_for(several(7, most), PATIENCE).await.1.unwrap();
        for wrong in [0, most + 1, u32::MAX] {
            let status = mesh.draw_for(several(7, wrong), PATIENCE).await.1.unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(status.message(), format!("count: must be 1 to {most} (got {wrong})"));
        }
        let status = mesh.draw_for(several(u64::MAX, 2), PATIENCE).await.1.unwrap_err();
        assert!(status.message().starts_with("seed: must be at most 18446744073709551614 for 2"), "{status}");
        assert_eq!(mesh.seen.calls.load(Ordering::SeqCst), 4 * most as usize, "none of them was begun");
    }
}

#[tokio::test]
async fn each_image_is_one_in_flight() {
    let mesh = Mesh::start_with(
        |stages| {
            stages.base = Conduct::Hangs;
            stages.odd_seed = Some(7);
        },
        at_most(4),
    )
    .await;
    let mut held = mesh.ask_for(several(6, 3), PATIENCE).await.unwrap();
    held.message().await.unwrap().unwrap();
    let status = mesh.draw_for(several(20, 2), PATIENCE).await.1.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.message(), "the request needs 2 of the 4 places for requests in flight; free: 1");
    mesh.draw_for(several(20, 1), PATIENCE).await.1.unwrap();
    drop(held);
    // Its places are free as soon as the pipeline has heard that it left.
    while mesh.draw_for(several(20, 4), PATIENCE).await.1.is_err() {
        tokio::task::yield_now().await;
    }
}
