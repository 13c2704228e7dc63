//! The scheduler as its callers see it, over a model whose answers are exact and whose pace the test sets.

use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use reverie_diffusion::guidance::{Condition, Draw, Guidance, Plan, StepKind, Strategy};
use reverie_diffusion::{
    BetaSchedule, DdimNoise, InitialSample, Method, NoiseSchedule, NoiseSource, PredictionType,
    PreviousTimestep, Sampler, SamplerSettings, Thresholding, TimestepSpacing, Variance,
};
use tokio::sync::mpsc;

use crate::*;

/// A trajectory's pictures have this mean when its text is seen, and the opposite of half of it otherwise.
type Mean = f32;

/// The exact eps of normal data, for any (x, t, conditions): every row by itself, as a real model does.
struct Exact {
    schedule: NoiseSchedule,
    max_rows: usize,
    /// Tells the test what each pass is given.
    passes: std_mpsc::Sender<Vec<Seen>>,
    /// What to do with each pass; without a test that orders, evaluate.
    orders: std_mpsc::Receiver<Order>,
}

/// A row, as the model saw it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seen {
    mean: Mean,
    timestep: f32,
    condition: Condition,
}

enum Order {
    Evaluate,
    Diverge,
    /// Fails the second row of the trajectory of this mean.
    Fail(Mean),
    Panic,
}

impl RowModel for Exact {
    type Conditions = Mean;

    fn max_rows(&self) -> usize {
        self.max_rows
    }

    fn forward(&mut self, rows: &mut [Row<'_, Mean>]) -> Vec<Result<(), ModelError>> {
        assert!(rows.len() <= self.max_rows);
        let seen = |row: &Row<'_, Mean>| Seen {
            mean: *row.conditions,
            timestep: row.timestep,
            condition: row.condition,
        };
        let _ = self.passes.send(rows.iter().map(seen).collect());
        let mut unlucky = None;
        match self.orders.recv().unwrap_or(Order::Evaluate) {
            Order::Evaluate => {}
            Order::Diverge => rows.iter_mut().for_each(|row| row.out.fill(f32::NAN)),
            Order::Fail(mean) => unlucky = Some(mean),
            Order::Panic => panic!("index out of bounds"),
        }
        for row in rows.iter_mut() {
            let abar = self.schedule.abar(row.timestep as u32) as f32;
            let (a, s) = (abar.sqrt(), (1.0 - abar).sqrt());
            let text = if row.condition.text { *row.conditions } else { -0.5 * *row.conditions };
            let mean = text + if row.condition.neighbours { 0.1 } else { 0.0 };
            for (x, out) in row.x.iter().zip(row.out.iter_mut()).filter(|(_, out)| !out.is_nan()) {
                *out = s * (x - a * mean) / (0.04 * abar + s * s);
            }
        }
        let outcome = |row: &Row<'_, Mean>| {
            let fails = unlucky == Some(*row.conditions) && !row.condition.text;
            if fails { Err(ModelError::new("out of memory")) } else { Ok(()) }
        };
        rows.iter().map(outcome).collect()
    }
}

/// A scheduler, and the test's hold on its model.
struct Bench {
    handle: SchedulerHandle<Mean>,
    passes: std_mpsc::Receiver<Vec<Seen>>,
    orders: std_mpsc::Sender<Order>,
}

impl Bench {
    /// The model waits for orders.
    fn gated(settings: SchedulerSettings) -> Self {
        let (passes_sender, passes) = std_mpsc::channel();
        let (orders, orders_receiver) = std_mpsc::channel();
        let schedule = schedule();
        let model = Exact { schedule, max_rows: 64, passes: passes_sender, orders: orders_receiver };
        Self { handle: Scheduler::spawn(model, settings).unwrap(), passes, orders }
    }

    /// The model evaluates whatever it is given.
    fn free(settings: SchedulerSettings) -> SchedulerHandle<Mean> {
        Self::gated(settings).handle
    }

    /// Waits for a pass to begin; the means of the trajectories in it, in order.
    fn pass(&self) -> Vec<Mean> {
        let mut means: Vec<Mean> = self.passes.recv().unwrap().iter().map(|row| row.mean).collect();
        means.dedup();
        means
    }

    /// Lets the pass that has begun do as ordered.
    fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }
}

