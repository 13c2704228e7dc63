//! Trajectories on a lane as their callers see them, over a model whose answers are exact and whose pace the test sets.

#![expect(clippy::float_cmp, reason = "numbers that are handed on, not computed")]

use std::collections::BTreeMap;
use std::mem;
use std::sync::mpsc as std_mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use reverie_diffusion::guidance::{Condition, Draw, Guidance, Plan, StepKind, Strategy};
use reverie_diffusion::{
    BetaSchedule, DdimNoise, InitialSample, Method, NoiseSchedule, NoiseSource, PredictionType,
    PreviousTimestep, Sampler, SamplerSettings, Thresholding, TimestepSpacing, Variance,
};
use tokio::sync::mpsc;

use super::*;
use crate::lane::{LaneSettings, Trouble};
use crate::policy::{Caller, Class, Refused};
use crate::{Cores, RowError};

/// The images of a trajectory have this mean where the model sees its text, and minus half of it elsewhere.
type Mean = f32;

/// The exact eps of normal data, for any (x, t, conditions).
struct Exact {
    batch: usize,
    schedule: NoiseSchedule,
    /// Tells the test what each row is.
    seen: std_mpsc::Sender<Seen>,
    /// What to do with each row; without a test that orders, evaluate.
    orders: Arc<Mutex<std_mpsc::Receiver<Order>>>,
}

/// A row, as the model saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    mean: Mean,
    timestep: f32,
    condition: Condition,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Evaluate,
    Diverge,
    Fail,
    Panic,
}

impl Conditions for Mean {}

impl RowModel for Exact {
    type Row = Row<Mean>;
    type Output = Vec<f32>;

    fn batch(&self) -> usize {
        self.batch
    }

    fn run(&mut self, rows: &mut [Row<Mean>]) -> Result<Vec<Vec<f32>>, RowError> {
        for row in rows.iter_mut() {
            self.evaluate(row)?;
        }
        Ok(rows.iter_mut().map(|row| mem::take(&mut row.out)).collect())
    }
}

impl Exact {
    fn evaluate(&self, Row { evaluation, out }: &mut Row<Mean>) -> Result<(), RowError> {
        let Evaluation { x, timestep, condition, conditions, .. } = evaluation;
        let (timestep, condition, mean) = (*timestep, *condition, **conditions);
        let _ = self.seen.send(Seen { mean, timestep, condition });
        let order = self.orders.lock().unwrap().recv().unwrap_or(Order::Evaluate);
        let abar = self.schedule.abar(timestep as u32) as f32;
        let (a, s) = (abar.sqrt(), (1.0 - abar).sqrt());
        let text = if condition.text { mean } else { -0.5 * mean };
        let mean = text + if condition.neighbours { 0.1 } else { 0.0 };
        for (x, out) in x.iter().zip(out.iter_mut()) {
            *out = s * (x - a * mean) / (0.04 * abar + s * s);
        }
        match order {
            Order::Evaluate => {}
            Order::Diverge => out.fill(f32::NAN),
            Order::Fail => return Err(RowError::new("out of memory")),
            Order::Panic => panic!("index out of bounds"),
        }
        Ok(())
    }
}

const SETTINGS: LaneSettings = LaneSettings {
    max_jobs: 64,
    stall_seconds: 60.0,
    calibration_seconds: 1.0,
    row_seconds: BTreeMap::new(),
};
const PROGRESS: usize = 100;

/// A lane, and the test's hold on its model.
struct Bench {
    lane: Lane<Exact>,
    seen: std_mpsc::Receiver<Seen>,
    orders: std_mpsc::Sender<Order>,
}

impl Bench {
    /// The model waits for orders.
    fn gated(sessions: usize, settings: &LaneSettings) -> Self {
        Self::batching(sessions, 1, settings)
    }

    /// The model waits for orders, one for each row, and its passes have room for `batch` of them.
    fn batching(sessions: usize, batch: usize, settings: &LaneSettings) -> Self {
        let (seen_sender, seen) = std_mpsc::channel();
        let (orders, receiver) = std_mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        let model = |_| Exact {
            batch,
            schedule: schedule(),
            seen: seen_sender.clone(),
            orders: Arc::clone(&receiver),
        };
        let models = (0..sessions).map(model).collect();
        let lane = Lane::start("exact", models, settings, &Arc::new(Cores::new(sessions)), 1).unwrap();
        drop(seen_sender);
        Self { lane, seen, orders }
    }

