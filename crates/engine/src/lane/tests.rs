//! A lane as the services use it, over a model that does what each row says.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::work::{Next, Outlook, Timings};

/// What a row has the model do.
enum Order {
    Answer(u32),
    Fail,
    Panic,
    /// Answers once the other end is dropped or sends.
    Wait(mpsc::Receiver<()>),
}

struct Obedient {
    batch: usize,
    /// A row to calibrate with, if it has one.
    typical: Option<fn() -> Order>,
}

impl RowModel for Obedient {
    type Row = Order;
    type Output = u32;

    fn batch(&self) -> usize {
        self.batch
    }

    fn typical_rows(&self) -> Vec<Order> {
        self.typical.map(|order| order()).into_iter().collect()
    }

    fn can_share(one: &Order, other: &Order) -> bool {
        match (one, other) {
            (Order::Answer(one), Order::Answer(other)) => one % 2 == other % 2,
            (Order::Wait(_), _) | (_, Order::Wait(_)) => false,
            _ => true,
        }
    }

    fn run(&mut self, rows: &mut [Order]) -> Result<Vec<u32>, RowError> {
        assert!(rows.len() <= self.batch);
        assert!(rows[1..].iter().all(|row| Self::can_share(&rows[0], row)), "rows that do not fit");
        let obey = |row: &mut Order| match row {
            Order::Answer(answer) => Ok(*answer),
            Order::Fail => Err(RowError::new("no memory")),
            Order::Panic => panic!("a bug"),
            Order::Wait(until) => {
                let _ = until.recv();
                Ok(0)
            }
        };
        rows.iter_mut().map(obey).collect()
    }
}

const SETTINGS: LaneSettings = LaneSettings {
    max_jobs: 2000,
    stall_seconds: 60.0,
    calibration_seconds: 1.0,
    row_seconds: BTreeMap::new(),
};

fn lane(name: &str, sessions: usize, settings: &LaneSettings) -> Lane<Obedient> {
    batching(name, sessions, 1, settings)
}

/// A lane whose passes have room for `batch` rows.
fn batching(name: &str, sessions: usize, batch: usize, settings: &LaneSettings) -> Lane<Obedient> {
    let models = (0..sessions).map(|_| Obedient { batch, typical: None }).collect();
    Lane::start(name, models, settings, &Arc::new(Cores::new(sessions)), 1).unwrap()
}

fn call() -> Call {
    Call { caller: Caller(1), class: Class::Interactive, deadline: None, origin: 0 }
}

/// A row that keeps a session busy until the sender is dropped, and which has begun.
async fn busy(lane: &Lane<Obedient>) -> mpsc::Sender<()> {
    let (until, wait) = mpsc::channel();
    tokio::spawn(lane.run(call(), Order::Wait(wait)));
    while lane.stats().running == 0 {
        tokio::task::yield_now().await;
    }
    until
}

#[tokio::test]
async fn a_row_is_computed_or_its_caller_hears_why_not() {
    for sessions in [1, 3] {
        let lane = lane("test", sessions, &SETTINGS);
        let rows = (0..50).map(|number| {
            let order = match number {
                7 => Order::Fail,
                13 => Order::Panic,
                _ => Order::Answer(number),
            };
            lane.run(call(), order)
        });
        for (number, outcome) in futures::future::join_all(rows).await.into_iter().enumerate() {
            match number {
                7 => assert_eq!(outcome, Err(Failure::Model(RowError::new("no memory")).into())),
                13 => assert_eq!(outcome, Err(Failure::ModelPanicked("a bug".into()).into())),
                _ => assert_eq!(outcome.unwrap().output, number as u32),
            }
        }
        let stats = lane.stats();
        assert_eq!((stats.finished, stats.failed, stats.rows), (48, 2, 50));
        assert_eq!((stats.active, stats.waiting, stats.running), (0, 0, 0));
        assert_eq!(lane.check(), Ok(()));
    }
}

#[tokio::test]
async fn a_pass_takes_what_is_ready_and_waits_for_nothing() {
    let lane = batching("test", 1, 4, &SETTINGS);
    // An idle lane computes a single row at once.
    assert_eq!(lane.run(call(), Order::Answer(7)).await.unwrap().output, 7);
    let until = busy(&lane).await;
    let rows: Vec<_> = (0..10).map(|number| lane.run(call(), Order::Answer(2 * number))).collect();
    drop(until);
    for (number, row) in (0..).zip(rows) {
        assert_eq!(row.await.unwrap().output, 2 * number);
    }
    // One alone, the one that kept it busy, and 4, 4 and 2.
    assert_eq!((lane.stats().rows, lane.stats().passes), (12, 5));
}

