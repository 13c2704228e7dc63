//! What each caller uses, and its limits.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use opentelemetry::metrics::Counter;
use opentelemetry::{KeyValue, global};
use reverie_service_kit::Refusal;

use crate::{Caller, LimitSettings, Visitor};

/// From so many accounts on, those of callers that are away are let go.
const MANY: usize = 10_000;
/// A caller that has not called for so long is away: all that it may use in a minute has come back.
const AWAY: Duration = Duration::from_mins(2);
/// Pixels are counted in so many.
const PIXELS: u64 = 10_000;
const MEGAPIXEL: u64 = 1_000_000;

type Bucket = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<Instant>>;

/// The accounts of all callers.
#[derive(Debug, Default)]
pub(crate) struct Accounts(Mutex<HashMap<String, Arc<Account>>>);

impl Accounts {
    /// Begins a call of this caller.
    pub(crate) fn begin(&self, caller: Arc<Caller>) -> Result<(Visitor, InFlight), Refusal> {
        let account = self.of(&caller);
        let counted = account.begin().and_then(|in_flight| {
            let refusal = |why| Refusal::overloaded(format!("{} has made its calls: {why}", caller.name()));
            account
                .requests
                .take(1, "requests_per_minute", |calls| calls.to_string())
                .map_err(|late| late.into_refusal(refusal))?;
            Ok(in_flight)
        });
        let in_flight = counted.inspect_err(|_| refused(caller.label(), "limit"))?;
        counters().calls.add(1, &[KeyValue::new("caller", caller.label().to_owned())]);
        Ok((Visitor { caller, account }, in_flight))
    }

    fn of(&self, caller: &Caller) -> Arc<Account> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if accounts.len() >= MANY {
            accounts.retain(|_, account| !account.is_away());
        }
        match accounts.get(caller.name()) {
            // With other limits than before it begins anew, and calls in flight are counted by the old ones.
            Some(account) if account.limits == caller.limits => {
                account.came();
                Arc::clone(account)
            }
            _ => {
                let account = Arc::new(Account::new(caller.limits));
                accounts.insert(caller.name().to_owned(), Arc::clone(&account));
                account
            }
        }
    }
}

/// What one caller uses.
#[derive(Debug)]
pub(crate) struct Account {
    limits: LimitSettings,
    in_flight: Arc<AtomicU32>,
    requests: Allowance,
    pixels: Allowance,
    milliseconds: Allowance,
    came: Mutex<Instant>,
}

impl Account {
    fn new(limits: LimitSettings) -> Self {
        let in_pixels = u64::from(limits.megapixels_per_minute) * (MEGAPIXEL / PIXELS);
        Self {
            limits,
            in_flight: Arc::default(),
            requests: Allowance::new(limits.requests_per_minute.into()),
            pixels: Allowance::new(in_pixels),
            milliseconds: Allowance::new(u64::from(limits.model_seconds_per_minute) * 1000),
            came: Mutex::new(Instant::now()),
        }
    }

    fn came(&self) {
        *self.came.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn is_away(&self) -> bool {
        let came = *self.came.lock().unwrap_or_else(PoisonError::into_inner);
        self.in_flight.load(Ordering::Relaxed) == 0 && came.elapsed() > AWAY
    }

    fn begin(&self) -> Result<InFlight, Refusal> {
        let limit = self.limits.in_flight;
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let in_flight = InFlight(Arc::clone(&self.in_flight));
        if limit > 0 && before >= limit {
            let told = format!("the caller has all its {limit} calls in flight (in_flight)");
            return Err(Refusal::overloaded(told));
        }
        Ok(in_flight)
    }

    pub(crate) fn charge(&self, caller: &Caller, pixels: u64, model_seconds: f64) -> Result<(), Refusal> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "casts saturate")]
        let milliseconds = (model_seconds * 1000.0).ceil() as u64;
        let refusal = |why| Refusal::overloaded(format!("{} has used its share: {why}", caller.name()));
        let megapixels =
            |amount: u64| format!("{:.2} megapixels", amount as f64 / (MEGAPIXEL / PIXELS) as f64);
        let seconds = |amount: u64| format!("{:.1} s of the models", amount as f64 / 1000.0);
        self.pixels
            .take(pixels.div_ceil(PIXELS), "megapixels_per_minute", megapixels)
            .and_then(|()| self.milliseconds.take(milliseconds, "model_seconds_per_minute", seconds))
            .map_err(|late| {
                refused(caller.label(), "limit");
                late.into_refusal(refusal)
            })?;
        let label = [KeyValue::new("caller", caller.label().to_owned())];
        counters().pixels.add(pixels, &label);
        counters().model_seconds.add(model_seconds, &label);
        Ok(())
    }
}

/// So much in a minute, all of it at once or spread out.
#[derive(Debug)]
struct Allowance(Option<(u64, Bucket)>);

impl Allowance {
    /// 0 for no limit.
    fn new(per_minute: u64) -> Self {
        let quota = NonZeroU32::new(u32::try_from(per_minute).unwrap_or(u32::MAX)).map(Quota::per_minute);
        Self(quota.map(|quota| (per_minute, RateLimiter::direct_with_clock(quota, MonotonicClock))))
    }

    fn take(&self, amount: u64, setting: &str, tell: impl Fn(u64) -> String) -> Result<(), Late> {
        let Some((per_minute, bucket)) = &self.0 else { return Ok(()) };
        let Some(cells) = u32::try_from(amount).ok().map(NonZeroU32::new) else {
            return Err(Late::never(amount, *per_minute, setting, tell));
        };
        let Some(cells) = cells else { return Ok(()) };
        match bucket.check_n(cells) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(until)) => {
                let wait = until.wait_time_from(MonotonicClock.now());
                let (wanted, all) = (tell(amount), tell(*per_minute));
                let why = format!(
                    "{wanted} of {all} a minute ({setting}) are there in {:.1} s",
                    wait.as_secs_f64()
                );
                Err(Late { why, wait: Some(wait) })
            }
            Err(_) => Err(Late::never(amount, *per_minute, setting, tell)),
        }
    }
}

/// What is not there yet, or never.
struct Late {
    why: String,
    wait: Option<Duration>,
}

impl Late {
    fn never(amount: u64, per_minute: u64, setting: &str, tell: impl Fn(u64) -> String) -> Self {
        let why = format!(
            "the request takes {}, the caller has {} a minute ({setting})",
            tell(amount),
            tell(per_minute)
        );
        Self { why, wait: None }
    }

    fn into_refusal(self, refusal: impl Fn(String) -> Refusal) -> Refusal {
        match self.wait {
            Some(wait) => refusal(self.why).retry_after(wait),
            None => Refusal::too_large(self.why),
        }
    }
}

/// A call in flight, until it is dropped.
#[derive(Debug)]
pub struct InFlight(Arc<AtomicU32>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
