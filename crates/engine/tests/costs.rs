//! What a lane promises that measures its costs itself, on simulated machines that are slow, noisy and fickle.

mod simulator;

use reverie_engine::policy::{Policy, PolicySettings, Seconds};
use simulator::arrivals::{self, Arrival, ROW};
use simulator::{End, Machine, Record, run_on};

const SESSIONS: usize = 2;

fn on(machine: &Machine, arrivals: &[Arrival]) -> Vec<Record> {
    let mut policy = Policy::new(PolicySettings::new(SESSIONS));
    run_on(machine.clone(), &mut policy, SESSIONS, arrivals)
}

/// The share of the lane that went into images that were done in time between `from` and `to`, if rows take `pace` times as long as usual.
/// An image counts where it was computed, so that those across the ends count in part.
fn delivered(records: &[Record], from: Seconds, to: Seconds, pace: f64) -> f64 {
    let part = |record: &Record| {
        let started = record.started.unwrap_or(record.at);
        let within = (record.at.min(to) - started.max(from)).max(0.0);
        record.arrival.work() * within / (record.at - started).max(1e-9)
    };
    let work: Seconds = records.iter().filter(|record| record.is(End::Finished)).map(part).sum();
    pace * work / ((to - from) * SESSIONS as f64)
}

/// Of the images that were admitted from `from` on, the share that was not done.
fn late(records: &[Record], from: Seconds) -> f64 {
    let admitted = || records.iter().filter(|record| record.arrival.at >= from && !record.is(End::Refused));
    let expired = admitted().filter(|record| record.is(End::Expired)).count();
    expired as f64 / admitted().count() as f64
}

#[test]
fn a_calibration_that_was_wrong_is_forgotten() {
    for seed in 0..4 {
        for load in [1.0, 2.0, 5.0, 10.0] {
            let images = arrivals::mixed(seed, load, SESSIONS, 40.0);
            let possible = delivered(&on(&Machine::told(), &images), 2.0, 40.0, 1.0);
            for calibrated in [None, Some(0.1), Some(0.5), Some(2.0), Some(10.0), Some(1000.0)] {
                let records = on(&Machine::measured(calibrated), &images);
                let of_lane = delivered(&records, 2.0, 40.0, 1.0) / possible;
                let told = format!("seed {seed}, calibrated {calibrated:?}, load {load}");
                assert!(of_lane > 0.93, "{told}: {of_lane} of what is possible delivered");
                assert!(late(&records, 2.0) < 0.03, "{told}: {} late", late(&records, 2.0));
            }
        }
    }
}

/// Rows of the same kind that take 0.4 to 1.6 times the usual time, and one in a hundred twenty times as long.
#[test]
fn noise_costs_little() {
    for seed in 0..4 {
        for load in [2.0, 5.0, 10.0] {
            let mut images = arrivals::mixed(seed, load, SESSIONS, 40.0);
            for image in &mut images {
                image.jitter = 0.6;
            }
            let told = format!("seed {seed}, load {load}");
            let records = on(&Machine::measured(Some(0.4)).with_outliers(100), &images);
            // The outliers take a sixth of the lane.
            for image in &mut images {
                image.predicted_row = 1.19 * ROW;
            }
            let knowing = on(&Machine::told().with_outliers(100), &images);
            let of_lane = |records| delivered(records, 2.0, 40.0, 1.0);
            let (ours, best) = (of_lane(&records), of_lane(&knowing));
            assert!(ours > 0.9 * best, "{told}: {ours} delivered, {best} if the mean is known");
            let (ours, best) = (late(&records, 2.0), late(&knowing, 2.0));
            assert!(ours < best + 0.1, "{told}: {ours} late, {best} if the mean is known");
        }
    }
}

