//! The one way in which a service says no: a canonical code, an `ErrorInfo` whose reason programs can match on, and the
//! details that let a caller mend the request or know when to retry (google.rpc error model).

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use http::StatusCode;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

const DOMAIN: &str = "reverie";
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// A status travels in headers, of which clients take 8 KiB in all, and is written there more than once. What a caller sent may be
/// quoted in it and may be long, or wrong in a thousand places: bytes of a message, of all violations, of the name of one's field,
/// and of what one says.
const MAX_MESSAGE: usize = 1600;
const MAX_VIOLATIONS: usize = 1000;
const MAX_FIELD: usize = 150;
const MAX_DESCRIPTION: usize = 600;

/// A refusal on its way to becoming a [`Status`].
#[derive(Debug, Clone)]
pub struct Refusal {
    code: Code,
    reason: &'static str,
    message: String,
    retry_after: Option<Duration>,
    metadata: HashMap<String, String>,
}

impl Refusal {
    fn new(code: Code, reason: &'static str, message: impl Display) -> Self {
        let message = cut(&message.to_string(), MAX_MESSAGE);
        Self { code, reason, message, retry_after: None, metadata: HashMap::new() }
    }

    /// What came is no message of this contract.
    pub fn undecodable(message: impl Display) -> Self {
        Self::new(Code::InvalidArgument, "UNDECODABLE", message)
    }

    /// The message is larger than what is taken; no retry helps.
    pub fn too_large(message: impl Display) -> Self {
        Self::new(Code::ResourceExhausted, "TOO_LARGE", message)
    }

    /// What the request names is not there.
    pub fn not_found(message: impl Display) -> Self {
        Self::new(Code::NotFound, "NOT_FOUND", message)
    }

    /// The request is valid but does not fit what is loaded here.
    pub fn mismatch(message: impl Display) -> Self {
        Self::new(Code::FailedPrecondition, MISMATCH, message)
    }

    /// The caller may not do that; another one may.
    pub fn permission_denied(message: impl Display) -> Self {
        Self::new(Code::PermissionDenied, "PERMISSION_DENIED", message)
    }

    /// Nobody knows who the caller is, or that it is who it says.
    pub fn unauthenticated(message: impl Display) -> Self {
        Self::new(Code::Unauthenticated, "UNAUTHENTICATED", message)
    }

    /// What the request would change cannot be changed here.
    pub fn not_writable(message: impl Display) -> Self {
        Self::new(Code::FailedPrecondition, "NOT_WRITABLE", message)
    }

    /// What the request would make is there already.
    pub fn already_exists(message: impl Display) -> Self {
        Self::new(Code::AlreadyExists, "ALREADY_EXISTS", message)
    }

    /// No room now; worth a retry.
    pub fn overloaded(message: impl Display) -> Self {
        let refusal = Self::new(Code::ResourceExhausted, "OVERLOADED", message);
        Self { retry_after: Some(RETRY_AFTER), ..refusal }
    }

    /// The same refusal, with a hint to retry after `delay`, a second at least.
    #[must_use]
    pub fn retry_after(self, delay: Duration) -> Self {
        Self { retry_after: Some(delay.max(RETRY_AFTER)), ..self }
    }

    /// A stage cannot be reached, or this service is starting or draining; worth a retry.
    pub fn unavailable(message: impl Display) -> Self {
        let refusal = Self::new(Code::Unavailable, "UNAVAILABLE", message);
        Self { retry_after: Some(RETRY_AFTER), ..refusal }
    }

    /// The same refusal, because of the service `name` that this one calls and has called again itself: its own caller need not.
    #[must_use]
    pub fn of_upstream(mut self, name: &str) -> Self {
        self.metadata.insert(UPSTREAM.to_owned(), name.to_owned());
        self
    }

    /// The same refusal, because the models that the call was planned with are gone.
    #[must_use]
    pub(crate) fn for_other_models(mut self) -> Self {
        self.reason = MODEL_CHANGED;
        self
    }

    /// The model is another one than the caller took it for; worth a retry that asks for the model first.
    pub fn model_changed(message: impl Display) -> Self {
        Self::new(Code::FailedPrecondition, MODEL_CHANGED, message)
    }