#[tokio::test]
async fn a_pass_that_fails_fails_the_rows_that_are_wrong() {
    for (wrong, told) in [
        ((|| Order::Fail) as fn() -> Order, Failure::Model(RowError::new("no memory"))),
        (|| Order::Panic, Failure::ModelPanicked("a bug".into())),
    ] {
        let lane = batching("test", 1, 4, &SETTINGS);
        let until = busy(&lane).await;
        let order = |number: u32| if number == 2 { wrong() } else { Order::Answer(2 * number) };
        let rows: Vec<_> = (0..4).map(|number| lane.run(call(), order(number))).collect();
        drop(until);
        for (number, row) in (0..).zip(rows) {
            let outcome = row.await;
            if number == 2 {
                assert_eq!(outcome, Err(RunError::Failed(told.clone())));
            } else {
                assert_eq!(outcome.unwrap().output, 2 * number);
            }
        }
        assert_eq!((lane.stats().failed, lane.stats().finished, lane.stats().passes), (1, 4, 2));
    }
}

#[tokio::test]
async fn only_rows_that_can_share_a_pass_do() {
    let lane = batching("test", 1, 4, &SETTINGS);
    let until = busy(&lane).await;
    // Even numbers go with even ones.
    let rows: Vec<_> = (0..8).map(|number| lane.run(call(), Order::Answer(number))).collect();
    drop(until);
    for (number, row) in (0..).zip(rows) {
        assert_eq!(row.await.unwrap().output, number);
    }
    assert_eq!((lane.stats().rows, lane.stats().passes), (9, 3));
}

#[tokio::test]
async fn nothing_is_computed_for_callers_that_are_gone() {
    let lane = lane("test", 1, &SETTINGS);
    let until = busy(&lane).await;
    let (mut stay, mut leave) = (Vec::new(), Vec::new());
    for number in 0..1000 {
        let row = lane.run(call(), Order::Answer(number));
        if number % 20 == 0 { stay.push(row) } else { leave.push(row) }
    }
    drop(leave);
    drop(until);
    for row in stay {
        row.await.unwrap();
    }
    let stats = lane.stats();
    assert_eq!((stats.cancelled, stats.wasted_rows, stats.rows), (950, 0, 51));
}

#[tokio::test]
async fn what_cannot_be_done_in_time_is_refused() {
    let lane = lane("test", 1, &SETTINGS);
    let sleep = Duration::from_millis(20);
    // It measures what a row costs.
    let slow = |deadline: Duration| {
        let (until, wait) = mpsc::channel();
        let call = Call { deadline: Some(Instant::now() + deadline), ..call() };
        let row = lane.run(call, Order::Wait(wait));
        thread::spawn(move || {
            thread::sleep(sleep);
            drop(until);
        });
        row
    };
    slow(Duration::from_mins(1)).await.unwrap();
    let until = busy(&lane).await;
    let asked: Vec<_> = (0..100).map(|_| slow(sleep * 10)).collect();
    drop(until);
    let (mut done, mut late, mut refused) = (0, 0, 0);
    for row in asked {
        match row.await {
            Ok(_) => done += 1,
            Err(RunError::Submit(SubmitError::Policy(_))) => refused += 1,
            // The test's own clock runs late on a busy machine.
            Err(RunError::Failed(Failure::DeadlineExceeded { .. })) => late += 1,
            Err(error) => panic!("admitted, and then: {error}"),
        }
    }
    assert!(done >= 1 && done + late <= 10 && refused >= 90, "{done} done, {late} late, {refused} refused");
}

/// A cost that was measured too high, once, does not refuse everyone for ever.
#[tokio::test]
async fn an_idle_lane_tries_what_seems_hopeless() {
    let lane = lane("test", 1, &SETTINGS);
    let (until, wait) = mpsc::channel();
    let slow = tokio::spawn(lane.run(call(), Order::Wait(wait)));
    thread::sleep(Duration::from_secs(2));
    drop(until);
    slow.await.unwrap().unwrap();
    let soon = || Call { deadline: Some(Instant::now() + Duration::from_secs(1)), ..call() };
    assert_eq!(lane.run(soon(), Order::Answer(7)).await.unwrap().output, 7);
    // What is late already is not begun.
    let late = Call { deadline: Some(Instant::now()), ..call() };
    assert!(matches!(lane.run(late, Order::Answer(7)).await, Err(RunError::Submit(SubmitError::Policy(_)))));
}

