//! Pipelines of diffusers, exported to ONNX as people export them, imported, and drawn with by the mesh: the same pictures.
//!
//! `fixtures/diffusers/generate.py` makes the pipelines (tiny, of random weights) and the pictures. Both sides are given the
//! same noise: the script draws it with this project's own generator.

use std::fs;
use std::path::{Path, PathBuf};

use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_imaging::mask::Mask;
use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::requests::{PATIENCE, draw};
use reverie_integration_tests::{Fallible, WORKSPACE, folders, samplers};
use reverie_proto::autoencoder::v1::EncodeRequest;
use reverie_proto::autoencoder::v1::autoencoder_service_client::AutoencoderServiceClient;
use reverie_proto::denoiser::v1::denoise_response::Event;
use reverie_proto::denoiser::v1::denoiser_service_client::DenoiserServiceClient;
use reverie_proto::denoiser::v1::{
    DenoiseRequest, GetModelRequest, GetModelResponse, InitialLatent, NeighbourCondition,
};
use reverie_proto::diffusion::v1::{Guidance, InitialPicture, Sampler, Sampling};
use reverie_proto::encoder::v1::EncodeTextRequest;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, Reference, References};
use reverie_proto::sizes::Size;
use reverie_proto::superresolution::v1::UpscaleRequest;
use reverie_proto::superresolution::v1::super_resolution_service_client::SuperResolutionServiceClient;
use reverie_proto::superresolution::v1::upscale_response::Event as Upscaled;
use reverie_proto::tensor::v1::{Image, Latent, TextTokens};
use reverie_proto::tensors;
use reverie_service_kit::Context;
use reverie_service_kit::client::{MAX_INTERNAL_MESSAGE, Upstream};
use serde_json::Value;
use tempfile::TempDir;

/// The largest difference of a channel of a pixel.
const PIXEL: u8 = 1;
/// The largest difference of a latent, as a share of its largest element.
const LATENT: f32 = 1e-4;

/// One picture of the references.
struct Case {
    folder: PathBuf,
    value: Value,
}

impl Case {
    fn name(&self) -> String {
        format!("{}/{}", self.folder.file_name().unwrap_or_default().display(), self.text("name"))
    }

    fn text(&self, key: &str) -> String {
        self.value[key].as_str().unwrap_or_default().to_owned()
    }

    fn negative_prompt(&self) -> Option<String> {
        self.value["negative_prompt"].as_str().map(ToOwned::to_owned)
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.value[key].as_f64()
    }

    fn size(&self) -> Size {
        let side = |key| self.number(key).unwrap_or_default() as u32;
        Size { width: side("width"), height: side("height") }
    }

    fn file(&self, key: &str) -> Fallible<Vec<u8>> {
        self.read(&self.text(key))
    }

