//! Models that work on latents, in the mesh: one stage more, and what cannot be asked of them.

use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::processes::Process;
use reverie_integration_tests::requests::PATIENCE;
use reverie_integration_tests::requests::{dimensions, draw, neighbours, steps};
use reverie_integration_tests::{Fallible, WORKSPACE, health};
use reverie_proto::autoencoder::v1::autoencoder_service_client::AutoencoderServiceClient;
use reverie_proto::autoencoder::v1::{DecodeRequest, EncodeRequest, PredictRequest};
use reverie_proto::diffusion::v1::{InitialPicture, Prediction};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, Reference, References, Stage, StageReport};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::Latent;
use reverie_service_kit::Context;
use reverie_service_kit::client::Upstream as Server;
use tempfile::TempDir;
use tonic::Code;
use tonic_health::ServingStatus;

/// The tiny pipeline of the fixtures, imported.
fn bundle(pipeline: &str) -> Fallible<(TempDir, String)> {
    let place = tempfile::tempdir()?;
    let out = place.path().join("bundle");
    let from = std::path::Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers").join(pipeline);
    let request = reverie_import::Request { from, size: Some(32), ..Default::default() };
    reverie_import::import(&request, &out)?;
    Ok((place, out.display().to_string()))
}

async fn start(bundle: &str) -> Fallible<Mesh> {
    let arguments = MeshArguments { bundle: bundle.to_owned(), ..MeshArguments::default() };
    Mesh::start(MeshSettings::load(&arguments).await?).await
}

fn request(seed: u64) -> GenerateRequest {
    GenerateRequest {
        prompt: "a photo of a red house".to_owned(),
        seed: Some(seed),
        base_sampling: Some(steps(4)),
        ..GenerateRequest::default()
    }
}

fn own(side: u32) -> Rgb {
    Rgb::from_fn(side, side, |x, y| [(x * 8) as u8, (y * 8) as u8, ((x ^ y) * 4) as u8].into())
}