fn schedule() -> NoiseSchedule {
    NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap()
}

/// A trajectory of two rows a step.
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
        deadline: None,
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
    let alone: Vec<Vec<f32>> = crowd()
        .into_iter()
        .map(|one| finished(Bench::free(SchedulerSettings::default()).submit(one).unwrap()).x)
        .collect();
    for max_rows_per_tick in [3, 7, 64] {
        let settings =
            SchedulerSettings { max_trajectories: 11, max_rows_per_tick, ..SchedulerSettings::default() };
        let handle = Bench::free(settings);
        let together: Vec<_> = crowd().into_iter().map(|one| handle.submit(one).unwrap()).collect();
        for (i, (alone, together)) in alone.iter().zip(together).enumerate() {
            assert_eq!(*alone, finished(together).x, "trajectory {i}");
        }
    }
}

#[test]
fn a_picture_is_what_its_conditions_say() {
    let handle = Bench::free(SchedulerSettings::default());
    let sampler = SamplerSettings { steps: 50, ..SamplerSettings::default() };
    let one = build(0.6, 3, &sampler, Strategy::Off, 1.0, Condition::TEXT);
    let x = finished(handle.submit(one).unwrap()).x;
    let mean = x.iter().sum::<f32>() / 48.0;
    // 48 elements of standard deviation 0.2.
    assert!((mean - 0.6).abs() < 0.12, "{mean}");
}

#[test]
fn the_less_is_drawn_the_nearer_a_picture_stays_to_the_one_it_starts_from() {
    let handle = Bench::free(SchedulerSettings::default());
    let mean = |strength, initial| {
        let sampler = SamplerSettings { steps: 50, strength, ..SamplerSettings::default() };
        let one = build(0.6, 3, &sampler, Strategy::Off, 1.0, Condition::TEXT);
        let x = finished(handle.submit(Trajectory { initial, ..one }).unwrap()).x;
        x.iter().sum::<f32>() / 48.0
    };
    let means = [0.02, 0.1, 0.3, 1.0].map(|strength| mean(strength, Some(picture())));
    assert!(means.is_sorted() && means[0] < -0.8 && means[2] < 0.5, "{means:?}");
    assert!((means[3] - mean(1.0, None)).abs() < 1e-3, "all but noise alone: {means:?}");
}

#[test]
fn what_a_mask_keeps_comes_out_as_it_was() {
    let handle = Bench::free(SchedulerSettings::default());
    for strength in [0.5, 1.0] {
        let sampler = SamplerSettings { steps: 20, strength, ..SamplerSettings::default() };
        let one = build(0.6, 3, &sampler, Strategy::Joint, 2.0, Condition::BOTH);
        let initial = Some(picture().with_mask(mask()));
        let x = finished(handle.submit(Trajectory { initial, ..one }).unwrap()).x;
        for (element, x) in x.into_iter().enumerate() {
            let is_kept = x.to_bits() == (-0.9_f32).to_bits();
            assert_eq!(is_kept, element % 16 >= 8, "{strength}: {element} is {x}");
        }
    }
}