    fn read(&self, name: &str) -> Fallible<Vec<u8>> {
        let path = self.folder.join("reference").join(name);
        Ok(fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    fn image(&self, key: &str) -> Fallible<Option<Image>> {
        if self.value[key].is_null() {
            return Ok(None);
        }
        Ok(Some(Image { data: self.file(key)?.into(), ..Image::default() }))
    }

    fn neighbours(&self) -> Fallible<Vec<Image>> {
        let names = self.value["neighbours"].as_array().into_iter().flatten().filter_map(Value::as_str);
        names.map(|name| Ok(Image { data: self.read(name)?.into(), ..Image::default() })).collect()
    }

    /// The pipeline with the scheduler of this case, imported.
    fn bundle(&self, place: &TempDir) -> Fallible<String> {
        let copy = place.path().join("pipeline");
        folders::copy(&self.folder, &copy)?;
        let scheduler = serde_json::to_string(&self.value["scheduler"])?;
        fs::write(copy.join("scheduler/scheduler_config.json"), scheduler)?;
        let index = copy.join("model_index.json");
        let mut parts: Value = serde_json::from_slice(&fs::read(&index)?)?;
        parts["scheduler"][1] = self.value["scheduler"]["_class_name"].clone();
        if self.text("name") == "without-t5" {
            for part in ["text_encoder_3", "tokenizer_3"] {
                parts[part] = serde_json::json!([null, null]);
                fs::remove_dir_all(copy.join(part))?;
            }
        }
        fs::write(index, parts.to_string())?;
        let out = place.path().join("bundle");
        let enlarges = !self.value["noise_level"].is_null();
        let mut request = reverie_import::Request { from: copy.clone(), ..Default::default() };
        if enlarges {
            // The tiny ones have text encoders of their own; one of a cascade reads the prompt for all.
            let base = place.path().join("base");
            folders::copy(&self.folder.with_file_name("if"), &base)?;
            fs::copy(copy.join("text_encoder/model.onnx"), base.join("text_encoder/model.onnx"))?;
            request.from = base;
            request.super_resolution = vec![copy];
        } else {
            request.size = Some(self.size().height as usize);
        }
        reverie_import::import(&request, &out)?;
        Ok(out.display().to_string())
    }

    fn guidance(&self) -> Guidance {
        let weight = self.number("guidance_scale").map(|weight| weight.max(1.0) as f32);
        let rescale = self.number("guidance_rescale").map(|phi| phi as f32);
        Guidance { text_weight: weight, rescale, ..Guidance::default() }
    }

    fn sampling(&self) -> Fallible<Sampling> {
        let sampler = match &self.value["sampler"] {
            Value::Null => Sampler::Unspecified,
            name => samplers::message(serde_json::from_value(name.clone())?),
        };
        let steps = self.number("steps").map(|steps| steps as u32);
        Ok(Sampling { steps, sampler: sampler.into(), ..Sampling::default() })
    }

    fn seed(&self) -> u64 {
        self.value["seed"].as_u64().unwrap_or_default()
    }

    fn request(&self) -> Fallible<GenerateRequest> {
        let initial = self.image("image")?.map(|image| -> Fallible<InitialPicture> {
            Ok(InitialPicture {
                image: Some(image),
                strength: self.number("strength"),
                mask: self.image("mask_image")?,
                ..InitialPicture::default()
            })
        });
        let neighbours = self.neighbours()?;
        let reference =
            |image| Reference { image: Some(image), caption: "a picture".to_owned(), ..Reference::default() };
        let references = neighbours.into_iter().map(reference).collect::<Vec<_>>();
        Ok(GenerateRequest {
            prompt: self.text("prompt"),
            negative_prompt: self.negative_prompt(),
            seed: Some(self.seed()),
            guidance: Some(self.guidance()),
            base_sampling: Some(self.sampling()?),
            initial: initial.transpose()?,
            resolution: Some(self.size()),
            memory: (!references.is_empty()).then_some(Memory::References(References { references })),
            ..GenerateRequest::default()
        })
    }

    fn reference_picture(&self) -> Fallible<Rgb> {
        Ok(pictures::decode(&Image { data: self.file("picture")?.into(), ..Image::default() })?)
    }

    fn reference_latents(&self) -> Fallible<Vec<f32>> {
        let bytes = self.file("latents")?;
        Ok(bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    }
}

/// The cases of a pipeline.
fn cases(pipeline: &str) -> Fallible<Vec<Case>> {
    let folder = Path::new(WORKSPACE).join("integration-tests/fixtures/diffusers").join(pipeline);
    // Python writes infinities as JSON does not.
    let text = fs::read_to_string(folder.join("reference/reference.json"))?.replace(": -Infinity", ": null");
    let all: Vec<Value> = serde_json::from_str(&text)?;
    Ok(all.into_iter().map(|value| Case { folder: folder.clone(), value }).collect())
}

async fn with_bundle<T>(bundle: &str, work: impl AsyncFnOnce(&Mesh) -> Fallible<T>) -> Fallible<T> {
    let arguments = MeshArguments { bundle: bundle.to_owned(), ..MeshArguments::default() };
    let mesh = Mesh::start(MeshSettings::load(&arguments).await?).await?;
    let outcome = work(&mesh).await;
    mesh.shutdown().await;
    outcome
}

/// The largest difference of a channel.
fn difference(one: &Rgb, other: &Rgb) -> u8 {
    assert_eq!(one.dimensions(), other.dimensions());
    one.iter().zip(other.iter()).map(|(one, other)| one.abs_diff(*other)).max().unwrap_or_default()
}

/// The largest difference, as a share of the largest reference.
fn relative(ours: &[f32], reference: &[f32]) -> f32 {
    assert_eq!(ours.len(), reference.len());
    let largest = reference.iter().fold(0.0_f32, |most, value| most.max(value.abs()));
    let differences = ours.iter().zip(reference).map(|(ours, reference)| (ours - reference).abs());
    differences.fold(0.0, f32::max) / largest
}

/// What the denoiser draws, asked as the pipeline asks it.
async fn latents(case: &Case, mesh: &Mesh) -> Fallible<Vec<f32>> {
    let context = Context::with_timeout(PATIENCE);
    let encoder = Upstream::new("encoder", mesh.encoder());
    let negative = case.negative_prompt();
    let captions = case.neighbours()?.len();
    let texts = [case.text("prompt"), negative.clone().unwrap_or_default()].into_iter();
    let texts = texts.chain(std::iter::repeat_n("a picture".to_owned(), captions)).collect();
    let mut client =
        EncoderServiceClient::new(encoder.channel()).max_decoding_message_size(MAX_INTERNAL_MESSAGE);
    let answer =
        client.encode_text(context.outgoing(EncodeTextRequest { texts, ..Default::default() })).await?;
    let mut texts = answer.into_inner().texts.into_iter();
    let (text, empty): (_, Option<TextTokens>) = (texts.next(), texts.next());
    let denoiser = Upstream::new("denoiser", mesh.denoiser());
    let mut client =
        DenoiserServiceClient::new(denoiser.channel()).max_encoding_message_size(MAX_INTERNAL_MESSAGE);
    let model = client.get_model(context.outgoing(GetModelRequest {})).await?.into_inner();
    let request = DenoiseRequest {
        seed: case.seed(),
        text,
        negative_text: empty.filter(|_| model.takes_empty_text || negative.is_some()),
        guidance: Some(case.guidance()),
        sampling: Some(case.sampling()?),
        initial_latent: initial_latent(case, mesh, &model).await?,
        size: Some(case.size()),
        neighbours: case
            .neighbours()?
            .into_iter()
            .zip(texts)
            .map(|(image, caption)| NeighbourCondition {
                image: Some(image),
                caption: Some(caption),
                is_prepared: false,
            })
            .collect(),
        ..DenoiseRequest::default()
    };
    let mut news = client.denoise(context.outgoing(request)).await?.into_inner();
    while let Some(message) = news.message().await? {
        if let Some(Event::Completed(completed)) = message.event {
            let latent = completed.latent.and_then(|latent| latent.values).ok_or("there is no latent")?;
            return Ok(tensors::to_f32(&latent)?.1);
        }
    }
    Err("the denoiser ended early".into())
}

/// The picture that a case starts from, encoded.
async fn initial_latent(
    case: &Case,
    mesh: &Mesh,
    model: &GetModelResponse,
) -> Fallible<Option<InitialLatent>> {
    let (Some(image), Some(latents)) = (case.image("image")?, &model.latent) else { return Ok(None) };
    let autoencoder = Upstream::new("autoencoder", mesh.autoencoder().ok_or("there is no autoencoder")?);
    let mut client = AutoencoderServiceClient::new(autoencoder.channel());
    let mut encode = async |mask| -> Fallible<Option<Latent>> {
        let request = EncodeRequest { image: Some(image.clone()), mask, ..Default::default() };
        Ok(client.encode(Context::with_timeout(PATIENCE).outgoing(request)).await?.into_inner().latent)
    };
    let latent = encode(None).await?;
    let (mut mask, mut masked_latent) = (None, None);
    if let Some(picture) = case.image("mask_image")? {
        let Size { width, height } = case.size();
        let (width, height) = (width / latents.downscale, height / latents.downscale);
        let sampled = Mask::from_picture(&pictures::decode(&picture)?).sampled(Size { width, height });
        let values: Vec<f32> = sampled.drawn().iter().map(|drawn| f32::from(u8::from(*drawn))).collect();
        mask = Some(tensors::from_f32(&[height as usize, width as usize], &values));
        if latents.paints_into_picture {
            masked_latent = encode(Some(picture)).await?;
        }
    }
    Ok(Some(InitialLatent { latent, strength: case.number("strength"), mask, masked_latent }))
}

/// Draws every case of a pipeline and compares.
fn compare(pipeline: &str, leave_out: &[&str]) -> Fallible<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut wrong = Vec::new();
    let cases = cases(pipeline)?;
    assert!(!cases.is_empty());
    for case in cases.iter().filter(|case| !leave_out.contains(&case.text("name").as_str())) {
        let place = tempfile::tempdir()?;
        let bundle = case.bundle(&place)?;
        let (pixels, share) = runtime.block_on(with_bundle(&bundle, async |mesh| {
            let drawn = draw(mesh.pipeline(), case.request()?).await?;
            let (mut ours, reference) = (pictures::decode(&drawn.image)?, case.reference_picture()?);
            if let Some(mask) = case.image("mask_image")? {
                // What the mask keeps is the caller's own to the pixel here, and decoded there.
                let mask = pictures::decode(&mask)?;
                for (x, y, pixel) in ours.enumerate_pixels_mut() {
                    if mask.get_pixel(x, y).0[0] < 128 {
                        *pixel = *reference.get_pixel(x, y);
                    }
                }
            }
            let works_on_latents = case.folder.join("vae_decoder").is_dir();
            let share = if works_on_latents {
                relative(&latents(case, mesh).await?, &case.reference_latents()?)
            } else {
                0.0
            };
            Ok((difference(&ours, &reference), share))
        }))?;
        println!("{:<40} {pixels} of 255, latents {share:.1e}", case.name());
        if pixels > PIXEL || share > LATENT {
            wrong.push(format!("{}: {pixels} of 255, latents {share:.1e}", case.name()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn stable_diffusion() -> Fallible<()> {
    compare("stable-diffusion", &[])
}

#[test]
fn stable_diffusion_2() -> Fallible<()> {
    compare("stable-diffusion-2", &[])
}

#[test]
fn stable_diffusion_xl() -> Fallible<()> {
    compare("stable-diffusion-xl", &[])
}

#[test]
fn stable_diffusion_3() -> Fallible<()> {
    compare("stable-diffusion-3", &[])
}

#[test]
fn flux() -> Fallible<()> {
    // diffusers guides it a second time with `true_cfg_scale`; here it is refused (unfit.rs).
    compare("flux", &["negative"])
}

#[test]
fn latent_consistency() -> Fallible<()> {
    compare("latent-consistency", &[])
}

#[test]
fn inpainting() -> Fallible<()> {
    compare("inpainting", &[])
}

#[test]
fn retrieval() -> Fallible<()> {
    compare("retrieval", &[])
}

#[test]
fn deepfloyd_if() -> Fallible<()> {
    compare("if", &[])
}

/// The level alone, from the picture that the reference starts from.
#[test]
fn deepfloyd_if_super_resolution() -> Fallible<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    // That of "cascade" goes beyond [-1, 1], and the stages of the mesh hand on pictures of 8 bits.
    for case in cases("if-super-resolution")?.iter().filter(|case| case.text("name") != "cascade") {
        let place = tempfile::tempdir()?;
        let bundle = case.bundle(&place)?;
        let drawn = runtime.block_on(with_bundle(&bundle, async |mesh| upscale(case, mesh).await))?;
        let pixels = difference(&drawn, &case.reference_picture()?);
        println!("{:<40} {pixels} of 255", case.name());
        assert!(pixels <= PIXEL, "{}: {pixels} of 255", case.name());
    }
    Ok(())
}

async fn upscale(case: &Case, mesh: &Mesh) -> Fallible<Rgb> {
    let context = Context::with_timeout(PATIENCE);
    let encoder = Upstream::new("encoder", mesh.encoder());
    let texts = vec![case.text("prompt"), case.text("negative_prompt")];
    let mut client = EncoderServiceClient::new(encoder.channel());
    let answer =
        client.encode_text(context.outgoing(EncodeTextRequest { texts, ..Default::default() })).await?;
    let mut texts = answer.into_inner().texts.into_iter();
    let server = mesh.super_resolution().ok_or("there is no level")?;
    let server = Upstream::new("super-resolution", server);
    let mut client = SuperResolutionServiceClient::new(server.channel());
    let request = UpscaleRequest {
        seed: case.seed(),
        image: case.image("image")?,
        text: texts.next(),
        negative_text: texts.next(),
        guidance_weight: case.guidance().text_weight,
        noise_level: case.number("noise_level").map(|timestep| timestep as f32 / 999.0),
        sampling: Some(case.sampling()?),
        ..UpscaleRequest::default()
    };
    let mut news = client.upscale(context.outgoing(request)).await?.into_inner();
    while let Some(message) = news.message().await? {
        if let Some(Upscaled::Completed(completed)) = message.event {
            return Ok(pictures::decode(&completed.image.unwrap_or_default())?);
        }
    }
    Err("the level ended early".into())
}

/// Weights of 16 bits draw nearly the same picture.
#[test]
fn weights_of_16_bits() -> Fallible<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let cases = cases("latent-consistency")?;
    let case = cases.iter().find(|case| case.text("name") == "default").ok_or("there is no such case")?;
    let place = tempfile::tempdir()?;
    let pipeline = place.path().join("halves");
    folders::copy(&case.folder, &pipeline)?;
    let halves = case.folder.with_file_name("latent-consistency-f16").join("unet/model.onnx");
    fs::copy(halves, pipeline.join("unet/model.onnx"))?;
    let halves = Case { folder: pipeline, value: case.value.clone() };
    let bundle = halves.bundle(&place)?;
    let manifest = fs::read_to_string(Path::new(&bundle).join("denoiser/model.toml"))?;
    assert!(manifest.contains("dtype = \"f16\""), "{manifest}");
    let share = runtime.block_on(with_bundle(&bundle, async |mesh| {
        Ok(relative(&latents(&halves, mesh).await?, &case.reference_latents()?))
    }))?;
    println!("{:<40} latents {share:.1e}", "latent-consistency-f16");
    assert!(share > 0.0 && share < 0.02, "{share}");
    Ok(())
}
