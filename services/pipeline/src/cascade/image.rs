//! One image of a request: the base picture (decoded, where the model works on latents), enlarged level by level, or as far as the time
//! suffices.

use std::time::Instant;

use reverie_imaging::pictures;
use reverie_proto::denoiser::v1::denoise_response::Event as DenoiseEvent;
use reverie_proto::denoiser::v1::{
    DenoiseCompleted, DenoiseRequest, Estimate, InitialLatent, NeighbourCondition,
};
use reverie_proto::diffusion::v1::{Guidance, InitialPicture};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GeneratedImage, ImageReport, Preview, Stage};
use reverie_proto::sizes::Size;
use reverie_proto::superresolution::v1::UpscaleRequest;
use reverie_proto::tensor::v1::{Image, ImageFormat, Latent, TextTokens};
use reverie_service_kit::{Context, Refusal};
use tokio::sync::watch;
use tonic::Status;

use super::ledger::Ledger;
use super::timed;
use crate::convert::Run;
use crate::fields::Fields;
use crate::pace::{Pace, Route};
use crate::position::Place;
use crate::stages::Stages;
use crate::{kept, measure};

/// The longest side of an estimate that is shown, pixels.
const MAX_ESTIMATE_SIDE: u32 = 256;

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
        let (image, place) = match base.latent {
            None => (base.image.unwrap_or_default(), Place::from(Stage::Base)),
            Some(latent) => {
                let image = self.decode(latent, &mut ledger).await?;
                (kept::put_back(run.initial.as_ref(), run.size, image).await?, Place::from(Stage::Decode))
            }
        };
        let (image, level) = if run.may_degrade {
            self.enlarge_while_in_time(image, place, &mut ledger).await?
        } else {
            (self.enlarge_all(image, place, &mut ledger).await?, run.levels.len() as u32)
        };
        let degraded = (level as usize) < run.levels.len();
        if run.seeds.len() == 1 && !degraded {
            // Several wait for each other, which is no time of the stages.
            self.pace.note(self.route(), drawn.elapsed());
        }
        let Self { index, seed, .. } = *self;
        measure::image(degraded);
        ledger.tell(Event::Image(GeneratedImage { image: Some(image), index, seed, degraded, level })).await;
        let report = ImageReport {
            index,
            seed,
            stages: ledger.take_reports(),
            step_kinds: base.step_kinds,
            total_seconds: self.begun.elapsed().as_secs_f64(),
            degraded,
            level,
        };
        Ok(Drawn { report, guidance: base.guidance })
    }

    /// The stages after the base model.
    fn route(&self) -> Route {
        Route { decodes: self.run.base.latent.is_some(), levels: self.run.levels.len() }
    }

    /// The image of the last level, encoded.
    async fn enlarge_all(
        &self,
        mut image: Image,
        mut place: Place,
        ledger: &mut Ledger<'_>,
    ) -> Result<Image, Status> {
        for number in 0..self.run.levels.len() {
            if self.run.previews {
                self.preview(self.encode(image.clone()).await?, place, ledger).await;
            }
            image = self.enlarge(self.context, image, number, ledger).await?;
            place = Place::level(number);
        }
        self.encode(image).await
    }

    /// Tells the caller of the image of a smaller level.
    pub(super) async fn preview(&self, image: Image, Place { stage, level }: Place, ledger: &Ledger<'_>) {
        let index = self.index;
        let preview = Preview { stage: stage.into(), level, image: Some(image), index, ..Preview::default() };
        ledger.tell(Event::Preview(preview)).await;
    }

    /// An image as the caller wants it.
    pub(super) async fn encode(&self, image: Image) -> Result<Image, Status> {
        let pixels = Size { width: image.width, height: image.height }.pixels();
        let begun = Instant::now();
        let encoded = encode(image, self.run.output_format, u32::MAX).await?;
        self.pace.note_encoding(pixels, begun.elapsed());
        Ok(encoded)
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
            estimate_interval_milliseconds: if run.step_previews { run.step_preview_milliseconds } else { 0 },
        };
        let position = ledger.position;
        position.enter(Stage::Base);
        let own = |field: &str| self.fields.base(field);
        let later = if run.may_degrade {
            let Route { decodes, .. } = self.route();
            self.pace.after_base(Route { decodes, levels: 0 }) + ledger.news.time_to_answer()
        } else {
            self.pace.after_base(self.route()).max(position.time_after(Stage::Base))
        };
        let (estimates, latest) = watch::channel(None);
        let tell = |event| match event {
            DenoiseEvent::Progress(step) => ledger.step(Stage::Base.into(), step),
            DenoiseEvent::Estimate(estimate) => drop(estimates.send_replace(Some(estimate))),
            DenoiseEvent::Completed(_) => {}
        };
        let drawing = timed(self.stages.denoise(context.reserving(later), request, own, tell));
        let drawn = tokio::select! {
            drawn = drawing => drawn,
            failed = self.show_estimates(latest, ledger) => Err(failed),
        };
        // None is shown after the image that it is an estimate of.
        ledger.news.hide(self.index);
        let (mut base, seconds) = drawn?;
        let steps = base.step_kinds.len() as u32;
        ledger.done(Stage::Base, steps, seconds, base.timings.take(), base.model.take()).await;
        Ok(base)
    }

    /// Shows the latest estimate of the base image whenever there is another, if they are asked for. It ends if one cannot be read.
    async fn show_estimates(
        &self,
        mut latest: watch::Receiver<Option<Estimate>>,
        ledger: &Ledger<'_>,
    ) -> Status {
        while self.run.step_previews && latest.changed().await.is_ok() {
            let Some(Estimate { step, steps, image }) = latest.borrow_and_update().clone() else { continue };
            let image = encode(image.unwrap_or_default(), self.run.output_format, MAX_ESTIMATE_SIDE).await;
            let image = match image {
                Ok(image) => Some(image),
                Err(failed) => return failed,
            };
            let (stage, index) = (Stage::Base.into(), self.index);
            ledger.news.show(Preview { stage, image, index, step, steps, level: 0 });
        }
        std::future::pending().await
    }

    async fn decode(&self, latent: Latent, ledger: &mut Ledger<'_>) -> Result<Image, Status> {
        ledger.position.enter(Stage::Decode);
        let own = |field: &str| self.fields.autoencoder(field);
        let (decoded, seconds) = timed(self.stages.decode(self.context, latent, own)).await?;
        ledger.done(Stage::Decode, 1, seconds, decoded.timings, decoded.model).await;
        Ok(decoded.image.unwrap_or_default())
    }

    /// The image of the next level.
    pub(super) async fn enlarge(
        &self,
        context: Context,
        image: Image,
        number: usize,
        ledger: &mut Ledger<'_>,
    ) -> Result<Image, Status> {
        let (level, options) = &self.run.levels[number];
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
        let enlarging = timed(self.stages.upscale(context, level, request, own, |step| {
            steps = step.steps;
            ledger.step(place, step);
        }));
        let (larger, seconds) = enlarging.await?;
        ledger.done(place, steps, seconds, larger.timings, larger.model).await;
        let larger = larger.image.unwrap_or_default();
        kept::put_back(self.run.initial.as_ref(), Size::square(level.side), larger).await
    }
}

/// An image of a stage, encoded; one whose sides are longer than `most` pixels is made smaller.
async fn encode(image: Image, format: ImageFormat, most: u32) -> Result<Image, Status> {
    let encode = move || {
        let picture = pictures::decode(&image)?;
        let (width, height) = picture.dimensions();
        let longest = width.max(height);
        if longest <= most {
            return pictures::encode(&picture, format);
        }
        let side = |side: u32| (u64::from(side) * u64::from(most) / u64::from(longest)).max(1) as u32;
        let size = Size { width: side(width), height: side(height) };
        pictures::encode(&pictures::shrink(&picture, size), format)
    };
    let encoded = tokio::task::spawn_blocking(encode).await.map_err(Refusal::internal)?;
    encoded.map_err(|error| {
        Refusal::internal(format!("a stage gave a picture that cannot be read: {error}")).into()
    })
}
