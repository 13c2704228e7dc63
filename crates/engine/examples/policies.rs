//! The figures of `docs/engine.md`: the policy beside others, on the same seeded arrivals.
//!
//! `cargo run --release -p reverie-engine --example policies`

#[path = "../tests/simulator/mod.rs"]
mod simulator;

use reverie_engine::policy::{Policy, PolicySettings, Seconds};
use simulator::arrivals::{self, Arrival};
use simulator::rivals::{EarliestDeadline, OldestFirst, RoundRobin};
use simulator::{End, Record};

const SESSIONS: usize = 2;

fn all(arrivals: &[Arrival]) -> [(&'static str, Vec<Record>); 4] {
    let mut policy = Policy::new(PolicySettings::new(SESSIONS));
    [
        ("round robin over 16", simulator::run(&mut RoundRobin::new(16), SESSIONS, arrivals)),
        ("oldest first", simulator::run(&mut OldestFirst, SESSIONS, arrivals)),
        ("earliest deadline first", simulator::run(&mut EarliestDeadline, SESSIONS, arrivals)),
        ("the policy", simulator::run(&mut policy, SESSIONS, arrivals)),
    ]
}

fn finished(records: &[Record]) -> Vec<&Record> {
    records.iter().filter(|record| record.is(End::Finished)).collect()
}

fn mean(seconds: &[Seconds]) -> Seconds {
    seconds.iter().sum::<Seconds>() / seconds.len().max(1) as f64
}

fn main() {
    println!("Sixteen 16-step images at once: mean (first, last) in s");
    for (name, records) in all(&vec![Arrival::image(0.0, 16); 16]) {
        let mut seconds: Vec<_> = finished(&records).iter().map(|record| record.seconds()).collect();
        seconds.sort_by(f64::total_cmp);
        println!("  {name:24} {:.2} ({:.2}, {:.2})", mean(&seconds), seconds[0], seconds[15]);
    }

    println!("A 4-step image 1 s after sixteen of 200 steps: its time in s");
    let mut behind = vec![Arrival::image(0.0, 200); 16];
    behind.push(Arrival::image(1.0, 4));
    for (name, records) in all(&behind) {
        println!("  {name:24} {:.2}", records[16].seconds());
    }

    println!(
        "8, 16 and 50 steps from three callers, due in 5 s, 120 s: work done in time (images), share of rows wasted"
    );
    for load in [1.0, 2.0, 5.0, 10.0] {
        println!("  {load} times the capacity");
        for (name, records) in all(&arrivals::mixed(7, load, SESSIONS, 120.0)) {
            let useful: Seconds = finished(&records).iter().map(|record| record.arrival.work()).sum();
            let rows: u32 = records.iter().map(|record| record.rows).sum();
            let wasted: u32 =
                records.iter().filter(|record| !record.is(End::Finished)).map(|record| record.rows).sum();
            let last = records.iter().map(|record| record.at).fold(0.0, f64::max);
            println!(
                "    {name:24} {:.2} ({:.1}/s) {:.1} % wasted",
                useful / (last * SESSIONS as f64),
                finished(&records).len() as f64 / last,
                100.0 * f64::from(wasted) / f64::from(rows),
            );
        }
    }

    println!(
        "One caller floods with 50-step images at 5 times the capacity, another asks for 16 steps every 2 s: the other's mean, missed"
    );
    for (name, records) in all(&arrivals::flood(7, 5.0, SESSIONS, 120.0)) {
        let modest: Vec<_> = records.iter().filter(|record| record.arrival.caller.0 == 2).collect();
        let seconds: Vec<_> =
            modest.iter().filter(|record| record.is(End::Finished)).map(|record| record.seconds()).collect();
        println!(
            "  {name:24} {:.2} s, {} of {} missed",
            mean(&seconds),
            modest.len() - seconds.len(),
            modest.len()
        );
    }
}
