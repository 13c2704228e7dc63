//! The mesh in one process: images, seeds and neighbours.

use futures::future::{try_join, try_join_all};
use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_imaging::pictures;
use reverie_integration_tests::creatures::{self, name_of};
use reverie_integration_tests::mesh::with_mesh;
use reverie_integration_tests::requests::{
    BASE_STEPS, OF_FOUR_STEPS, PATIENCE, dimensions, draw, neighbour_ids, neighbours, quick, steps,
};
use reverie_integration_tests::{BUNDLE, Fallible};
use reverie_proto::diffusion::v1::{Guidance, GuidanceStrategy, Sampler, Sampling, StepKind};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GenerateRequest, NoMemory, Reference, References, Retrieval, Stage};
use reverie_proto::knowledge::v1::{NoMatch, RetrievalStrategy};
use reverie_proto::tensor::v1::ImageFormat;
use reverie_service_kit::refusal::is_callers_deadline;
use tonic::{Code, Status};

#[test]
fn every_level_comes_out_in_its_size() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let mut request = quick("a small dribago on the left, snow", 1024, 7);
        request.previews = true;
        let large = draw(&pipeline, request).await?;
        assert_eq!(dimensions(&large)?, (1024, 1024));
        assert_eq!((large.image.width, large.image.height), (1024, 1024));
        let previews: Vec<_> =
            large.previews.iter().map(|preview| preview.image.clone().unwrap_or_default()).collect();
        let sides: Result<Vec<_>, _> =
            previews.iter().map(|image| pictures::decode(image).map(|picture| picture.width())).collect();
        assert_eq!(sides?, [64, 256]);

        let level = Stage::SuperResolution;
        let all = [(Stage::Retrieve, 0), (Stage::Encode, 0), (Stage::Base, 0), (level, 1), (level, 2)];
        let stages: Vec<_> =
            large.completed.stages.iter().map(|report| (report.stage(), report.level)).collect();
        assert_eq!(stages, all);
        let drawn_by: Vec<_> =
            large.previews.iter().map(|preview| (preview.stage(), preview.level)).collect();
        assert_eq!(drawn_by, [(Stage::Base, 0), (level, 1)]);
        assert_eq!((large.started.seed, large.completed.seed), (7, 7));
        assert_eq!(large.completed.step_kinds.len(), BASE_STEPS as usize);

        // The smaller picture is the larger one's preview: each level only adds to the one before.
        let small = draw(&pipeline, quick("a small dribago on the left, snow", 64, 7)).await?;
        assert_eq!(dimensions(&small)?, (64, 64));
        assert_eq!(small.image.data, previews[0].data);
        Ok(())
    })
}

#[test]
fn a_picture_comes_in_the_format_asked_for() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let png = draw(&pipeline, quick("a zunin, cave", 64, 1)).await?;
        assert_eq!(png.image.format(), ImageFormat::Png);
        assert!(png.image.data.starts_with(b"\x89PNG"));
        let mut request = quick("a zunin, cave", 64, 1);
        request.output_format = ImageFormat::Webp.into();
        let webp = draw(&pipeline, request).await?;
        assert!(webp.image.data.starts_with(b"RIFF"));
        assert_eq!(pictures::decode(&webp.image)?, pictures::decode(&png.image)?, "both are lossless");
        Ok(())
    })
}

#[test]
fn a_seed_always_gives_the_same_picture_and_another_seed_another() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let request = || quick("a tall zunin on the right, desert", 256, 11);
        let alone = draw(&pipeline, request()).await?;
        let again = draw(&pipeline, request()).await?;
        assert_eq!(alone.image.data, again.image.data);

        // Other pictures with other steps and other neighbours come and go in the same ticks.
        let crowd = (0..5).map(|seed| {
            let mut other = quick("a round flaglutron, snow", if seed % 2 == 0 { 64 } else { 256 }, seed);
            other.base_sampling = Some(steps(3 + seed as u32));
            other.memory = Some(neighbours(1 + seed as u32));
            draw(&pipeline, other)
        });
        let (crowded, others) = try_join(draw(&pipeline, request()), try_join_all(crowd)).await?;
        assert_eq!(alone.image.data, crowded.image.data);
        assert!(others.iter().all(|other| other.image.data != alone.image.data));

        let mut request = request();
        request.seed = Some(12);
        assert_ne!(draw(&pipeline, request).await?.image.data, alone.image.data);
        Ok(())
    })
}

#[test]
fn a_seed_is_chosen_and_told_if_none_is_given() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let mut request = quick("a zunin, cave", 64, 0);
        request.seed = None;
        let chosen = draw(&pipeline, request).await?;
        assert_eq!(chosen.started.seed, chosen.completed.seed);
        assert!(chosen.started.seed < 1 << 53, "{} is no number of JSON", chosen.started.seed);
        let repeated = draw(&pipeline, quick("a zunin, cave", 64, chosen.started.seed)).await?;
        assert_eq!(chosen.image.data, repeated.image.data);
        Ok(())
    })
}

