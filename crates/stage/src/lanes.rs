//! Lanes between requests and answers: whose call it is, and what became of it.

use std::time::Duration;

use futures::future::BoxFuture;
use reverie_engine::cost::Weight;
use reverie_engine::policy::{Caller, Class, Left, Refused};
use reverie_engine::work::{Failure, Timings};
use reverie_engine::{Call, Lane, LaneSettings, ModelError, RowModel, RunError, SubmitError, Trouble};
use reverie_proto::diffusion::v1::{Prediction, StageTimings};
use reverie_service_kit::context::Priority;
use reverie_service_kit::settings::SettingsError;
use reverie_service_kit::{Context, Refusal, Unfit};
use tonic::Status;

/// Runs `open`, which loads models and starts their lanes, on a thread that may block.
pub async fn load<T: Send + 'static>(
    open: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> Result<T, ModelError> {
    match tokio::task::spawn_blocking(open).await {
        Ok(loaded) => loaded,
        Err(ended) => std::panic::resume_unwind(ended.into_panic()),
    }
}

/// Who asks for a request's work, and by when.
pub fn call(context: Context) -> Call {
    Call {
        caller: Caller(context.caller()),
        class: match context.priority() {
            Priority::Interactive => Class::Interactive,
            Priority::Batch => Class::Batch,
        },
        deadline: context.deadline(),
        origin: context.origin(),
    }
}

/// What work on `lane` is predicted to take that has `left` to compute, in rows of `weight`; none as long as the lane knows nothing.
pub fn predict<M: RowModel>(
    lane: &Lane<M>,
    left: Left,
    weight: impl Into<Weight>,
    context: Context,
) -> Option<Prediction> {
    let predicted = lane.predict(call(context), left, weight);
    (predicted.seconds > 0.0).then_some(Prediction {
        seconds: predicted.seconds,
        resource: predicted.resource.id,
        units: predicted.resource.units as u32,
        unit_seconds: predicted.unit_seconds,
        others_unit_seconds: predicted.of_others,
    })
}

/// All lanes of a service.
#[derive(Default)]
pub struct Lanes(Vec<Box<dyn AnyLane>>);

/// A lane, whatever model it runs.
trait AnyLane: Send + Sync {
    fn name(&self) -> &str;
    fn check(&self) -> Result<(), Trouble>;
    fn end(&self) -> BoxFuture<'_, ()>;
}

impl<M: RowModel> AnyLane for Lane<M> {
    fn name(&self) -> &str {
        self.name()
    }

    fn check(&self) -> Result<(), Trouble> {
        self.check()
    }

    fn end(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.end())
    }
}

impl Lanes {
    /// These, and another one.
    #[must_use]
    pub fn and<M: RowModel>(mut self, lane: &Lane<M>) -> Self {
        self.0.push(Box::new(lane.clone()));
        self
    }

    /// Refuses costs that are set for models which are not here.
    pub fn check_settings(&self, settings: &LaneSettings) -> Result<(), SettingsError> {
        let is_here = |name: &str| self.0.iter().any(|lane| lane.name() == name);
        match settings.row_seconds.keys().find(|name| !is_here(name)) {
            None => Ok(()),
            Some(name) => {
                let here: Vec<&str> = self.0.iter().map(|lane| lane.name()).collect();
                let why = format!("there is no model {name:?} in this service, only {}", here.join(", "));
                Err(SettingsError::value("lane.row_seconds", why))
            }
        }
    }

    /// For the health of the service: whether all do their work. One whose thread died does not come back.
    pub fn check(&self) -> Result<(), Unfit> {
        self.0.iter().try_for_each(|lane| {
            lane.check().map_err(|trouble| match trouble {
                Trouble::Stalled { .. } => Unfit::ForNow(trouble.to_string()),
                Trouble::Died { .. } => Unfit::ForGood(trouble.to_string()),
            })
        })
    }

    /// Ends them, one after the other.
    pub async fn end(&self) {
        for lane in &self.0 {
            lane.end().await;
        }
    }
}

/// Refuses settings of a lane that are out of range, for a service that has them in `[lane]`.
pub fn validate(settings: &LaneSettings) -> Result<(), SettingsError> {
    settings.validate().map_err(|(name, why)| SettingsError::value(format!("lane.{name}"), why))
}

/// Where the time went, for answers.
pub fn timings(timings: &Timings) -> StageTimings {
    StageTimings {
        queue_seconds: timings.queued.as_secs_f64(),
        compute_seconds: timings.computing().as_secs_f64(),
        model_seconds: timings.model.as_secs_f64(),
        rows: u32::try_from(timings.rows).unwrap_or(u32::MAX),
    }
}

/// Why a job was not admitted, for the caller whose call has `context`.
pub fn submit_status(error: &SubmitError, context: Context) -> Status {
    match error {
        SubmitError::Policy(Refused::Hopeless { .. }) => context.cannot_be_met(error),
        SubmitError::Policy(Refused::Busy { late }) => {
            let late = Duration::try_from_secs_f64(*late).unwrap_or_default();
            Refusal::overloaded(error).retry_after(late).into()
        }
        SubmitError::Policy(Refused::OverShare { .. }) | SubmitError::Full { .. } => {
            Refusal::overloaded(error).into()
        }
        SubmitError::ShuttingDown | SubmitError::Gone => Refusal::unavailable(error).into(),
    }
}

/// Why a job has no result, for the caller whose call has `context`.
pub fn failure_status(failure: &Failure, context: Context) -> Status {
    match failure {
        Failure::DeadlineExceeded { step, steps } => {
            context.out_of_time(format!("after {step} of {steps} steps"))
        }
        Failure::LaneGone => Refusal::unavailable(failure).into(),
        Failure::Model(_)
        | Failure::ModelPanicked(_)
        | Failure::StepPanicked(_)
        | Failure::NotFinite { .. } => Refusal::internal(failure).into(),
    }
}

/// Why a row that was asked for has no output, for the caller whose call has `context`.
pub fn run_status(error: &RunError, context: Context) -> Status {
    match error {
        RunError::Submit(error) => submit_status(error, context),
        RunError::Failed(failure) => failure_status(failure, context),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use reverie_engine::{Cores, RowError};

    use super::*;

    /// Gives back what it is given.
    struct Echo;

    impl RowModel for Echo {
        type Row = u8;
        type Output = u8;

        fn run(&mut self, rows: &mut [u8]) -> Result<Vec<u8>, RowError> {
            Ok(rows.to_vec())
        }
    }

    #[tokio::test]
    async fn a_cost_is_set_for_models_that_are_there() {
        let mut settings = LaneSettings {
            max_jobs: 8,
            stall_seconds: 60.0,
            calibration_seconds: 0.0,
            row_seconds: BTreeMap::from([("base".to_owned(), 0.01)]),
        };
        let cores = Cores::of_process();
        let start = |name| Lane::start(name, vec![Echo], &settings, &cores, 1).unwrap();
        let lanes = Lanes::default().and(&start("base")).and(&start("reader"));
        assert!(lanes.check().is_ok());
        assert!(lanes.check_settings(&settings).is_ok());
        settings.row_seconds.insert("base-64".to_owned(), 0.01);
        let told = lanes.check_settings(&settings).unwrap_err().to_string();
        assert!(told.contains("lane.row_seconds") && told.contains("base, reader"), "{told}");
        lanes.end().await;
    }
}