    /// The model evaluates whatever it is given.
    fn free(sessions: usize) -> Lane<Exact> {
        Self::gated(sessions, &SETTINGS).lane
    }

    fn submit(&self, trajectory: Trajectory<Mean>) -> mpsc::Receiver<Event> {
        trajectory.submit(&self.lane, call(), PROGRESS).unwrap()
    }

    /// Waits for a row to begin; its mean.
    fn row(&self) -> Mean {
        self.seen.recv().unwrap().mean
    }

    /// Lets the row that has begun do as ordered.
    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }
}

fn call() -> Call {
    Call { caller: Caller(1), class: Class::Interactive, deadline: None, origin: 0 }
}

fn draw(lane: &Lane<Exact>, trajectory: Trajectory<Mean>) -> Finished {
    finished(trajectory.submit(lane, call(), PROGRESS).unwrap())
}

fn schedule() -> NoiseSchedule {
    NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap()
}

/// A trajectory of two rows per step.
fn trajectory(mean: Mean, steps: u32) -> Trajectory<Mean> {
    let sampler = SamplerSettings { steps, ..SamplerSettings::default() };
    build(mean, 7, &sampler, Strategy::Joint, 2.0, Condition::BOTH)
}

fn build(
    mean: Mean,
    seed: u64,
    sampler: &SamplerSettings,
    strategy: Strategy,
    weight: f32,
    available: Condition,
) -> Trajectory<Mean> {
    let noise = NoiseSource::new(seed, 0, 0);
    let guidance = Guidance { strategy, text_weight: weight, neighbour_weight: 1.5 };
    Trajectory {
        elements: 48,
        has_variance: false,
        sampler: Sampler::new(&schedule(), sampler).unwrap(),
        plan: Plan::new(guidance, available, noise).unwrap(),
        noise,
        initial: None,
        conditions: Arc::new(mean),
    }
}

/// Everything a trajectory reports, to its end.
fn all(mut events: mpsc::Receiver<Event>) -> (Vec<Progress>, Event) {
    let mut progress = Vec::new();
    loop {
        match events.blocking_recv().expect("there is always a last event") {
            Event::Progress(step) => progress.push(step),
            last => {
                assert_eq!(events.blocking_recv(), None);
                return (progress, last);
            }
        }
    }
}

fn finished(events: mpsc::Receiver<Event>) -> Finished {
    match all(events).1 {
        Event::Finished(finished) => finished,
        other => panic!("not finished: {other:?}"),
    }
}

fn failure(events: mpsc::Receiver<Event>) -> Failure {
    match all(events).1 {
        Event::Failed(failure) => failure,
        other => panic!("not failed: {other:?}"),
    }
}

/// A picture to start from, far from what any trajectory draws.
fn picture() -> InitialSample {
    InitialSample::new(vec![-0.9; 48])
}

/// The first half is drawn anew.
fn mask() -> Vec<bool> {
    (0..16).map(|pixel| pixel < 8).collect()
}

/// Trajectories that have nothing in common.
fn crowd() -> Vec<Trajectory<Mean>> {
    let strategies = [
        Strategy::Interleaved { ratio: 0.5, draw: Draw::Random },
        Strategy::Weighted { ratio: 0.3 },
        Strategy::Joint,
        Strategy::Interleaved { ratio: 0.7, draw: Draw::LowDiscrepancy },
        Strategy::Text,
        Strategy::Off,
    ];
    (0..18)
        .map(|i| {
            let ddim = Method::Ddim {
                eta: [0.0, 0.7][i / 2 % 2],
                set_alpha_to_one: true,
                previous: PreviousTimestep::Stride,
                noise: DdimNoise::OfX0,
            };
            let ddpm = Method::Ddpm { variance: [Variance::FixedSmall, Variance::FixedLarge][i / 4 % 2] };
            let sampler = SamplerSettings {
                method: [ddim, ddpm][i % 2],
                steps: 3 + (i as u32 * 7) % 29,
                spacing: [TimestepSpacing::Trailing, TimestepSpacing::Leading, TimestepSpacing::Linspace]
                    [i % 3],
                prediction: PredictionType::Epsilon,
                thresholding: [Thresholding::Static, Thresholding::Dynamic { quantile: 0.9, cap: None }]
                    [i / 3 % 2],
                strength: [1.0, 0.6][i / 3 % 2],
                ..SamplerSettings::default()
            };
            let available = if i % 5 == 0 { Condition::TEXT } else { Condition::BOTH };
            let weight = 1.0 + (i % 4) as f32;
            let initial = [None, Some(picture()), Some(picture().with_mask(mask()))][i / 2 % 3].clone();
            let one = build(i as f32 / 20.0, i as u64, &sampler, strategies[i % 6], weight, available);
            Trajectory { initial, ..one }
        })
        .collect()
}

