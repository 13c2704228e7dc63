//! What a mesh promises whatever happens to it.

use std::time::Instant;

use tonic::Code;

use super::{Call, Fault, Outcome};

/// The statuses that a sound request may end with when something is wrong with the mesh (ARCHITECTURE.md, "Errors").
pub const DOCUMENTED: [Code; 3] = [Code::Unavailable, Code::DeadlineExceeded, Code::ResourceExhausted];

/// A fault, and when it was there.
#[derive(Debug, Clone, Copy)]
pub struct Happened {
    /// The fault.
    pub fault: Fault,
    /// When it began.
    pub begun: Instant,
    /// When it was over.
    pub healed: Instant,
}

/// Each call gets what it asked for, or a status that is documented and says why, by its deadline. Gives those for which that is not so.
pub fn broken<'a>(calls: &'a [Call], happened: &'a [Happened]) -> impl Iterator<Item = String> + 'a {
    calls.iter().filter_map(|call| {
        let during: Vec<&Happened> = happened
            .iter()
            .filter(|happened| happened.begun <= call.ended && call.begun <= happened.healed)
            .collect();
        let wrong = match &call.outcome {
            Outcome::Wrong(wrong) => format!("got {wrong}"),
            Outcome::Refused(status) if !DOCUMENTED.contains(&status.code()) => {
                format!("ended with a status that is not documented: {status}")
            }
            Outcome::Refused(status) if status.message().is_empty() => format!("was not told why: {status}"),
            Outcome::Right | Outcome::Refused(_) => return None,
            Outcome::Unanswered if during.iter().any(|happened| happened.fault.hides_the_door()) => {
                return None;
            }
            Outcome::Unanswered => "had no answer by its deadline".to_owned(),
        };
        let faults: Vec<String> = during.iter().map(|happened| happened.fault.to_string()).collect();
        let after = (call.ended - call.begun).as_secs_f64();
        Some(format!("{:?} {wrong}, after {after:.1} s, during {}", call.deed, faults.join(" and ")))
    })
}

/// What was acknowledged is stored. Gives what is not, of ids with the captions that were acknowledged and those that are stored.
pub fn lost(stored: &[(String, String, Option<String>)]) -> impl Iterator<Item = String> + '_ {
    stored.iter().filter(|(_, acknowledged, found)| found.as_ref() != Some(acknowledged)).map(
        |(id, acknowledged, found)| format!("{id} was acknowledged as {acknowledged:?} and is {found:?}"),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tonic::Status;

    use super::*;
    use crate::attack::fault::DOOR;
    use crate::attack::{Deed, Kind};

    fn call(outcome: Outcome) -> Call {
        let begun = Instant::now();
        Call { deed: Deed::Search, begun, ended: begun + Duration::from_secs(3), outcome }
    }

    #[test]
    fn a_call_that_ends_otherwise_than_is_promised_is_told() {
        for outcome in [
            Outcome::Right,
            Outcome::Refused(Status::unavailable("the encoder is away")),
            Outcome::Refused(Status::deadline_exceeded("in stage denoiser")),
            Outcome::Refused(Status::resource_exhausted("busy")),
        ] {
            assert_eq!(broken(&[call(outcome)], &[]).count(), 0);
        }
        for outcome in [
            Outcome::Wrong("another image".to_owned()),
            Outcome::Refused(Status::unavailable("")),
            Outcome::Refused(Status::unknown("h2 protocol error")),
            Outcome::Refused(Status::cancelled("timeout")),
            Outcome::Refused(Status::failed_precondition("another epoch")),
            Outcome::Unanswered,
        ] {
            let calls = [call(outcome)];
            assert_eq!(broken(&calls, &[]).count(), 1, "{calls:?}");
        }
    }

    #[test]
    fn nobody_answers_where_the_door_is_hidden_and_only_there() {
        let fault = |kind, service, link| Fault { kind, service, link, lasts: Duration::from_secs(1) };
        let inside = ("pipeline", "encoder");
        for (fault, is_hidden) in [
            (fault(Kind::Stopped, "pipeline", inside), true),
            (fault(Kind::Stopped, "denoiser", DOOR), false),
            (fault(Kind::Silent, "encoder", DOOR), true),
            (fault(Kind::Silent, "pipeline", inside), false),
            (fault(Kind::Cut, "pipeline", DOOR), false),
        ] {
            let calls = [call(Outcome::Unanswered)];
            let begun = calls[0].begun;
            let happened = |begun: Instant| Happened { fault, begun, healed: begun + Duration::from_secs(1) };
            let earlier = happened(begun.checked_sub(Duration::from_secs(5)).unwrap());
            let during = happened(begun + Duration::from_secs(1));
            assert_eq!(broken(&calls, &[during]).count(), usize::from(!is_hidden), "{fault}");
            assert_eq!(broken(&calls, &[earlier]).count(), 1, "{fault}");
        }
    }

    #[test]
    fn what_is_lost_or_another_is_told() {
        let entry = |found: Option<&str>| ("e".to_owned(), "a zunin".to_owned(), found.map(str::to_owned));
        assert_eq!(lost(&[entry(Some("a zunin"))]).count(), 0);
        assert_eq!(lost(&[entry(None), entry(Some("a fish"))]).count(), 2);
    }
}
