//! The one way in which a service says no: a canonical code, an `ErrorInfo` whose reason programs can match on, and the
//! details that let a caller mend the request or know when to retry (google.rpc error model).

use std::fmt::Display;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

const DOMAIN: &str = "reverie";
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A refusal on its way to becoming a [`Status`].
#[derive(Debug, Clone)]
pub struct Refusal {
    code: Code,
    reason: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn new(code: Code, reason: &'static str, message: impl Display) -> Self {
        Self { code, reason, message: message.to_string(), retry_after: None }
    }

    /// What the request names is not there.
    pub fn not_found(message: impl Display) -> Self {
        Self::new(Code::NotFound, "NOT_FOUND", message)
    }

    /// The request is valid but does not fit what is loaded here.
    pub fn mismatch(message: impl Display) -> Self {
        Self::new(Code::FailedPrecondition, "MISMATCH", message)
    }

    /// No room now; worth a retry.
    pub fn overloaded(message: impl Display) -> Self {
        let refusal = Self::new(Code::ResourceExhausted, "OVERLOADED", message);
        Self { retry_after: Some(RETRY_AFTER), ..refusal }
    }

    /// A stage cannot be reached, or this service is starting or draining; worth a retry.
    pub fn unavailable(message: impl Display) -> Self {
        let refusal = Self::new(Code::Unavailable, "UNAVAILABLE", message);
        Self { retry_after: Some(RETRY_AFTER), ..refusal }
    }

    /// The caller's deadline passed.
    pub fn deadline_exceeded(message: impl Display) -> Self {
        Self::new(Code::DeadlineExceeded, "DEADLINE_EXCEEDED", message)
    }

    /// A defect of this service or of a model.
    pub fn internal(message: impl Display) -> Self {
        Self::new(Code::Internal, "INTERNAL", message)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut details = ErrorDetails::with_error_info(refusal.reason, DOMAIN, []);
        if let Some(after) = refusal.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(refusal.code, refusal.message, details)
    }
}

/// Collects what is wrong with the fields of a request, so that the caller hears of everything at once.
#[derive(Debug, Default)]
pub struct Violations {
    fields: Vec<FieldViolation>,
}

impl Violations {
    /// Nothing wrong yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `field` (its path in the request, such as `guidance.text_weight`) is wrong, and why.
    pub fn add(&mut self, field: impl Into<String>, description: impl Display) {
        self.fields.push(FieldViolation::new(field, description.to_string()));
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

    /// Checks an optional number against an inclusive range and gives it back, or the default if it was not sent.
    pub fn in_range<T>(&mut self, field: &str, value: Option<T>, default: T, min: T, max: T) -> T
    where
        T: PartialOrd + Display + Copy,
    {
        match value {
            None => default,
            Some(value) if value >= min && value <= max => value,
            Some(value) => {
                self.add(field, format!("must be {min} to {max}, not {value}"));
                default
            }
        }
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
        if self.fields.is_empty() {
            return Ok(());
        }
        let told: Vec<String> =
            self.fields.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
        let mut details = ErrorDetails::with_error_info("INVALID_FIELD", DOMAIN, []);
        details.set_bad_request(self.fields);
        Err(Status::with_error_details(Code::InvalidArgument, told.join("; "), details))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_violation_is_named_with_its_range() {
        let mut violations = Violations::new();
        assert_eq!(violations.in_range("steps", Some(0), 50, 1, 1000), 50);
        assert_eq!(violations.in_range("limit", Some(3), 2, 1, 8), 3);
        violations.text("prompt", " \t", 10);
        violations.text("caption", "a\u{7}b", 10);
        let status = violations.into_result().unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let fields: Vec<_> = status.get_details_bad_request().unwrap().field_violations;
        assert_eq!(
            fields.iter().map(|v| v.field.as_str()).collect::<Vec<_>>(),
            ["steps", "prompt", "caption"]
        );
        assert_eq!(fields[0].description, "must be 1 to 1000, not 0");
    }

    #[test]
    fn not_a_number_is_out_of_every_range() {
        let mut violations = Violations::new();
        violations.in_range("w", Some(f32::NAN), 1.0, 1.0, 50.0);
        assert!(violations.into_result().is_err());
    }

    #[test]
    fn an_overload_says_when_to_retry() {
        let status: Status = Refusal::overloaded("full").into();
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(RETRY_AFTER));
        assert_eq!(status.get_details_error_info().unwrap().reason, "OVERLOADED");
    }
}
