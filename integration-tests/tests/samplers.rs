//! Whatever a request asks of a model, it is drawn or refused by name, and the denoiser serves on: every sampler with every kind
//! of prediction, schedule, spacing, number of steps and strength. And what is drawn is what the sampler would draw had it been
//! imported.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use futures::stream::{self, StreamExt as _};
use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_imaging::pictures;
use reverie_import::SamplerKind;
use reverie_integration_tests::requests::PATIENCE;
use reverie_integration_tests::samplers::message;
use reverie_integration_tests::{Fallible, WORKSPACE, folders};
use reverie_proto::denoiser::v1::denoise_response::Event;
use reverie_proto::denoiser::v1::denoiser_service_client::DenoiserServiceClient;
use reverie_proto::denoiser::v1::{DenoiseCompleted, DenoiseRequest, GetModelRequest, InitialLatent};
use reverie_proto::diffusion::v1::{Guidance, InitialPicture, NoiseLevels, Sampling, Thresholding};
use reverie_proto::encoder::v1::EncodeTextRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::superresolution::v1::UpscaleRequest;
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::superresolution::v1::upscale_response::Event as Upscaled;
use reverie_proto::tensor::v1::{Image, Latent};
use reverie_proto::tensors;
use reverie_service_kit::Context;
use reverie_service_kit::client::{Channel, MAX_INTERNAL_MESSAGE, Upstream};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// Requests in flight at once, so that trajectories of all kinds share passes.
const AT_ONCE: usize = 8;

