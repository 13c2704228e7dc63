//! When calls are made in an open loop: whatever the mesh does, as callers who do not know of each other come.

use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie::Failure;
use serde::Deserialize;

use super::mix::{MOST_SECONDS, Mix};

/// How calls are spread over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Pattern {
    /// At random, each on its own (a Poisson process).
    Poisson,
    /// At even intervals.
    Even,
    /// `--burst` calls at a time, the bursts at random.
    Bursts,
    /// At random, at a rate that rises evenly from 0 to twice `--rate`.
    Ramp,
}

/// One call to make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Arrival {
    /// When, from the start of the run.
    pub(super) at: Duration,
    /// Index of its kind in the mix.
    pub(super) kind: usize,
    /// Seed of the image.
    pub(super) seed: u64,
    /// The caller drops it when this share of the time has passed that an image takes alone.
    pub(super) abandoned: Option<f64>,
}

/// Calls at `rate` per second for `seconds`.
pub(super) fn arrivals(
    pattern: Pattern,
    rate: f64,
    seconds: f64,
    burst: u32,
    mix: &Mix,
    seed: u64,
) -> Vec<Arrival> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut times = Vec::new();
    let mut at = 0.0;
    loop {
        // Minus the logarithm of a uniform number is exponential with mean 1.
        let exponential = -(1.0 - rng.random::<f64>()).ln();
        match pattern {
            Pattern::Poisson => at += exponential / rate,
            Pattern::Even => at = times.len() as f64 / rate,
            Pattern::Bursts => at += exponential * f64::from(burst) / rate,
            // The expected number of calls until t is rate t^2 / seconds: its inverse turns a process of rate 1 into this one.
            Pattern::Ramp => at = (at * at + exponential * seconds / rate).sqrt(),
        }
        if at >= seconds {
            break;
        }
        let together = if pattern == Pattern::Bursts { burst } else { 1 };
        times.extend((0..together).map(|_| at));
    }
    calls(&times, mix, &mut rng)
}

/// `count` calls that are made as soon as somebody can.
pub(super) fn at_once(count: u32, mix: &Mix, seed: u64) -> Vec<Arrival> {
    calls(&vec![0.0; count as usize], mix, &mut StdRng::seed_from_u64(seed))
}

fn calls(times: &[f64], mix: &Mix, rng: &mut StdRng) -> Vec<Arrival> {
    let arrival = |(index, at): (u64, &f64)| {
        let kind = mix.draw(rng);
        let abandoned = abandoned(mix, kind, rng);
        Arrival { at: Duration::from_secs_f64(*at), kind, seed: index, abandoned }
    };
    (0..).zip(times).map(arrival).collect()
}

/// When a call of this kind is given up, as a share of its time, if it is.
fn abandoned(mix: &Mix, kind: usize, rng: &mut StdRng) -> Option<f64> {
    rng.random_bool(mix.kinds[kind].abandoned).then(|| rng.random::<f64>())
}

/// A line of a trace.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// Seconds from the start.
    at: f64,
    /// Name of the kind. Default: the first of the mix.
    kind: Option<String>,
    /// Seed. Default: the number of the line.
    seed: Option<u64>,
}

/// Reads a trace: lines of JSON such as `{"at": 0.25, "kind": "thumbnail"}`, in any order.
pub(super) fn trace(path: &Path, mix: &Mix, seed: u64) -> Result<Vec<Arrival>, Failure> {
    let mut rng = StdRng::seed_from_u64(seed);
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut arrivals = Vec::new();
    for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |why: String| format!("{}, line {number}: {why}", path.display());
        let Line { at, kind, seed } = serde_json::from_str(line).map_err(|error| wrong(error.to_string()))?;
        if !(0.0..=MOST_SECONDS).contains(&at) {
            return Err(wrong(format!("at must be 0 to {MOST_SECONDS} seconds (got {at})")).into());
        }
        let kind = match kind {
            None => 0,
            Some(name) => mix.named(&name).ok_or_else(|| wrong(format!("the mix has no kind {name:?}")))?,
        };
        let seed = seed.unwrap_or(number);
        let abandoned = abandoned(mix, kind, &mut rng);
        arrivals.push(Arrival { at: Duration::from_secs_f64(at), kind, seed, abandoned });
    }
    if arrivals.is_empty() {
        return Err(format!("{}: a trace needs at least one line", path.display()).into());
    }
    arrivals.sort_by_key(|arrival| arrival.at);
    Ok(arrivals)
}

