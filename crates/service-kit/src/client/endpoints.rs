//! The replicas of one service: who they are, which names are resolved again every few seconds, and which of them takes the next call.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use super::endpoint::{Endpoint, Fitness, Health, Place};
use super::{Addresses, health, metrics};
use crate::Address;

/// How often names are resolved again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);
/// The same after a name could not be resolved, and while no replica is fit for calls.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a lookup may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for the first addresses.
const FIRST_ADDRESSES: Duration = Duration::from_secs(2);

/// All replicas of one service.
#[derive(Debug)]
pub(super) struct Endpoints {
    pub(super) name: &'static str,
    members: RwLock<Vec<Arc<Endpoint>>>,
    /// Names are to be resolved again at once.
    wanted: Notify,
    /// What came of the last resolution.
    resolved: watch::Sender<Resolved>,
}

/// What came of a resolution.
#[derive(Debug, Clone, Default)]
struct Resolved {
    is_done: bool,
    /// Why an address is not known.
    failure: Option<String>,
}

impl Endpoints {
    /// The replicas at `addresses`, and the task that looks after them. A single one at a fixed address needs none: there is nothing
    /// to choose from.
    pub(super) fn new(
        name: &'static str,
        addresses: &Addresses,
    ) -> (Arc<Self>, Option<AbortOnDropHandle<()>>) {
        let addresses: Vec<Address> = addresses.iter().cloned().collect();
        let endpoints = |members, is_done| {
            let resolved = watch::Sender::new(Resolved { is_done, failure: None });
            let endpoints =
                Arc::new(Self { name, members: RwLock::new(members), wanted: Notify::new(), resolved });
            metrics::observe(&endpoints);
            endpoints
        };
        if let [address] = &addresses[..]
            && !is_name(address)
        {
            let place = Place { address: address.clone(), origin: None };
            let only = Arc::new(Endpoint::new(place, Health::Unknown));
            return (endpoints(vec![only], true), None);
        }
        let endpoints = endpoints(Vec::new(), false);
        let task = tokio::spawn(look_after(Arc::clone(&endpoints), addresses));
        (endpoints, Some(AbortOnDropHandle::new(task)))
    }

    pub(super) fn members(&self) -> Vec<Arc<Endpoint>> {
        self.members.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those fit for calls.
    pub(super) fn live(&self) -> Vec<Arc<Endpoint>> {
        let mut members = self.members();
        members.retain(|member| member.fitness() == Fitness::Live);
        members
    }

    /// Resolves names at once: a replica was lost, and another may be there already.
    pub(super) fn look_again(&self) {
        self.wanted.notify_one();
    }

    /// Whether another one than `endpoint` is fit for calls.
    pub(super) fn has_other(&self, endpoint: &Arc<Endpoint>) -> bool {
        self.live().iter().any(|other| !Arc::ptr_eq(other, endpoint))
    }

    /// Whether one more may be left out: at most half of them are.
    pub(super) fn may_eject(&self) -> bool {
        let members = self.members();
        let ejected = members.iter().filter(|member| member.is_ejected()).count();
        2 * (ejected + 1) <= members.len()
    }

    /// Chooses who takes a call: of two that are drawn among the fittest, the one with fewer calls in flight. One that was `tried` takes
    /// it again only if there is no other.
    ///
    /// # Errors
    /// Why there is nobody to choose.
    pub(super) async fn choose(&self, tried: &[Arc<Endpoint>]) -> Result<Arc<Endpoint>, String> {
        let mut resolved = self.resolved.subscribe();
        let first = tokio::time::timeout(FIRST_ADDRESSES, resolved.wait_for(|resolved| resolved.is_done));
        let failure = match first.await {
            Ok(Ok(resolved)) => resolved.failure.clone(),
            _ => Some("its name is not resolved yet".to_owned()),
        };
        let members = self.members();
        let is_tried = |member: &Arc<Endpoint>| tried.iter().any(|tried| Arc::ptr_eq(tried, member));
        // One that is unfit and untried comes after one that is fit and was tried, unless nobody is fit.
        let rank = |member: &Arc<Endpoint>| {
            let fitness = member.fitness();
            (
                fitness != Fitness::Live && members.iter().any(|other| other.fitness() == Fitness::Live),
                is_tried(member),
                fitness,
            )
        };
        let ranked: Vec<_> = members.iter().map(|member| (rank(member), member)).collect();
        let best = ranked.iter().map(|(rank, _)| *rank).min();
        let fittest: Vec<_> = ranked.iter().filter(|(rank, _)| Some(*rank) == best).collect();
        let two = fittest.sample(&mut rand::rng(), 2);
        let chosen = two.min_by_key(|(_, member)| member.in_flight());
        let nobody = || failure.unwrap_or_else(|| "its name has no address".to_owned());
        chosen.map(|(_, member)| Arc::clone(member)).ok_or_else(nobody)
    }
}

/// The host and port of an address that has to be resolved.
fn named(address: &Address) -> Option<(String, u16)> {
    let Address::Uri(uri) = address else { return None };
    let host = uri.host()?;
    let is_literal = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok();
    (!is_literal)
        .then(|| (host.to_owned(), uri.port_u16().unwrap_or(if address.is_secure() { 443 } else { 80 })))
}

/// Whether an address has to be resolved.
pub(super) fn is_name(address: &Address) -> bool {
    named(address).is_some()
}

/// All places that an address stands for.
async fn resolve(address: &Address) -> Result<Vec<Place>, String> {
    let Address::Uri(uri) = address else {
        return Ok(vec![Place { address: address.clone(), origin: None }]);
    };
    let Some((host, port)) = named(address) else {
        return Ok(vec![Place { address: address.clone(), origin: None }]);
    };
    let lookup = tokio::net::lookup_host((host.as_str(), port));
    let found = match tokio::time::timeout(RESOLVE_TIMEOUT, lookup).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(format!("{host} cannot be resolved: {error}")),
        Err(_) => return Err(format!("{host} was not resolved within {RESOLVE_TIMEOUT:?}")),
    };
    let place = |socket: SocketAddr| {
        let scheme = uri.scheme_str()?;
        let address = format!("{scheme}://{socket}").parse().ok()?;
        Some(Place { address, origin: Some(uri.clone()) })
    };
    Ok(found.filter_map(place).collect())
}

