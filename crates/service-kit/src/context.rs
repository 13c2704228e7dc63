//! What travels with a request from service to service, in its metadata: its deadline, its W3C trace context, who asks
//! (`x-reverie-caller`) and how urgent it is (`x-reverie-priority`).

mod layer;

use std::fmt::Display;
use std::future::Future;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use http::HeaderMap;
use opentelemetry::global;
use opentelemetry::propagation::Injector;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

pub use self::layer::{ContextLayer, ContextService};
use crate::{Refusal, refusal};

/// So much earlier than its caller does a stage give up, or a twentieth of the remaining time if that is less. How the time is divided
/// among the stages is the pipeline's to say.
const EARLIER: Duration = Duration::from_millis(50);
/// gRPC writes at most eight digits of a timeout; ours are in milliseconds.
const LONGEST_TIMEOUT: Duration = Duration::from_millis(99_999_999);
/// A deadline that is so near counts as passed.
const PASSED_IN: Duration = Duration::from_millis(50);
/// A unary answer leaves this long before the deadline, or tonic's own timer would answer CANCELLED instead.
const ANSWER_BEFORE: Duration = Duration::from_millis(10);

/// Names who asks: any text. Callers share the models in equal parts, whatever they submit; requests without a name share one part.
pub const CALLER: &str = "x-reverie-caller";
/// Says how urgent a request is: "interactive", which is the default, or "batch".
const PRIORITY: &str = "x-reverie-priority";
/// Says which process plans the work that a stage is asked for, so that the stage can tell it what others have given it.
const ORIGIN: &str = "x-reverie-origin";

/// The trace of what nobody traces.
pub(crate) const PROBE: TraceId = TraceId::from_bytes(1_u128.to_be_bytes());

/// How urgent a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Priority {
    /// Somebody waits for the image.
    #[default]
    Interactive,
    /// Nobody waits: the request takes what interactive ones leave, and a tenth of the models in any case.
    Batch,
}

