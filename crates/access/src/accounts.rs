//! What each caller uses, and its limits.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use reverie_service_kit::Refusal;

use crate::{Caller, LimitSettings, Visitor};

/// From so many accounts on, those of callers that are away are let go.
const MANY: usize = 10_000;
/// A caller that has not called for so long is away: all that it may use in a minute has come back.
const AWAY: Duration = Duration::from_mins(2);
const MINUTE: f64 = 60.0;
const MEGAPIXEL: f64 = 1e6;

/// The accounts of all callers.
#[derive(Debug)]
pub(crate) struct Accounts {
    /// By kind of credential, and name.
    all: Mutex<HashMap<(bool, String), Arc<Account>>>,
    /// Calls in flight of a caller that has no limit of its own.
    usual_in_flight: u32,
}

impl Accounts {
    /// The server has so many places for calls that work; a caller without a limit of its own takes at most half of them.
    pub(crate) fn new(places: usize) -> Self {
        let usual_in_flight = u32::try_from(places / 2).unwrap_or(u32::MAX).max(1);
        Self { all: Mutex::default(), usual_in_flight }
    }

    /// Begins a call of this caller.
    pub(crate) fn begin(&self, caller: Arc<Caller>) -> Result<(Visitor, InFlight), Refusal> {
        let account = self.of(&caller);
        let counted = account.hold(1).and_then(|in_flight| {
            let taken = account.used().take([(Kind::Requests, 1.0)], &account.limits);
            taken.map(|()| in_flight).map_err(|late| late.into_refusal(caller.name()))
        });
        let in_flight = counted.inspect_err(|_| caller.is_over_a_limit())?;
        counters().calls.add(1, &[KeyValue::new("caller", caller.label().to_owned())]);
        Ok((Visitor { caller, account }, in_flight))
    }

    fn of(&self, caller: &Caller) -> Arc<Account> {
        let mut accounts = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= MANY {
            accounts.retain(|_, account| !account.is_away());
        }
        let mut limits = caller.limits;
        if limits.in_flight == 0 {
            limits.in_flight = self.usual_in_flight;
        }
        let key = (caller.is_listed, caller.name().to_owned());
        match accounts.get(&key) {
            // With other limits than before it begins anew, and calls in flight are counted by the old ones.
            Some(account) if account.limits == limits => Arc::clone(account),
            _ => {
                let account = Arc::new(Account::new(limits));
                accounts.insert(key, Arc::clone(&account));
                account
            }
        }
    }
}

/// What is limited by the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Requests,
    Pixels,
    ModelSeconds,
}

impl Kind {
    /// As amounts are in order.
    const ALL: [Self; 3] = [Self::Requests, Self::Pixels, Self::ModelSeconds];

    /// How much of it there is in a minute, none for any amount, and the setting that says so.
    fn per_minute(self, limits: &LimitSettings) -> (Option<f64>, &'static str) {
        let LimitSettings { requests_per_minute, megapixels_per_minute, model_seconds_per_minute, .. } =
            *limits;
        let (limit, unit, setting) = match self {
            Self::Requests => (requests_per_minute, 1.0, "requests_per_minute"),
            Self::Pixels => (megapixels_per_minute, MEGAPIXEL, "megapixels_per_minute"),
            Self::ModelSeconds => (model_seconds_per_minute, 1.0, "model_seconds_per_minute"),
        };
        ((limit > 0).then(|| f64::from(limit) * unit), setting)
    }

    fn tell(self, amount: f64) -> String {
        match self {
            Self::Requests => format!("{amount:.0}"),
            Self::Pixels => format!("{:.2} megapixels", amount / MEGAPIXEL),
            Self::ModelSeconds => format!("{amount:.1} s of the models"),
        }
    }
}

/// What one caller uses.
#[derive(Debug)]
pub(crate) struct Account {
    limits: LimitSettings,
    in_flight: Arc<AtomicU32>,
    used: Mutex<Used>,
}

/// What was used of each kind, as far as it has not come back: a minute's worth comes back in a minute.
#[derive(Debug)]
struct Used {
    amounts: [f64; 3],
    at: Instant,
}

impl Account {
    fn new(limits: LimitSettings) -> Self {
        let used = Mutex::new(Used { amounts: [0.0; 3], at: Instant::now() });
        Self { limits, in_flight: Arc::default(), used }
    }

