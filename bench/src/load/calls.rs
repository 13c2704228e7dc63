//! Makes the calls of a run, and notes what came of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reverie::Failure;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_service_kit::client::{Channel, MAX_INTERNAL_MESSAGE, Upstream};
use reverie_service_kit::{Address, Context};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Request, Status};

use super::arrivals::Arrival;
use super::mix::{Kind, Mix};

/// A deadline that passed after this share of its time was missed; before it, the call was refused.
const EARLY: f64 = 0.9;

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    /// With an image: the rows of each model that drew it.
    Drawn(BTreeMap<String, u64>),
    /// Told early that there will be no image: `RESOURCE_EXHAUSTED`, `UNAVAILABLE`, or a deadline that cannot be kept.
    Refused(Code),
    /// With no image within its deadline.
    Late,
    /// The caller dropped it.
    Abandoned,
    /// Any other way.
    Failed(Code),
}

/// How long callers wait who wait as long as it takes.
const PATIENCE: Duration = Duration::from_mins(10);

/// What came of one call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    /// Index of its kind.
    pub(super) kind: usize,
    /// When it should have been made, from the start of the run. In a closed loop this is when it was made.
    pub(super) due: Duration,
    /// When it was made.
    pub(super) made: Duration,
    /// When it ended.
    pub(super) ended: Duration,
    pub(super) end: End,
}

impl Call {
    /// Seconds from when it should have been made to its end: what a caller has waited, even if the load tool was late.
    pub(super) fn latency(&self) -> Duration {
        self.ended.saturating_sub(self.due)
    }
}

/// Asks one pipeline.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    mix: Arc<Mix>,
    timeout: Duration,
}

impl Caller {
    /// Asks the pipeline at `address` over `connections` connections.
    pub(super) fn new(address: &Address, connections: u32, mix: Mix, timeout: Duration) -> Self {
        let channels = (0..connections).map(|_| Upstream::new("pipeline", address).channel()).collect();
        Self { channels, next: Arc::default(), mix: Arc::new(mix), timeout }
    }

    /// The same calls without their own deadlines, and without any that are dropped.
    pub(super) fn patient(&self) -> Self {
        let mut kinds = self.mix.kinds.clone();
        for kind in &mut kinds {
            kind.deadline_seconds = None;
            kind.abandoned = 0.0;
        }
        Self { mix: Arc::new(Mix { kinds }), timeout: self.timeout.max(PATIENCE), ..self.clone() }
    }

    pub(super) fn mix(&self) -> &Mix {
        &self.mix
    }

    /// How long one image of the first kind takes, and the rows of each model that it is made of.
    pub(super) async fn one(&self, seed: u64) -> Result<(Duration, BTreeMap<String, u64>), Status> {
        let begun = Instant::now();
        let models = self.ask(&self.mix.kinds[0], seed).await?;
        Ok((begun.elapsed(), models))
    }

    /// Makes each call at its time, however many are still going on. `alone` is how long an image takes alone.
    pub(super) async fn open(&self, arrivals: Vec<Arrival>, alone: Duration) -> Result<Vec<Call>, Failure> {
        let begun = Instant::now();
        let mut calls = JoinSet::new();
        for arrival in arrivals {
            tokio::time::sleep_until(begun + arrival.at).await;
            let caller = self.clone();
            calls.spawn(async move { caller.call(arrival, begun, alone).await });
        }
        let mut done = Vec::new();
        while let Some(call) = calls.join_next().await {
            done.push(call?);
        }
        Ok(done)
    }

    /// `callers` callers, each of which makes the next call when its last one has ended.
    pub(super) async fn closed(
        &self,
        callers: u32,
        calls: Vec<Arrival>,
        alone: Duration,
    ) -> Result<Vec<Call>, Failure> {
        let begun = Instant::now();
        let waiting = Arc::new(Mutex::new(calls.into_iter()));
        let mut callers: JoinSet<Vec<Call>> = (0..callers)
            .map(|_| (self.clone(), waiting.clone()))
            .map(|(caller, waiting)| async move {
                let mut calls = Vec::new();
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                while let Some(arrival) = next() {
                    let now = Arrival { at: begun.elapsed(), ..arrival };
                    calls.push(caller.call(now, begun, alone).await);
                }
                calls
            })
            .collect();
        let mut done = Vec::new();
        while let Some(calls) = callers.join_next().await {
            done.extend(calls?);
        }
        Ok(done)
    }

    async fn call(&self, arrival: Arrival, begun: Instant, alone: Duration) -> Call {
        let Arrival { at: due, kind, seed, abandoned } = arrival;
        let made = begun.elapsed();
        let of_kind = &self.mix.kinds[kind];
        let asked = self.ask(of_kind, seed);
        let answer = match abandoned {
            None => Some(asked.await),
            Some(share) => tokio::time::timeout(alone.mul_f64(share), asked).await.ok(),
        };
        let ended = begun.elapsed();
        let end = match answer {
            None => End::Abandoned,
            Some(Ok(models)) => End::Drawn(models),
            Some(Err(status)) => match status.code() {
                code @ (Code::ResourceExhausted | Code::Unavailable) => End::Refused(code),
                code @ Code::DeadlineExceeded => {
                    let early = ended.saturating_sub(made) < of_kind.deadline(self.timeout).mul_f64(EARLY);
                    if early { End::Refused(code) } else { End::Late }
                }
                code => End::Failed(code),
            },
        };
        Call { kind, due, made, ended, end }
    }

    /// Asks for an image and reads its events; gives the rows of each model.
    async fn ask(&self, kind: &Kind, seed: u64) -> Result<BTreeMap<String, u64>, Status> {
        let channel = self.next.fetch_add(1, Ordering::Relaxed) % self.channels.len();
        let mut client = GenerationServiceClient::new(self.channels[channel].clone())
            .max_decoding_message_size(MAX_INTERNAL_MESSAGE);
        let context = Context::with_timeout(kind.deadline(self.timeout));
        let mut request = context.outgoing(kind.request(seed));
        put(&mut request, "x-reverie-caller", kind.caller.as_deref())?;
        put(&mut request, "x-reverie-priority", kind.priority.as_deref())?;
        let answer = async {
            let mut events = client.generate(request).await?.into_inner();
            let (mut has_image, mut completed) = (false, None);
            while let Some(message) = events.message().await? {
                match message.event {
                    Some(Event::Image(_)) => has_image = true,
                    Some(Event::Completed(last)) => completed = Some(last),
                    _ => {}
                }
            }
            let completed = completed.filter(|_| has_image);
            completed.ok_or_else(|| Status::data_loss("the stream ended without an image"))
        };
        let completed = match context.deadline() {
            None => answer.await?,
            Some(deadline) => tokio::time::timeout_at(deadline.into(), answer)
                .await
                .map_err(|_| Status::deadline_exceeded("no image within the deadline"))??,
        };
        let mut models = BTreeMap::new();
        for stage in completed.stages {
            if let (Some(model), Some(timings)) = (stage.model, stage.timings) {
                *models.entry(model.name).or_default() += u64::from(timings.rows);
            }
        }
        Ok(models)
    }
}

fn put(request: &mut Request<impl Sized>, key: &'static str, value: Option<&str>) -> Result<(), Status> {
    if let Some(value) = value {
        let value = AsciiMetadataValue::try_from(value)
            .map_err(|_| Status::invalid_argument(format!("{key} must be ASCII (got {value:?})")))?;
        request.metadata_mut().insert(key, value);
    }
    Ok(())
}