#[test]
fn every_step_is_reported() {
    let handle = Bench::free(SchedulerSettings { progress_events: 100, ..SchedulerSettings::default() });
    let (progress, _) = all(handle.submit(trajectory(0.5, 4)).unwrap());
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
fn one_pass_takes_all_rows_of_all_trajectories_whatever_their_timestep() {
    let bench = Bench::gated(SchedulerSettings::default());
    let first = bench.handle.submit(trajectory(0.1, 4)).unwrap();
    assert_eq!(bench.pass(), [0.1]);
    // Joins in mid-flight.
    let second = bench.handle.submit(trajectory(0.2, 2)).unwrap();
    bench.order(Order::Evaluate);
    let row = |mean, timestep, condition| Seen { mean, timestep, condition };
    assert_eq!(
        bench.passes.recv().unwrap(),
        [
            row(0.1, 749.0, Condition::BOTH),
            row(0.1, 749.0, Condition::NONE),
            row(0.2, 999.0, Condition::BOTH),
            row(0.2, 999.0, Condition::NONE),
        ]
    );
    drop(bench.orders);
    finished(second);
    finished(first);
    assert_eq!(bench.handle.stats().ticks, 4);
    assert_eq!(bench.handle.stats().rows, 12);
}

#[test]
fn trajectories_that_do_not_fit_take_turns() {
    let bench = Bench::gated(SchedulerSettings { max_rows_per_tick: 4, ..SchedulerSettings::default() });
    let first = bench.handle.submit(trajectory(0.1, 4)).unwrap();
    assert_eq!(bench.pass(), [0.1]);
    let others = [0.2, 0.3].map(|mean| bench.handle.submit(trajectory(mean, 4)).unwrap());
    for expected in [[0.1, 0.2], [0.3, 0.1], [0.2, 0.3], [0.1, 0.2], [0.3, 0.2]] {
        bench.order(Order::Evaluate);
        assert_eq!(bench.pass(), expected);
    }
    drop(bench.orders);
    finished(first);
    for events in others {
        finished(events);
    }
}

#[test]
fn dropping_the_receiver_cancels_before_the_next_step() {
    let bench = Bench::gated(SchedulerSettings::default());
    let leaver = bench.handle.submit(trajectory(0.1, 4)).unwrap();
    assert_eq!(bench.pass(), [0.1]);
    let stayer = bench.handle.submit(trajectory(0.2, 4)).unwrap();
    bench.order(Order::Evaluate);
    assert_eq!(bench.pass(), [0.1, 0.2]);
    drop(leaver);
    bench.order(Order::Evaluate);
    assert_eq!(bench.pass(), [0.2]);
    assert_eq!(bench.handle.stats().cancelled, 1);
    assert_eq!(bench.handle.stats().active, 1);
    drop(bench.orders);
    finished(stayer);
}

#[test]
fn a_deadline_in_the_past_never_starts() {
    let handle = Bench::free(SchedulerSettings::default());
    let late = Trajectory { deadline: Some(Instant::now()), ..trajectory(0.1, 4) };
    let events = handle.submit(late).unwrap();
    assert_eq!(failure(events), Failure::DeadlineExceeded { step: 0, steps: 4 });
    assert_eq!(handle.stats().ticks, 0);
}

#[test]
fn a_deadline_ends_a_trajectory_between_two_steps() {
    let bench = Bench::gated(SchedulerSettings::default());
    let deadline = Instant::now() + Duration::from_secs(1);
    let late = Trajectory { deadline: Some(deadline), ..trajectory(0.1, 4) };
    let events = bench.handle.submit(late).unwrap();
    let in_time = bench.handle.submit(trajectory(0.2, 4)).unwrap();
    assert!(bench.pass().starts_with(&[0.1]));
    // The condition waited for is the time itself.
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()));
    drop(bench.orders);
    assert_eq!(failure(events), Failure::DeadlineExceeded { step: 1, steps: 4 });
    finished(in_time);
}

#[test]
fn a_full_queue_says_so() {
    let settings = SchedulerSettings { max_trajectories: 1, max_waiting: 2, ..SchedulerSettings::default() };
    let bench = Bench::gated(settings);
    let submit = |mean| bench.handle.submit(trajectory(mean, 2));
    let active = submit(0.1).unwrap();
    assert_eq!(bench.pass(), [0.1]);
    let (second, third) = (submit(0.2).unwrap(), submit(0.3).unwrap());
    assert_eq!(submit(0.4).unwrap_err(), SubmitError::Full { waiting: 2, limit: 2 });
    assert_eq!(bench.handle.stats().waiting, 2);
    // One that gave up makes room.
    drop(second);
    let fourth = submit(0.4).unwrap();
    drop(bench.orders);
    let queued = [active, third, fourth].map(|events| finished(events).timings.queued_seconds);
    assert!(queued.iter().all(|seconds| *seconds > 0.0), "{queued:?}");
    let sum: f64 = queued.iter().sum();
    assert!((bench.handle.stats().queue_seconds / sum - 1.0).abs() < 1e-6);
}