#[cfg(test)]
mod tests {
    use super::super::mix::Kind;
    use super::*;

    fn mix(abandoned: f64) -> Mix {
        let text = format!("name = 'a'\nprompts = ['x']\nabandoned = {abandoned}");
        Mix::new(vec![toml::from_str::<Kind>(&text).unwrap()]).unwrap()
    }

    /// Mean and variance over mean of the number of calls in each of the last `count` of the run's `of` equal parts.
    fn per_part(arrivals: &[Arrival], seconds: f64, count: usize) -> (f64, f64) {
        let mut parts = vec![0.0; count];
        for arrival in arrivals {
            parts[(arrival.at.as_secs_f64() / seconds * count as f64) as usize] += 1.0;
        }
        let mean = parts.iter().sum::<f64>() / count as f64;
        let variance = parts.iter().map(|part| (part - mean) * (part - mean)).sum::<f64>() / count as f64;
        (mean, variance / mean)
    }

    #[test]
    fn each_pattern_has_its_rate_and_its_spread() {
        for seed in 0..4 {
            let of = |pattern| arrivals(pattern, 20.0, 1000.0, 8, &mix(0.0), seed);
            // 20 calls per second in parts of one second; the variance of a Poisson process is its mean.
            let (mean, spread) = per_part(&of(Pattern::Poisson), 1000.0, 1000);
            assert!((19.4..20.6).contains(&mean) && (0.85..1.15).contains(&spread), "{mean} {spread}");
            let (mean, spread) = per_part(&of(Pattern::Even), 1000.0, 1000);
            assert!((19.9..20.1).contains(&mean) && spread < 0.1, "{mean} {spread}");
            let (mean, spread) = per_part(&of(Pattern::Bursts), 1000.0, 1000);
            assert!((18.5..21.5).contains(&mean) && (6.5..9.5).contains(&spread), "{mean} {spread}");
            // The second half of a ramp has three quarters of the calls.
            let ramp = of(Pattern::Ramp);
            let late = ramp.iter().filter(|arrival| arrival.at >= Duration::from_secs(500)).count();
            let share = late as f64 / ramp.len() as f64;
            assert!((0.73..0.77).contains(&share) && (19_400..20_600).contains(&ramp.len()), "{share}");
        }
    }

    #[test]
    fn a_share_of_the_calls_is_abandoned_and_a_seed_repeats_a_run() {
        let of = |seed| arrivals(Pattern::Poisson, 20.0, 200.0, 1, &mix(0.25), seed);
        let abandoned = of(1).iter().filter(|arrival| arrival.abandoned.is_some()).count() as f64;
        assert!((0.22..0.28).contains(&(abandoned / of(1).len() as f64)), "{abandoned}");
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_trace_is_replayed_in_order_and_a_wrong_line_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.jsonl");
        let read_with = |text: &str, abandoned: f64| {
            std::fs::write(&path, text).unwrap();
            trace(&path, &mix(abandoned), 1)
        };
        let read = |text: &str| read_with(text, 0.0);
        let arrivals = read("{\"at\": 2.5}\n\n{\"at\": 0.5, \"kind\": \"a\", \"seed\": 9}\n").unwrap();
        let told: Vec<_> = arrivals.iter().map(|arrival| (arrival.at.as_millis(), arrival.seed)).collect();
        assert_eq!(told, [(500, 9), (2500, 1)]);
        assert!(arrivals.iter().all(|arrival| arrival.abandoned.is_none()));
        let given_up = read_with("{\"at\": 1}\n{\"at\": 2}", 1.0).unwrap();
        assert!(given_up.iter().all(|arrival| arrival.abandoned.is_some()), "as the mix says: {given_up:?}");
        for (text, told) in [
            ("{\"at\": -1}", "line 1: at must be 0"),
            ("{\"at\": 1}\n{\"at\": 1, \"kind\": \"b\"}", "line 2: the mix has no kind \"b\""),
            ("{\"at\": 1, \"king\": \"a\"}", "line 1: unknown field"),
            ("\n", "at least one line"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }
}