fn half(side: u32) -> Rgb {
    Rgb::from_fn(side, side, |x, _| [if x < side / 2 { 255 } else { 0 }; 3].into())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decoder_is_a_stage_like_any_other() -> Fallible<()> {
    let (_place, bundle) = bundle("stable-diffusion")?;
    let mesh = start(&bundle).await?;
    let drawn = draw(mesh.pipeline(), request(1)).await?;
    assert_eq!(dimensions(&drawn)?, (32, 32));
    let stages: Vec<_> = drawn.completed.stages.iter().map(StageReport::stage).collect();
    assert_eq!(stages, [Stage::Encode, Stage::Base, Stage::Decode]);
    assert_eq!(drawn.started.stages, [Stage::Encode, Stage::Base, Stage::Decode].map(i32::from));
    let decode = &drawn.completed.stages[2];
    assert!(decode.timings.is_some_and(|timings| timings.model_seconds > 0.0));
    assert_eq!(
        decode.model.as_ref().map(|model| model.name.as_str()),
        Some("stable-diffusion-latent-decoder")
    );
    // Alone or in company.
    let (again, other) =
        tokio::try_join!(draw(mesh.pipeline(), request(1)), draw(mesh.pipeline(), request(2)))?;
    assert!(again.image == drawn.image, "the same seed gives the same picture");
    assert!(other.image != drawn.image, "another seed gives another one");
    mesh.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_mask_keeps_is_exact_though_it_was_a_latent() -> Fallible<()> {
    let (_place, bundle) = bundle("stable-diffusion")?;
    let mesh = start(&bundle).await?;
    let initial = InitialPicture {
        image: Some(pictures::raw(own(32))),
        mask: Some(pictures::raw(half(32))),
        strength: Some(1.0),
        ..InitialPicture::default()
    };
    let drawn = draw(mesh.pipeline(), GenerateRequest { initial: Some(initial), ..request(3) }).await?;
    let stages: Vec<_> = drawn.completed.stages.iter().map(StageReport::stage).collect();
    assert_eq!(stages, [Stage::Encode, Stage::EncodePicture, Stage::Base, Stage::Decode]);
    let picture = pictures::decode(&drawn.image)?;
    let (mut kept, mut drawn_anew) = (0, 0);
    for (x, y, pixel) in picture.enumerate_pixels() {
        let same = pixel == own(32).get_pixel(x, y);
        if x >= 16 {
            kept += u32::from(same);
        } else {
            drawn_anew += u32::from(!same);
        }
    }
    assert_eq!(kept, 512, "the right half is the caller's");
    assert!(drawn_anew > 400, "{drawn_anew} of the left half's pixels are others");
    mesh.shutdown().await;
    Ok(())
}

/// The initial image is encoded once for all images; each is the one that a request of its own gives.
#[tokio::test(flavor = "multi_thread")]
async fn several_images_start_from_one_latent() -> Fallible<()> {
    let (_place, bundle) = bundle("stable-diffusion")?;
    let mesh = start(&bundle).await?;
    let initial = InitialPicture {
        image: Some(pictures::raw(own(32))),
        mask: Some(pictures::raw(half(32))),
        ..InitialPicture::default()
    };
    let one = GenerateRequest { initial: Some(initial), ..request(3) };
    let several = draw(mesh.pipeline(), GenerateRequest { count: Some(3), ..one.clone() }).await?;
    let stages = |reports: &[StageReport]| reports.iter().map(StageReport::stage).collect::<Vec<_>>();
    let all = [Stage::Encode, Stage::EncodePicture, Stage::Base, Stage::Decode];
    assert_eq!(stages(&several.completed.stages), all);
    for (image, report) in several.images.iter().zip(&several.completed.images) {
        assert_eq!(stages(&report.stages), all[2..]);
        let own = draw(mesh.pipeline(), GenerateRequest { seed: Some(image.seed), ..one.clone() }).await?;
        assert_eq!(image.image.as_ref(), Some(&own.image), "seed {}", image.seed);
    }
    // There is nothing to show between steps, and a level that could be left out neither.
    let told = reverie::client::capabilities(mesh.pipeline(), PATIENCE).await?;
    assert!(told.max_step_previews_per_second.abs() < f64::EPSILON);
    let refused = draw(mesh.pipeline(), GenerateRequest { step_previews: true, ..request(1) }).await;
    let status = refused.expect_err("a latent is not decoded between steps");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("step_previews: must not be set"), "{status}");
    let smaller = draw(mesh.pipeline(), GenerateRequest { allow_degraded: true, ..request(1) }).await?;
    assert!(!smaller.completed.degraded);
    mesh.shutdown().await;
    Ok(())
}

/// The size is asked for, or is that of the picture to start from; what a mask keeps is in its place.
#[tokio::test(flavor = "multi_thread")]
async fn pictures_need_not_be_square() -> Fallible<()> {
    let (_place, bundle) = bundle("stable-diffusion")?;
    let mesh = start(&bundle).await?;
    let upright =
        |scale: u32| Rgb::from_fn(24 * scale, 40 * scale, |x, y| [(9 * x) as u8, (5 * y) as u8, 99].into());
    let lower_half = |scale: u32| {
        Rgb::from_fn(24 * scale, 40 * scale, |_, y| [if y < 20 * scale { 0 } else { 255 }; 3].into())
    };
    let initial = |scale| InitialPicture {
        image: Some(pictures::raw(upright(scale))),
        mask: Some(pictures::raw(lower_half(scale))),
        strength: Some(0.8),
        ..InitialPicture::default()
    };
    let resolution = Some(Size { width: 24, height: 40 });
    for (initial, resolution) in
        [(Some(initial(1)), None), (Some(initial(3)), resolution), (None, resolution)]
    {
        let scale =
            initial.as_ref().map(|initial| initial.image.as_ref().map_or(1, |image| image.width / 24));
        let drawn = draw(mesh.pipeline(), GenerateRequest { initial, resolution, ..request(4) }).await?;
        assert_eq!(dimensions(&drawn)?, (24, 40));
        let picture = pictures::decode(&drawn.image)?;
        let own = pictures::shrink(&upright(scale.unwrap_or(1)), Size { width: 24, height: 40 });
        let same = picture.enumerate_pixels().filter(|(x, y, pixel)| *pixel == own.get_pixel(*x, *y));
        let (kept, drawn_anew): (Vec<_>, Vec<_>) = same.partition(|(_, y, _)| *y < 20);
        assert_eq!(kept.len() == 24 * 20, scale.is_some(), "{scale:?}");
        assert!(drawn_anew.len() < 48, "{scale:?}: {} pixels of the lower half", drawn_anew.len());
    }
    mesh.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_does_not_take_is_refused_by_name() -> Fallible<()> {
    let (_place, bundle_of_text) = bundle("stable-diffusion")?;
    let mesh = start(&bundle_of_text).await?;
    let reference =
        Reference { image: Some(pictures::raw(own(8))), caption: "mine".to_owned(), ..Reference::default() };
    for memory in [neighbours(2), Memory::References(References { references: vec![reference.clone()] })] {
        let refused = draw(mesh.pipeline(), GenerateRequest { memory: Some(memory), ..request(1) }).await;
        let status = refused.expect_err("it takes no neighbours");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains("the model of this mesh takes no neighbours"), "{status}");
    }
    for (width, height, why) in [
        (
            40,
            33,
            "must be 32 x 32, or have sides that are multiples of 4 up to 64 and at most 2304 pixels in all, not 40 x 33",
        ),
        (68, 4, "not 68 x 4"),
        (64, 64, "not 64 x 64"),
        (0, 32, "not 0 x 32"),
    ] {
        let resolution = Some(Size { width, height });
        let refused = draw(mesh.pipeline(), GenerateRequest { resolution, ..request(1) }).await;
        let status = refused.expect_err("no such size");
        assert!(status.message().contains(why), "{status}");
    }
    mesh.shutdown().await;

    let (_place, bundle_of_memory) = bundle("retrieval")?;
    let mesh = start(&bundle_of_memory).await?;
    let refused = draw(mesh.pipeline(), GenerateRequest { memory: Some(neighbours(2)), ..request(1) }).await;
    assert!(refused.expect_err("nothing to search").message().contains("this mesh has no knowledge bases"));
    let references = vec![reference; 9];
    let memory = Some(Memory::References(References { references }));
    let refused = draw(mesh.pipeline(), GenerateRequest { memory, ..request(1) }).await;
    assert!(refused.expect_err("too many").message().contains("must be 1 to 8 pictures, not 9"));
    mesh.shutdown().await;

    let (_place, bundle_of_painter) = bundle("inpainting")?;
    let mesh = start(&bundle_of_painter).await?;
    let initial = InitialPicture { image: Some(pictures::raw(own(32))), ..InitialPicture::default() };
    for initial in [None, Some(initial)] {
        let refused = draw(mesh.pipeline(), GenerateRequest { initial, ..request(1) }).await;
        let status = refused.expect_err("it needs a mask");
        assert!(status.message().contains("this model paints into a picture"), "{status}");
    }
    mesh.shutdown().await;
    Ok(())
}

/// What the door says it takes is what it takes.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_starts_from_a_picture_that_no_model_encodes() -> Fallible<()> {
    let (_place, bundle) = bundle("stable-diffusion")?;
    let image = Some(pictures::raw(own(32)));
    let from_own = GenerateRequest {
        initial: Some(InitialPicture { image, ..InitialPicture::default() }),
        ..request(1)
    };
    let mesh = start(&bundle).await?;
    assert!(reverie::client::capabilities(mesh.pipeline(), PATIENCE).await?.takes_initial);
    draw(mesh.pipeline(), from_own.clone()).await?;
    mesh.shutdown().await;

    let manifest = std::path::Path::new(&bundle).join("bundle.toml");
    let text = std::fs::read_to_string(&manifest)?;
    let without: Vec<_> = text.lines().filter(|line| !line.starts_with("latent_encoder")).collect();
    assert_ne!(without.len(), text.lines().count());
    std::fs::write(&manifest, without.join("\n"))?;
    let mesh = start(&bundle).await?;
    assert!(!reverie::client::capabilities(mesh.pipeline(), PATIENCE).await?.takes_initial);
    let status = draw(mesh.pipeline(), from_own).await.expect_err("there is no encoder");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("initial: must not be set"), "{status}");
    draw(mesh.pipeline(), request(1)).await?;
    mesh.shutdown().await;
    Ok(())
}