impl Priority {
    fn name(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

/// The deadline of the request in hand, and whose it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Context {
    deadline: Option<Instant>,
    /// The setting that ends the request before its caller does, and how long it allows.
    setting: Option<(&'static str, Duration)>,
    /// Whether no one traces it.
    is_probe: bool,
    /// Who asks, as a number that tells callers apart.
    caller: u64,
    priority: Priority,
    /// The process that plans the work; 0 if it is not told.
    origin: u64,
}

impl Context {
    /// A context that ends `timeout` from now.
    pub fn with_timeout(timeout: Duration) -> Self {
        Self { deadline: Instant::now().checked_add(timeout), ..Self::default() }
    }

    /// A context for what a service asks others all the time, to see whether it can do its work: it ends `timeout` from now, and
    /// its calls are in no trace, where they would drown the requests.
    pub fn probe(timeout: Duration) -> Self {
        Self { is_probe: true, ..Self::with_timeout(timeout) }
    }

    /// The context of an incoming request.
    pub fn of<T>(request: &Request<T>) -> Self {
        request.extensions().get().copied().unwrap_or_default()
    }

    /// When the caller stops waiting; `None` if it never does.
    pub fn deadline(self) -> Option<Instant> {
        self.deadline
    }

    /// Who asks, as a number that tells callers apart; the same for all that gave no name.
    pub fn caller(self) -> u64 {
        self.caller
    }

    /// How urgent the request is.
    pub fn priority(self) -> Priority {
        self.priority
    }

    /// The process that plans the work, as a number that tells such processes apart; 0 if it is not told.
    pub fn origin(self) -> u64 {
        self.origin
    }

    /// The context that the headers of a request give it; an error for a priority that is unknown.
    fn of_headers(headers: &HeaderMap) -> Result<Self, Status> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let deadline = text("grpc-timeout").and_then(parse_timeout);
        let priority = match text(PRIORITY) {
            None | Some("interactive") => Priority::Interactive,
            Some("batch") => Priority::Batch,
            Some(_) => {
                let told = format!("the metadata {PRIORITY} must be \"interactive\" or \"batch\"");
                return Err(Status::invalid_argument(told));
            }
        };
        let origin = text(ORIGIN).and_then(|origin| u64::from_str_radix(origin, 16).ok()).unwrap_or_default();
        let context = Self { priority, origin, ..deadline.map(Self::with_timeout).unwrap_or_default() };
        Ok(headers.get(CALLER).map_or(context, |name| context.asked_by(name.as_bytes())))
    }

    /// The same context; `DEADLINE_EXCEEDED` if its deadline has passed already.
    pub fn in_time(self) -> Result<Self, Status> {
        match self.deadline {
            Some(deadline) if deadline <= Instant::now() => Err(self.out_of_time("before the call came")),
            _ => Ok(self),
        }
    }

    /// The same context, of a caller without a name.
    #[must_use]
    pub fn asked_by_nobody(self) -> Self {
        Self { caller: 0, ..self }
    }

    /// The same context, as urgent as this.
    #[must_use]
    pub fn with_priority(self, priority: Priority) -> Self {
        Self { priority, ..self }
    }

    /// The same context, of work that the process `origin` plans.
    #[must_use]
    pub fn planned_by(self, origin: u64) -> Self {
        Self { origin, ..self }
    }

    /// The same context, of the caller of this name.
    #[must_use]
    pub fn asked_by(self, name: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self { caller: hasher.finish(), ..self }
    }

    /// The same context, ended after `limit` at the latest, as `setting` says.
    #[must_use]
    pub fn capped(self, limit: Duration, setting: &'static str) -> Self {
        match Instant::now().checked_add(limit) {
            Some(cap) if self.deadline.is_none_or(|deadline| cap < deadline) => {
                Self { deadline: Some(cap), setting: Some((setting, limit)), ..self }
            }
            _ => self,
        }
    }

    /// The same context, ended so much earlier, for a stage after which others have work to do; it keeps half of the remaining time at
    /// least, so that an estimate that is too long does not keep everything from being tried.
    #[must_use]
    pub fn reserving(self, time: Duration) -> Self {
        let earlier = |deadline: Instant| {
            let remaining = deadline.saturating_duration_since(Instant::now());
            deadline.checked_sub(time.min(remaining / 2))
        };
        Self { deadline: self.deadline.and_then(earlier), ..self }
    }

    /// `DEADLINE_EXCEEDED`, saying whose limit it was and where it passed, or where it was found that it cannot be met: `place` is such
    /// as "during encoding".
    pub fn out_of_time(self, place: impl Display) -> Status {
        self.refuse(self.deadline.is_none_or(|deadline| deadline <= Instant::now() + PASSED_IN), place)
    }

    /// `DEADLINE_EXCEEDED` for work that was not begun, since it cannot be done in time: `why`, as a sentence.
    pub fn cannot_be_met(self, why: impl Display) -> Status {
        self.refuse(false, why)
    }

    fn refuse(self, has_passed: bool, place: impl Display) -> Status {
        match self.setting {
            None => {
                let verb = if has_passed { "passed" } else { "cannot be met:" };
                Refusal::deadline_exceeded(refusal::CALLER, format!("the caller's deadline {verb} {place}"))
            }
            Some((setting, limit)) => {
                let (seconds, verb) =
                    (limit.as_secs_f64(), if has_passed { "passed" } else { "do not suffice:" });
                let told = format!("the {seconds} s that a request may take here ({setting}) {verb} {place}");
                Refusal::deadline_exceeded(setting, told)
            }
        }
        .into()
    }

    /// A request to another service that carries the deadline and the current trace context.
    pub fn outgoing<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(deadline) = self.deadline {
            let remaining = deadline.saturating_duration_since(Instant::now());
            request.set_timeout(remaining.saturating_sub(EARLIER.min(remaining / 20)).min(LONGEST_TIMEOUT));
        }
        if self.caller != 0 {
            // A name of its own for each caller is all that a stage needs.
            MetadataInjector(request.metadata_mut()).set(CALLER, format!("{:016x}", self.caller));
        }
        if self.priority != Priority::default() {
            MetadataInjector(request.metadata_mut()).set(PRIORITY, self.priority.name().to_owned());
        }
        if self.origin != 0 {
            MetadataInjector(request.metadata_mut()).set(ORIGIN, format!("{:016x}", self.origin));
        }
        let context = if self.is_probe { not_sampled() } else { Span::current().context() };
        global::get_text_map_propagator(|propagator| {
            propagator.inject_context(&context, &mut MetadataInjector(request.metadata_mut()));
        });
        request
    }

    /// Waits for `work` until the deadline.
    ///
    /// # Errors
    /// `DEADLINE_EXCEEDED` naming `what` if the deadline comes first; else what `work` gives.
    pub async fn within<T>(
        self,
        what: &str,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let Some(deadline) = self.deadline else { return work.await };
        let deadline = deadline.checked_sub(ANSWER_BEFORE).unwrap_or(deadline);
        match tokio::time::timeout_at(deadline.into(), work).await {
            Ok(result) => result,
            Err(_) => Err(self.refuse(true, format!("during {what}"))),
        }
    }
}

/// The context of a trace that nobody keeps.
fn not_sampled() -> opentelemetry::Context {
    let dropped = SpanContext::new(PROBE, SpanId::from(1), TraceFlags::NOT_SAMPLED, true, TraceState::NONE);
    opentelemetry::Context::new().with_remote_span_context(dropped)
}

