//! One direction of the autoencoder: a model in several sessions, and whose turn it is.

use std::sync::{Arc, Mutex, TryLockError};
use std::time::Instant;

use reverie_inference::package::LatentScale;
use reverie_inference::{Input, Model, ModelError, Package, Values};
use reverie_proto::diffusion::v1::{ModelIdentity, StageTimings};
use reverie_service_kit::{Context, Permit, Refusal};
use tokio::sync::Semaphore;
use tonic::Status;

use crate::Settings;

pub(crate) struct Coder {
    sessions: Vec<Mutex<Model>>,
    /// As many permits as sessions.
    turns: Arc<Semaphore>,
    pub(crate) scale: LatentScale,
    pub(crate) identity: ModelIdentity,
}

/// What a run gave, and where its time went.
pub(crate) struct Coded<T> {
    pub(crate) result: T,
    pub(crate) timings: StageTimings,
}

impl Coder {
    pub(crate) fn load(package: &Package, settings: &Settings) -> Result<Self, ModelError> {
        let count = settings.inference.session_count();
        let load = |_| Model::load(package, &settings.inference).map(Mutex::new);
        Ok(Self {
            sessions: (0..count).map(load).collect::<Result<_, _>>()?,
            turns: Arc::new(Semaphore::new(count)),
            scale: package.latent()?,
            identity: ModelIdentity {
                name: package.manifest.name.clone(),
                version: package.manifest.version.clone(),
                digest: package.digest(),
            },
        })
    }

    /// Runs `work` with a session on a blocking thread, once it is this caller's turn. It keeps the caller's place until it ends.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        context: Context,
        permit: Permit,
        work: impl FnOnce(&Self, &mut Model) -> Result<T, Status> + Send + 'static,
    ) -> Result<Coded<T>, Status> {
        let asked = Instant::now();
        let turn =
            async { Arc::clone(&self.turns).acquire_owned().await.map_err(|e| Refusal::internal(e).into()) };
        let turn = context.within("waiting for a session", turn).await?;
        let begun = Instant::now();
        let coder = Arc::clone(self);
        let span = tracing::Span::current();
        let task = tokio::task::spawn_blocking(move || {
            let (_turn, _permit) = (turn, permit);
            span.in_scope(|| coder.with_session(|model| work(&coder, model)))
        });
        let answer =
            async { task.await.map_err(|_| Status::from(Refusal::internal("the autoencoder panicked")))? };
        let result = context.within("running the autoencoder", answer).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let queue_seconds = (begun - asked).as_secs_f64();
        let timings = StageTimings { queue_seconds, compute_seconds: seconds, model_seconds: seconds };
        Ok(Coded { result, timings })
    }

    /// Who holds a turn finds a session that no one uses.
    fn with_session<T>(&self, work: impl FnOnce(&mut Model) -> Result<T, Status>) -> Result<T, Status> {
        for session in &self.sessions {
            match session.try_lock() {
                Ok(mut model) => return work(&mut model),
                // A failed run leaves a session as it was.
                Err(TryLockError::Poisoned(poisoned)) => return work(&mut poisoned.into_inner()),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        Err(Refusal::internal("there are more turns than sessions").into())
    }
}

/// Runs a graph of one input and one output.
pub(crate) fn run(
    model: &mut Model,
    (input, shape, values): (&str, &[usize], &[f32]),
    output: &str,
    elements: usize,
) -> Result<Vec<f32>, Status> {
    let mut result = vec![0.0; elements];
    let input = Input { name: input, shape, values: Values::F32(values) };
    model.run(&[input], &mut [(output, &mut result)]).map_err(Refusal::internal)?;
    if result.iter().all(|value| value.is_finite()) {
        Ok(result)
    } else {
        Err(Refusal::internal("the autoencoder gave values that are not finite").into())
    }
}