/// Four processes, of which one decodes; and what that one says to others.
#[tokio::test(flavor = "multi_thread")]
async fn processes_draw_the_same_bytes_as_one() -> Fallible<()> {
    let (_place, bundle) = bundle("stable-diffusion-xl")?;
    let models = [format!("inference.bundle={bundle}")];
    let (mut encoder, mut denoiser, mut autoencoder) = tokio::try_join!(
        Process::start("encoder", &models),
        Process::start("denoiser", &models),
        Process::start("autoencoder", &models),
    )?;
    let stages = |autoencoder: &str| {
        [
            format!("stages.encoder={}", encoder.url()),
            format!("stages.denoiser={}", denoiser.url()),
            format!("stages.autoencoder={autoencoder}"),
            "stages.retrieval=\"\"".to_owned(),
            "stages.super_resolution=[]".to_owned(),
        ]
    };
    let mut pipeline = Process::start("pipeline", &stages(&autoencoder.url())).await?;
    let blind = Process::start("pipeline", &stages("\"\"")).await?;
    for process in [&mut encoder, &mut denoiser, &mut autoencoder, &mut pipeline] {
        process.serving().await?;
    }
    health::becomes(&blind.address()?, ServingStatus::NotServing).await?;
    let across = draw(&pipeline.address()?, request(5)).await?;
    let mesh = start(&bundle).await?;
    let within = draw(mesh.pipeline(), request(5)).await?;
    mesh.shutdown().await;
    assert!(across.image == within.image, "the bytes differ");

    let status = draw(&blind.address()?, request(5)).await.expect_err("no one decodes");
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("set stages.autoencoder"), "{status}");

    let server = Server::new("autoencoder", &autoencoder.address()?);
    let mut client = AutoencoderServiceClient::new(server.channel());
    let context = Context::with_timeout(PATIENCE);
    // It measures what it takes before it is asked for anything.
    let size = Some(Size::square(32));
    let asked = PredictRequest { size, ..PredictRequest::default() };
    let takes_time = |told: Option<Prediction>| told.is_some_and(|told| told.seconds > 0.0);
    let begun = std::time::Instant::now();
    loop {
        let told = client.predict(context.outgoing(asked.clone())).await?.into_inner();
        if takes_time(told.decode) && takes_time(told.encode) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{told:?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let image = Some(pictures::raw(own(32)));
    let encoded =
        client.encode(context.outgoing(EncodeRequest { image, ..Default::default() })).await?.into_inner();
    let latent = encoded.latent.ok_or("there is no latent")?;
    let decoded = client.decode(context.outgoing(DecodeRequest { latent: Some(latent.clone()) })).await?;
    let image = decoded.into_inner().image.ok_or("there is no picture")?;
    assert_eq!((image.width, image.height), (32, 32));
    let foreign = Latent { decoder_digest: "another".to_owned(), ..latent };
    let refused = client.decode(context.outgoing(DecodeRequest { latent: Some(foreign) })).await;
    assert_eq!(refused.expect_err("for another decoder").code(), Code::FailedPrecondition);
    let image = Some(pictures::raw(own(31)));
    let refused = client.encode(context.outgoing(EncodeRequest { image, ..Default::default() })).await;
    assert!(refused.expect_err("odd").message().contains("multiples of 2"));
    let odd =
        client.predict(context.outgoing(PredictRequest { size: Some(Size::square(31)), ..asked.clone() }));
    assert!(odd.await.expect_err("odd").message().starts_with("size: is 31 x 31"));
    let other = PredictRequest { decoder_digest: "another".to_owned(), ..asked };
    let refused = client.predict(context.outgoing(other)).await.expect_err("for another decoder");
    assert_eq!(refused.code(), Code::FailedPrecondition);

    // One that goes away is named.
    autoencoder.kill().await?;
    let status = draw(&pipeline.address()?, request(5)).await.expect_err("the decoder is gone");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("autoencoder"), "{status}");
    Ok(())
}

#[tokio::test]
async fn a_bundle_without_a_decoder_needs_no_autoencoder() -> Fallible<()> {
    let mut command = reverie_integration_tests::processes::command("autoencoder", &[])?;
    let ended = tokio::time::timeout(PATIENCE, command.output()).await??;
    let said = String::from_utf8(ended.stderr)?;
    assert!(!ended.status.success());
    assert!(said.contains("it has no latent_decoder"), "{said}");
    Ok(())
}