    /// Time is up: that of `limit`, which is a setting of this service, or [`CALLER`].
    pub(crate) fn deadline_exceeded(limit: &str, message: impl Display) -> Self {
        let refusal = Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message);
        Self { metadata: HashMap::from([(LIMIT.to_owned(), limit.to_owned())]), ..refusal }
    }

    /// A defect of this service or of a model.
    pub fn internal(message: impl Display) -> Self {
        Self::new(Code::Internal, "INTERNAL", message)
    }
}

impl Refusal {
    /// An answer to a call that is refused before gRPC has to do with it, for what looks at the status of HTTP alone.
    pub(crate) fn into_http(self, http_status: StatusCode) -> http::Response<Body> {
        let mut response = Status::from(self).into_http();
        *response.status_mut() = http_status;
        response
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::with_error_info(refusal.reason, DOMAIN, refusal.metadata);
        if let Some(after) = refusal.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(refusal.code, refusal.message, details)
    }
}

const MODEL_CHANGED: &str = "MODEL_CHANGED";
const MISMATCH: &str = "MISMATCH";
/// Key of an `ErrorInfo`: the service that is to blame.
const UPSTREAM: &str = "upstream";
/// Key of an `ErrorInfo`: whose time is up.
const LIMIT: &str = "limit";
/// The limit that the caller set itself.
pub(crate) const CALLER: &str = "caller";
/// Key of an `ErrorInfo`: how many violations are left out.
const LEFT_OUT: &str = "left_out";

/// Whether a stage refuses because its model is another one than the pipeline took it for.
pub(crate) fn is_model_changed(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.reason == MODEL_CHANGED)
}

/// Whether a service refuses because of what it has loaded: a replica with other models, or other knowledge bases, may not.
pub fn is_for_other_models(status: &Status) -> bool {
    let info = status.get_details_error_info();
    info.is_some_and(|info| [MODEL_CHANGED, MISMATCH].contains(&info.reason.as_str()))
}

/// Whether a service is unavailable because of one that it calls itself.
pub(crate) fn is_of_an_upstream(status: &Status) -> bool {
    status.get_details_error_info().is_some_and(|info| info.metadata.contains_key(UPSTREAM))
}

/// Whether a status says that the time is up that its caller set.
pub fn is_callers_deadline(status: &Status) -> bool {
    let is_callers =
        |info: tonic_types::ErrorInfo| info.metadata.get(LIMIT).is_some_and(|limit| limit == CALLER);
    status.code() == Code::DeadlineExceeded && status.get_details_error_info().is_some_and(is_callers)
}

/// The same status of a `part` of what was asked for, such as "image 2", which the message begins with.
pub fn of_part(part: impl Display, status: &Status) -> Status {
    let message = format!("{part}: {}", status.message());
    Status::with_error_details(status.code(), message, status.get_error_details())
}

/// Tells a caller of its own fields what a stage finds wrong with the fields of the call that was made for it. `own` gives the
/// caller's name of a stage's field, or none if the caller has no such field. Then the call was wrong and not the caller: that is
/// INTERNAL.
pub(crate) fn of_own_fields(stage: &str, status: &Status, own: impl Fn(&str) -> Option<String>) -> Status {
    let named = status.get_details_bad_request().map(|wrong| wrong.field_violations).unwrap_or_default();
    let (mut violations, mut is_callers) = (Violations::new(), !named.is_empty());
    for FieldViolation { field, description, .. } in &named {
        match own(field) {
            Some(own) => violations.add(own, description),
            None => is_callers = false,
        }
    }
    if !is_callers {
        let message = status.message();
        tracing::error!(stage, message, "a stage refuses what it was sent");
        return Refusal::internal(format!("stage {stage} refuses what it was sent: {message}")).into();
    }
    violations.left_out += left_out(status);
    violations.status()
}

/// How many violations a status leaves out.
fn left_out(status: &Status) -> usize {
    let info = status.get_details_error_info();
    info.and_then(|info| info.metadata.get(LEFT_OUT)?.parse().ok()).unwrap_or(0)
}