/// A tiny pipeline with another scheduler configuration, imported.
fn import(
    pipeline: &str,
    scheduler: Option<&Value>,
    sampler: Option<SamplerKind>,
) -> Fallible<(TempDir, String)> {
    let place = tempfile::tempdir()?;
    let copy = place.path().join("pipeline");
    folders::copy(&Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers").join(pipeline), &copy)?;
    if let Some(scheduler) = scheduler {
        fs::write(copy.join("scheduler/scheduler_config.json"), scheduler.to_string())?;
        // Its class is that of the index.
        let index = copy.join("model_index.json");
        let mut parts: Value = serde_json::from_slice(&fs::read(&index)?)?;
        parts["scheduler"][1] = scheduler["_class_name"].clone();
        fs::write(index, parts.to_string())?;
    }
    let out = place.path().join("bundle");
    let request = reverie_import::Request {
        from: copy,
        size: pipeline.ne("if").then_some(32),
        sampler,
        ..Default::default()
    };
    reverie_import::import(&request, &out)?;
    Ok((place, out.display().to_string()))
}

/// The denoiser of a bundle, with a request that it draws.
struct Denoiser {
    client: DenoiserServiceClient<Channel>,
    plain: DenoiseRequest,
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Drawn(Vec<u8>),
    /// `INVALID_ARGUMENT`, with the fields that it names.
    Refused(Vec<String>),
    Broken(String),
}

impl Denoiser {
    async fn of(mesh: &Mesh) -> Fallible<Self> {
        let context = Context::with_timeout(PATIENCE);
        let mut encoder = EncoderServiceClient::new(Upstream::new("encoder", mesh.encoder()).channel())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE);
        let texts = vec!["a photo of a red house".to_owned(), String::new()];
        let answer =
            encoder.encode_text(context.outgoing(EncodeTextRequest { texts, ..Default::default() })).await?;
        let mut texts = answer.into_inner().texts.into_iter();
        let mut client = DenoiserServiceClient::new(Upstream::new("denoiser", mesh.denoiser()).channel())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(MAX_INTERNAL_MESSAGE);
        let model = client.get_model(context.outgoing(GetModelRequest {})).await?.into_inner();
        let (text, empty) = (texts.next(), texts.next());
        let mut plain = DenoiseRequest {
            seed: 7,
            text,
            negative_text: empty.filter(|_| model.takes_empty_text),
            ..DenoiseRequest::default()
        };
        if let Some(latent) = model.latent.filter(|latent| latent.paints_into_picture) {
            let side = model.image_size / latent.downscale;
            let values = |channels: u32| {
                let shape = [channels, side, side].map(|extent| extent as usize);
                Some(tensors::from_f32(&shape, &vec![0.1; shape.iter().product()]))
            };
            let latent = Latent { values: values(4), decoder_digest: latent.decoder_digest };
            let mask = vec![1.0; (side * side) as usize];
            plain.initial_latent = Some(InitialLatent {
                latent: Some(latent.clone()),
                strength: None,
                mask: Some(tensors::from_f32(&[side as usize; 2], &mask)),
                masked_latent: Some(latent),
            });
        }
        Ok(Self { client, plain })
    }

    /// A request with the picture that the plain one gives to start from.
    async fn with_strength(&self, strength: f64) -> Fallible<DenoiseRequest> {
        let mut request = self.plain.clone();
        if let Some(initial) = &mut request.initial_latent {
            initial.strength = Some(strength);
            return Ok(request);
        }
        let drawn = self.ask(self.plain.clone()).await?;
        if let Some(latent) = drawn.latent {
            let latent = Some(latent);
            request.initial_latent =
                Some(InitialLatent { latent, strength: Some(strength), ..Default::default() });
        } else {
            let image = drawn.image.map(|image| pictures::decode(&image).map(pictures::raw)).transpose()?;
            request.initial =
                Some(InitialPicture { image, strength: Some(strength), ..InitialPicture::default() });
        }
        Ok(request)
    }

    async fn ask(&self, request: DenoiseRequest) -> Result<DenoiseCompleted, Status> {
        let context = Context::with_timeout(PATIENCE);
        let mut news = self.client.clone().denoise(context.outgoing(request)).await?.into_inner();
        while let Some(message) = news.message().await? {
            if let Some(Event::Completed(completed)) = message.event {
                return Ok(completed);
            }
        }
        Err(Status::unknown("ended without a picture"))
    }

    async fn outcome(&self, request: DenoiseRequest) -> Outcome {
        match self.ask(request).await {
            Ok(drawn) => match (drawn.image, drawn.latent.and_then(|latent| latent.values)) {
                (Some(image), _) => Outcome::Drawn(image.data.to_vec()),
                (_, Some(values)) => match tensors::to_f32(&values) {
                    Ok((_, latent)) if latent.iter().all(|value| value.is_finite()) => {
                        Outcome::Drawn(latent.iter().flat_map(|value| value.to_le_bytes()).collect())
                    }
                    _ => Outcome::Broken("the latent is not finite".to_owned()),
                },
                _ => Outcome::Broken("there is no picture".to_owned()),
            },
            Err(status) if status.code() == Code::InvalidArgument => Outcome::Refused(fields(&status)),
            Err(status) => Outcome::Broken(status.to_string()),
        }
    }
}

/// The fields that a refusal names; none where it is no `INVALID_ARGUMENT`.
fn fields(status: &Status) -> Vec<String> {
    let named = status.get_details_bad_request().map(|request| request.field_violations);
    let named = named.filter(|_| status.code() == Code::InvalidArgument);
    named.into_iter().flatten().map(|violation| violation.field).collect()
}

async fn with_denoiser<T>(bundle: &str, work: impl AsyncFnOnce(&Denoiser) -> Fallible<T>) -> Fallible<T> {
    let arguments = MeshArguments { bundle: bundle.to_owned(), ..MeshArguments::default() };
    let mesh = Mesh::start(MeshSettings::load(&arguments).await?).await?;
    let outcome = match Denoiser::of(&mesh).await {
        Ok(denoiser) => work(&denoiser).await,
        Err(error) => Err(error),
    };
    mesh.shutdown().await;
    outcome
}

fn sampling(kind: SamplerKind, steps: u32) -> Sampling {
    Sampling { sampler: message(kind).into(), steps: Some(steps), ..Sampling::default() }
}

