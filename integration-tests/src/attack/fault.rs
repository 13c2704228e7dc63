//! What happens to a mesh, and when: drawn from a seed, so that a run can be repeated.

use std::fmt;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{RngExt as _, SeedableRng as _};

use super::Wire;
use crate::Fallible;
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

    /// Whether it happens to one service.
    fn is_of_a_service(self) -> bool {
        matches!(self, Self::Killed | Self::Stopped | Self::LittleMemory | Self::DamagedCache)
    }
}

/// Kinds by their names, with commas between them.
pub fn kinds(names: &str) -> Fallible<Vec<Kind>> {
    let named = |name: &str| Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == name.trim());
    let found = names.split(',').map(|name| {
        named(name).ok_or_else(|| format!("{name:?} is no kind of fault; there are {:?}", Kind::ALL).into())
    });
    found.collect()
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

    /// Whether it may end the process of this service.
    pub(super) fn may_end(&self, service: &str) -> bool {
        let ends = matches!(self.kind, Kind::Killed | Kind::DamagedCache | Kind::LittleMemory);
        ends && self.service == service
    }

    /// Whether it may break the connections of callers.
    pub(super) fn breaks_the_door(&self) -> bool {
        let is_wire = matches!(self.kind, Kind::Cut | Kind::Silent | Kind::Slow) && self.link == DOOR;
        is_wire || self.may_end("pipeline") || self.hides_the_door()
    }

    /// Whether a part of the mesh may be away while it lasts, for a call that writes or for one that does not. The others are no more than
    /// load.
    pub(super) fn takes_a_part_away(&self, writes: bool) -> bool {
        match self.kind {
            Kind::SlowReaders | Kind::SilentConnections | Kind::Burst | Kind::Resets => false,
            Kind::FullDisk => writes,
            _ => true,
        }
    }

    /// Whether both can be there at the same time, and each be ended by itself.
    fn goes_with(&self, other: &Self) -> bool {
        let of_services = self.kind.is_of_a_service() && other.kind.is_of_a_service();
        let same_service = of_services && self.service == other.service;
        let same_link = self.wire().is_some() && other.wire().is_some() && self.link == other.link;
        !same_service && !same_link
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
        if kind.is_of_a_service() {
            write!(formatter, " ({service})")?;
        } else if self.wire().is_some() {
            write!(formatter, " ({from} to {to})")?;
        }
        write!(formatter, " for {:.1} s", lasts.as_secs_f64())
    }
}

/// `count` faults of these kinds, of which there is one at least, one after the other; from the second cycle on, two at a time now and then.
///
/// # Panics
/// If there are no kinds.
pub fn schedule(kinds: &[Kind], count: usize, seed: u64) -> Vec<Vec<Fault>> {
    assert!(!kinds.is_empty(), "no kinds of faults");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut faults, mut cycle, mut drawn) = (Vec::new(), Vec::new(), 0);
    while drawn < count {
        if cycle.is_empty() {
            cycle = kinds.to_vec();
            cycle.shuffle(&mut random);
        }
        let at_once = if drawn >= kinds.len() && random.random_bool(0.3) { 2 } else { 1 };
        let mut together: Vec<Fault> = Vec::new();
        for kind in cycle.drain(cycle.len().saturating_sub(at_once)..) {
            let mut fault = draw(kind, &mut random);
            while !together.iter().all(|other| fault.goes_with(other)) {
                fault = draw(kind, &mut random);
            }
            together.push(fault);
        }
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
        let pairs: Vec<_> =
            schedule(&Kind::ALL, 200 * cycle, 7).into_iter().filter(|together| together.len() == 2).collect();
        assert!(pairs.len() > cycle);
        assert!(pairs.iter().all(|pair| pair[0].goes_with(&pair[1])));
    }

    #[test]
    fn kinds_are_read_by_name() {
        assert_eq!(kinds("Killed, FullDisk").unwrap(), [Kind::Killed, Kind::FullDisk]);
        for wrong in ["Kiled", "", "Killed,"] {
            let told = kinds(wrong).unwrap_err().to_string();
            assert!(told.contains("SilentConnections"), "{told}");
        }
    }
}