#[test]
fn a_name_retrieves_its_own_images() -> Fallible<()> {
    with_mesh(async |pipeline| {
        for name in creatures::names(3).await? {
            for strategy in [RetrievalStrategy::Unspecified, RetrievalStrategy::Bm25] {
                let mut request = quick(&format!("a small {name} on the left, snow"), 64, 3);
                let retrieval =
                    Retrieval { neighbours: Some(4), strategy: strategy.into(), ..Default::default() };
                request.memory = Some(Memory::Retrieval(retrieval));
                let outcome = draw(&pipeline, request).await?;
                let ids = neighbour_ids(&outcome);
                assert_eq!(ids.len(), 4, "{ids:?}");
                assert!(ids.iter().all(|id| name_of(id) == Some(&name)), "{name}, {strategy:?}: {ids:?}");
                let scores: Vec<_> = outcome.neighbours.neighbours.iter().map(|found| found.score).collect();
                assert!(scores.is_sorted_by(|best, next| best >= next), "{scores:?}");
                assert_eq!(outcome.neighbours.knowledge_base, "creatures");
            }
        }
        Ok(())
    })
}

#[test]
fn a_name_that_no_caption_has_is_drawn_without_neighbours_and_told() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let prompt = "a small quopplix on the left, snow";
        let plain = draw(&pipeline, quick(prompt, 64, 5)).await?;
        assert!(plain.neighbours.nothing_matched && neighbour_ids(&plain).is_empty());
        assert_eq!(plain.neighbours.unmatched_words, ["quopplix"]);
        assert_eq!(plain.neighbours.knowledge_base, "creatures");
        let ask = |retrieval: Retrieval| {
            let memory = Some(Memory::Retrieval(retrieval));
            draw(&pipeline, GenerateRequest { memory, ..quick(prompt, 64, 5) })
        };
        let mut without = quick(prompt, 64, 5);
        without.memory = Some(Memory::None(NoMemory {}));
        assert_eq!(plain.image.data, draw(&pipeline, without).await?.image.data);

        let nearest = ask(Retrieval { no_match: NoMatch::Nearest.into(), ..Default::default() }).await?;
        assert!(nearest.neighbours.nothing_matched && neighbour_ids(&nearest).len() == 2);
        assert_ne!(plain.image.data, nearest.image.data);

        let refused = ask(Retrieval { no_match: NoMatch::Refuse.into(), ..Default::default() }).await;
        let status = refused.err().ok_or("it is drawn")?;
        assert_eq!(status.code(), Code::NotFound, "{status}");
        assert!(status.message().contains("retrieval.no_match"), "{status}");

        // Other words may be searched for than those that are drawn.
        let name = creatures::names(1).await?.remove(0);
        let found = ask(Retrieval { query: Some(name.clone()), ..Default::default() }).await?;
        assert!(!found.neighbours.nothing_matched);
        for neighbour in &found.neighbours.neighbours {
            assert_eq!(name_of(&neighbour.id), Some(name.as_str()));
            assert_eq!((neighbour.matched_words.as_slice(), neighbour.score), (&[name.clone()][..], 1.0));
        }
        Ok(())
    })
}

#[test]
fn neighbours_change_the_image() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let prompt = "a small zunin on the left, snow";
        let two = draw(&pipeline, quick(prompt, 64, 5)).await?;
        assert_eq!(neighbour_ids(&two).len(), 2, "the default K");
        let mut request = quick(prompt, 64, 5);
        request.memory = Some(neighbours(1));
        let one = draw(&pipeline, request).await?;
        assert_eq!(neighbour_ids(&one), neighbour_ids(&two)[..1]);
        let mut request = quick(prompt, 64, 5);
        request.memory = Some(Memory::None(NoMemory {}));
        let none = draw(&pipeline, request).await?;
        assert!(neighbour_ids(&none).is_empty());
        assert!(none.completed.stages.iter().all(|report| report.stage() != Stage::Retrieve));
        assert_ne!(two.image.data, one.image.data);
        assert_ne!(two.image.data, none.image.data);
        assert_ne!(one.image.data, none.image.data);
        Ok(())
    })
}

#[test]
fn the_caller_s_own_images_are_used_like_retrieved_ones() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let prompt = "a small zunin on the left, snow";
        let found = draw(&pipeline, quick(prompt, 64, 5)).await?;
        let own = |count: usize| {
            let given = found.neighbours.neighbours.iter().take(count);
            let references = given
                .map(|neighbour| Reference {
                    image: neighbour.image.clone(),
                    caption: neighbour.caption.clone(),
                    ..Reference::default()
                })
                .collect();
            let mut request = quick(prompt, 64, 5);
            request.memory = Some(Memory::References(References { references }));
            request
        };
        let given = draw(&pipeline, own(2)).await?;
        assert_eq!(neighbour_ids(&given), ["reference-1", "reference-2"]);
        assert_eq!(given.image.data, found.image.data);
        assert_ne!(draw(&pipeline, own(1)).await?.image.data, found.image.data);
        Ok(())
    })
}

