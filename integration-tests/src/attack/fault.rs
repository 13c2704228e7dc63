//! What happens to a mesh, and when: drawn from a seed, so that a run can be repeated.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use super::Wire;
use crate::locked::Link;

/// How long a fault lasts, milliseconds.
const LASTS: std::ops::Range<u64> = 500..5000;

/// The services as [`Fault`] names them.
const SERVICES: [&str; 6] = ["pipeline", "encoder", "retrieval", "vector", "denoiser", "super-resolution"];

/// Callers and their way to the door, as they are named among the ways between services.
pub(super) const DOOR: Link = ("callers", "pipeline");

/// All ways that are used, in order.
pub(super) const LINKS: [Link; 7] = [
    DOOR,
    ("pipeline", "denoiser"),
    ("pipeline", "encoder"),
    ("pipeline", "retrieval"),
    ("pipeline", "super-resolution"),
    ("retrieval", "encoder"),
    ("retrieval", "vector"),
];

/// Sorts of faults. Each cycle of a schedule has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `kill -9`; it is started again when the fault is over.
    Killed,
    /// SIGSTOP: it keeps its connections and does nothing.
    Stopped,
    /// The way between two services, or to the door, is cut.
    Cut,
    /// Nothing arrives on it, and nobody is told.
    Silent,
    /// Everything arrives slowly on it.
    Slow,
    /// Callers who ask for large images and do not read what they are sent.
    SlowReaders,
    /// Many connections that say nothing.
    SilentConnections,
    /// Many requests at once.
    Burst,
    /// Many requests that are given up at once.
    Resets,
    /// The disk that a knowledge base is on is full.
    FullDisk,
    /// A service gets no more memory from the system.
    LittleMemory,
    /// A file in the cache of the object storage is damaged, and a service that reads it is killed.
    DamagedCache,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Killed,
        Self::Stopped,
        Self::Cut,
        Self::Silent,
        Self::Slow,
        Self::SlowReaders,
        Self::SilentConnections,
        Self::Burst,
        Self::Resets,
        Self::FullDisk,
        Self::LittleMemory,
        Self::DamagedCache,
    ];
}

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What it is.
    pub kind: Kind,
    /// The service, where it is about one.
    pub service: &'static str,
    /// The way, where it is about one.
    pub link: Link,
    /// How long it lasts.
    pub lasts: Duration,
}

impl Fault {
    /// One of this kind, of no length.
    pub fn of(kind: Kind) -> Self {
        Self { kind, service: SERVICES[0], link: DOOR, lasts: Duration::ZERO }
    }

    /// Whether callers may hear nothing while it lasts, however well the mesh does: it stands between them and whoever would tell them.
    pub fn hides_the_door(&self) -> bool {
        match self.kind {
            Kind::Stopped => self.service == "pipeline",
            Kind::Silent | Kind::Slow => self.link == DOOR,
            _ => false,
        }
    }

    /// What it makes of the way that it is about.
    pub(super) fn wire(&self) -> Option<Wire> {
        match self.kind {
            Kind::Cut => Some(Wire::Cut),
            Kind::Silent => Some(Wire::Silent),
            Kind::Slow => Some(Wire::Slow),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, service, link: (from, to), lasts } = self;
        write!(formatter, "{kind:?}")?;
        match kind {
            Kind::Killed | Kind::Stopped | Kind::LittleMemory | Kind::DamagedCache => {
                write!(formatter, " ({service})")?;
            }
            Kind::Cut | Kind::Silent | Kind::Slow => write!(formatter, " ({from} to {to})")?,
            _ => {}
        }
        write!(formatter, " for {:.1} s", lasts.as_secs_f64())
    }
}

/// `count` faults of these kinds, one after the other; from the second cycle on, two at a time now and then.
pub fn schedule(kinds: &[Kind], count: usize, seed: u64) -> Vec<Vec<Fault>> {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut faults, mut cycle, mut drawn) = (Vec::new(), Vec::new(), 0);
    while drawn < count {
        if cycle.is_empty() {
            cycle = kinds.to_vec();
            cycle.shuffle(&mut random);
        }
        let at_once = if drawn >= kinds.len() && random.random_bool(0.3) { 2 } else { 1 };
        let together: Vec<Fault> =
            cycle.drain(cycle.len().saturating_sub(at_once)..).map(|kind| draw(kind, &mut random)).collect();
        drawn += together.len();
        faults.push(together);
    }
    faults
}

fn draw(kind: Kind, random: &mut StdRng) -> Fault {
    let service = SERVICES.choose(random).copied().unwrap_or_default();
    let link = LINKS.choose(random).copied().unwrap_or(DOOR);
    Fault { kind, service, link, lasts: Duration::from_millis(random.random_range(LASTS)) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_repeats_its_schedule_and_a_cycle_has_all_kinds() {
        let cycle = Kind::ALL.len();
        assert_eq!(schedule(&Kind::ALL, 3 * cycle, 7), schedule(&Kind::ALL, 3 * cycle, 7));
        assert_ne!(schedule(&Kind::ALL, cycle, 7), schedule(&Kind::ALL, cycle, 8));
        let first: BTreeSet<Kind> =
            schedule(&Kind::ALL, cycle, 7).iter().flatten().map(|fault| fault.kind).collect();
        assert_eq!(first.len(), cycle);
        assert!(schedule(&Kind::ALL, 5 * cycle, 7).iter().any(|together| together.len() == 2));
    }
}
