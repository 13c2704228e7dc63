//! Which orders keep every deadline: demand against supply, earliest deadline first.
//!
//! A job is done at the latest when the work due before it is done, on all sessions, and then its own steps one after another
//! (Graham's bound for list scheduling, 1969), because at any time either all its ready rows run or all sessions are busy with work
//! that is due earlier. With one session that is exact.
//!
//! Jobs without a deadline do not take part: what they get is a matter of shares.

use super::{Job, PolicySettings, Seconds};

/// Sums of times are exact to this, so that a job whose slack is used up to the last bit does not count as late.
pub(super) const ROUNDING: Seconds = 1e-9;

/// A job with a deadline.
struct Slot {
    /// Its place in the list of jobs.
    place: usize,
    deadline: Seconds,
    /// By how much the work due up to here may be delayed; `None` if the job will be late whatever is done.
    slack: Option<Seconds>,
}

/// How long a job takes once it goes before all others.
///
/// Rows that are running are not interrupted. One session waits for one of them; several may be out of phase at each step, which makes a
/// step at most `2 - 1 / sessions` times as long (Graham) and half of that on average.
fn first_in_line(job: &Job, settings: &PolicySettings) -> Seconds {
    let out_of_phase = 1.0 - 1.0 / settings.sessions as f64;
    job.alone_left * (1.0 + out_of_phase / 2.0)
}

/// All jobs with a deadline, the earliest first, each with its slack. Jobs that will be late are passed over: the others are not made
/// late for their sake.
fn timetable(jobs: &[Job], settings: &PolicySettings, now: Seconds) -> Vec<Slot> {
    let due = |(place, job): (usize, &Job)| job.deadline.map(|deadline| (place, deadline));
    let mut order: Vec<(usize, Seconds)> = jobs.iter().enumerate().filter_map(due).collect();
    order.sort_by(|a, b| a.1.total_cmp(&b.1).then(jobs[a.0].id.cmp(&jobs[b.0].id)));
    let sessions = settings.sessions as f64;
    let mut work = 0.0;
    let slot = |(place, deadline): (usize, Seconds)| {
        let job = &jobs[place];
        let left = deadline - now;
        if left + ROUNDING < ((work + job.work_left) / sessions).max(job.alone_left) {
            return Slot { place, deadline, slack: None };
        }
        let slack = (left - work / sessions - first_in_line(job, settings)).max(0.0);
        work += job.work_left;
        Slot { place, deadline, slack: Some(slack) }
    };
    order.into_iter().map(slot).collect()
}

/// By how much `newcomer`, or a job of `jobs` that would have been in time without it, would be late with it; 0 if none would, or if
/// `newcomer` has no deadline.
pub fn lateness_with(jobs: &[Job], newcomer: &Job, settings: &PolicySettings, now: Seconds) -> Seconds {
    let Some(newcomer_due) = newcomer.deadline else { return 0.0 };
    let sessions = settings.sessions as f64;
    let (mut ahead, mut late) = (0.0, f64::NEG_INFINITY);
    for Slot { place, deadline, slack } in timetable(jobs, settings, now) {
        let Some(slack) = slack else { continue };
        if deadline <= newcomer_due {
            ahead += jobs[place].work_left;
        } else {
            // The newcomer goes before it, and so does a row that is running.
            late = late.max(newcomer.work_left / sessions + newcomer.row - slack);
        }
    }
    // Among other jobs it waits for rows that are running: for one before its first step, and with several sessions before each.
    let (wait, waits) = if jobs.is_empty() { (0.0, 0.0) } else { (newcomer.row, 1.0 - 1.0 / sessions) };
    let takes = (newcomer.alone_left * (1.0 + waits)).max(newcomer.work_left / sessions);
    let finish = now + ahead / sessions + wait + takes;
    late.max(finish - newcomer_due).max(0.0)
}

/// A job that must run before `preferred`, because its deadline leaves no slack for another row: the ready one that is due first.
pub fn urgent_before(
    jobs: &[Job],
    preferred: usize,
    settings: &PolicySettings,
    now: Seconds,
) -> Option<usize> {
    let delay = jobs.get(preferred)?.row;
    let mut first = None;
    for Slot { place, slack, .. } in timetable(jobs, settings, now) {
        if place == preferred {
            return None;
        }
        let Some(slack) = slack else { continue };
        if jobs[place].is_ready {
            first = first.or(Some(place));
        }
        if slack < delay + ROUNDING {
            return first;
        }
    }
    None
}