/// Keeps the members as names are resolved, and watches the health of each.
async fn look_after(endpoints: Arc<Endpoints>, addresses: Vec<Address>) {
    let mut watched: Vec<(Arc<Endpoint>, tokio::task::AbortHandle)> = Vec::new();
    // Ends them all when this task is dropped.
    let mut watches = JoinSet::new();
    let mut last_failure = None;
    let is_fixed = !addresses.iter().any(is_name);
    loop {
        let resolved = futures::future::join_all(addresses.iter().map(resolve)).await;
        let failure = resolved.iter().find_map(|outcome| outcome.as_ref().err().cloned());
        if failure != last_failure {
            if let Some(failure) = &failure {
                tracing::warn!(stage = endpoints.name, "{failure}; the addresses known so far are kept");
            }
            last_failure.clone_from(&failure);
        }
        let found: Vec<Place> = resolved.into_iter().flatten().flatten().collect();
        let mut known = HashSet::new();
        let mut members = Vec::new();
        for place in found {
            if !matches!(place.address, Address::Memory(_)) && !known.insert(place.address.to_string()) {
                continue;
            }
            let there = watched.iter().find(|(member, _)| is_same(&member.place, &place));
            let member = there.map_or_else(
                || Arc::new(Endpoint::new(place, Health::Unknown)),
                |(member, _)| Arc::clone(member),
            );
            members.push(member);
        }
        if failure.is_some() {
            // Whose name does not resolve now may well be there.
            let kept = watched.iter().map(|(member, _)| member);
            let missing: Vec<_> = kept
                .filter(|member| !members.iter().any(|other| Arc::ptr_eq(other, member)))
                .cloned()
                .collect();
            members.extend(missing);
        }
        watched.retain(|(member, watch)| {
            let is_kept = members.iter().any(|other| Arc::ptr_eq(other, member));
            if !is_kept {
                watch.abort();
            }
            is_kept
        });
        for member in &members {
            if !watched.iter().any(|(other, _)| Arc::ptr_eq(other, member)) {
                let watch = watches.spawn(health::watch(Arc::clone(member), Arc::clone(&endpoints)));
                watched.push((Arc::clone(member), watch));
            }
        }
        *endpoints.members.write().unwrap_or_else(PoisonError::into_inner) = members;
        let has_failed = failure.is_some();
        endpoints.resolved.send_replace(Resolved { is_done: true, failure });
        if is_fixed {
            std::future::pending::<()>().await;
        }
        let is_pressing = has_failed || endpoints.live().is_empty();
        tokio::select! {
            () = tokio::time::sleep(if is_pressing { RETRY_INTERVAL } else { RESOLVE_INTERVAL }) => {}
            () = endpoints.wanted.notified() => {}
        }
        // Those that were aborted are let go of.
        while watches.try_join_next().is_some() {}
    }
}