/// Bytes that a text takes in a header, where all but letters and digits may be percent-encoded.
fn encoded_length(character: char) -> usize {
    if character.is_ascii_alphanumeric() { 1 } else { 3 * character.len_utf8() }
}

/// The text, cut to `most` encoded bytes.
fn cut(text: &str, most: usize) -> String {
    let mut length = 0;
    let too_long = text.char_indices().find(|(_, character)| {
        length += encoded_length(*character);
        length > most
    });
    too_long.map_or_else(|| text.to_owned(), |(end, _)| format!("{}...", &text[..end]))
}

/// Collects what is wrong with the fields of a request, so that the caller hears of everything at once, or of as much as a
/// status holds and how much more there is.
#[derive(Debug, Default)]
pub struct Violations {
    fields: Vec<FieldViolation>,
    /// Encoded bytes of all of them.
    length: usize,
    left_out: usize,
}

impl Violations {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `field` (its path in the request, such as `guidance.text_weight`) is wrong, and why.
    pub fn add(&mut self, field: impl Into<String>, description: impl Display) {
        let field = cut(&field.into(), MAX_FIELD);
        let description = cut(&description.to_string(), MAX_DESCRIPTION);
        // With the colon and the semicolon that part them.
        let length = 12 + field.chars().chain(description.chars()).map(encoded_length).sum::<usize>();
        if self.length + length > MAX_VIOLATIONS {
            self.left_out += 1;
        } else {
            self.length += length;
            self.fields.push(FieldViolation::new(field, description));
        }
    }

    /// Notes a violation unless `valid`.
    pub fn require(&mut self, valid: bool, field: impl Into<String>, description: impl Display) {
        if !valid {
            self.add(field, description);
        }
    }