#[test]
fn a_row_that_fails_takes_its_own_trajectory_only() {
    let bench = Bench::gated(SchedulerSettings::default());
    let first = bench.handle.submit(trajectory(0.1, 4)).unwrap();
    assert_eq!(bench.pass(), [0.1]);
    let others = [0.2, 0.3].map(|mean| bench.handle.submit(trajectory(mean, 4)).unwrap());
    bench.order(Order::Evaluate);
    assert_eq!(bench.pass(), [0.1, 0.2, 0.3]);
    bench.order(Order::Fail(0.2));
    drop(bench.orders);
    let [unlucky, last] = others;
    assert_eq!(failure(unlucky), Failure::Model(ModelError::new("out of memory")));
    // The rows before and after are those of a pass in which nothing failed.
    let alone = |mean| {
        let handle = Bench::free(SchedulerSettings::default());
        finished(handle.submit(trajectory(mean, 4)).unwrap()).x
    };
    assert_eq!(finished(first).x, alone(0.1));
    assert_eq!(finished(last).x, alone(0.3));
    let stats = bench.handle.stats();
    assert_eq!((stats.failed, stats.finished, stats.active), (1, 2, 0));
}

#[test]
fn a_pass_that_panics_fails_its_own_trajectories_only() {
    let bench = Bench::gated(SchedulerSettings { max_rows_per_tick: 3, ..SchedulerSettings::default() });
    let unlucky = bench.handle.submit(trajectory(0.1, 4)).unwrap();
    assert_eq!(bench.pass(), [0.1]);
    let other = bench.handle.submit(trajectory(0.2, 4)).unwrap();
    bench.order(Order::Panic);
    assert_eq!(failure(unlucky), Failure::ModelPanicked("index out of bounds".into()));
    drop(bench.orders);
    finished(other);
    assert!(bench.handle.is_alive());
    let stats = bench.handle.stats();
    assert_eq!((stats.failed, stats.finished, stats.active), (1, 1, 0));
}

#[test]
fn a_trajectory_that_panics_fails_alone() {
    let alone = finished(Bench::free(SchedulerSettings::default()).submit(trajectory(0.3, 4)).unwrap()).x;
    let bench = Bench::gated(SchedulerSettings::default());
    let neighbour = bench.handle.submit(trajectory(0.3, 4)).unwrap();
    assert_eq!(bench.pass(), [0.3]);
    // A picture of another size panics as the trajectory begins; a sampler that waits for a variance, as it steps.
    let picture = Some(InitialSample::new(vec![0.0; 47]));
    let misshapen = bench.handle.submit(Trajectory { initial: picture, ..trajectory(0.1, 4) }).unwrap();
    let learned = Method::Ddpm { variance: Variance::Learned };
    let settings = SamplerSettings { method: learned, steps: 4, ..SamplerSettings::default() };
    let sampler = Sampler::new(&schedule(), &settings).unwrap();
    let starved = bench.handle.submit(Trajectory { sampler, ..trajectory(0.2, 4) }).unwrap();
    bench.order(Order::Evaluate);
    let mut pass = bench.pass();
    pass.sort_by(f32::total_cmp);
    assert_eq!(pass, [0.2, 0.3]);
    (0..3).for_each(|_| bench.order(Order::Evaluate));
    for events in [misshapen, starved] {
        assert!(matches!(failure(events), Failure::StepPanicked(_)));
    }
    assert_eq!(finished(neighbour).x, alone);
    let stats = bench.handle.stats();
    assert_eq!((stats.active, stats.failed, stats.finished), (0, 2, 1));
    assert!(bench.handle.is_alive());
    bench.order(Order::Evaluate);
    finished(bench.handle.submit(trajectory(0.4, 1)).unwrap());
}

#[test]
fn a_sample_that_is_not_finite_is_a_failure() {
    let bench = Bench::gated(SchedulerSettings::default());
    let events = bench.handle.submit(trajectory(0.1, 2)).unwrap();
    bench.order(Order::Diverge);
    drop(bench.orders);
    assert_eq!(failure(events), Failure::NotFinite { steps: 2 });
}