/// A scheduler configuration of a fixture, with some settings changed.
fn scheduler(pipeline: &str, changed: &Value) -> Fallible<Value> {
    let path = Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers").join(pipeline);
    let mut config: Value = serde_json::from_slice(&fs::read(path.join("scheduler/scheduler_config.json"))?)?;
    let own = config.as_object_mut().ok_or("no object")?;
    for (key, value) in changed.as_object().ok_or("no object")? {
        if value.is_null() {
            own.remove(key)
        } else {
            own.insert(key.clone(), value.clone())
        };
    }
    Ok(config)
}

/// Samplers that flow matching is defined for.
const OF_FLOW: [SamplerKind; 5] = [
    SamplerKind::Euler,
    SamplerKind::Heun,
    SamplerKind::DpmSolver,
    SamplerKind::DpmSolverSde,
    SamplerKind::UniPc,
];

/// The samplers but for some.
fn all_but(left_out: &[SamplerKind]) -> Vec<SamplerKind> {
    SamplerKind::ALL.into_iter().filter(|kind| !left_out.contains(kind)).collect()
}

/// Asks for everything there is, of a model that draws with the samplers `fitting`.
fn try_everything(pipeline: &str, changed: &Value, fitting: &[SamplerKind]) -> Fallible<()> {
    let config = scheduler(pipeline, changed)?;
    let (_place, bundle) = import(pipeline, Some(&config), None)?;
    let unguided = Some(Guidance { text_weight: Some(1.0), ..Guidance::default() });
    Runtime::new()?.block_on(with_denoiser(&bundle, async |denoiser| {
        let mut starts = vec![denoiser.plain.clone()];
        for strength in [0.3, 1.0] {
            starts.push(denoiser.with_strength(strength).await?);
        }
        let mut requests = Vec::new();
        for kind in SamplerKind::ALL {
            for (steps, start) in
                [1, 2, 3, 5].into_iter().flat_map(|steps| starts.iter().map(move |s| (steps, s)))
            {
                let mut add = |levels: NoiseLevels, thresholding: Thresholding| {
                    let sampling = Sampling {
                        noise_levels: levels.into(),
                        thresholding: thresholding.into(),
                        ..sampling(kind, steps)
                    };
                    let (guidance, sampling) = (unguided, Some(sampling));
                    requests.push(DenoiseRequest { guidance, sampling, ..start.clone() });
                };
                add(NoiseLevels::Unspecified, Thresholding::Unspecified);
                add(NoiseLevels::Karras, Thresholding::Unspecified);
                add(NoiseLevels::Unspecified, Thresholding::Static);
                add(NoiseLevels::Trained, Thresholding::Dynamic);
            }
        }
        let total = requests.len();
        let outcomes = stream::iter(requests).map(|request| async {
            let asked = request.sampling.unwrap_or_default();
            let strength = request.initial_latent.as_ref().and_then(|initial| initial.strength);
            let strength = strength.or(request.initial.as_ref().and_then(|initial| initial.strength));
            (asked, strength, denoiser.outcome(request).await)
        });
        let outcomes: Vec<_> = outcomes.buffer_unordered(AT_ONCE).collect().await;
        let mut broken = Vec::new();
        let (mut drawn, mut drawing) = (0, BTreeSet::new());
        for (asked, strength, outcome) in &outcomes {
            let is_named = |field: &String| field.starts_with("sampling.") || field == "initial.strength";
            match outcome {
                Outcome::Drawn(_) => {
                    drawn += 1;
                    drawing.insert(asked.sampler);
                }
                Outcome::Refused(fields) if !fields.is_empty() && fields.iter().all(is_named) => {}
                other => broken.push(format!("{asked:?}, strength {strength:?}: {other:?}")),
            }
        }
        println!("{pipeline} {changed}: {drawn} of {total} were drawn");
        assert!(broken.is_empty(), "{pipeline} {changed}: {}\n{}", broken.len(), broken.join("\n"));
        let expected: BTreeSet<i32> = fitting.iter().map(|kind| message(*kind).into()).collect();
        assert_eq!(drawing, expected, "{pipeline} {changed}");
        assert!(matches!(denoiser.outcome(denoiser.plain.clone()).await, Outcome::Drawn(_)), "it serves on");
        Ok(())
    }))
}

