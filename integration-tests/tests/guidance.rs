//! What guidance can be asked for, and what is told of it.

use reverie_integration_tests::requests::{BASE_STEPS, draw, quick, steps};
use reverie_integration_tests::{Fallible, mesh};
use reverie_proto::diffusion::v1::{
    Guidance, GuidanceInterval, GuidanceStrategy, InterleaveDraw, NoiseLevels, Sampler, Sampling, StepKind,
    Thresholding,
};
use reverie_proto::generation::v1::GenerateRequest;
use tonic::Code;

const PROMPT: &str = "a small zunin on the left, snow";

fn request(guidance: Guidance) -> GenerateRequest {
    GenerateRequest { guidance: Some(guidance), ..quick(PROMPT, 64, 5) }
}

fn joint() -> Guidance {
    Guidance { strategy: GuidanceStrategy::Joint.into(), text_weight: Some(4.0), ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn guidance_is_asked_for_and_told() -> Fallible<()> {
    let mesh = mesh::start().await?;
    let pipeline = mesh.pipeline();
    let plain = draw(pipeline, request(joint())).await?;

    // What is told is what was used: asking for it gives the same picture.
    let told = plain.completed.guidance.ok_or("no guidance is told")?;
    assert_eq!((told.text_weight, told.rescale), (Some(4.0), Some(0.0)));
    assert_eq!(told.neighbour_weight, Some(3.0), "the default of the bundled model");
    let everywhere = GuidanceInterval { min_sigma: Some(0.0), max_sigma: Some(f32::INFINITY) };
    assert_eq!(told.interval, Some(everywhere));
    assert_eq!(draw(pipeline, request(told)).await?.image.data, plain.image.data);

    // Four steps have the sigmas 20,000, 2.4, 1 and 0.4.
    let interval = GuidanceInterval { min_sigma: Some(0.8), max_sigma: Some(5.0) };
    let limited = draw(pipeline, request(Guidance { interval: Some(interval), ..joint() })).await?;
    let kinds: Vec<_> = limited.completed.step_kinds().collect();
    let (guided, unguided) = (StepKind::Joint, StepKind::Conditional);
    assert_eq!(kinds, [unguided, guided, guided, unguided]);
    assert_eq!(limited.completed.guidance.and_then(|guidance| guidance.interval), Some(interval));

    // An interval between two steps guides nothing, which is what weights of 1 do.
    let nowhere = GuidanceInterval { min_sigma: Some(3.0), max_sigma: Some(4.0) };
    let nowhere = draw(pipeline, request(Guidance { interval: Some(nowhere), ..joint() })).await?;
    let off = draw(pipeline, request(Guidance { text_weight: Some(1.0), ..joint() })).await?;
    assert_eq!(nowhere.completed.step_kinds, [i32::from(unguided); BASE_STEPS as usize]);
    assert_eq!(nowhere.image.data, off.image.data);

    let rescaled = draw(pipeline, request(Guidance { rescale: Some(0.7), ..joint() })).await?;
    let with_negative = |guidance| GenerateRequest {
        negative_prompt: Some("a large red zunin, sunset".to_owned()),
        ..request(guidance)
    };
    let negative = draw(pipeline, with_negative(joint())).await?;
    let mut clipped = request(joint());
    clipped.base_sampling = clipped
        .base_sampling
        .map(|sampling| Sampling { thresholding: Thresholding::Static.into(), ..sampling });
    let clipped = draw(pipeline, clipped).await?;
    let mut drawn =
        [&plain, &limited, &off, &rescaled, &negative, &clipped].map(|outcome| &outcome.image.data);
    drawn.sort();
    assert!(drawn.windows(2).all(|pair| pair[0] != pair[1]), "two ways of guiding gave the same picture");

    // Without guidance there is nothing to move away from.
    let off_too = draw(pipeline, with_negative(Guidance { text_weight: Some(1.0), ..joint() })).await?;
    assert_eq!(off_too.image.data, off.image.data);
    mesh.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_neighbours_can_take_even_turns() -> Fallible<()> {
    let mesh = mesh::start().await?;
    let even = Guidance {
        strategy: GuidanceStrategy::Interleaved.into(),
        interleave_ratio: Some(0.5),
        interleave_draw: InterleaveDraw::LowDiscrepancy.into(),
        ..Guidance::default()
    };
    let drawn = draw(mesh.pipeline(), request(even)).await?;
    let kinds: Vec<_> = drawn.completed.step_kinds().collect();
    let (text, neighbours) = (StepKind::TextEnhanced, StepKind::NeighbourEnhanced);
    assert_eq!(kinds, [neighbours, text, neighbours, text]);
    let told = drawn.completed.guidance.ok_or("no guidance is told")?;
    assert_eq!(told.interleave_draw(), InterleaveDraw::LowDiscrepancy);
    mesh.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_levels_are_those_asked_for_where_the_sampler_takes_any() -> Fallible<()> {
    let mesh = mesh::start().await?;
    let with = |sampler: Sampler, noise_levels: NoiseLevels| {
        let (sampler, noise_levels) = (sampler.into(), noise_levels.into());
        let sampling = Sampling { sampler, noise_levels, ..steps(BASE_STEPS) };
        GenerateRequest { base_sampling: Some(sampling), ..quick(PROMPT, 64, 5) }
    };
    let pipeline = mesh.pipeline();
    let unset = draw(pipeline, with(Sampler::Dpmpp2m, NoiseLevels::Unspecified)).await?;
    let trained = draw(pipeline, with(Sampler::Dpmpp2m, NoiseLevels::Trained)).await?;
    let karras = draw(pipeline, with(Sampler::Dpmpp2m, NoiseLevels::Karras)).await?;
    assert!(unset.image == trained.image, "the model's default");
    assert!(karras.image != trained.image, "other levels draw another picture");
    let refused = draw(pipeline, with(Sampler::Ddim, NoiseLevels::Karras)).await;
    let status = refused.err().ok_or("DDIM visits timesteps")?;
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("sampling.noise_levels: is only for samplers in sigma"), "{status}");
    mesh.shutdown().await;
    Ok(())
}