/// Rows take four times as long from the 20th to the 40th second: something else uses the machine.
#[test]
fn a_spell_of_slowness_passes() {
    let pace = |at: Seconds| if (20.0..40.0).contains(&at) { 4.0 } else { 1.0 };
    for seed in 0..4 {
        for load in [2.0, 5.0, 10.0] {
            let machine = Machine::measured(Some(1.0)).with_pace(pace);
            let records = on(&machine, &arrivals::mixed(seed, load, SESSIONS, 60.0));
            let told = format!("seed {seed}, load {load}");
            for (name, from, to, pace) in
                [("before", 2.0, 19.0, 1.0), ("during", 26.0, 39.0, 4.0), ("after", 42.0, 60.0, 1.0)]
            {
                let of_lane = delivered(&records, from, to, pace);
                assert!(of_lane > 0.85, "{told}, {name}: {of_lane} delivered");
            }
            assert!(late(&records, 42.0) < 0.03, "{told}: {} late", late(&records, 42.0));
        }
    }
}

/// Rows become slower by half every ten seconds, or faster.
#[test]
fn a_drift_is_followed() {
    for seed in 0..4 {
        for pace in [(|at: Seconds| 1.5_f64.powf(at / 10.0)) as fn(Seconds) -> f64, |at| {
            1.5_f64.powf(4.0 - at / 10.0)
        }] {
            let machine = Machine::measured(Some(1.0)).with_pace(pace);
            let records = on(&machine, &arrivals::mixed(seed, 10.0, SESSIONS, 40.0));
            for from in [5.0, 15.0, 25.0] {
                let of_lane = delivered(&records, from, from + 10.0, pace(from + 5.0));
                assert!(of_lane > 0.8, "seed {seed}, from {from}: {of_lane} delivered");
            }
        }
    }
}

/// A long image, alone, whose first rows are slow, as those of a process are, or of a machine that compiles something.
#[test]
fn a_long_image_is_not_given_up_for_a_slow_beginning() {
    for slow_rows in [4, 8, 12] {
        for calibrated in [Some(1.0), Some(3.0)] {
            let image = Arrival::image(0.0, 1000);
            let in_time = 1.2 * image.alone(SESSIONS) + 2.0;
            let pace = match slow_rows {
                4 => |at: Seconds| if at < 0.3 { 20.0 } else { 1.0 },
                8 => |at| if at < 0.7 { 20.0 } else { 1.0 },
                _ => |at| if at < 1.1 { 20.0 } else { 1.0 },
            };
            let records = on(&Machine::measured(calibrated).with_pace(pace), &[image.within(in_time)]);
            assert!(records[0].is(End::Finished), "{slow_rows}, {calibrated:?}: {:?}", records[0]);
        }
    }
}

/// What cannot be done is not computed to the last row: with costs that are known, a fifth of it at most.
#[test]
fn an_image_without_hope_is_given_up() {
    for calibrated in [None, Some(0.5), Some(1.0), Some(10.0)] {
        let image = Arrival::image(0.0, 1000);
        let too_short = 0.5 * image.alone(SESSIONS);
        let records = on(&Machine::measured(calibrated), &[image.within(too_short)]);
        assert!(records[0].is(End::Expired) && records[0].rows < 50, "{calibrated:?}: {:?}", records[0]);
    }
}

/// Ten requests of one row each at once, and again after each quarter of a second, when the machine was busy and no longer is.
#[test]
fn quick_requests_after_a_slow_spell_are_done() {
    let pace = |at: Seconds| if at < 8.5 { 50.0 } else { 1.0 };
    for begin in [9.0, 11.0] {
        let mut requests: Vec<Arrival> =
            (0..4).map(|number| Arrival::image(2.0 * f64::from(number), 1)).collect();
        let burst = |number: u32| Arrival::image(begin + 0.25 * f64::from(number / 10), 1).within(20.0 * ROW);
        requests.extend((0..40).map(burst));
        let records = on(&Machine::measured(Some(1.0)).with_pace(pace), &requests);
        let done = records[4..].iter().filter(|record| record.is(End::Finished)).count();
        assert!(done >= 36, "from {begin}: {done} of 40");
    }
}
