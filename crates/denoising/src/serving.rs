//! What the services around a scheduler share: wire messages to sampler settings, and events to answers.

use futures::stream::{Stream, StreamExt as _};
use reverie_diffusion::guidance::StepKind;
use reverie_diffusion::{
    Method, PreviousTimestep, SamplerKind, SamplerSettings, Thresholding, ThresholdingKind, TimestepSpacing,
};
use reverie_inference::package::{Defaults, DiffusionFacts};
use reverie_inference::{ModelError, Package};
use reverie_proto::denoiser::v1 as wire;
use reverie_proto::pictures;
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Refusal, Violations};
use tokio::sync::mpsc::Receiver;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{Event, Failure, Finished, Progress, SubmitError, Timings};

/// Most steps that a request may ask for; a model's schedule may allow fewer.
const MAX_STEPS: u32 = 1000;

/// Reads `sampling` (a field of that name); what is not set is the model's default. All steps are taken.
pub fn sampling(
    violations: &mut Violations,
    sampling: Option<&wire::Sampling>,
    facts: &DiffusionFacts,
    defaults: &Defaults,
) -> SamplerSettings {
    let unset = wire::Sampling::default();
    let sampling = sampling.unwrap_or(&unset);
    let kind = match wire::Sampler::try_from(sampling.sampler) {
        Ok(wire::Sampler::Unspecified) => defaults.sampler,
        Ok(wire::Sampler::Ddpm) => SamplerKind::Ddpm,
        Ok(wire::Sampler::Ddim) => SamplerKind::Ddim,
        Ok(wire::Sampler::Euler) => SamplerKind::Euler,
        Ok(wire::Sampler::EulerAncestral) => SamplerKind::EulerAncestral,
        Ok(wire::Sampler::Heun) => SamplerKind::Heun,
        Ok(wire::Sampler::DpmSolver) => SamplerKind::DpmSolver,
        Ok(wire::Sampler::DpmSolverSde) => SamplerKind::DpmSolverSde,
        Ok(wire::Sampler::Unipc) => SamplerKind::UniPc,
        Ok(wire::Sampler::Pndm) => SamplerKind::Pndm,
        Ok(wire::Sampler::Plms) => SamplerKind::Plms,
        Ok(wire::Sampler::Lcm) => SamplerKind::Lcm,
        Err(_) => {
            violations
                .add("sampling.sampler", format!("{} is no sampler that is known here", sampling.sampler));
            defaults.sampler
        }
    };
    let thresholding = match wire::Thresholding::try_from(sampling.thresholding) {
        Ok(wire::Thresholding::Unspecified) => defaults.thresholding,
        Ok(wire::Thresholding::None) => ThresholdingKind::None,
        Ok(wire::Thresholding::Static) => ThresholdingKind::Static,
        Ok(wire::Thresholding::Dynamic) => ThresholdingKind::Dynamic,
        Err(_) => {
            violations.add("sampling.thresholding", format!("{} is not known here", sampling.thresholding));
            defaults.thresholding
        }
    };
    let most = MAX_STEPS.min(facts.train_timesteps);
    let steps = violations.in_range("sampling.steps", sampling.steps, defaults.steps, 1, most);
    let ddim_eta = violations.in_range("sampling.ddim_eta", sampling.ddim_eta, 0.0, 0.0, 1.0);
    violations.require(
        sampling.ddim_eta.is_none() || kind == SamplerKind::Ddim,
        "sampling.ddim_eta",
        "is only for the sampler DDIM",
    );
    let thresholding = violations
        .take("sampling.thresholding", Thresholding::new(thresholding, defaults.threshold_quantile))
        .unwrap_or(Thresholding::Static);
    violations.require(
        kind != SamplerKind::Lcm || facts.distilled_steps.is_some(),
        "sampling.sampler",
        "is only for models distilled to few steps, which this one is not",
    );
    let (method, spacing) = match Method::from(kind) {
        Method::Ddim { set_alpha_to_one, .. } => {
            // The step counts of Re-Imagen do not divide T: a stride of T / N would leave noise in the picture.
            let previous = PreviousTimestep::Next;
            (Method::Ddim { eta: ddim_eta, set_alpha_to_one, previous }, defaults.timestep_spacing)
        }
        // By strides of T / N, which only leading timesteps are apart.
        Method::Pndm { runge_kutta, .. } => {
            (Method::Pndm { runge_kutta, set_alpha_to_one: true }, TimestepSpacing::Leading)
        }
        Method::Lcm { .. } => {
            let original_steps = facts.distilled_steps.unwrap_or(facts.train_timesteps);
            (Method::Lcm { original_steps }, defaults.timestep_spacing)
        }
        method => (method, defaults.timestep_spacing),
    };
    SamplerSettings {
        method,
        steps,
        spacing,
        prediction: facts.prediction_type,
        thresholding,
        ..SamplerSettings::default()
    }
}

