//! Fair shares by virtual time: start-time fair queueing (Goyal, Vin and Cheng, 1996).

use std::cmp::Ordering;
use std::collections::BTreeMap;

/// What each of several parties was served, on a common virtual clock.
///
/// A party that has nothing to do earns no credit: when it joins again it starts where the clock stands. A party that was served
/// beyond the clock keeps that debt, so that leaving and joining again gains nothing.
#[derive(Debug, Clone)]
pub struct Shares<K> {
    served: BTreeMap<K, f64>,
    clock: f64,
}

impl<K> Default for Shares<K> {
    fn default() -> Self {
        Self { served: BTreeMap::new(), clock: 0.0 }
    }
}

impl<K: Ord + Copy> Shares<K> {
    /// A party that had nothing to do has work now.
    pub fn join(&mut self, party: K) {
        let clock = self.clock;
        // Whoever stands at the clock or behind it would start at the clock anyway, unless it is waiting.
        let account = self.served.entry(party).or_insert(clock);
        *account = account.max(clock);
    }

    /// What `party` was served; where the clock stands if it never was.
    pub fn served(&self, party: K) -> f64 {
        self.served.get(&party).copied().unwrap_or(self.clock)
    }

    /// Orders parties by what they were served, the least first.
    pub fn compare(&self, a: K, b: K) -> Ordering {
        self.served(a).total_cmp(&self.served(b)).then(a.cmp(&b))
    }

    /// Notes that `party` is served `amount`, divided by its weight if parties have weights.
    pub fn charge(&mut self, party: K, amount: f64) {
        let account = self.served.entry(party).or_insert(self.clock);
        self.clock = self.clock.max(*account);
        *account += amount;
    }

    /// Forgets parties without work that owe nothing.
    pub fn forget(&mut self, has_work: impl Fn(K) -> bool) {
        let clock = self.clock;
        self.served.retain(|party, account| *account > clock || has_work(*party));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_parties_earn_no_credit_and_keep_their_debt() {
        let mut shares = Shares::default();
        shares.join('a');
        for _ in 0..10 {
            shares.charge('a', 1.0);
        }
        shares.join('b');
        assert!(shares.served('b') >= 9.0, "b was idle");
        shares.charge('b', 100.0);
        shares.join('b');
        assert!(shares.served('b') > 100.0, "b was served in advance");
        assert_eq!(shares.compare('a', 'b'), Ordering::Less);
    }

    #[test]
    fn only_settled_accounts_are_forgotten() {
        let mut shares = Shares::default();
        for party in ['a', 'b', 'c'] {
            shares.join(party);
        }
        shares.charge('a', 5.0);
        shares.charge('a', 5.0);
        shares.forget(|party| party == 'b');
        assert_eq!(shares.served.len(), 2, "a owes, b has work, c neither: {shares:?}");
        assert!((shares.served('c') - 5.0).abs() < 1e-12);
    }
}
