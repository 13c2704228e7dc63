//! What the public door says of the mesh is what it does.

use reverie::client;
use reverie_integration_tests::Fallible;
use reverie_integration_tests::mesh::with_mesh;
use reverie_integration_tests::requests::{PATIENCE, dimensions, draw, quick};
use reverie_proto::diffusion::v1::{Guidance, GuidanceStrategy, Sampler, Sampling};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, NoMemory, Retrieval, SuperResolutionOptions};
use reverie_proto::names::Named as _;

#[test]
fn what_is_told_is_drawn_and_what_is_not_told_is_refused() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let told = client::capabilities(&pipeline, PATIENCE).await?;
        assert_eq!(told.base_size, 64);
        let quick = |size| quick("a zunin, cave", size, 1);
        for side in [64, 256, 1024, 128] {
            let is_told = side == told.base_size || told.levels.iter().any(|level| level.image_size == side);
            match draw(&pipeline, quick(side)).await {
                Ok(outcome) => assert!(is_told && dimensions(&outcome)? == (side, side), "{side}"),
                Err(error) => assert!(!is_told, "{side}: {error}"),
            }
        }
        let samplers: Vec<_> = told.samplers().collect();
        for sampler in Sampler::all() {
            let sampling = Sampling { sampler: sampler.into(), steps: Some(4), ..Sampling::default() };
            let request = GenerateRequest { base_sampling: Some(sampling), ..quick(64) };
            let is_drawn = draw(&pipeline, request).await.is_ok();
            assert_eq!(is_drawn, samplers.contains(&sampler), "{}", sampler.name());
        }
        assert_eq!(told.guidance_strategies().collect::<Vec<_>>(), GuidanceStrategy::all());
        for count in [told.max_neighbours, told.max_neighbours + 1] {
            let search = Retrieval { neighbours: Some(count), ..Retrieval::default() };
            let request = GenerateRequest { memory: Some(Memory::Retrieval(search)), ..quick(64) };
            let is_drawn = draw(&pipeline, request).await.is_ok();
            assert_eq!(is_drawn, count == told.max_neighbours, "{count} neighbours");
        }
        Ok(())
    })
}

#[test]
fn the_defaults_that_are_told_give_the_same_image_as_saying_nothing() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let told = client::capabilities(&pipeline, PATIENCE).await?;
        let default = told.knowledge_bases.iter().find(|found| found.is_default).ok_or("no default")?;
        assert!(default.size > 0 && default.epoch > 0);
        let nothing = GenerateRequest {
            prompt: "a zunin, cave".to_owned(),
            seed: Some(3),
            size: Some(told.levels[0].image_size),
            ..GenerateRequest::default()
        };
        let level = &told.levels[0];
        let everything = GenerateRequest {
            memory: Some(Memory::Retrieval(Retrieval {
                knowledge_base: default.name.clone(),
                neighbours: Some(told.default_neighbours),
                ..Retrieval::default()
            })),
            guidance: told.default_guidance,
            base_sampling: told.default_sampling,
            super_resolution: vec![SuperResolutionOptions {
                guidance_weight: level.default_guidance_weight,
                noise_level: Some(level.default_noise_level),
                sampling: level.default_sampling,
            }],
            ..nothing.clone()
        };
        let unguided = GenerateRequest {
            guidance: Some(Guidance {
                text_weight: Some(1.0),
                neighbour_weight: Some(1.0),
                ..Guidance::default()
            }),
            memory: Some(Memory::None(NoMemory {})),
            ..nothing.clone()
        };
        let nothing = draw(&pipeline, nothing).await?;
        assert_eq!(draw(&pipeline, everything).await?.image.data, nothing.image.data);
        assert_ne!(draw(&pipeline, unguided).await?.image.data, nothing.image.data);
        Ok(())
    })
}