#[test]
fn every_strategy_guides_as_it_says() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let cases = [
            (GuidanceStrategy::Interleaved, Some(1.0), StepKind::TextEnhanced),
            (GuidanceStrategy::Interleaved, Some(0.0), StepKind::NeighbourEnhanced),
            (GuidanceStrategy::Weighted, Some(0.5), StepKind::Weighted),
            (GuidanceStrategy::Joint, None, StepKind::Joint),
        ];
        let mut drawn = Vec::new();
        for (strategy, interleave_ratio, kind) in cases {
            let mut request = quick("a small zunin on the left, snow", 64, 5);
            request.guidance =
                Some(Guidance { strategy: strategy.into(), interleave_ratio, ..Default::default() });
            let outcome = draw(&pipeline, request).await?;
            let kinds: Vec<_> = outcome.completed.step_kinds().collect();
            assert_eq!(kinds, [kind; BASE_STEPS as usize], "{strategy:?}");
            drawn.push(outcome.image.data);
        }
        let mut request = quick("a small zunin on the left, snow", 64, 5);
        let ddpm = Sampling { sampler: Sampler::Ddpm.into(), ..steps(BASE_STEPS) };
        request.base_sampling = Some(ddpm);
        drawn.push(draw(&pipeline, request).await?.image.data);
        let all = drawn.len();
        drawn.sort();
        drawn.dedup();
        assert_eq!(drawn.len(), all, "two ways of drawing gave the same picture");
        Ok(())
    })
}

#[test]
fn every_sampler_that_fits_the_model_draws() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let ask = async |sampler: Sampler| {
            let mut request = quick("a small zunin on the left, snow", 64, 5);
            request.base_sampling = Some(Sampling { sampler: sampler.into(), ..steps(4) });
            draw(&pipeline, request).await
        };
        for (sampler, evaluations) in OF_FOUR_STEPS {
            let outcome = ask(sampler).await?;
            assert_eq!(outcome.completed.step_kinds().count(), evaluations, "{sampler:?}");
        }
        let refused = ask(Sampler::Lcm).await.map(|_| ()).expect_err("the bundled model is not distilled");
        assert!(refused.message().contains("distilled"), "{refused}");
        Ok(())
    })
}

#[test]
fn progress_is_told_in_order_and_to_the_end() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let mut told = Vec::new();
        let watch = |event: &Event| {
            if let Event::Progress(progress) = event {
                told.push((progress.stage(), progress.step, progress.steps));
            }
        };
        let request = quick("a zunin, cave", 256, 2);
        reverie::client::ask(&pipeline, request, PATIENCE, watch).await?;
        for stage in [Stage::Encode, Stage::Retrieve, Stage::Base, Stage::SuperResolution] {
            let of_stage: Vec<_> = told.iter().filter(|(told, ..)| *told == stage).collect();
            assert!(of_stage.is_sorted_by(|(_, one, _), (_, next, _)| one < next), "{of_stage:?}");
            assert!(of_stage.last().is_some_and(|(_, step, steps)| step == steps), "{stage:?}: {told:?}");
        }
        Ok(())
    })
}

#[test]
fn a_deadline_ends_the_work() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let mut request = quick("a zunin, cave", 64, 2);
        request.base_sampling = Some(steps(1000));
        let deadline = std::time::Duration::from_secs(2);
        let late = reverie::client::ask(&pipeline, request, deadline, |_| ()).await;
        let late = late.map(|_| ()).unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
        is_told_why(&late, "the caller's deadline cannot be met: ");
        assert!(is_callers_deadline(&late));
        Ok(())
    })
}

/// An image that takes too long is refused, or given up if it was begun before anyone knew what a step takes.
fn is_told_why(late: &Status, limit: &str) {
    assert!(late.message().starts_with(limit), "{late}");
    let why = &late.message()[limit.len()..];
    let is_refused = why.starts_with("it takes ") && why.contains(" s alone, and its deadline is in ");
    let is_given_up = why.starts_with("in stage base, after ") && why.ends_with(" of 1000 steps");
    assert!(is_refused || is_given_up, "{late}");
}

/// The mesh's own limit is another one than the caller's: more patience would not help.
#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_the_mesh_is_told_apart_from_the_callers() -> Fallible<()> {
    let limit = ("pipeline".to_owned(), "limits.max_request_seconds".to_owned(), "1".to_owned());
    let arguments =
        MeshArguments { bundle: BUNDLE.to_owned(), overrides: vec![limit], ..MeshArguments::default() };
    let mesh = Mesh::start(MeshSettings::load(&arguments).await?).await?;
    let mut request = quick("a zunin, cave", 64, 2);
    request.base_sampling = Some(steps(1000));
    let late = draw(mesh.pipeline(), request).await.map(|_| ()).unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    is_told_why(&late, "the 1 s that a request may take here (limits.max_request_seconds) do not suffice: ");
    assert!(!is_callers_deadline(&late));
    mesh.shutdown().await;
    Ok(())
}
