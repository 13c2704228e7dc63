//! One image of a request: the base picture (decoded, where the model works on latents), enlarged level by level, or as far as the time
//! suffices.

use std::convert::Infallible;
use std::time::Instant;

use reverie_imaging::pictures;
use reverie_proto::denoiser::v1::denoise_response::Event as DenoiseEvent;
use reverie_proto::denoiser::v1::{
    DenoiseCompleted, DenoiseRequest, Estimate, InitialLatent, NeighbourCondition,
};
use reverie_proto::diffusion::v1::{Guidance, InitialPicture, StageTimings};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GeneratedImage, ImageReport, Preview, Stage};
use reverie_proto::sizes::Size;
use reverie_proto::superresolution::v1::UpscaleRequest;
use reverie_proto::tensor::v1::{Image, Latent, TextTokens};
use reverie_service_kit::{Context, Permit};
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
    /// What texts and neighbours took.
    pub(super) seconds: f64,
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
    pub(super) permit: &'a Permit,
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
                let image = kept::put_back(self.permit, run.initial.as_ref(), run.size, image);
                (image.await?, Place::from(Stage::Decode))
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

    /// The context of the stage at `place`, which draws `pixels`: what follows it, as far as the image cannot do without, keeps its time.
    fn before_what_follows(&self, place: Place, pixels: u64, ledger: &Ledger<'_>) -> Context {
        let (later, pixels) = if self.run.may_degrade {
            (ledger.news.time_to_answer(), pixels)
        } else {
            let (width, height) = self.run.image_size();
            (ledger.position.time_after(place), Size { width, height }.pixels())
        };
        self.context.reserving(later + self.pace.encoding(pixels))
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
            place = Place::level(number);
            let pixels = Size::square(self.run.levels[number].0.side).pixels();
            let context = self.before_what_follows(place, pixels, ledger);
            image = self.enlarge(context, image, number, ledger).await?;
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
        let encoded = self.encoded_within(image, u32::MAX).await?;
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
            let (Route { decodes, .. }, answer) = (self.route(), ledger.news.time_to_answer());
            let decoding = position.time_of(Stage::Decode) + self.pace.encoding(run.size.pixels());
            self.pace.after_base(Route { decodes, levels: 0 }).max(decoding) + answer
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
            never = self.show_estimates(latest, ledger) => match never {},
        };
        // None is shown after the image that it is an estimate of.
        ledger.news.hide(self.index);
        let (mut base, seconds) = drawn?;
        if let (0, Some(StageTimings { queue_seconds, compute_seconds, .. })) = (self.index, base.timings) {
            let before = source.seconds + (seconds - queue_seconds - compute_seconds).max(0.0);
            self.pace.note_before_base(run.most_neighbours, before);
        }
        let steps = base.step_kinds.len() as u32;
        ledger.done(Stage::Base, steps, seconds, base.timings.take(), base.model.take()).await;
        Ok(base)
    }

    /// Shows the latest estimate of the base image whenever there is another, if they are asked for. One that cannot be read is left out.
    async fn show_estimates(
        &self,
        mut latest: watch::Receiver<Option<Estimate>>,
        ledger: &Ledger<'_>,
    ) -> Infallible {
        while self.run.step_previews && latest.changed().await.is_ok() {
            let Some(Estimate { step, steps, image }) = latest.borrow_and_update().clone() else { continue };
            match self.encoded_within(image.unwrap_or_default(), MAX_ESTIMATE_SIDE).await {
                Ok(image) => {
                    let (stage, image, index) = (Stage::Base.into(), Some(image), self.index);
                    ledger.news.show(Preview { stage, image, index, step, steps, level: 0 });
                }
                Err(status) => tracing::warn!(message = status.message(), "no preview of a step"),
            }
        }
        std::future::pending().await
    }

    async fn decode(&self, latent: Latent, ledger: &mut Ledger<'_>) -> Result<Image, Status> {
        ledger.position.enter(Stage::Decode);
        let own = |field: &str| self.fields.autoencoder(field);
        let context = self.before_what_follows(Stage::Decode.into(), self.run.size.pixels(), ledger);
        let (decoded, seconds) = timed(self.stages.decode(context, latent, own)).await?;
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
        kept::put_back(self.permit, self.run.initial.as_ref(), Size::square(level.side), larger).await
    }

    /// An image of a stage, encoded; one whose sides are longer than `most` pixels is made smaller.
    async fn encoded_within(&self, image: Image, most: u32) -> Result<Image, Status> {
        let format = self.run.output_format;
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
        let permit = self.permit.clone();
        permit.run_blocking(move || Ok(encode().map_err(|error| kept::unreadable(&error))?)).await
    }
}