#[test]
fn stable_diffusion() -> Fallible<()> {
    let old = json!({"timestep_spacing": null});
    try_everything("stable-diffusion", &old, &all_but(&[SamplerKind::Lcm]))?;
    for (spacing, unfit) in [
        ("leading", vec![SamplerKind::Lcm]),
        ("linspace", vec![SamplerKind::Lcm, SamplerKind::Pndm, SamplerKind::Plms]),
        ("trailing", vec![SamplerKind::Lcm, SamplerKind::Pndm, SamplerKind::Plms]),
    ] {
        for prediction in ["epsilon", "sample", "v_prediction"] {
            let changed = json!({
                "_class_name": "DDIMScheduler", "timestep_spacing": spacing, "prediction_type": prediction,
            });
            try_everything("stable-diffusion", &changed, &all_but(&unfit))?;
        }
    }
    Ok(())
}

/// Zero terminal SNR: Heun's and PNDM's classes know nothing of it.
#[test]
fn stable_diffusion_2() -> Fallible<()> {
    let unfit = [SamplerKind::Lcm, SamplerKind::Heun, SamplerKind::Pndm, SamplerKind::Plms];
    try_everything("stable-diffusion-2", &json!({}), &all_but(&unfit))?;
    try_everything("stable-diffusion-2", &json!({"timestep_spacing": "leading"}), &all_but(&unfit))
}

#[test]
fn stable_diffusion_xl() -> Fallible<()> {
    try_everything("stable-diffusion-xl", &json!({}), &all_but(&[SamplerKind::Lcm]))
}

#[test]
fn inpainting() -> Fallible<()> {
    try_everything("inpainting", &json!({}), &all_but(&[SamplerKind::Lcm]))
}

#[test]
fn latent_consistency() -> Fallible<()> {
    try_everything("latent-consistency", &json!({}), &SamplerKind::ALL)
}

#[test]
fn deepfloyd_if() -> Fallible<()> {
    try_everything("if", &json!({}), &all_but(&[SamplerKind::Lcm]))?;
    try_everything("if", &json!({"variance_type": "fixed_large"}), &all_but(&[SamplerKind::Lcm]))
}

#[test]
fn stable_diffusion_3() -> Fallible<()> {
    try_everything("stable-diffusion-3", &json!({}), &OF_FLOW)?;
    try_everything("stable-diffusion-3", &json!({"use_dynamic_shifting": true}), &OF_FLOW)
}

#[test]
fn flux() -> Fallible<()> {
    try_everything("flux", &json!({}), &OF_FLOW)?;
    try_everything("flux", &json!({"use_dynamic_shifting": false}), &OF_FLOW)
}