#[test]
fn a_slow_receiver_stalls_nobody() {
    let handle = Bench::free(SchedulerSettings { progress_events: 3, ..SchedulerSettings::default() });
    let slow = handle.submit(trajectory(0.1, 40)).unwrap();
    let (progress, _) = all(handle.submit(trajectory(0.2, 60)).unwrap());
    assert!(progress.windows(2).all(|pair| pair[0].step < pair[1].step));
    // Nothing was read of it so far, and it has ended.
    let (progress, last) = all(slow);
    assert_eq!(progress.iter().map(|progress| progress.step).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(matches!(last, Event::Finished(_)));
}

#[test]
fn shares_add_up_to_the_time_the_model_took() {
    let handle = Bench::free(SchedulerSettings { max_trajectories: 32, ..SchedulerSettings::default() });
    let events: Vec<_> = crowd().into_iter().map(|one| handle.submit(one).unwrap()).collect();
    let timings: Vec<Timings> = events.into_iter().map(|events| finished(events).timings).collect();
    let shares: f64 = timings.iter().map(|timings| timings.model_seconds).sum();
    let whole = handle.stats().model_seconds;
    assert!((shares / whole - 1.0).abs() < 1e-6, "{shares} of {whole}");
    for timings in timings {
        assert!(timings.overhead_seconds > 0.0);
        assert!(timings.computing_seconds() + timings.queued_seconds <= timings.elapsed_seconds);
    }
}

#[tokio::test]
async fn shutdown_finishes_what_was_accepted() {
    let bench = Bench::gated(SchedulerSettings { max_trajectories: 1, ..SchedulerSettings::default() });
    let mut events = [0.1, 0.2].map(|mean| bench.handle.submit(trajectory(mean, 3)).unwrap());
    assert_eq!(bench.pass(), [0.1]);
    bench.handle.begin_shutdown();
    let refused = bench.handle.submit(trajectory(0.3, 3)).unwrap_err();
    assert_eq!(refused, SubmitError::ShuttingDown);
    assert!(bench.handle.is_alive());
    drop(bench.orders);
    bench.handle.shutdown().await;
    assert!(!bench.handle.is_alive());
    assert_eq!(bench.handle.submit(trajectory(0.3, 3)).unwrap_err(), SubmitError::WorkerGone);
    for events in &mut events {
        let mut last = None;
        while let Some(event) = events.recv().await {
            last = Some(event);
        }
        assert!(matches!(last, Some(Event::Finished(_))), "{last:?}");
    }
    // The model is gone.
    while bench.passes.try_recv().is_ok() {}
    assert_eq!(bench.passes.try_recv(), Err(std_mpsc::TryRecvError::Disconnected));
}

#[test]
fn dropping_the_last_handle_ends_the_worker_once_it_is_done() {
    let Bench { handle, passes, orders } = Bench::gated(SchedulerSettings::default());
    let events = handle.clone().submit(trajectory(0.1, 3)).unwrap();
    drop(handle);
    drop(orders);
    finished(events);
    // Ends with the worker, and the model it owns.
    assert_eq!(passes.iter().count(), 3);
}

#[test]
fn a_sample_without_elements_is_refused() {
    let empty = Trajectory { elements: 0, ..trajectory(0.1, 2) };
    let handle = Bench::free(SchedulerSettings::default());
    assert_eq!(handle.submit(empty).unwrap_err(), SubmitError::Empty);
}

/// All rows of a step share a pass: whatever is accepted can be drawn.
#[test]
fn a_limit_that_lets_not_everything_through_is_refused_by_name() {
    let spawn = |settings| {
        let (passes, _) = std_mpsc::channel();
        let model = Exact { schedule: schedule(), max_rows: 8, passes, orders: std_mpsc::channel().1 };
        Scheduler::spawn(model, settings).map_err(|error| error.to_string())
    };
    let settings = SchedulerSettings { max_waiting: 0, ..SchedulerSettings::default() };
    assert_eq!(spawn(settings).unwrap_err(), "max_waiting must be at least 1 (got 0)");
    for max_rows_per_tick in [1, 2] {
        let settings = SchedulerSettings { max_rows_per_tick, ..SchedulerSettings::default() };
        let told = format!("max_rows_per_tick must be at least 3 (got {max_rows_per_tick})");
        assert_eq!(spawn(settings).unwrap_err(), told);
    }
    let handle = spawn(SchedulerSettings { max_rows_per_tick: 3, ..SchedulerSettings::default() }).unwrap();
    let sampler = SamplerSettings { steps: 2, ..SamplerSettings::default() };
    let widest = build(0.5, 7, &sampler, Strategy::Weighted { ratio: 0.5 }, 2.0, Condition::BOTH);
    assert_eq!(widest.plan.max_rows(), 3);
    finished(handle.submit(widest).unwrap());
}