    fn used(&self) -> std::sync::MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_away(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0 && self.used().at.elapsed() > AWAY
    }

    /// Counts `count` more calls, or images of a call, as in flight.
    pub(crate) fn hold(&self, count: u32) -> Result<InFlight, Refusal> {
        let limit = self.limits.in_flight;
        let before = self.in_flight.fetch_add(count, Ordering::Relaxed);
        let in_flight = InFlight(Arc::clone(&self.in_flight), count);
        if before.saturating_add(count) > limit {
            let told = format!(
                "the caller may have {limit} calls and images in flight (in_flight), and has {before}"
            );
            return Err(if before <= 1 { Refusal::too_large(told) } else { Refusal::overloaded(told) });
        }
        Ok(in_flight)
    }

    pub(crate) fn charge(&self, caller: &Caller, pixels: u64, model_seconds: f64) -> Result<(), Refusal> {
        let wanted = [(Kind::Pixels, pixels as f64), (Kind::ModelSeconds, model_seconds)];
        self.used().take(wanted, &self.limits).map_err(|late| late.into_refusal(caller.name()))?;
        let label = [KeyValue::new("caller", caller.label().to_owned())];
        counters().pixels.add(pixels, &label);
        counters().model_seconds.add(model_seconds, &label);
        Ok(())
    }
}

impl Used {
    /// Takes all that is wanted, or nothing.
    fn take<const N: usize>(&mut self, wanted: [(Kind, f64); N], limits: &LimitSettings) -> Result<(), Late> {
        let passed = self.at.elapsed().as_secs_f64();
        self.at = Instant::now();
        for (kind, used) in Kind::ALL.into_iter().zip(&mut self.amounts) {
            let back = kind.per_minute(limits).0.unwrap_or_default() * passed / MINUTE;
            *used = (*used - back).max(0.0);
        }
        for (kind, amount) in wanted {
            let (Some(per_minute), setting) = kind.per_minute(limits) else { continue };
            let (asked, all) = (kind.tell(amount), kind.tell(per_minute));
            if amount > per_minute {
                let why = format!("the request takes {asked}, and there are {all} a minute ({setting})");
                return Err(Late { why, wait: None });
            }
            let missing = self.amounts[kind as usize] + amount - per_minute;
            if missing > 0.0 {
                let wait = Duration::from_secs_f64(missing / per_minute * MINUTE);
                let why =
                    format!("{asked} of {all} a minute ({setting}) are there in {:.1} s", wait.as_secs_f64());
                return Err(Late { why, wait: Some(wait) });
            }
        }
        for (kind, amount) in wanted {
            self.amounts[kind as usize] += amount;
        }
        Ok(())
    }
}

/// What is not there yet, or never.
struct Late {
    why: String,
    wait: Option<Duration>,
}

impl Late {
    fn into_refusal(self, name: &str) -> Refusal {
        match self.wait {
            Some(wait) => {
                Refusal::overloaded(format!("{name} has used its share: {}", self.why)).retry_after(wait)
            }
            None => Refusal::too_large(format!("{name} has not enough for it: {}", self.why)),
        }
    }
}

/// Calls or images in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicU32>, u32);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

struct Counters {
    calls: Counter<u64>,
    refused: Counter<u64>,
    pixels: Counter<u64>,
    model_seconds: Counter<f64>,
}

fn counters() -> &'static Counters {
    static COUNTERS: LazyLock<Counters> = LazyLock::new(|| {
        let meter = global::meter("reverie");
        Counters {
            calls: meter.u64_counter("reverie.access.calls").with_unit("{call}").build(),
            refused: meter.u64_counter("reverie.access.refused").with_unit("{call}").build(),
            pixels: meter.u64_counter("reverie.access.pixels").with_unit("{pixel}").build(),
            model_seconds: meter.f64_counter("reverie.access.model_time").with_unit("s").build(),
        }
    });
    &COUNTERS
}

/// Counts a call that was refused.
pub(crate) fn refused(caller: &str, why: &'static str) {
    counters().refused.add(1, &[KeyValue::new("caller", caller.to_owned()), KeyValue::new("reason", why)]);
}