/// The same of a level that enlarges: its scheduler is of another process, with the same settings.
#[test]
fn deepfloyd_if_super_resolution() -> Fallible<()> {
    let fixtures = Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers");
    let place = tempfile::tempdir()?;
    let (base, level) = (place.path().join("base"), fixtures.join("if-super-resolution"));
    folders::copy(&fixtures.join("if"), &base)?;
    // The tiny ones have text encoders of their own; one of a cascade reads the prompt for all.
    fs::copy(level.join("text_encoder/model.onnx"), base.join("text_encoder/model.onnx"))?;
    let out = place.path().join("bundle");
    let request =
        reverie_import::Request { from: base, super_resolution: vec![level.clone()], ..Default::default() };
    reverie_import::import(&request, &out)?;
    let arguments = MeshArguments { bundle: out.display().to_string(), ..MeshArguments::default() };
    let image = Image { data: fs::read(level.join("reference/input.png"))?.into(), ..Image::default() };
    Runtime::new()?.block_on(async {
        let mesh = Mesh::start(MeshSettings::load(&arguments).await?).await?;
        let texts = Denoiser::of(&mesh).await?.plain;
        let server = Upstream::new("super-resolution", mesh.super_resolution().ok_or("there is no level")?);
        let client = SuperResolutionServiceClient::new(server.channel());
        let mut requests = Vec::new();
        for (kind, steps) in
            SamplerKind::ALL.into_iter().flat_map(|kind| [1, 2, 3, 5].map(|steps| (kind, steps)))
        {
            for levels in [NoiseLevels::Unspecified, NoiseLevels::Karras] {
                let sampling = Some(Sampling { noise_levels: levels.into(), ..sampling(kind, steps) });
                requests.push(UpscaleRequest {
                    image: Some(image.clone()),
                    text: texts.text.clone(),
                    negative_text: texts.negative_text.clone(),
                    sampling,
                    ..UpscaleRequest::default()
                });
            }
        }
        let outcomes = stream::iter(requests).map(|request| async {
            let asked = request.sampling.unwrap_or_default();
            let answer = async {
                let context = Context::with_timeout(PATIENCE);
                let mut news = client.clone().upscale(context.outgoing(request)).await?.into_inner();
                while let Some(message) = news.message().await? {
                    if let Some(Upscaled::Completed(_)) = message.event {
                        return Ok(());
                    }
                }
                Err(Status::unknown("ended without a picture"))
            };
            (asked, answer.await)
        });
        let outcomes: Vec<_> = outcomes.buffer_unordered(AT_ONCE).collect().await;
        mesh.shutdown().await;
        let drawing: BTreeSet<i32> =
            outcomes.iter().filter(|(_, outcome)| outcome.is_ok()).map(|(asked, _)| asked.sampler).collect();
        let expected = all_but(&[SamplerKind::Lcm]).into_iter().map(|kind| message(kind).into()).collect();
        assert_eq!(drawing, expected);
        for (asked, outcome) in &outcomes {
            if let Err(status) = outcome {
                let fields = fields(status);
                assert!(
                    !fields.is_empty() && fields.iter().all(|field| field.starts_with("sampling.")),
                    "{asked:?}: {status}"
                );
            }
        }
        Ok(())
    })
}

/// Asks for each sampler, and imports each.
fn asked_is_imported(pipeline: &str, changed: &Value) -> Fallible<()> {
    let config = scheduler(pipeline, changed)?;
    let runtime = Runtime::new()?;
    let draw = |sampler: Option<SamplerKind>, asked: &[SamplerKind]| -> Fallible<Vec<Outcome>> {
        let (_place, bundle) = import(pipeline, Some(&config), sampler)?;
        let asked = asked.iter().map(|kind| Some(sampling(*kind, 5)));
        let own = Some(Sampling { steps: Some(5), ..Sampling::default() });
        let all: Vec<_> = if sampler.is_some() { vec![own] } else { asked.collect() };
        runtime.block_on(with_denoiser(&bundle, async |denoiser| {
            let mut outcomes = Vec::new();
            for sampling in all {
                outcomes.push(denoiser.outcome(DenoiseRequest { sampling, ..denoiser.plain.clone() }).await);
            }
            Ok(outcomes)
        }))
    };
    let asked = draw(None, &SamplerKind::ALL)?;
    let mut compared = 0;
    for (kind, asked) in SamplerKind::ALL.into_iter().zip(asked) {
        if let Outcome::Drawn(_) = asked {
            assert!(draw(Some(kind), &[])? == [asked], "{pipeline} {changed}: {kind:?}");
            compared += 1;
        }
    }
    assert!(compared >= 5, "{pipeline}: {compared} samplers");
    Ok(())
}

#[test]
fn a_sampler_that_is_asked_for_is_the_one_that_is_imported() -> Fallible<()> {
    asked_is_imported("stable-diffusion", &json!({"timestep_spacing": null}))?;
    asked_is_imported("stable-diffusion-2", &json!({}))?;
    // It says nothing of clipping, and other classes clip.
    asked_is_imported("stable-diffusion-xl", &json!({"use_karras_sigmas": true}))?;
    asked_is_imported("if", &json!({"variance_type": "fixed_large", "timestep_spacing": null}))?;
    asked_is_imported("stable-diffusion-3", &json!({}))
}
