//! Whose row runs next, and which requests are admitted.
//!
//! A lane has a number of *sessions*, each of which computes one row at a time. A *job* is one request's trajectory on that
//! lane: a number of steps, each of a few rows. The policy answers two questions, [`Policy::admit`] when a job arrives and
//! [`Policy::choose`] whenever a session is free.
//!
//! Three rules, in this order:
//!
//! 1. **Deadlines.** A job is admitted only if it and every job admitted before can still finish in time, earliest deadline
//!    first (which finds a feasible order whenever there is one; Liu and Layland, 1973). The order below may depart from
//!    earliest deadline first, but only while that leaves every admitted job enough slack ([`deadlines`]). Interactive jobs do not
//!    wait for the deadlines of batch jobs, which they can make late.
//! 2. **Shares.** Classes share the sessions by weight, the callers of a class equally, whatever they submit ([`shares`],
//!    [`demand`]).
//! 3. **Shortest first.** Within a caller's share, the job with the least work left, with ageing, so that long jobs are not
//!    overtaken for ever.
//!
//! A job that runs keeps its place: its work left shrinks as its caller's account grows. Equal jobs therefore run one after
//! another, oldest first, instead of taking turns and all finishing last.

pub mod deadlines;
pub mod demand;
pub mod shares;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use self::demand::Demand;
use self::shares::Shares;
use crate::cost::{Cost, Weight};

/// A time on the lane's clock, or a span of time, in seconds.
pub type Seconds = f64;

/// Who submitted a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(pub u64);

/// How urgent a caller's jobs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Somebody waits for the image.
    Interactive,
    /// Nobody waits; the work fills what interactive jobs leave, and a tenth of the lane in any case.
    Batch,
}

impl Class {
    /// The share of a class when both have work, relative to the other's.
    fn weight(self) -> f64 {
        match self {
            Self::Interactive => 9.0,
            Self::Batch => 1.0,
        }
    }
}

/// One request's work on a lane.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Job {
    /// Tells jobs apart; a later job has a larger number.
    pub id: u64,
    /// Who submitted it.
    pub caller: Caller,
    /// Its class.
    pub class: Class,
    /// When it arrived.
    pub arrived: Seconds,
    /// When its result stops being of use, if ever.
    pub deadline: Option<Seconds>,
    /// Predicted work left: seconds of one session, summed over the rows that have not been started.
    pub work_left: Seconds,
    /// Predicted time left if it had the lane to itself: its remaining steps one after another, the rows of a step side by
    /// side.
    pub alone_left: Seconds,
    /// The same if its rows are as fast as the faster ones of late. It is given up when that is too long.
    pub alone_at_best: Seconds,
    /// Predicted work of its next row.
    pub row: Seconds,
    /// Whether it has a row to start. It has none while its step waits for rows that are running.
    pub is_ready: bool,
}

/// What a job has left to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Left {
    /// Rows of the current step that have not been started.
    pub rows: usize,
    /// Steps after it.
    pub later_steps: usize,
    /// Rows of those steps.
    pub later_rows: usize,
}

impl Left {
    /// All rows.
    pub fn all_rows(self) -> usize {
        self.rows + self.later_rows
    }

    /// Passes one after another, of a lane that computes `slots` rows at a time and does nothing else.
    pub fn passes(self, slots: usize) -> f64 {
        let side_by_side = |rows: f64| (rows / slots as f64).ceil();
        let mean_rows = self.later_rows as f64 / self.later_steps.max(1) as f64;
        side_by_side(self.rows as f64) + self.later_steps as f64 * side_by_side(mean_rows)
    }
}

impl Job {
    /// Predicts what is left of it, given its `weight` of a row and what passes cost.
    pub fn predict(&mut self, left: Left, weight: impl Into<Weight>, cost: &Cost, slots: usize) {
        let weight = weight.into();
        let passes = left.passes(slots);
        self.row = cost.pass(weight);
        self.work_left = self.row * left.all_rows() as f64;
        self.alone_left = self.row * passes;
        self.alone_at_best = cost.at_best(weight) * passes;
    }

