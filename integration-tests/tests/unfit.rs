//! What a request asks for and its model cannot do is refused, and the field is named; nothing is left out in silence.

use std::path::Path;

use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_integration_tests::requests::{draw, quick};
use reverie_integration_tests::{BUNDLE, Fallible, WORKSPACE};
use reverie_proto::diffusion::v1::{Guidance, GuidanceInterval, GuidanceStrategy, InterleaveDraw, Sampling};
use reverie_proto::generation::v1::{GenerateRequest, SuperResolutionOptions};
use tokio::runtime::Runtime;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Runs with a mesh over an imported pipeline, or over the bundle of the workspace.
fn with_mesh(pipeline: Option<&str>, work: impl AsyncFnOnce(&Mesh) -> Fallible<()>) -> Fallible<()> {
    let place = tempfile::tempdir()?;
    let bundle = match pipeline {
        None => BUNDLE.to_owned(),
        Some(pipeline) => {
            let from = Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers").join(pipeline);
            let out = place.path().join("bundle");
            let request = reverie_import::Request { from, size: Some(32), ..Default::default() };
            reverie_import::import(&request, &out)?;
            out.display().to_string()
        }
    };
    let arguments = MeshArguments { bundle, ..MeshArguments::default() };
    Runtime::new()?.block_on(async {
        let mesh = Mesh::start(MeshSettings::load(&arguments).await?).await?;
        let outcome = work(&mesh).await;
        mesh.shutdown().await;
        outcome
    })
}

fn request(guidance: Guidance) -> GenerateRequest {
    GenerateRequest {
        prompt: "a photo of a red house".to_owned(),
        seed: Some(1),
        base_sampling: Some(Sampling { steps: Some(2), ..Sampling::default() }),
        guidance: Some(guidance),
        ..GenerateRequest::default()
    }
}

/// The fields that a refusal names.
fn fields(status: &Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    let named = status.get_details_bad_request().map(|request| request.field_violations);
    named.into_iter().flatten().map(|violation| violation.field).collect()
}

async fn refused(mesh: &Mesh, request: GenerateRequest) -> Fallible<Vec<String>> {
    match draw(mesh.pipeline(), request).await {
        Ok(_) => Err("it was drawn".into()),
        Err(status) => Ok(fields(&status)),
    }
}

fn of_neighbours() -> Guidance {
    Guidance {
        strategy: GuidanceStrategy::Joint.into(),
        neighbour_weight: Some(2.0),
        interleave_ratio: Some(0.5),
        interleave_draw: InterleaveDraw::Random.into(),
        ..Guidance::default()
    }
}

/// Of one that guides in two passes.
fn of_two_passes() -> Guidance {
    let interval = Some(GuidanceInterval { min_sigma: Some(0.1), max_sigma: None });
    Guidance { rescale: Some(0.5), interval, text_weight: Some(3.0), ..Guidance::default() }
}

#[test]
fn a_model_without_neighbours_has_no_guidance_by_them() -> Fallible<()> {
    with_mesh(Some("stable-diffusion"), async |mesh| {
        let named = refused(mesh, request(of_neighbours())).await?;
        let expected = ["strategy", "neighbour_weight", "interleave_ratio", "interleave_draw"];
        assert_eq!(named, expected.map(|field| format!("guidance.{field}")));
        let negative_prompt = Some("blurred".to_owned());
        draw(mesh.pipeline(), GenerateRequest { negative_prompt, ..request(of_two_passes()) }).await?;
        Ok(())
    })
}

#[test]
fn a_model_that_is_told_of_guidance_has_no_second_pass() -> Fallible<()> {
    for pipeline in ["flux", "latent-consistency"] {
        with_mesh(Some(pipeline), async |mesh| {
            let negative_prompt = Some("blurred".to_owned());
            let asked = GenerateRequest { negative_prompt, ..request(of_two_passes()) };
            let named = refused(mesh, asked).await?;
            assert_eq!(named, ["negative_prompt", "guidance.rescale", "guidance.interval"], "{pipeline}");
            let weight = Guidance { text_weight: Some(3.0), ..Guidance::default() };
            draw(mesh.pipeline(), request(weight)).await?;
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn weights_are_not_added_by_a_prompt() -> Fallible<()> {
    with_mesh(Some("stable-diffusion"), async |mesh| {
        let asked = GenerateRequest {
            prompt: "a house <LoRA:watercolour:0.8>".to_owned(),
            negative_prompt: Some("<hypernet:blur:1>".to_owned()),
            ..request(Guidance::default())
        };
        assert_eq!(refused(mesh, asked).await?, ["prompt", "negative_prompt"]);
        // Other signs are text.
        let asked =
            GenerateRequest { prompt: "a (house:1.2) <lora>".to_owned(), ..request(Guidance::default()) };
        draw(mesh.pipeline(), asked).await?;
        Ok(())
    })
}

#[test]
fn a_level_without_text_is_not_guided_by_it() -> Fallible<()> {
    with_mesh(None, async |mesh| {
        let mut asked = quick("a zunin", 1024, 1);
        let guided = SuperResolutionOptions { guidance_weight: Some(2.0), ..asked.super_resolution[1] };
        asked.super_resolution[1] = guided;
        let named = refused(mesh, asked.clone()).await?;
        assert!(
            named.iter().all(|field| field.ends_with("guidance_weight")) && named.len() == 1,
            "{named:?}"
        );
        // The level before it reads the text.
        asked.super_resolution.swap(0, 1);
        asked.size = Some(256);
        draw(mesh.pipeline(), asked).await?;
        Ok(())
    })
}