/// Reads the value of a `grpc-timeout` header: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
pub(crate) fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}

struct MetadataInjector<'a>(&'a mut MetadataMap);

impl Injector for MetadataInjector<'_> {
    fn set(&mut self, key: &str, value: String) {
        use tonic::metadata::{MetadataKey, MetadataValue};
        if let (Ok(key), Ok(value)) =
            (MetadataKey::from_bytes(key.as_bytes()), MetadataValue::try_from(value))
        {
            self.0.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn timeouts_are_read_as_the_specification_writes_them() {
        assert_eq!(parse_timeout("5S"), Some(Duration::from_secs(5)));
        assert_eq!(parse_timeout("99999999m"), Some(LONGEST_TIMEOUT));
        assert_eq!(parse_timeout("250u"), Some(Duration::from_micros(250)));
        for wrong in ["", "S", "5", "5s", "-5S", "123456789S", "5é"] {
            assert_eq!(parse_timeout(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn less_than_the_remaining_time_is_passed_on() {
        let request = Context::with_timeout(Duration::from_secs(100)).outgoing(());
        let header = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
        let passed_on = parse_timeout(&header).unwrap();
        let least = Duration::from_secs(99);
        assert!(passed_on + EARLIER <= Duration::from_secs(100) && passed_on > least, "{passed_on:?}");
        let request = Context::with_timeout(Duration::from_millis(100)).outgoing(());
        let header = request.metadata().get("grpc-timeout").unwrap().to_str().unwrap().to_owned();
        assert!((80..=95).contains(&parse_timeout(&header).unwrap().as_millis()), "{header}");
    }

    #[test]
    fn who_asks_and_how_urgently_travels_from_service_to_service() {
        let context = |headers: &[(&'static str, &str)]| {
            let pairs = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            Context::of_headers(&pairs.collect())
        };
        let nobody = context(&[]).unwrap();
        assert_eq!((nobody.caller(), nobody.priority()), (0, Priority::Interactive));
        let [studio, shop] = ["studio", "shop"].map(|name| {
            let one = context(&[(CALLER, name), (PRIORITY, "batch")]).unwrap().planned_by(7);
            // As the next service sees it, each time.
            let [next, again] = [(); 2]
                .map(|()| Context::of_headers(&one.outgoing(()).into_parts().0.into_headers()).unwrap());
            assert_eq!((next.priority(), next.caller(), next.origin()), (Priority::Batch, again.caller(), 7));
            next.caller()
        });
        assert!(studio != shop && studio != 0 && shop != 0);
        let wrong = context(&[(PRIORITY, "urgent")]).unwrap_err();
        assert_eq!(wrong.code(), Code::InvalidArgument);
    }

    #[test]
    fn time_is_kept_back_for_later_stages_but_never_more_than_half() {
        let remaining =
            |context: Context| context.deadline().unwrap().duration_since(Instant::now()).as_secs_f64();
        let context = Context::with_timeout(Duration::from_secs(100));
        assert!((remaining(context.reserving(Duration::from_secs(20))) - 80.0).abs() < 1.0);
        assert!((remaining(context.reserving(Duration::from_secs(90))) - 50.0).abs() < 1.0);
        assert_eq!(Context::default().reserving(Duration::from_secs(20)).deadline(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn work_past_the_deadline_is_given_up() {
        let context = Context::with_timeout(Duration::from_secs(1));
        let status =
            context.within("a long sleep", std::future::pending::<Result<(), Status>>()).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), "the caller's deadline passed during a long sleep");
        assert!(refusal::is_callers_deadline(&status));
    }

    #[test]
    fn whose_limit_it_was_is_told() {
        let limit = Duration::from_mins(5);
        let capped = Context::default().capped(limit, "limits.max_request_seconds");
        let passed = Context { deadline: Some(Instant::now()), ..capped };
        let status = passed.out_of_time("in stage base");
        assert_eq!(
            status.message(),
            "the 300 s that a request may take here (limits.max_request_seconds) passed in stage base"
        );
        assert!(!refusal::is_callers_deadline(&status));
        let early = capped.out_of_time("in stage base");
        assert!(
            early.message().ends_with("(limits.max_request_seconds) do not suffice: in stage base"),
            "{early}"
        );
        // A caller that waits for less is the one whose time is up.
        let own = Context::with_timeout(Duration::from_secs(100)).capped(limit, "limits.max_request_seconds");
        assert!(refusal::is_callers_deadline(&own.out_of_time("in stage base")));
        // Whatever the clock says by then.
        let hopeless = passed.cannot_be_met("it takes 2 s alone");
        assert!(hopeless.message().ends_with("do not suffice: it takes 2 s alone"), "{hopeless}");
    }
}
