//! Models that belong together and models that do not, and stages that are restarted with others.

use std::fs;
use std::path::Path;

use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_integration_tests::processes::Process;
use reverie_integration_tests::requests::{PATIENCE, dimensions, draw, steps};
use reverie_integration_tests::{BUNDLE, Fallible, WORKSPACE, folders, health, mesh};
use reverie_proto::autoencoder::v1::DecodeRequest;
use reverie_proto::autoencoder::v1::autoencoder_service_client::AutoencoderServiceClient;
use reverie_proto::denoiser::v1::denoiser_service_client::DenoiserServiceClient;
use reverie_proto::denoiser::v1::{DenoiseRequest, InitialLatent};
use reverie_proto::generation::v1::GenerateRequest;
use reverie_proto::superresolution::v1::UpscaleRequest;
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::tensor::v1::{Image, ImageFormat, Latent, TextTokens};
use reverie_service_kit::Context;
use reverie_service_kit::client::Upstream;
use reverie_storage::sha256_hex;
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_health::ServingStatus;
use tonic_types::StatusExt as _;

/// A tiny pipeline of the fixtures, imported to draw pictures of `side` pixels.
fn bundle(pipeline: &str, side: usize) -> Fallible<(TempDir, String)> {
    let place = tempfile::tempdir()?;
    let out = place.path().join("bundle");
    let from = Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers").join(pipeline);
    let request = reverie_import::Request { from, size: Some(side), ..Default::default() };
    reverie_import::import(&request, &out)?;
    Ok((place, out.display().to_string()))
}

async fn start(service: &'static str, bundle: &str, further: &[String]) -> Fallible<Process> {
    let settings = [&[format!("inference.bundle={bundle}")], further].concat();
    let mut process = Process::start(service, &settings).await?;
    process.serving().await?;
    Ok(process)
}

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: "a photo of a red house".to_owned(),
        seed: Some(1),
        base_sampling: Some(steps(2)),
        ..GenerateRequest::default()
    }
}

/// What the first level of the bundled cascade starts from.
fn small_image() -> Image {
    Image { format: ImageFormat::Rgb8.into(), width: 64, height: 64, data: vec![9; 3 * 64 * 64].into() }
}

fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// Settings of a pipeline over these stages, which draw on latents.
fn stages_of_latents(encoder: &Process, denoiser: &Process, autoencoder: &Process) -> [String; 5] {
    [
        format!("stages.encoder={}", encoder.url()),
        format!("stages.denoiser={}", denoiser.url()),
        format!("stages.autoencoder={}", autoencoder.url()),
        "stages.retrieval=\"\"".to_owned(),
        "stages.super_resolution=[]".to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_comes_back_with_another_bundle_is_asked_again() -> Fallible<()> {
    let ((_small_place, small), (_large_place, large)) =
        (bundle("stable-diffusion", 32)?, bundle("stable-diffusion", 64)?);
    let (_other_place, other) = bundle("stable-diffusion-2", 32)?;
    let (mut encoder, mut denoiser, autoencoder) = tokio::try_join!(
        start("encoder", &small, &[]),
        start("denoiser", &small, &[]),
        start("autoencoder", &small, &[]),
    )?;
    let stages = stages_of_latents(&encoder, &denoiser, &autoencoder);
    let mut pipeline = Process::start("pipeline", &stages).await?;
    pipeline.serving().await?;
    let address = pipeline.address()?;
    assert_eq!(dimensions(&draw(&address, request()).await?)?, (32, 32));

    denoiser.kill().await?;
    let _larger = start("denoiser", &large, &[format!("server.listen={}", denoiser.listens())]).await?;
    assert_eq!(dimensions(&draw(&address, request()).await?)?, (64, 64));

    // The encoder of another bundle gives tokens of other extents: no caller is to blame for that.
    encoder.kill().await?;
    let _other = start("encoder", &other, &[format!("server.listen={}", encoder.listens())]).await?;
    let status = draw(&address, request()).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("deploy one bundle everywhere"), "{status}");
    health::becomes(&address, ServingStatus::NotServing).await?;
    pipeline.says("the denoiser was trained with the text encoder").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_do_not_follow_each_other_are_not_serving_and_no_retry_helps() -> Fallible<()> {
    let (_place, small) = bundle("stable-diffusion", 32)?;
    let (encoder, denoiser, autoencoder, levels) = tokio::try_join!(
        start("encoder", &small, &[]),
        start("denoiser", &small, &[]),
        start("autoencoder", &small, &[]),
        start("super-resolution", BUNDLE, &[]),
    )?;
    let stages = [
        format!("stages.encoder={}", encoder.url()),
        format!("stages.denoiser={}", denoiser.url()),
        format!("stages.autoencoder={}", autoencoder.url()),
        "stages.retrieval=\"\"".to_owned(),
        format!("stages.super_resolution=[\"{}\"]", levels.url()),
    ];
    let pipeline = Process::start("pipeline", &stages).await?;
    let why = "one draws 32 px, the next starts from 64 px";
    pipeline.says(why).await?;
    let address = pipeline.address()?;
    assert!(Upstream::new("pipeline", &address).check_health(PATIENCE).await.is_err());
    let status = draw(&address, request()).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains(why), "{status}");
    assert!(status.get_details_retry_info().is_none(), "{status:?}");
    Ok(())
}

/// In one process nothing will change: it does not start.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_whose_models_do_not_belong_together_is_refused() -> Fallible<()> {
    let (place, location) = bundle("stable-diffusion", 32)?;
    let folder = place.path().join("bundle");
    let level = "super-resolution-256";
    folders::copy(&Path::new(BUNDLE).join(level), &folder.join(level))?;
    let manifest = folder.join("bundle.toml");
    let text = fs::read_to_string(&manifest)?;
    assert!(text.contains("[packages]\n"), "{text}");
    fs::write(
        &manifest,
        text.replace("[packages]\n", &format!("[packages]\nsuper_resolution = [\"{level}\"]\n")),
    )?;
    let arguments = MeshArguments { bundle: location, ..MeshArguments::default() };
    let started = Mesh::start(MeshSettings::load(&arguments).await?).await;
    let why = started.map(|_| ()).unwrap_err().to_string();
    assert!(why.contains("one draws 32 px, the next starts from 64 px"), "{why}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_another_model_is_refused() -> Fallible<()> {
    let mesh = mesh::start().await?;
    let context = Context::with_timeout(PATIENCE);
    let denoiser = Upstream::new("denoiser", mesh.denoiser());
    let request = DenoiseRequest { model_digest: "another".to_owned(), ..DenoiseRequest::default() };
    let refused = DenoiserServiceClient::new(denoiser.channel()).denoise(context.outgoing(request)).await;
    let status = refused.map(|_| ()).unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("MODEL_CHANGED"))
    );

    let levels = Upstream::new("super-resolution", mesh.super_resolution().ok_or("there are no levels")?);
    let request = UpscaleRequest {
        image: Some(small_image()),
        model_digest: "another".to_owned(),
        ..UpscaleRequest::default()
    };
    let refused =
        SuperResolutionServiceClient::new(levels.channel()).upscale(context.outgoing(request)).await;
    let status = refused.map(|_| ()).unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (Code::FailedPrecondition, Some("MODEL_CHANGED"))
    );
    // Stages wait for callers that are still connected.
    drop((denoiser, levels));
    mesh.shutdown().await;
    Ok(())
}

