//! Faults come and go while callers draw, search and write: each call gets what it asked for or is told why not by its deadline, soon
//! after a fault all is well again, and nothing is leaked or lost.
//!
//! `REVERIE_FAULTS` sets how many faults there are (one of each kind otherwise), `REVERIE_SEED` which ones, and `REVERIE_KINDS` of which
//! kinds (`Killed,FullDisk`; all otherwise). `cargo xtask attack` does the same for long.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reverie_integration_tests::Fallible;
use reverie_integration_tests::attack::promises::{self, Happened};
use reverie_integration_tests::attack::{Besieged, Call, Fault, Kind, Outcome, kinds, own_mounts, schedule};
use reverie_integration_tests::number;
use tokio::task::JoinSet;

/// Callers at a time.
const CALLERS: u64 = 3;
/// By then all must be well after a fault.
const RECOVERY: Duration = Duration::from_secs(30);

#[test]
fn the_mesh_keeps_its_promises_under_attack() -> Fallible<()> {
    if let Some(has_passed) = own_mounts::run_within("the_mesh_keeps_its_promises_under_attack")? {
        assert!(has_passed, "see above");
        return Ok(());
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(attack())
}

async fn attack() -> Fallible<()> {
    let mut mesh = Besieged::start(&[]).await?;
    let kinds = chosen(&mesh.kinds())?;
    let (count, seed) = (number("REVERIE_FAULTS", kinds.len() as u64)?, number("REVERIE_SEED", 1)?);
    println!("{count} faults of {} kinds, seed {seed}", kinds.len());
    let traffic = mesh.callers().await?;
    let before = mesh.usage().await?;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        callers.spawn(traffic.clone().go_on(seed + caller));
    }

    let (mut told, mut happened) = (Vec::new(), Vec::new());
    let mut report = Report::default();
    for faults in schedule(&kinds, usize::try_from(count)?, seed) {
        let begun = Instant::now();
        for fault in &faults {
            mesh.begin(fault).await.map_err(|error| format!("{fault} did not begin: {error}"))?;
        }
        let lasts = faults.iter().map(|fault| fault.lasts).max().unwrap_or_default();
        tokio::time::sleep(lasts).await;
        let healed = Instant::now();
        let recovery = promises::recovery(RECOVERY, mesh.end(&faults), || traffic.all_is_well()).await?;
        let well = Instant::now();
        // A call may end after the fault that it met.
        happened.extend(faults.iter().map(|&fault| Happened { fault, begun, healed, well }));
        let calls = traffic.take_calls();
        told.extend(promises::broken(&calls, &happened));
        let Some(recovery) = recovery else {
            let late = format!("{RECOVERY:?} after {} all was not well", names(&faults));
            return Err(format!("{late}\n{}\n{}", told.join("\n"), mesh.logs()).into());
        };
        report.add(&faults, &calls, recovery);
        println!("{}: all well after {:.1} s", names(&faults), recovery.as_secs_f64());
    }

    callers.shutdown().await;
    told.extend(mesh.leaks_since(&before).await?);
    // What is stored is there for those who have just started, too.
    mesh.restart(&["retrieval", "vector"]).await?;
    let read = promises::recovery(RECOVERY, async { Ok(()) }, || traffic.all_is_well()).await?;
    assert!(read.is_some(), "{:?}", traffic.take_calls());
    let stored = traffic.stored().await?;
    told.extend(promises::lost(&stored));
    told.extend(mesh.panics());
    let acknowledged = stored.iter().filter(|entry| entry.possible.len() == 1);
    let deleted = acknowledged.clone().filter(|entry| entry.found.is_none()).count();
    println!("{report}{} entries were acknowledged, of which {deleted} were deleted", acknowledged.count());
    assert!(!stored.is_empty());
    assert!(told.is_empty(), "{}\n{}", told.join("\n"), mesh.logs());
    Ok(())
}

/// Those kinds that are named, or all that can happen here.
fn chosen(possible: &[Kind]) -> Fallible<Vec<Kind>> {
    let Ok(names) = std::env::var("REVERIE_KINDS") else { return Ok(possible.to_vec()) };
    let chosen = kinds(&names)?;
    match chosen.iter().find(|kind| !possible.contains(kind)) {
        Some(kind) => Err(format!("{kind:?} cannot happen here, only {possible:?}").into()),
        None => Ok(chosen),
    }
}

fn names(faults: &[Fault]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// How calls ended, by the kind of fault that was there alone.
#[derive(Debug, Default)]
struct Report {
    ends: BTreeMap<String, BTreeMap<String, usize>>,
    recoveries: BTreeMap<String, Duration>,
    /// What callers were told, with the numbers left out, and how often.
    told: BTreeMap<String, usize>,
}

impl Report {
    fn add(&mut self, faults: &[Fault], calls: &[Call], recovery: Duration) {
        let name = match faults {
            [alone] => format!("{:?}", alone.kind),
            _ => "two at once".to_owned(),
        };
        let ends = self.ends.entry(name.clone()).or_default();
        for call in calls {
            if let Outcome::Refused(status) | Outcome::Broken(status) = &call.outcome {
                let told = status.message().replace(|character: char| character.is_ascii_digit(), "");
                *self.told.entry(format!("{:?}: {told}", status.code())).or_default() += 1;
            }
            *ends.entry(call.outcome.name()).or_default() += 1;
        }
        let longest = self.recoveries.entry(name).or_default();
        *longest = recovery.max(*longest);
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (kind, ends) in &self.ends {
            let longest = self.recoveries.get(kind).copied().unwrap_or_default();
            writeln!(formatter, "{kind}: {ends:?}, all well after at most {:.1} s", longest.as_secs_f64())?;
        }
        for (told, times) in &self.told {
            writeln!(formatter, "{times} times {told}")?;
        }
        Ok(())
    }
}