fn is_same(one: &Place, other: &Place) -> bool {
    match (&one.address, &other.address) {
        (Address::Memory(one), Address::Memory(other)) => one.same_channel(other),
        (Address::Uri(one), Address::Uri(other)) => one == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(count: u16) -> Arc<Endpoints> {
        let member = |port| {
            let address = format!("http://127.0.0.1:{port}").parse().unwrap();
            Arc::new(Endpoint::new(Place { address, origin: None }, Health::Serving))
        };
        let resolved = watch::Sender::new(Resolved { is_done: true, failure: None });
        let members = RwLock::new((1..=count).map(member).collect());
        Arc::new(Endpoints { name: "test", members, wanted: Notify::new(), resolved })
    }

    #[tokio::test]
    async fn calls_go_to_those_with_few_in_flight() {
        let endpoints = endpoints(3);
        let mut calls = Vec::new();
        for _ in 0..300 {
            calls.push(endpoints.choose(&[]).await.unwrap().begin());
        }
        for member in endpoints.members() {
            assert!((90..=110).contains(&member.in_flight()), "{}", member.in_flight());
        }
        // A slow one, whose calls stay, gets no more of them than the others have at a time.
        let slow = endpoints.members()[0].clone();
        calls.retain(|call| Arc::ptr_eq(&call.endpoint, &slow));
        let before = slow.in_flight();
        for _ in 0..50 {
            calls.push(endpoints.choose(&[]).await.unwrap().begin());
        }
        assert_eq!(slow.in_flight(), before);
    }

    #[tokio::test]
    async fn the_fittest_are_called_and_the_others_where_there_is_none() {
        let endpoints = endpoints(3);
        let [live, silent, draining] = &endpoints.members()[..] else { panic!("three") };
        silent.set_health(Health::Unknown);
        draining.set_health(Health::NotServing);
        let chosen = async |tried: &[Arc<Endpoint>]| endpoints.choose(tried).await.unwrap();
        for _ in 0..20 {
            assert!(Arc::ptr_eq(&chosen(&[]).await, live));
            assert!(Arc::ptr_eq(&chosen(&[Arc::clone(live)]).await, live), "no other is fit");
        }
        live.set_health(Health::Unknown);
        assert!(Arc::ptr_eq(&chosen(&[]).await, draining), "it answers at least");
        assert!(!Arc::ptr_eq(&chosen(&[Arc::clone(draining)]).await, draining));
    }

    #[tokio::test]
    async fn at_most_half_are_left_out() {
        for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
            let endpoints = endpoints(count);
            for member in endpoints.members() {
                for _ in 0..10 {
                    member.failed(None, endpoints.may_eject());
                }
            }
            let ejected = endpoints.members().iter().filter(|member| member.is_ejected()).count();
            assert_eq!(ejected, most, "of {count}");
        }
    }

    #[tokio::test]
    async fn a_name_stands_for_all_its_addresses() {
        let places = resolve(&"http://localhost:7100".parse().unwrap()).await.unwrap();
        let addresses: Vec<_> = places.iter().map(|place| place.address.to_string()).collect();
        assert!(addresses.contains(&"http://127.0.0.1:7100/".to_owned()), "{addresses:?}");
        assert!(places.iter().all(|place| place.origin.is_some()));
        let error = resolve(&"http://nobody.invalid:1".parse().unwrap()).await.unwrap_err();
        assert!(error.contains("nobody.invalid"), "{error}");
        for fixed in ["http://127.0.0.1:1", "http://[::1]:1"] {
            assert_eq!(named(&fixed.parse().unwrap()), None);
        }
    }
}
