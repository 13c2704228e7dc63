//! Requests in which one thing is wrong: each is drawn, or refused with the fields that are wrong. The mesh serves on.

use std::time::Duration;

use prost::Message as _;
use reverie::client;
use reverie::mesh::Mesh;
use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::requests::{dimensions, draw, quick, steps};
use reverie_integration_tests::{Fallible, mesh, mutation};
use reverie_proto::diffusion::v1::{Guidance, GuidanceInterval, InitialPicture, Sampler, Sampling};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, Reference, References};
use reverie_proto::tensor::v1::ImageFormat;
use tokio::runtime::Runtime;
use tonic::Code;
use tonic_types::StatusExt as _;

/// How long one image of few steps may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(50);

/// Requests that set every field between them.
fn sound() -> Fallible<Vec<GenerateRequest>> {
    let picture = |side| Rgb::from_fn(side, side, |x, y| [x as u8 * 5, y as u8 * 7, 90].into());
    let image = pictures::encode(&picture(32), ImageFormat::Png)?;
    let mask = pictures::encode(&Rgb::from_pixel(32, 32, [255; 3].into()), ImageFormat::Png)?;
    let mut initial = quick("a small zunin on the left, snow", 64, 1);
    initial.negative_prompt = Some("rain".to_owned());
    let picture =
        InitialPicture { image: Some(image.clone()), mask: Some(mask), strength: Some(0.7), fit: 1 };
    initial.initial = Some(picture);
    let mut references = quick("a large leka, sea", 64, 2);
    let reference = Reference { image: Some(image), caption: "a leka".to_owned(), ..Default::default() };
    references.memory = Some(Memory::References(References { references: vec![reference] }));
    references.base_sampling =
        Some(Sampling { sampler: Sampler::Ddim.into(), ddim_eta: Some(0.5), thresholding: 2, ..steps(2) });
    let mut guided = quick("a zunin", 64, 3);
    guided.guidance = Some(Guidance {
        strategy: 1,
        text_weight: Some(2.0),
        neighbour_weight: Some(1.5),
        interleave_ratio: Some(0.5),
        rescale: Some(0.2),
        interval: Some(GuidanceInterval { min_sigma: Some(0.1), max_sigma: Some(9.0) }),
        interleave_draw: 1,
    });
    Ok(vec![initial, references, guided])
}

/// Leaves wrong values as they are, and brings right ones down to what is drawn quickly.
fn quicken(request: &mut GenerateRequest) {
    request.size = request.size.or(Some(64).filter(|_| request.resolution.is_none()));
    request.size = request.size.map(|size| if [256, 1024].contains(&size) { 64 } else { size });
    let resolution = request.resolution.as_mut().filter(|size| [256, 1024].contains(&size.width));
    if let Some(size) = resolution {
        size.width = 64;
    }
    let sampling = request.base_sampling.get_or_insert_default();
    let few = |steps: u32| if (9..=1000).contains(&steps) { 9 } else { steps };
    sampling.steps = Some(sampling.steps.map_or(2, few));
}

#[test]
fn a_request_is_drawn_or_refused_by_name() -> Fallible<()> {
    let runtime = Runtime::new()?;
    let mesh: Mesh = runtime.block_on(mesh::start())?;
    let pipeline = mesh.pipeline().clone();
    let sound = sound()?;
    for request in &sound {
        runtime.block_on(draw(&pipeline, request.clone()))?;
    }
    let handle = runtime.handle().clone();
    let address = pipeline.clone();
    mutation::cases(250, move |random| {
        let mut bytes = mutation::choose(random, &sound).encode_to_vec();
        mutation::message(random, &mut bytes);
        // What is no message is refused by the frame around the service.
        let Ok(mut request) = GenerateRequest::decode(&bytes[..]) else { return Ok(()) };
        quicken(&mut request);
        let asked = format!("{request:?}").chars().take(2000).collect::<String>();
        match handle.block_on(client::ask(&address, request, PATIENCE, |_| ())) {
            Ok(outcome) => assert_eq!(dimensions(&outcome)?, (64, 64), "{asked}"),
            Err(status) => {
                let names_fields =
                    status.get_details_bad_request().is_some_and(|wrong| !wrong.field_violations.is_empty());
                let is_named = match status.code() {
                    Code::InvalidArgument => names_fields,
                    Code::NotFound => status.get_details_error_info().is_some(),
                    _ => false,
                };
                assert!(is_named, "{status}: {asked}");
            }
        }
        Ok(())
    })?;
    // What was refused left nothing behind that is in the way of a good request.
    runtime.block_on(async {
        draw(&pipeline, quick("a zunin", 64, 1)).await.unwrap();
        mesh.shutdown().await;
    });
    Ok(())
}
