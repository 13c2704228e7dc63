//! What a mesh promises whatever happens to it.

use std::time::{Duration, Instant};

use tonic::Code;

use super::{Call, Changed, Deed, Fault, Outcome};
use crate::Fallible;

/// Between two looks whether all is well.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

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
    /// When all was well again.
    pub well: Instant,
}

/// Heals, and gives how long it took from then until all was well; nothing if that was later than `within`.
pub async fn recovery(
    within: Duration,
    heal: impl Future<Output = Fallible<()>>,
    is_well: impl AsyncFn() -> bool,
) -> Fallible<Option<Duration>> {
    let begun = Instant::now();
    let healed = async {
        heal.await?;
        while !is_well().await {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(begun.elapsed())
    };
    tokio::time::timeout(within, healed).await.ok().transpose()
}

/// Each call gets what it asked for, or a status that is documented and says why, by its deadline. Gives those for which that is not so.
pub fn broken<'a>(calls: &'a [Call], happened: &'a [Happened]) -> impl Iterator<Item = String> + 'a {
    calls.iter().filter_map(|call| {
        let there = |begun, ended| begun <= call.ended && call.begun <= ended;
        let during: Vec<&Happened> =
            happened.iter().filter(|happened| there(happened.begun, happened.well)).collect();
        let any = |is: &dyn Fn(&Fault) -> bool| during.iter().any(|happened| is(&happened.fault));
        let writes = matches!(call.deed, Deed::Change { .. });
        let is_away = || any(&|fault| fault.takes_a_part_away(writes));
        let wrong = match &call.outcome {
            Outcome::Right => return None,
            Outcome::Wrong(wrong) => format!("got {wrong}"),
            Outcome::Refused(status) => match status.code() {
                code if !DOCUMENTED.contains(&code) => {
                    format!("ended with a status that is not documented: {status}")
                }
                _ if status.message().is_empty() => format!("was not told why: {status}"),
                Code::Unavailable if !is_away() => format!("was told of a part that is not away: {status}"),
                _ => return None,
            },
            Outcome::Broken(_) if any(&Fault::breaks_the_door) => return None,
            Outcome::Broken(status) => format!("lost its connection to a door that is whole: {status}"),
            Outcome::TimedOut if is_away() => return None,
            Outcome::TimedOut => "had no answer when its own timer ended it".to_owned(),
            Outcome::Unanswered => {
                let is_hidden = |happened: &Happened| {
                    happened.fault.hides_the_door() && there(happened.begun, happened.healed)
                };
                if happened.iter().any(is_hidden) {
                    return None;
                }
                "had no answer by its deadline".to_owned()
            }
        };
        let faults: Vec<String> = during.iter().map(|happened| happened.fault.to_string()).collect();
        let after = (call.ended - call.begun).as_secs_f64();
        Some(format!("{:?} {wrong}, after {after:.1} s, during {}", call.deed, faults.join(" and ")))
    })
}

/// What was acknowledged is stored. Gives the entries that are something else than they can be.
pub fn lost(stored: &[Changed]) -> impl Iterator<Item = String> + '_ {
    stored.iter().filter(|entry| !entry.possible.contains(&entry.found)).map(
        |Changed { id, possible, found }| format!("{id} is {found:?} and can only be one of {possible:?}"),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tonic::Status;

    use super::*;
    use crate::attack::Kind;
    use crate::attack::fault::DOOR;

    const INSIDE: crate::locked::Link = ("pipeline", "encoder");

    fn call(deed: Deed, outcome: Outcome) -> Call {
        let begun = Instant::now();
        Call { deed, begun, ended: begun + Duration::from_secs(3), outcome }
    }

    fn change() -> Deed {
        Deed::Change { id: "e".to_owned(), caption: None }
    }

    fn fault(kind: Kind, service: &'static str, link: crate::locked::Link) -> Fault {
        Fault { kind, service, link, lasts: Duration::from_secs(1) }
    }

    /// How many promises a call broke with `fault` there in its second second.
    fn count(call: Call, fault: Fault) -> usize {
        let begun = call.begun + Duration::from_secs(1);
        let healed = begun + Duration::from_secs(1);
        broken(&[call], &[Happened { fault, begun, healed, well: healed }]).count()
    }

    #[test]
    fn a_call_that_ends_otherwise_than_is_promised_is_told() {
        let killed = fault(Kind::Killed, "encoder", DOOR);
        for outcome in [
            Outcome::Right,
            Outcome::Refused(Status::unavailable("the encoder is away")),
            Outcome::Refused(Status::deadline_exceeded("in stage denoiser")),
            Outcome::Refused(Status::resource_exhausted("busy")),
            Outcome::TimedOut,
        ] {
            assert_eq!(count(call(Deed::Search, outcome), killed), 0);
        }
        for wrong in [
            || Outcome::Wrong("another image".to_owned()),
            || Outcome::Refused(Status::unavailable("")),
            || Outcome::Refused(Status::unknown("h2 protocol error")),
            || Outcome::Refused(Status::cancelled("timeout")),
            || Outcome::Refused(Status::failed_precondition("another epoch")),
            || Outcome::Broken(Status::unavailable("reset")),
            || Outcome::Unanswered,
        ] {
            assert_eq!(count(call(Deed::Search, wrong()), killed), 1, "{:?}", wrong());
            assert_eq!(broken(&[call(Deed::Search, wrong())], &[]).count(), 1, "{:?}", wrong());
        }
    }

    #[test]
    fn a_part_is_away_only_if_a_fault_took_it_away() {
        let away = || Outcome::Refused(Status::unavailable("the encoder is away"));
        assert_eq!(broken(&[call(Deed::Search, away())], &[]).count(), 1);
        assert_eq!(broken(&[call(Deed::Search, Outcome::TimedOut)], &[]).count(), 1);
        for kind in [Kind::SlowReaders, Kind::SilentConnections, Kind::Burst, Kind::Resets, Kind::FullDisk] {
            let load = fault(kind, "pipeline", DOOR);
            assert_eq!(count(call(Deed::Search, away()), load), 1, "{kind:?}");
            assert_eq!(count(call(Deed::Search, Outcome::TimedOut), load), 1, "{kind:?}");
        }
        assert_eq!(count(call(change(), away()), fault(Kind::FullDisk, "pipeline", DOOR)), 0);
        let busy = Outcome::Refused(Status::resource_exhausted("busy"));
        assert_eq!(broken(&[call(Deed::Search, busy)], &[]).count(), 0);
    }

    #[test]
    fn connections_of_callers_break_only_at_the_door() {
        for (fault, breaks) in [
            (fault(Kind::Cut, "encoder", DOOR), true),
            (fault(Kind::Cut, "pipeline", INSIDE), false),
            (fault(Kind::Killed, "pipeline", INSIDE), true),
            (fault(Kind::Killed, "encoder", DOOR), false),
            (fault(Kind::SilentConnections, "pipeline", DOOR), false),
        ] {
            let broke = Outcome::Broken(Status::unavailable("reset"));
            assert_eq!(count(call(Deed::Search, broke), fault), usize::from(!breaks), "{fault}");
        }
    }

    #[test]
    fn nobody_answers_where_the_door_is_hidden_and_only_there() {
        for (fault, is_hidden) in [
            (fault(Kind::Stopped, "pipeline", INSIDE), true),
            (fault(Kind::Stopped, "denoiser", DOOR), false),
            (fault(Kind::Silent, "encoder", DOOR), true),
            (fault(Kind::Silent, "pipeline", INSIDE), false),
            (fault(Kind::Cut, "pipeline", DOOR), false),
        ] {
            let unanswered = || call(Deed::Search, Outcome::Unanswered);
            assert_eq!(count(unanswered(), fault), usize::from(!is_hidden), "{fault}");
            // It was over before the call, though not all was well.
            let calls = [unanswered()];
            let healed = calls[0].begun.checked_sub(Duration::from_secs(1)).unwrap();
            let earlier = Happened { fault, begun: healed, healed, well: calls[0].ended };
            assert_eq!(broken(&calls, &[earlier]).count(), 1, "{fault}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_is_well_in_time_or_it_is_told() {
        let within = Duration::from_secs(30);
        let looks = Arc::new(AtomicU32::new(0));
        let at_the_third = async || looks.fetch_add(1, Ordering::Relaxed) == 2;
        assert!(recovery(within, async { Ok(()) }, at_the_third).await.unwrap().is_some());
        let after = |seconds| {
            async move || {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                true
            }
        };
        let healed_after = async |seconds| {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(())
        };
        assert!(recovery(within, healed_after(1), after(28)).await.unwrap().is_some());
        // Right, and too late.
        assert_eq!(recovery(within, healed_after(1), after(30)).await.unwrap(), None);
        assert_eq!(recovery(within, healed_after(31), after(0)).await.unwrap(), None);
        assert_eq!(recovery(within, healed_after(0), async || false).await.unwrap(), None);
        assert!(recovery(within, async { Err("it is gone".into()) }, after(0)).await.is_err());
    }

    #[test]
    fn what_is_lost_or_another_is_told() {
        let entry = |possible: &[Option<&str>], found: Option<&str>| Changed {
            id: "e".to_owned(),
            possible: possible.iter().map(|caption| caption.map(str::to_owned)).collect(),
            found: found.map(str::to_owned),
        };
        let (old, new) = (Some("a zunin"), Some("a fish"));
        let sound =
            [entry(&[old], old), entry(&[None], None), entry(&[old, new], new), entry(&[old, None], None)];
        assert_eq!(lost(&sound).count(), 0);
        let wrong = [entry(&[old], None), entry(&[new], old), entry(&[None], old), entry(&[old, new], None)];
        assert_eq!(lost(&wrong).count(), wrong.len());
    }
}
