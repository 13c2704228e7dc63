//! One image of a request: the base picture (decoded, where the model works on latents), enlarged level by level.

use std::time::Instant;

use reverie_imaging::pictures;
use reverie_proto::denoiser::v1::{DenoiseCompleted, DenoiseRequest, InitialLatent, NeighbourCondition};
use reverie_proto::diffusion::v1::{Guidance, InitialPicture};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GeneratedImage, ImageReport, Preview, Stage, SuperResolutionOptions};
use reverie_proto::sizes::Size;
use reverie_proto::superresolution::v1::UpscaleRequest;
use reverie_proto::tensor::v1::{Image, ImageFormat, Latent, TextTokens};
use reverie_service_kit::{Context, Refusal};
use tonic::Status;

use super::ledger::Ledger;
use super::timed;
use crate::convert::Run;
use crate::fields::Fields;
use crate::kept;
use crate::pace::{Pace, Route};
use crate::position::Place;
use crate::stages::{ServedLevel, Stages};

/// What all images of a request are drawn from, besides their seeds.
pub(super) struct Source {
    /// The prompt and, if one is encoded, the negative prompt.
    pub(super) text: Vec<TextTokens>,
    pub(super) has_negative_prompt: bool,
    pub(super) neighbours: Vec<NeighbourCondition>,
    pub(super) initial: Option<InitialPicture>,
    pub(super) initial_latent: Option<InitialLatent>,
}

/// An image to draw.
pub(super) struct Drawing<'a> {
    pub(super) index: u32,
    pub(super) seed: u64,
    /// When the request began.
    pub(super) begun: Instant,
    pub(super) run: &'a Run,
    pub(super) source: &'a Source,
    pub(super) fields: &'a Fields,
    pub(super) stages: &'a Stages,
    pub(super) context: Context,
    pub(super) pace: &'a Pace,
}

/// What is told of an image that was drawn.
pub(super) struct Drawn {
    pub(super) report: ImageReport,
    /// The guidance that the base model used.
    pub(super) guidance: Option<Guidance>,
}

impl Drawing<'_> {
    /// Draws the image and tells the caller about it.
    pub(super) async fn draw(&self, mut ledger: Ledger<'_>) -> Result<Drawn, Status> {
        let run = self.run;
        let base = self.base(&mut ledger).await?;
        let drawn = Instant::now();
        let (mut image, mut place) = match base.latent {
            None => (base.image.unwrap_or_default(), Place::from(Stage::Base)),
            Some(latent) => {
                let image = self.decode(latent, &mut ledger).await?;
                (kept::put_back(run.initial.as_ref(), run.size, image).await?, Place::from(Stage::Decode))
            }
        };
        for (number, (level, options)) in run.levels.iter().enumerate() {
            if run.previews {
                let image = encode(image.clone(), run.output_format).await?;
                let Place { stage, level } = place;
                let preview = Preview { stage: stage.into(), level, image: Some(image), index: self.index };
                ledger.tell(Event::Preview(preview)).await;
            }
            image = self.enlarge(image, number, level, options, &mut ledger).await?;
            place = Place::level(number);
        }
        let image = encode(image, run.output_format).await?;
        if run.seeds.len() == 1 {
            // Several wait for each other, which is no time of the stages.
            self.pace.note(self.route(), drawn.elapsed());
        }
        let Self { index, seed, .. } = *self;
        ledger.tell(Event::Image(GeneratedImage { image: Some(image), index, seed })).await;
        let report = ImageReport {
            index,
            seed,
            stages: ledger.take_reports(),
            step_kinds: base.step_kinds,
            total_seconds: self.begun.elapsed().as_secs_f64(),
        };
        Ok(Drawn { report, guidance: base.guidance })
    }

    fn route(&self) -> Route {
        Route { decodes: self.run.base.latent.is_some(), levels: self.run.levels.len() }
    }

    /// What the base model draws.
    async fn base(&self, ledger: &mut Ledger<'_>) -> Result<DenoiseCompleted, Status> {
        let Self { run, source, context, .. } = *self;
        let takes_negative = source.has_negative_prompt || run.base.takes_empty_text;
        let request = DenoiseRequest {
            seed: self.seed,
            sample: 0,
            text: source.text.first().cloned(),
            neighbours: source.neighbours.clone(),
            guidance: run.guidance,
            sampling: run.base_sampling,
            // The empty text is for those that take it; others are told nothing.
            negative_text: source.text.get(1).filter(|_| takes_negative).cloned(),
            initial: source.initial.clone(),
            initial_latent: source.initial_latent.clone(),
            size: Some(run.size),
            model_digest: run.base.model.as_ref().map(|model| model.digest.clone()).unwrap_or_default(),
        };
        let position = ledger.position;
        position.enter(Stage::Base);
        let own = |field: &str| self.fields.base(field);
        let later = self.pace.after_base(self.route()).max(position.time_after(Stage::Base));
        let step = |step| ledger.step(Stage::Base.into(), step);
        let drawing = timed(self.stages.denoise(context.reserving(later), request, own, step));
        let (mut base, seconds) = drawing.await?;
        let steps = base.step_kinds.len() as u32;
        ledger.done(Stage::Base, steps, seconds, base.timings.take(), base.model.take()).await;
        Ok(base)
    }

    async fn decode(&self, latent: Latent, ledger: &mut Ledger<'_>) -> Result<Image, Status> {
        ledger.position.enter(Stage::Decode);
        let own = |field: &str| self.fields.autoencoder(field);
        let (decoded, seconds) = timed(self.stages.decode(self.context, latent, own)).await?;
        ledger.done(Stage::Decode, 1, seconds, decoded.timings, decoded.model).await;
        Ok(decoded.image.unwrap_or_default())
    }

    /// The image of the next level.
    async fn enlarge(
        &self,
        image: Image,
        number: usize,
        level: &ServedLevel,
        options: &SuperResolutionOptions,
        ledger: &mut Ledger<'_>,
    ) -> Result<Image, Status> {
        let text = &self.source.text;
        let request = UpscaleRequest {
            seed: self.seed,
            sample: 0,
            image: Some(image),
            text: text.first().cloned(),
            guidance_weight: options.guidance_weight,
            noise_level: options.noise_level,
            sampling: options.sampling,
            negative_text: text.get(1).filter(|_| level.takes_empty_text).cloned(),
            model_digest: level.model.digest.clone(),
        };
        let place = Place::level(number);
        ledger.position.enter(place);
        let mut steps = 1;
        let own = |field: &str| Fields::level(number, field);
        let enlarging = timed(self.stages.upscale(self.context, level, request, own, |step| {
            steps = step.steps;
            ledger.step(place, step);
        }));
        let (larger, seconds) = enlarging.await?;
        ledger.done(place, steps, seconds, larger.timings, larger.model).await;
        let larger = larger.image.unwrap_or_default();
        kept::put_back(self.run.initial.as_ref(), Size::square(level.side), larger).await
    }
}

async fn encode(image: Image, format: ImageFormat) -> Result<Image, Status> {
    let encode = move || pictures::decode(&image).and_then(|picture| pictures::encode(&picture, format));
    let encoded = tokio::task::spawn_blocking(encode).await.map_err(Refusal::internal)?;
    encoded.map_err(|error| {
        Refusal::internal(format!("a stage gave a picture that cannot be read: {error}")).into()
    })
}