#[test]
fn a_trajectory_ends_the_same_alone_or_in_company() {
    let alone: Vec<Vec<f32>> = crowd().into_iter().map(|one| draw(&Bench::free(1), one).x).collect();
    for (sessions, batch) in [(1, 1), (2, 1), (5, 1), (1, 4), (2, 3)] {
        let bench = Bench::batching(sessions, batch, &SETTINGS);
        let together: Vec<_> = crowd().into_iter().map(|one| bench.submit(one)).collect();
        drop(bench.orders);
        for (i, (alone, together)) in alone.iter().zip(together).enumerate() {
            assert_eq!(*alone, finished(together).x, "trajectory {i}, {sessions} sessions of {batch}");
        }
        let stats = bench.lane.stats();
        assert!(stats.passes * (batch as u64) < 2 * stats.rows, "passes are shared: {stats:?}");
    }
}

#[test]
fn an_image_is_what_its_conditions_say() {
    let sampler = SamplerSettings { steps: 50, ..SamplerSettings::default() };
    let one = build(0.6, 3, &sampler, Strategy::Off, 1.0, Condition::TEXT);
    let x = draw(&Bench::free(1), one).x;
    let mean = x.iter().sum::<f32>() / 48.0;
    // 48 elements of standard deviation 0.2.
    assert!((mean - 0.6).abs() < 0.12, "{mean}");
}

#[test]
fn the_less_is_drawn_the_nearer_an_image_stays_to_the_one_it_starts_from() {
    let lane = Bench::free(1);
    let mean = |strength, initial| {
        let sampler = SamplerSettings { steps: 50, strength, ..SamplerSettings::default() };
        let one = build(0.6, 3, &sampler, Strategy::Off, 1.0, Condition::TEXT);
        let x = draw(&lane, Trajectory { initial, ..one }).x;
        x.iter().sum::<f32>() / 48.0
    };
    let means = [0.02, 0.1, 0.3, 1.0].map(|strength| mean(strength, Some(picture())));
    assert!(means.is_sorted() && means[0] < -0.8 && means[2] < 0.5, "{means:?}");
    assert!((means[3] - mean(1.0, None)).abs() < 1e-3, "all but noise alone: {means:?}");
}

#[test]
fn what_a_mask_keeps_comes_out_as_it_was() {
    let lane = Bench::free(1);
    for strength in [0.5, 1.0] {
        let sampler = SamplerSettings { steps: 20, strength, ..SamplerSettings::default() };
        let one = build(0.6, 3, &sampler, Strategy::Joint, 2.0, Condition::BOTH);
        let initial = Some(picture().with_mask(mask()));
        let x = draw(&lane, Trajectory { initial, ..one }).x;
        for (element, x) in x.into_iter().enumerate() {
            let is_kept = x.to_bits() == (-0.9_f32).to_bits();
            assert_eq!(is_kept, element % 16 >= 8, "{strength}: {element} is {x}");
        }
    }
}

#[test]
fn every_step_is_reported() {
    let lane = Bench::free(2);
    let (progress, _) = all(trajectory(0.5, 4).submit(&lane, call(), PROGRESS).unwrap());
    let expected = [(1, 999.0), (2, 749.0), (3, 499.0), (4, 249.0)].map(|(step, timestep)| Progress {
        step,
        steps: 4,
        kind: StepKind::Joint,
        timestep,
        rows: 2,
    });
    assert_eq!(progress, expected);
}

#[test]
fn estimates_are_of_the_image_and_change_nothing_of_it() {
    let plain = draw(&Bench::free(1), trajectory(0.3, 6)).x;
    let bench = Bench::gated(1, &SETTINGS);
    let (estimates, mut latest) = Estimates::new(Duration::ZERO);
    let mut events = trajectory(0.3, 6).submit_with(&bench.lane, call(), PROGRESS, Some(estimates)).unwrap();
    let mut seen = Vec::new();
    let x = loop {
        bench.order(Order::Evaluate);
        bench.order(Order::Evaluate);
        match events.blocking_recv().unwrap() {
            // There is none of the last step: that is the image.
            Event::Progress(Progress { step: 6, .. }) => assert!(!latest.has_changed().unwrap_or(false)),
            Event::Progress(Progress { step, .. }) => {
                let estimate = latest.borrow_and_update().clone().unwrap();
                assert_eq!((estimate.step, estimate.steps), (step, 6));
                seen.push(estimate.x0);
            }
            Event::Finished(Finished { x, .. }) => break x,
            Event::Failed(failure) => panic!("{failure}"),
        }
    };
    assert_eq!(x, plain);
    let apart = |x0: &[f32]| x0.iter().zip(&x).map(|(x0, x)| (x0 - x).abs()).sum::<f32>() / x.len() as f32;
    let apart: Vec<f32> = seen.iter().map(|x0| apart(x0)).collect();
    assert!(apart[4] < apart[0] && apart[4] < 0.1, "{apart:?}");
}