/// What was made for another bundle is no mistake of the caller's, whichever stage meets it.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_bundle_made_is_refused() -> Fallible<()> {
    let refused = |status: Status, of: &str| {
        assert_eq!(
            (status.code(), reason(&status).as_deref()),
            (Code::FailedPrecondition, Some("MISMATCH")),
            "{status}"
        );
        for part in [of, "\"another\"", "deploy one bundle everywhere"] {
            assert!(status.message().contains(part), "{part} is missing in: {status}");
        }
    };
    let context = Context::with_timeout(PATIENCE);
    let text = || Some(TextTokens { encoder_digest: "another".to_owned(), ..TextTokens::default() });
    let latent = || Some(Latent { decoder_digest: "another".to_owned(), ..Latent::default() });

    let (_place, location) = bundle("stable-diffusion", 32)?;
    let arguments = MeshArguments { bundle: location, ..MeshArguments::default() };
    let mesh = Mesh::start(MeshSettings::load(&arguments).await?).await?;
    let denoiser = Upstream::new("denoiser", mesh.denoiser());
    let start = InitialLatent { latent: latent(), ..InitialLatent::default() };
    for (request, of) in [
        (DenoiseRequest { text: text(), ..DenoiseRequest::default() }, "encoded by"),
        (DenoiseRequest { negative_text: text(), ..DenoiseRequest::default() }, "encoded by"),
        (DenoiseRequest { initial_latent: Some(start), ..DenoiseRequest::default() }, "decoder"),
    ] {
        let answer = DenoiserServiceClient::new(denoiser.channel()).denoise(context.outgoing(request)).await;
        refused(answer.map(|_| ()).unwrap_err(), of);
    }
    let autoencoder = Upstream::new("autoencoder", mesh.autoencoder().ok_or("there is no autoencoder")?);
    let request = DecodeRequest { latent: latent() };
    let answer = AutoencoderServiceClient::new(autoencoder.channel()).decode(context.outgoing(request)).await;
    refused(answer.map(|_| ()).unwrap_err(), "decoder");
    // Stages wait for callers that are still connected.
    drop((denoiser, autoencoder));
    mesh.shutdown().await;

    let mesh = mesh::start().await?;
    let levels = Upstream::new("super-resolution", mesh.super_resolution().ok_or("there are no levels")?);
    let request = UpscaleRequest { image: Some(small_image()), text: text(), ..UpscaleRequest::default() };
    let answer = SuperResolutionServiceClient::new(levels.channel()).upscale(context.outgoing(request)).await;
    refused(answer.map(|_| ()).unwrap_err(), "encoded by");
    drop(levels);
    mesh.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_of_another_bundle_is_not_serving() -> Fallible<()> {
    let ((_place, own), (_other_place, other)) =
        (bundle("stable-diffusion", 32)?, bundle("stable-diffusion-2", 32)?);
    let (encoder, denoiser, autoencoder) = tokio::try_join!(
        start("encoder", &own, &[]),
        start("denoiser", &own, &[]),
        start("autoencoder", &other, &[]),
    )?;
    let stages = stages_of_latents(&encoder, &denoiser, &autoencoder);
    let pipeline = Process::start("pipeline", &stages).await?;
    pipeline.says("the denoiser was trained with the decoder of latents").await?;
    let status = draw(&pipeline.address()?, request()).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("deploy one bundle everywhere"), "{status}");
    Ok(())
}

/// ONNX Runtime has its own copy of a model: what was read of its files is let go of.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_of_a_model_do_not_stay_beside_the_runtimes_copy() -> Fallible<()> {
    const FURTHER: usize = 150 << 20;
    let place = tempfile::tempdir()?;
    folders::copy(Path::new(BUNDLE), place.path())?;
    let package = place.path().join("base-64");
    // A file that the runtime does not read: only the service could hold it.
    let bytes = vec![7; FURTHER];
    fs::write(package.join("further.bin"), &bytes)?;
    let manifest = package.join("model.toml");
    let listed = format!(
        "\n[[files]]\npath = \"further.bin\"\nsha256 = \"{}\"\nsize_bytes = {FURTHER}\n",
        sha256_hex(&bytes)
    );
    fs::write(&manifest, fs::read_to_string(&manifest)? + &listed)?;
    let larger = start("denoiser", &place.path().display().to_string(), &[]).await?;
    let plain = start("denoiser", BUNDLE, &[]).await?;
    let (larger, plain) = (larger.resident_bytes()?, plain.resident_bytes()?);
    assert!(larger < plain + FURTHER as u64 / 2, "{larger} bytes, and {plain} without the file");
    Ok(())
}