/// The model's name and digest for answers.
pub fn identity(package: &Package) -> wire::ModelIdentity {
    wire::ModelIdentity {
        name: package.manifest.name.clone(),
        version: package.manifest.version.clone(),
        digest: package.digest().to_owned(),
    }
}

/// The kind of a step for answers.
pub fn step_kind(kind: StepKind) -> wire::StepKind {
    match kind {
        StepKind::Conditional => wire::StepKind::Conditional,
        StepKind::TextEnhanced => wire::StepKind::TextEnhanced,
        StepKind::NeighbourEnhanced => wire::StepKind::NeighbourEnhanced,
        StepKind::Weighted => wire::StepKind::Weighted,
        StepKind::Joint => wire::StepKind::Joint,
    }
}

/// A finished picture for answers.
#[derive(Debug)]
pub struct Drawn {
    /// The picture.
    pub image: Image,
    /// Where the time went.
    pub timings: wire::StageTimings,
}

/// The answers of one trajectory: `progress` makes one of each step, `completed` of the finished picture of
/// `side` x `side` pixels. Dropping the stream cancels the trajectory.
pub fn answers<R, C>(
    events: Receiver<Event>,
    side: u32,
    progress: fn(wire::Progress) -> R,
    completed: C,
) -> impl Stream<Item = Result<R, Status>> + Send + 'static
where
    R: Send + 'static,
    C: FnOnce(Drawn) -> R + Send + 'static,
{
    let mut completed = Some(completed);
    ReceiverStream::new(events).filter_map(move |event| {
        let completed = if matches!(event, Event::Progress(_)) { None } else { completed.take() };
        async move {
            match event {
                Event::Progress(step) => Some(Ok(progress(progress_message(step)))),
                Event::Finished(finished) => Some(draw(finished, side).await.map(completed?)),
                Event::Failed(failure) => Some(Err(failure_status(&failure))),
            }
        }
    })
}

fn progress_message(progress: Progress) -> wire::Progress {
    wire::Progress { step: progress.step as u32, steps: progress.steps as u32 }
}

async fn draw(finished: Finished, side: u32) -> Result<Drawn, Status> {
    let Finished { x, timings } = finished;
    let picture = tokio::task::spawn_blocking(move || pictures::from_planes(&x, side).map(pictures::raw));
    let image = match picture.await {
        Ok(picture) => picture.map_err(Refusal::internal)?,
        Err(error) => return Err(Refusal::internal(error).into()),
    };
    Ok(Drawn { image, timings: timings_message(timings) })
}

fn timings_message(timings: Timings) -> wire::StageTimings {
    wire::StageTimings {
        queue_seconds: timings.queued_seconds,
        compute_seconds: timings.computing_seconds(),
        model_seconds: timings.model_seconds,
    }
}

fn failure_status(failure: &Failure) -> Status {
    match failure {
        Failure::DeadlineExceeded { .. } => Refusal::deadline_exceeded(failure),
        Failure::WorkerGone => Refusal::unavailable(failure),
        Failure::Model(_) | Failure::ModelPanicked(_) | Failure::NotFinite { .. } => {
            Refusal::internal(failure)
        }
    }
    .into()
}

/// Why a trajectory was not taken, for the caller.
pub fn submit_status(error: SubmitError) -> Status {
    match error {
        SubmitError::Full { .. } => Refusal::overloaded(error),
        SubmitError::ShuttingDown | SubmitError::WorkerGone => Refusal::unavailable(error),
        SubmitError::TooManyRows { .. } | SubmitError::Empty => Refusal::internal(error),
    }
    .into()
}

/// The diffusion facts and defaults of a package that must have both.
pub fn facts(package: &Package) -> Result<(DiffusionFacts, Defaults), ModelError> {
    Ok((package.diffusion()?.clone(), package.defaults()?.clone()))
}