#[test]
fn the_rows_of_a_step_run_side_by_side() {
    let bench = Bench::gated(2, &SETTINGS);
    let events = bench.submit(trajectory(0.1, 2));
    for timestep in [999.0, 499.0] {
        // Neither has been let go on.
        let mut conditions = [bench.seen.recv().unwrap(), bench.seen.recv().unwrap()].map(|seen| {
            assert_eq!((seen.mean, seen.timestep), (0.1, timestep));
            seen.condition == Condition::BOTH
        });
        conditions.sort_unstable();
        assert_eq!(conditions, [false, true]);
        (0..2).for_each(|_| bench.order(Order::Evaluate));
    }
    finished(events);
}

#[test]
fn equal_trajectories_finish_one_after_another() {
    let bench = Bench::gated(1, &SETTINGS);
    let first = bench.submit(trajectory(0.1, 3));
    assert_eq!(bench.row(), 0.1);
    let others = [0.2, 0.3].map(|mean| bench.submit(trajectory(mean, 3)));
    for mean in [[0.1; 5].as_slice(), &[0.2; 6], &[0.3; 6]].concat() {
        bench.order(Order::Evaluate);
        assert_eq!(bench.row(), mean);
    }
    drop(bench.orders);
    finished(first);
    others.into_iter().map(finished).for_each(drop);
}

#[test]
fn a_short_trajectory_does_not_wait_for_long_ones() {
    let bench = Bench::gated(1, &SETTINGS);
    let long = [0.1, 0.2].map(|mean| bench.submit(trajectory(mean, 50)));
    for _ in 0..3 {
        assert_eq!(bench.row(), 0.1);
        bench.order(Order::Evaluate);
    }
    assert_eq!(bench.row(), 0.1);
    let short = bench.submit(trajectory(0.3, 2));
    for _ in 0..4 {
        bench.order(Order::Evaluate);
        assert_eq!(bench.row(), 0.3);
    }
    drop(bench.orders);
    finished(short);
    long.into_iter().map(finished).for_each(drop);
}

#[test]
fn dropping_the_receiver_cancels_before_the_next_row() {
    let bench = Bench::gated(1, &SETTINGS);
    let leaver = bench.submit(trajectory(0.1, 4));
    assert_eq!(bench.row(), 0.1);
    let stayer = bench.submit(trajectory(0.2, 4));
    bench.order(Order::Evaluate);
    assert_eq!(bench.row(), 0.1);
    drop(leaver);
    bench.order(Order::Evaluate);
    assert_eq!(bench.row(), 0.2);
    let stats = bench.lane.stats();
    assert_eq!((stats.cancelled, stats.active, stats.wasted_rows), (1, 1, 2));
    drop(bench.orders);
    finished(stayer);
}

#[test]
fn a_deadline_in_the_past_is_refused() {
    let lane = Bench::free(1);
    let call = Call { deadline: Some(Instant::now()), ..call() };
    let refused = trajectory(0.1, 4).submit(&lane, call, PROGRESS).unwrap_err();
    assert!(matches!(refused, SubmitError::Policy(Refused::Hopeless { .. })), "{refused:?}");
    assert_eq!((lane.stats().rows, lane.stats().refused), (0, 1));
}

#[test]
fn a_deadline_ends_a_trajectory_between_two_rows() {
    let bench = Bench::gated(1, &SETTINGS);
    let deadline = Instant::now() + Duration::from_secs(1);
    let late = Call { deadline: Some(deadline), ..call() };
    let events = trajectory(0.1, 4).submit(&bench.lane, late, PROGRESS).unwrap();
    let in_time = bench.submit(trajectory(0.2, 4));
    assert_eq!(bench.row(), 0.1);
    bench.order(Order::Evaluate);
    assert_eq!(bench.row(), 0.1);
    // The condition waited for is the time itself.
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    drop(bench.orders);
    let Failure::DeadlineExceeded { step, steps: 4 } = failure(events) else { panic!("another failure") };
    assert!(step <= 1);
    finished(in_time);
    assert_eq!(bench.lane.stats().expired, 1);
}