/// A lane of one session whose model can be calibrated.
fn calibrating(typical: fn() -> Order, settings: &LaneSettings) -> Lane<Obedient> {
    let models = vec![Obedient { batch: 1, typical: Some(typical) }];
    Lane::start("test", models, settings, &Arc::new(Cores::new(1)), 1).unwrap()
}

#[tokio::test]
async fn a_lane_measures_what_a_pass_costs_before_its_first_job() {
    let lane = calibrating(|| Order::Answer(1), &SETTINGS);
    while lane.stats().pass_seconds <= 0.0 {
        tokio::task::yield_now().await;
    }
    // Nobody asked for these rows.
    assert_eq!((lane.stats().rows, lane.stats().passes, lane.stats().finished), (0, 0, 0));
    assert_eq!(lane.run(call(), Order::Answer(7)).await.unwrap().output, 7);
    lane.shutdown().await;
}

#[tokio::test]
async fn a_calibration_that_fails_fails_nothing_else() {
    for typical in [(|| Order::Fail) as fn() -> Order, || Order::Panic] {
        let lane = calibrating(typical, &SETTINGS);
        assert_eq!(lane.run(call(), Order::Answer(7)).await.unwrap().output, 7);
        assert_eq!(lane.check(), Ok(()));
        lane.shutdown().await;
    }
}

#[tokio::test]
async fn a_cost_that_is_set_decides_what_is_admitted() {
    let row_seconds = BTreeMap::from([("test".to_owned(), 100.0)]);
    let lane = calibrating(|| Order::Answer(1), &LaneSettings { row_seconds, ..SETTINGS });
    assert!((lane.stats().pass_seconds - 100.0).abs() < 1e-9);
    let until = busy(&lane).await;
    let soon = Call { deadline: Some(Instant::now() + Duration::from_mins(1)), ..call() };
    let refused = lane.run(soon, Order::Answer(7)).await;
    assert!(
        matches!(refused, Err(RunError::Submit(SubmitError::Policy(policy::Refused::Hopeless { .. })))),
        "{refused:?}"
    );
    drop(until);
}

#[tokio::test]
async fn a_prediction_tells_the_work_of_others_than_who_asks() {
    let row_seconds = BTreeMap::from([("test".to_owned(), 3.0)]);
    let lane = calibrating(|| Order::Answer(1), &LaneSettings { row_seconds, ..SETTINGS });
    let until = busy(&lane).await;
    let by = |origin| Call { origin, ..call() };
    let waiting: Vec<_> = [0, 7, 7, 8].map(|origin| lane.run(by(origin), Order::Answer(1))).into();
    let left = policy::Left { rows: 1, later_steps: 0, later_rows: 0 };
    let of_others = |origin| lane.predict(by(origin), left, 1.0).of_others;
    // The first that waits does not say where it comes from. The one that runs has no rows left.
    assert_eq!([7, 8, 9, 0].map(|origin| of_others(origin).round() as u32), [6, 9, 12, 12]);
    drop((until, waiting));
}

/// A job that panics where nobody expects it.
struct Bomb;

impl Work<Obedient> for Bomb {
    fn outlook(&self) -> Outlook {
        Outlook { rows: 1, later_steps: 0, later_rows: 0, steps_taken: 0, weight: Weight::from(1.0) }
    }

    fn rows(&mut self) -> Vec<Order> {
        vec![Order::Answer(1)]
    }

    fn advance(&mut self, _: Vec<u32>) -> Result<Next, Failure> {
        Ok(Next::Done)
    }

    fn is_cancelled(&self) -> bool {
        false
    }

    fn end(self: Box<Self>, _: Result<Timings, Failure>) {
        panic!("in the wrong place");
    }
}

#[tokio::test]
async fn a_thread_that_dies_takes_its_lane_with_it_and_everyone_is_told() {
    let lane = lane("test", 2, &SETTINGS);
    let until = busy(&lane).await;
    lane.submit(call(), Bomb).unwrap();
    let waiting = lane.run(call(), Order::Answer(1));
    while lane.check().is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(lane.check(), Err(Trouble::Died { model: "test".into() }));
    // It was admitted before the thread died, or refused after.
    let told = waiting.await;
    let is_told = matches!(
        told,
        Ok(_) | Err(RunError::Failed(Failure::LaneGone) | RunError::Submit(SubmitError::Gone))
    );
    assert!(is_told, "{told:?}");
    let refused = lane.run(call(), Order::Answer(1)).await;
    assert_eq!(refused, Err(RunError::Submit(SubmitError::Gone)));
    drop(until);
    lane.shutdown().await;
}
