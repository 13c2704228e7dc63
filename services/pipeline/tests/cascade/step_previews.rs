//! Previews between the steps of the base model.

use std::sync::atomic::Ordering;

use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GenerateRequest, GetCapabilitiesRequest, Preview, Stage};
use tonic::Code;

use crate::mesh::{Mesh, PATIENCE, images, request};
use crate::stages::Conduct;

fn asked(count: u32) -> GenerateRequest {
    GenerateRequest { seed: Some(7), count: Some(count), step_previews: true, previews: false, ..request() }
}

fn previews(told: &[Event]) -> Vec<&Preview> {
    let previews = told.iter().filter_map(|event| match event {
        Event::Preview(preview) => Some(preview),
        _ => None,
    });
    previews.collect()
}

#[tokio::test]
async fn estimates_of_each_image_come_before_it_and_change_nothing_of_it() {
    let mesh = Mesh::start(|_| ()).await;
    let (told, outcome) = mesh.draw_for(asked(2), PATIENCE).await;
    outcome.unwrap();
    assert_eq!(mesh.seen.with_estimates.load(Ordering::SeqCst), 2);
    for index in 0..2 {
        let own: Vec<_> = previews(&told).into_iter().filter(|preview| preview.index == index).collect();
        assert_eq!(
            own.iter().map(|preview| (preview.step, preview.steps)).collect::<Vec<_>>(),
            [(1, 3), (2, 3)]
        );
        let side = own[0].image.as_ref().unwrap().width;
        assert_eq!((own[0].stage(), own[0].level, side), (Stage::Base, 0, 8));
        assert_ne!(own[0].image, own[1].image);
        let last =
            told.iter().rposition(|event| matches!(event, Event::Preview(preview) if preview.index == index));
        let done = told.iter().position(|event| {
            matches!(event, Event::Progress(progress)
                if progress.index == index && progress.stage() == Stage::Base && progress.step == progress.steps)
        });
        assert!(last < done, "{told:?}");
    }
    let plain = GenerateRequest { step_previews: false, ..asked(2) };
    let (plain, outcome) = mesh.draw_for(plain, PATIENCE).await;
    outcome.unwrap();
    assert_eq!(mesh.seen.with_estimates.load(Ordering::SeqCst), 2, "what is not asked for costs nothing");
    assert!(previews(&plain).is_empty());
    let bytes = |told| {
        let mut images = images(told);
        images.sort_by_key(|image| image.index);
        images.into_iter().map(|image| image.image.clone()).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&told), bytes(&plain));
}

#[tokio::test]
async fn they_are_shown_beside_the_previews_of_levels() {
    let mesh = Mesh::start(|_| ()).await;
    let (told, outcome) = mesh.draw_for(GenerateRequest { previews: true, ..asked(1) }, PATIENCE).await;
    outcome.unwrap();
    let steps: Vec<_> = previews(&told).iter().map(|preview| (preview.level, preview.step)).collect();
    assert_eq!(steps, [(0, 1), (0, 2), (0, 0), (1, 0), (2, 0)]);
}

#[tokio::test]
async fn a_mesh_that_gives_none_says_so_and_refuses_to() {
    let mesh = Mesh::start_with(|_| (), |settings| settings.limits.step_previews_per_second = 0.0).await;
    let told = mesh.client().get_capabilities(GetCapabilitiesRequest {}).await.unwrap().into_inner();
    assert!(told.max_step_previews_per_second.abs() < f64::EPSILON);
    let status = mesh.draw_for(asked(1), PATIENCE).await.1.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("step_previews: must not be set"), "{status}");
    let mesh = Mesh::start(|_| ()).await;
    let told = mesh.client().get_capabilities(GetCapabilitiesRequest {}).await.unwrap().into_inner();
    assert!((told.max_step_previews_per_second - 2.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_stage_that_fails_between_estimates_fails_the_image() {
    let mesh = Mesh::start(|stages| stages.base = Conduct::EndsEarly).await;
    let (told, outcome) = mesh.draw_for(asked(1), PATIENCE).await;
    assert_eq!(outcome.unwrap_err().code(), Code::Unavailable);
    assert!(images(&told).is_empty() && !previews(&told).is_empty());
}