#[test]
fn a_full_queue_says_so() {
    let bench = Bench::gated(1, &LaneSettings { max_jobs: 3, ..SETTINGS });
    let active = bench.submit(trajectory(0.1, 2));
    assert_eq!(bench.row(), 0.1);
    let (second, third) = (bench.submit(trajectory(0.2, 2)), bench.submit(trajectory(0.3, 2)));
    let fourth = || trajectory(0.4, 2).submit(&bench.lane, call(), PROGRESS);
    assert_eq!(fourth().unwrap_err(), SubmitError::Full { jobs: 3, limit: 3 });
    let stats = bench.lane.stats();
    assert_eq!((stats.active, stats.waiting, stats.running), (1, 2, 1));
    // One that gave up makes room.
    drop(second);
    let fourth = fourth().unwrap();
    drop(bench.orders);
    [active, third, fourth].into_iter().map(finished).for_each(drop);
}

#[test]
fn a_row_that_fails_or_panics_fails_its_own_trajectory_only() {
    for (order, sessions) in [(Order::Fail, 1), (Order::Panic, 1), (Order::Fail, 3), (Order::Panic, 3)] {
        let bench = Bench::gated(sessions, &SETTINGS);
        let unlucky = bench.submit(trajectory(0.1, 4));
        assert_eq!(bench.row(), 0.1);
        let others = [0.2, 0.3].map(|mean| bench.submit(trajectory(mean, 4)));
        bench.order(order);
        drop(bench.orders);
        let expected = match order {
            Order::Panic => Failure::ModelPanicked("index out of bounds".into()),
            _ => Failure::Model(RowError::new("out of memory")),
        };
        assert_eq!(failure(unlucky), expected);
        for (events, mean) in others.into_iter().zip([0.2, 0.3]) {
            assert_eq!(finished(events).x, draw(&Bench::free(1), trajectory(mean, 4)).x);
        }
        let stats = bench.lane.stats();
        assert_eq!((stats.failed, stats.finished, stats.active, stats.waiting), (1, 2, 0, 0));
        assert_eq!(bench.lane.check(), Ok(()));
    }
}

#[test]
fn a_row_of_a_shared_pass_fails_its_own_trajectory_only() {
    for (order, expected) in [
        (Order::Fail, Failure::Model(RowError::new("out of memory"))),
        (Order::Panic, Failure::ModelPanicked("index out of bounds".into())),
        (Order::Diverge, Failure::NotFinite { steps: 4 }),
    ] {
        let bench = Bench::batching(1, 6, &SETTINGS);
        let first = bench.submit(trajectory(0.1, 1));
        assert_eq!(bench.row(), 0.1);
        let means = [0.2, 0.3, 0.4];
        let mut has_failed = false;
        let together = means.map(|mean| bench.submit(trajectory(mean, 4)));
        (0..2).for_each(|_| bench.order(Order::Evaluate));
        assert_eq!(bench.row(), 0.1);
        // The six rows of their first steps share a pass. If it fails, each row is run again, alone.
        let mut orders = 6;
        while orders > 0 {
            let is_unlucky = bench.row() == 0.3;
            bench.order(if is_unlucky { order } else { Order::Evaluate });
            orders -= 1;
            if is_unlucky && order != Order::Diverge && !has_failed {
                (has_failed, orders) = (true, 6);
            }
        }
        drop(bench.orders);
        finished(first);
        for (mean, events) in means.into_iter().zip(together) {
            if mean == 0.3 {
                assert_eq!(failure(events), expected);
            } else {
                assert_eq!(finished(events).x, draw(&Bench::free(1), trajectory(mean, 4)).x);
            }
        }
    }
}