    /// Whether it is predicted to be late even with the lane to itself from now on. It is not admitted then.
    pub fn is_hopeless(&self, now: Seconds) -> bool {
        self.is_late_after(now + self.alone_left)
    }

    /// Whether it is late even if its rows are fast from now on. It is given up then.
    pub fn is_beyond_hope(&self, now: Seconds) -> bool {
        self.is_late_after(now + self.alone_at_best)
    }

    fn is_late_after(&self, end: Seconds) -> bool {
        self.deadline.is_some_and(|deadline| end > deadline + deadlines::ROUNDING)
    }
}

/// The constants of the policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicySettings {
    /// Rows that the lane computes at a time, 1 or more.
    pub sessions: usize,
    /// The share of the lane that callers above their fair share cannot book: room for callers that come later, and for costs
    /// that were predicted too low. 0 to below 1; 0.05 by default.
    pub reserve: f64,
    /// How many seconds of work a job seems shorter to its own caller for each second that it waited on each session; above 0. At
    /// 0.02, the default, a caller's job waits for its shorter ones for at most 50 times its own work.
    pub ageing: f64,
    /// The time over which a caller's demand is averaged. 10 s by default.
    pub memory: Seconds,
}

impl PolicySettings {
    /// The defaults for a lane of so many sessions.
    pub fn new(sessions: usize) -> Self {
        Self { sessions: sessions.max(1), reserve: 0.05, ageing: 0.02, memory: 10.0 }
    }
}

/// Why a job is not admitted.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum Refused {
    /// It would be late even if nothing else ran.
    #[error("it takes {alone:.2} s alone, and its deadline is in {left:.2} s")]
    Hopeless {
        /// Its predicted time with the lane to itself.
        alone: Seconds,
        /// The time until its deadline.
        left: Seconds,
    },
    /// It, or a job admitted before it, would be late.
    #[error("with the work ahead of it, it would finish {late:.2} s too late")]
    Busy {
        /// How much later its deadline would have to be; a hint for when to retry.
        late: Seconds,
    },
    /// Its caller has booked its share of the lane.
    #[error("its caller's share of the lane is booked for {booked:.2} of {share:.2} s")]
    OverShare {
        /// Seconds of work of its class that the caller has waiting and that is due by this job's deadline.
        booked: Seconds,
        /// Seconds of work that it may have waiting before this job's deadline.
        share: Seconds,
    },
}

/// The state of the policy beside the jobs themselves: what was served to whom.
#[derive(Debug, Clone)]
pub struct Policy {
    settings: PolicySettings,
    classes: Shares<Class>,
    callers: Shares<(Class, Caller)>,
    demand: Demand,
}

impl Policy {
    /// A policy that has served nobody yet.
    pub fn new(settings: PolicySettings) -> Self {
        Self {
            settings,
            classes: Shares::default(),
            callers: Shares::default(),
            demand: Demand::new(settings.memory),
        }
    }

    /// As [`Self::admit`], for costs that are measured: an idle lane begins whatever is not late yet. Otherwise a cost that was measured
    /// too high would never be measured again. If it is as high as that, the job is [given up](Job::is_beyond_hope) after a few rows.
    pub fn admit_or_try(&mut self, jobs: &[Job], newcomer: &Job, now: Seconds) -> Result<(), Refused> {
        if jobs.is_empty() && newcomer.deadline.is_none_or(|due| due > now) {
            return self.admit(jobs, &Job { deadline: None, ..*newcomer }, now);
        }
        self.admit(jobs, newcomer, now)
    }

