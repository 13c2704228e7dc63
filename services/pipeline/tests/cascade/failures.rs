//! Whatever a stage does wrong, the caller hears of it, once and at the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reverie_proto::generation::v1::Stage;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_service_kit::Refusal;
use tonic::{Code, Status};

use crate::mesh::{Mesh, PATIENCE};
use crate::stages::Conduct;

#[tokio::test]
async fn a_cascade_has_as_many_levels_as_there_are() {
    let (told, outcome) = Mesh::start(|_| ()).await.draw(PATIENCE).await;
    outcome.unwrap();
    let Some(Event::Completed(completed)) = told.last() else { panic!("{told:?}") };
    let stages: Vec<_> = completed.stages.iter().map(|report| (report.stage(), report.level)).collect();
    let level = Stage::SuperResolution;
    assert_eq!(stages, [(Stage::Encode, 0), (Stage::Base, 0), (level, 1), (level, 2), (level, 3)]);
    let previews: Vec<_> = told
        .iter()
        .filter_map(|event| match event {
            Event::Preview(preview) => Some((preview.level, preview.image.as_ref()?.width)),
            _ => None,
        })
        .collect();
    assert_eq!(previews, [(0, 8), (1, 16), (2, 32)]);
    let image = told.iter().find_map(|event| match event {
        Event::Image(image) => image.image.clone(),
        _ => None,
    });
    assert_eq!(image.unwrap().width, 64);
}

/// Whatever a stage does, the caller hears of it, once and at the end, and nothing of it is the caller's fault.
#[tokio::test]
async fn what_a_stage_does_wrong_ends_the_image_with_a_reason() {
    use Conduct::{EndsEarly, Fails, GivesNoImage, LiesAboutSize, Panics};
    let expected = [
        (Fails(Code::Internal), Code::Internal),
        (Fails(Code::Unavailable), Code::Unavailable),
        (Fails(Code::ResourceExhausted), Code::ResourceExhausted),
        (Fails(Code::InvalidArgument), Code::Internal),
        (Fails(Code::Unknown), Code::Unavailable),
        (EndsEarly, Code::Unavailable),
        (LiesAboutSize, Code::Internal),
        (GivesNoImage, Code::Internal),
        (Panics, Code::Internal),
    ];
    for (conduct, code) in expected {
        for stage in ["base", "level"] {
            let mesh = Mesh::start(|stages| match stage {
                "base" => stages.base = conduct,
                _ => stages.level = conduct,
            });
            let (told, outcome) = mesh.await.draw(PATIENCE).await;
            let status = outcome.expect_err(stage);
            let codes = if conduct == Panics { [code, Code::Unavailable] } else { [code; 2] };
            assert!(codes.contains(&status.code()), "{stage} {conduct:?}: {status}");
            assert!(!status.message().is_empty(), "{stage} {conduct:?}");
            let is_whole = told.iter().any(|event| matches!(event, Event::Completed(_) | Event::Image(_)));
            assert!(!is_whole, "{stage} {conduct:?}: {told:?}");
        }
    }
}

#[tokio::test]
async fn options_that_a_level_refuses_are_refused_before_anything_is_drawn() {
    let mesh = Mesh::start(|stages| stages.check = Conduct::Fails(Code::InvalidArgument)).await;
    let (_, outcome) = mesh.draw(PATIENCE).await;
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(status.message().contains("super_resolution[1].sampling.sampler"), "{status}");
    assert_eq!(mesh.seen.calls.load(Ordering::SeqCst), 0, "nothing was drawn");
}

#[tokio::test]
async fn a_level_of_an_earlier_version_checks_its_options_when_it_upscales() {
    let mesh = Mesh::start(|stages| stages.check = Conduct::Fails(Code::Unimplemented)).await;
    mesh.draw(PATIENCE).await.1.unwrap();
}

#[tokio::test]
async fn an_encoder_that_loses_a_text_is_no_fault_of_the_caller() {
    for (conduct, code) in [
        (Conduct::LiesAboutSize, Code::Internal),
        (Conduct::Fails(Code::Unavailable), Code::Unavailable),
        (Conduct::Fails(Code::Internal), Code::Internal),
    ] {
        let (_, outcome) = Mesh::start(|stages| stages.encoder = conduct).await.draw(PATIENCE).await;
        assert_eq!(outcome.unwrap_err().code(), code, "{conduct:?}");
    }
}

#[tokio::test]
async fn a_stage_that_hangs_is_given_up_at_the_deadline() {
    let mesh = Mesh::start(|stages| stages.level = Conduct::Hangs).await;
    let (_, outcome) = mesh.draw(Duration::from_secs(4)).await;
    let status = outcome.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(
        !status.details().is_empty(),
        "it is the pipeline's answer, not the client's own timer: {status}"
    );
    assert!(status.message().contains("in stage super-resolution-2, after 1 of 3 steps"), "{status}");
    while !mesh.seen.is_given_up.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_that_leaves_ends_the_work_of_the_stage() {
    let mesh = Mesh::start(|stages| stages.base = Conduct::Hangs).await;
    let mut answers = mesh.ask(PATIENCE).await.unwrap();
    while mesh.seen.calls.load(Ordering::SeqCst) == 0 {
        answers.message().await.unwrap();
    }
    assert!(!mesh.seen.is_given_up.load(Ordering::SeqCst));
    drop(answers);
    while !mesh.seen.is_given_up.load(Ordering::SeqCst) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_caller_that_reads_slowly_gets_everything_that_matters() {
    let mesh = Mesh::start(|_| ()).await;
    let mut answers = mesh.ask(PATIENCE).await.unwrap();
    let mut told = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        told.extend(answer.event);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(matches!(told[0], Event::Started(_)) && matches!(told.last(), Some(Event::Completed(_))));
    assert_eq!(told.iter().filter(|event| matches!(event, Event::Image(_))).count(), 1);
    assert_eq!(told.iter().filter(|event| matches!(event, Event::Preview(_))).count(), 3);
}

#[tokio::test]
async fn a_refusal_of_a_stage_keeps_its_reason() {
    let refused: Status = Refusal::overloaded("full").into();
    let mesh = Mesh::start(|stages| stages.base = Conduct::Fails(refused.code())).await;
    let (_, outcome) = mesh.draw(PATIENCE).await;
    let status = outcome.unwrap_err();
    assert!(status.message().contains("denoiser") && status.message().contains("as ordered"), "{status}");
}
