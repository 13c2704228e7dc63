//! How much each caller asks for, and what a fair share of the lane is.

use std::collections::BTreeMap;

use super::{Caller, Seconds};

/// Callers that are told apart; those that come when there are so many share an account. Names are free to choose.
const MOST_CALLERS: usize = 256;
/// Whose account that is.
const REST: Caller = Caller(u64::MAX - 1);

/// Work offered by each caller, admitted or not, averaged over the recent past.
#[derive(Debug, Clone)]
pub struct Demand {
    memory: Seconds,
    callers: BTreeMap<Caller, Offered>,
}

#[derive(Debug, Clone, Copy)]
struct Offered {
    /// Seconds of work, discounted by age.
    work: f64,
    /// When `work` was last discounted.
    at: Seconds,
}

impl Offered {
    fn discounted(self, memory: Seconds, now: Seconds) -> f64 {
        self.work * ((self.at - now) / memory).exp()
    }
}

impl Demand {
    /// No demand yet; `memory` is the time constant of the average.
    pub fn new(memory: Seconds) -> Self {
        Self { memory, callers: BTreeMap::new() }
    }

    /// Notes that `caller` offers `work`.
    pub fn offer(&mut self, caller: Caller, work: Seconds, now: Seconds) {
        let memory = self.memory;
        // What is below a millionth of the lane no longer matters.
        self.callers.retain(|_, offered| offered.discounted(memory, now) > 1e-6 * memory);
        let is_known = self.callers.contains_key(&caller);
        let caller = if is_known || self.callers.len() < MOST_CALLERS { caller } else { REST };
        let offered = self.callers.entry(caller).or_insert(Offered { work: 0.0, at: now });
        *offered = Offered { work: offered.discounted(memory, now) + work, at: now };
    }

    /// The most that any caller may take of `capacity` (sessions), so that callers who ask for less get what they ask for and the
    /// others equal parts of the rest (max-min fairness).
    pub fn fair_share(&self, capacity: f64) -> f64 {
        let now = self.callers.values().map(|offered| offered.at).fold(0.0, f64::max);
        let rate = |offered: &Offered| offered.discounted(self.memory, now) / self.memory;
        let mut rates: Vec<f64> = self.callers.values().map(rate).collect();
        rates.sort_by(f64::total_cmp);
        let mut left = capacity;
        for (served, rate) in rates.iter().enumerate() {
            let equal = left / (rates.len() - served) as f64;
            if *rate > equal {
                return equal;
            }
            left -= rate;
        }
        // Nobody asks for more than there is.
        capacity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(rates: &[f64]) -> f64 {
        let mut demand = Demand::new(10.0);
        for (caller, rate) in rates.iter().enumerate() {
            demand.offer(Caller(caller as u64), rate * 10.0, 0.0);
        }
        demand.fair_share(1.0)
    }

    #[test]
    fn the_modest_get_what_they_ask_for_and_the_others_equal_parts() {
        let cases: [(&[f64], f64); 6] = [
            (&[], 1.0),
            (&[0.2, 0.3], 1.0),
            (&[5.0], 1.0),
            (&[5.0, 0.1], 0.9),
            (&[5.0, 2.0], 0.5),
            (&[0.1, 5.0, 0.1, 2.0], 0.4),
        ];
        for (rates, expected) in cases {
            assert!((share(rates) - expected).abs() < 1e-12, "{rates:?}: {}", share(rates));
        }
    }

    #[test]
    fn any_number_of_names_takes_so_much_memory() {
        let mut demand = Demand::new(10.0);
        for name in 0..10_000 {
            demand.offer(Caller(name), 1.0, 0.0);
        }
        assert_eq!(demand.callers.len(), MOST_CALLERS + 1);
        // All that is offered is still known.
        let work: f64 = demand.callers.values().map(|offered| offered.work).sum();
        assert!((work - 10_000.0).abs() < 1e-6, "{work}");
    }

    #[test]
    fn demand_fades() {
        let mut demand = Demand::new(10.0);
        demand.offer(Caller(1), 100.0, 0.0);
        demand.offer(Caller(2), 100.0, 0.0);
        assert!((demand.fair_share(1.0) - 0.5).abs() < 1e-12);
        demand.offer(Caller(2), 100.0, 60.0);
        assert!(demand.fair_share(1.0) > 0.95);
        demand.offer(Caller(2), 100.0, 1e4);
        assert_eq!(demand.callers.len(), 1);
    }
}