#[test]
fn a_trajectory_that_panics_fails_alone() {
    let alone = draw(&Bench::free(1), trajectory(0.3, 4)).x;
    let bench = Bench::gated(1, &SETTINGS);
    let neighbour = bench.submit(trajectory(0.3, 4));
    assert_eq!(bench.row(), 0.3);
    // An image of another size panics as the trajectory begins; a sampler that waits for a variance, as it steps.
    let picture = Some(InitialSample::new(vec![0.0; 47]));
    let misshapen = bench.submit(Trajectory { initial: picture, ..trajectory(0.1, 4) });
    let learned = Method::Ddpm { variance: Variance::Learned };
    let settings = SamplerSettings { method: learned, steps: 4, ..SamplerSettings::default() };
    let sampler = Sampler::new(&schedule(), &settings).unwrap();
    let starved = bench.submit(Trajectory { sampler, ..trajectory(0.2, 4) });
    drop(bench.orders);
    for events in [misshapen, starved] {
        assert!(matches!(failure(events), Failure::StepPanicked(_)));
    }
    assert_eq!(finished(neighbour).x, alone);
    let stats = bench.lane.stats();
    assert_eq!((stats.active, stats.waiting, stats.failed, stats.finished), (0, 0, 2, 1));
    assert_eq!(bench.lane.check(), Ok(()));
    draw(&bench.lane, trajectory(0.4, 1));
}

#[test]
fn a_sample_that_is_not_finite_is_a_failure() {
    let bench = Bench::gated(1, &SETTINGS);
    let events = bench.submit(trajectory(0.1, 2));
    bench.order(Order::Diverge);
    drop(bench.orders);
    assert_eq!(failure(events), Failure::NotFinite { steps: 2 });
}

#[test]
fn a_slow_receiver_stalls_nobody() {
    let lane = Bench::free(1);
    let slow = trajectory(0.1, 40).submit(&lane, call(), 3).unwrap();
    let (progress, _) = all(trajectory(0.2, 60).submit(&lane, call(), PROGRESS).unwrap());
    assert!(progress.windows(2).all(|pair| pair[0].step < pair[1].step));
    // Nothing was read of it so far, and it has ended.
    let (progress, last) = all(slow);
    assert_eq!(progress.iter().map(|progress| progress.step).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(matches!(last, Event::Finished(_)));
}

#[test]
fn timings_add_up() {
    let lane = Bench::free(1);
    let asked = Instant::now();
    let events: Vec<_> =
        crowd().into_iter().map(|one| one.submit(&lane, call(), PROGRESS).unwrap()).collect();
    let timings: Vec<Timings> = events.into_iter().map(|events| finished(events).timings).collect();
    let elapsed = asked.elapsed();
    let sum = |part: fn(&Timings) -> Duration| timings.iter().map(part).sum::<Duration>().as_secs_f64();
    assert!(timings.iter().all(|timings| timings.elapsed() <= elapsed && timings.overhead > Duration::ZERO));
    // One session does one thing at a time.
    assert!(sum(Timings::computing) <= elapsed.as_secs_f64());
}

#[tokio::test]
async fn shutdown_finishes_what_was_admitted() {
    let bench = Bench::gated(2, &SETTINGS);
    let mut events = [0.1, 0.2].map(|mean| bench.submit(trajectory(mean, 3)));
    assert_eq!(bench.row(), 0.1);
    bench.lane.begin_shutdown();
    let refused = trajectory(0.3, 3).submit(&bench.lane, call(), PROGRESS).unwrap_err();
    assert_eq!(refused, SubmitError::ShuttingDown);
    drop(bench.orders);
    bench.lane.shutdown().await;
    for events in &mut events {
        let mut last = None;
        while let Some(event) = events.recv().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Finished(_))), "{last:?}");
    }
    // The model is gone.
    while bench.seen.try_recv().is_ok() {}
    assert_eq!(bench.seen.try_recv(), Err(std_mpsc::TryRecvError::Disconnected));
}

#[test]
fn dropping_the_last_handle_ends_the_threads_once_they_are_done() {
    let bench = Bench::gated(2, &SETTINGS);
    let events = bench.submit(trajectory(0.1, 3));
    let Bench { lane, seen, orders } = bench;
    drop(lane.clone());
    drop(lane);
    drop(orders);
    finished(events);
    // Ends with the threads, and the models they own.
    assert_eq!(seen.iter().count(), 6);
}

#[test]
fn a_row_that_does_not_end_is_trouble_until_it_does() {
    let bench = Bench::gated(1, &LaneSettings { stall_seconds: 1e-3, ..SETTINGS });
    let events = bench.submit(trajectory(0.1, 1));
    assert_eq!(bench.row(), 0.1);
    let trouble = loop {
        match bench.lane.check() {
            Ok(()) => std::thread::yield_now(),
            Err(trouble) => break trouble,
        }
    };
    assert!(matches!(trouble, Trouble::Stalled { .. }), "{trouble}");
    drop(bench.orders);
    finished(events);
    assert_eq!(bench.lane.check(), Ok(()));
}