    /// Whether `newcomer` may join `jobs`, the jobs admitted and not ended. Counts it as demand either way.
    pub fn admit(&mut self, jobs: &[Job], newcomer: &Job, now: Seconds) -> Result<(), Refused> {
        self.demand.offer(newcomer.caller, newcomer.work_left, now);
        if let Some(deadline) = newcomer.deadline {
            let left = deadline - now;
            if newcomer.is_hopeless(now) {
                return Err(Refused::Hopeless { alone: newcomer.alone_left, left });
            }
            // What is due later waits for it.
            let is_before = |job: &Job| job.deadline.is_none_or(|due| due <= deadline);
            let own = jobs.iter().filter(|job| job.caller == newcomer.caller && job.class == newcomer.class);
            let booked: Seconds = own.filter(|job| is_before(job)).map(|job| job.work_left).sum();
            let wanted = booked + newcomer.work_left;
            let sessions = self.settings.sessions as f64;
            let share = self.demand.fair_share(sessions * (1.0 - self.settings.reserve)) * left;
            if booked > 0.0 && wanted > share {
                return Err(Refused::OverShare { booked, share });
            }
            let late =
                deadlines::lateness_with(&Self::counted(jobs, newcomer.class), newcomer, &self.settings, now);
            if late > 0.0 {
                return Err(Refused::Busy { late });
            }
        }
        let mut same_class = jobs.iter().filter(|job| job.class == newcomer.class).peekable();
        if same_class.peek().is_none() {
            self.classes.join(newcomer.class);
        }
        // Accounts of callers that come once must not pile up.
        self.callers.forget(|party| jobs.iter().any(|job| (job.class, job.caller) == party));
        if !same_class.any(|job| job.caller == newcomer.caller) {
            self.callers.join((newcomer.class, newcomer.caller));
        }
        Ok(())
    }

    /// The job whose row runs next: a place in `jobs`. None if no job is ready.
    pub fn choose(&self, jobs: &[Job], now: Seconds) -> Option<usize> {
        let ready = || jobs.iter().enumerate().filter(|(_, job)| job.is_ready);
        let class = ready().map(|(_, job)| job.class).min_by(|a, b| self.classes.compare(*a, *b))?;
        // Each caller's own choice: what is left, which seems less the longer it waits.
        let ageing = self.settings.ageing * self.settings.sessions as f64;
        let aged = |job: &Job| job.work_left - ageing * (now - job.arrived);
        let mut of_callers: BTreeMap<Caller, usize> = BTreeMap::new();
        for (place, job) in ready().filter(|(_, job)| job.class == class) {
            let best = of_callers.entry(job.caller).or_insert(place);
            let other = &jobs[*best];
            if aged(job).total_cmp(&aged(other)).then(job.id.cmp(&other.id)).is_lt() {
                *best = place;
            }
        }
        // Among callers: whose account would be least with that job done. It stays the same while the job runs.
        let then = |job: &Job| self.callers.served((class, job.caller)) + job.work_left;
        let preferred = of_callers.into_values().min_by(|a, b| {
            let (a, b) = (&jobs[*a], &jobs[*b]);
            // What is equal but for rounding is equal: the older one runs.
            let tolerance = 1e-9 * a.work_left.max(b.work_left);
            let by_account = if (then(a) - then(b)).abs() > tolerance {
                then(a).total_cmp(&then(b))
            } else {
                Ordering::Equal
            };
            by_account.then(a.id.cmp(&b.id))
        })?;
        // Interactive jobs first: they count on no slack that batch jobs need.
        let before =
            |class| deadlines::urgent_before(&Self::counted(jobs, class), preferred, &self.settings, now);
        let urgent = before(Class::Interactive).or_else(|| match class {
            Class::Interactive => None,
            Class::Batch => before(Class::Batch),
        });
        Some(urgent.unwrap_or(preferred))
    }

    /// The jobs as they count for one of `class`: for interactive jobs, the deadlines of batch jobs do not.
    fn counted(jobs: &[Job], class: Class) -> Cow<'_, [Job]> {
        if class == Class::Batch || jobs.iter().all(|job| job.class == Class::Interactive) {
            return Cow::Borrowed(jobs);
        }
        let count = |job: &Job| match job.class {
            Class::Interactive => *job,
            Class::Batch => Job { deadline: None, ..*job },
        };
        jobs.iter().map(count).collect()
    }

    /// Notes that a row of `job` was started.
    pub fn charge(&mut self, job: &Job) {
        self.classes.charge(job.class, job.row / job.class.weight());
        self.callers.charge((job.class, job.caller), job.row);
    }
}