    /// Unwraps a conversion, or notes its error and gives nothing.
    pub fn take<T, E: Display>(&mut self, field: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(field, error)).ok()
    }

    /// Unwraps a conversion that tells all that is wrong, or notes each error at its `field` and gives nothing.
    pub fn take_all<T, E: Display>(
        &mut self,
        result: Result<T, Vec<E>>,
        field: impl Fn(&E) -> String,
    ) -> Option<T> {
        result.map_err(|errors| errors.iter().for_each(|error| self.add(field(error), error))).ok()
    }

    /// Checks a number against its range, and gives it if it was sent and is right.
    pub fn in_range<T>(&mut self, field: &str, value: Option<T>, range: RangeInclusive<T>) -> Option<T>
    where
        T: PartialOrd + Display + Copy,
    {
        if let Some(value) = value.filter(|value| !range.contains(value)) {
            let (least, most) = (range.start(), range.end().to_string());
            let allowed =
                if most == "inf" { format!("at least {least}") } else { format!("{least} to {most}") };
            self.add(field, format!("must be {allowed} (got {value})"));
            return None;
        }
        value
    }

    /// Checks a text: 1 to `max_bytes` bytes without control characters. Surrounding white space is cut.
    pub fn text(&mut self, field: &str, text: &str, max_bytes: usize) -> String {
        if text.len() > max_bytes {
            self.add(field, format!("must be at most {max_bytes} bytes, not {}", text.len()));
        } else if text.trim().is_empty() {
            self.add(field, format!("must not be empty: 1 to {max_bytes} bytes of text"));
        } else if let Some(control) = text.chars().find(|c| c.is_control() && !c.is_whitespace()) {
            self.add(field, format!("must not contain the control character {}", control.escape_default()));
        }
        // Line breaks and tabs are blanks to every tokenizer.
        text.trim().replace(|c: char| c.is_control() && c.is_whitespace(), " ")
    }

    /// `INVALID_ARGUMENT` naming every violation, if there is one.
    pub fn into_result(self) -> Result<(), Status> {
        if self.fields.is_empty() { Ok(()) } else { Err(self.status()) }
    }

    fn status(self) -> Status {
        let mut told: Vec<String> =
            self.fields.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        let mut metadata = HashMap::new();
        if self.left_out > 0 {
            told.push(format!("and {} more", self.left_out));
            metadata.insert(LEFT_OUT.to_owned(), self.left_out.to_string());
        }
        let mut details = ErrorDetails::with_error_info("INVALID_FIELD", DOMAIN, metadata);
        details.set_bad_request(self.fields);
        Status::with_error_details(Code::InvalidArgument, told.join("; "), details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_named_with_its_range() {
        let mut violations = Violations::new();
        assert_eq!(violations.in_range("steps", Some(0), 1..=1000), None);
        assert_eq!(violations.in_range("limit", Some(3), 1..=8), Some(3));
        assert_eq!(violations.in_range("limit", None, 1..=8), None);
        violations.text("prompt", " \t", 10);
        violations.text("caption", "a\u{7}b", 10);
        let status = violations.into_result().unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let fields: Vec<_> = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(
            fields.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(),
            ["steps", "prompt", "caption"]
        );
        assert_eq!(fields[0].description, "must be 1 to 1000 (got 0)");
    }

    #[test]
    fn not_a_number_is_out_of_every_range() {
        let mut violations = Violations::new();
        violations.in_range("w", Some(f32::NAN), 1.0..=50.0);
        assert!(violations.into_result().is_err());
    }

    /// What a status takes in headers.
    fn header_bytes(status: Status) -> usize {
        let response: http::Response<()> = status.into_http();
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
    }

    #[test]
    fn a_status_stays_within_what_clients_take_whatever_is_wrong() {
        let mut violations = Violations::new();
        for index in 0..100 {
            violations.add(format!("levels[{index}].noise_level"), "must be 0 to 1, not 7");
        }
        let status = violations.into_result().unwrap_err();
        let told = status.get_details_bad_request().unwrap().field_violations.len();
        assert!((8..100).contains(&told), "{told}");
        assert!(status.message().ends_with(&format!("; and {} more", 100 - told)), "{}", status.message());
        assert_eq!(left_out(&status), 100 - told);
        assert!(header_bytes(status) < 4200);

        for quoted in ["猫".repeat(20_000), "a".repeat(60_000), "\"\n".repeat(30_000)] {
            let mut violations = Violations::new();
            for field in [&quoted, "other", "third"] {
                violations.add(field, format!("{quoted} is not known here"));
            }
            let status = violations.into_result().unwrap_err();
            assert!(
                status.get_details_bad_request().unwrap().field_violations[0].description.ends_with("...")
            );
            assert!(header_bytes(status) < 4200);
            let status: Status = Refusal::not_found(format!("there is no {quoted}")).into();
            assert!(status.message().starts_with("there is no ") && status.message().ends_with("..."));
            assert!(header_bytes(status) < 4200);
        }
    }

    #[test]
    fn callers_hear_of_their_own_fields() {
        let mut violations = Violations::new();
        violations.add("texts[1]", "it has 38 tokens");
        (0..100).for_each(|_| violations.add("texts[0]", "it has 38 tokens"));
        let of_stage = violations.into_result().unwrap_err();
        let own = |field: &str| match field {
            "texts[0]" => Some("prompt".to_owned()),
            "texts[1]" => Some("negative_prompt".to_owned()),
            _ => None,
        };
        let status = of_own_fields("encoder", &of_stage, own);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().starts_with("negative_prompt: it has 38 tokens; prompt: it has"),
            "{status}"
        );
        let told = status.get_details_bad_request().unwrap().field_violations.len();
        assert_eq!(told + left_out(&status), 101);
        // What the caller did not send is not the caller's to mend.
        let status = of_own_fields("encoder", &of_stage, |field| own(field).filter(|own| own == "prompt"));
        assert_eq!(status.code(), Code::Internal);
        assert!(status.message().contains("texts[1]: it has 38 tokens"), "{status}");
        let bare = of_own_fields("encoder", &Status::invalid_argument("no"), own);
        assert_eq!(bare.code(), Code::Internal);
    }

    #[test]
    fn an_overload_says_when_to_retry() {
        let status: Status = Refusal::overloaded("full").into();
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(RETRY_AFTER));
        assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
    }
}
