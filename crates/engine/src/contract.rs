//! What holds for every [`RowModel`], as a test that each of them runs (feature `contract`).

use std::fmt::Debug;
use std::num::NonZeroUsize;
use std::thread;

use reverie_packages::{Bundle, Package, Role};

use crate::{InferenceSettings, RowModel};

/// Rows that differ from each other.
const ROWS: u32 = 4;
/// Times that each is computed on each session.
const ROUNDS: u32 = 3;
/// Rows of a pass: one, and room for all.
const BATCHES: [usize; 2] = [1, ROWS as usize];

/// The first package of the bundled models that has `role`.
///
/// # Panics
/// If there is none.
pub async fn package(role: Role) -> Package {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/bestiary");
    let bundle = Bundle::open(folder).await.expect("the bundled models");
    let packages = bundle.manifest.packages.all();
    let (name, _) = packages.into_iter().find(|(_, of)| *of == role).expect("the bundle has one");
    bundle.package(&name, role).await.expect("the package is whole")
}

/// Values of 0 to 1 for the row of that number.
pub fn values(elements: usize, number: u32) -> Vec<f32> {
    (0..elements).map(|place| ((place as u32 * 7 + number * 13) % 29) as f32 / 29.0).collect()
}

/// Several sessions of one thread on the CPU.
fn settings(batch: usize) -> InferenceSettings {
    InferenceSettings::on_cpu(3, 1, NonZeroUsize::new(batch).expect("above 0"))
}

/// Checks the sessions that `open` makes of one model: an output depends on its row alone, not on the session, on what was computed
/// before, on what is computed at the same time, on the other rows of its pass and its place among them, or on a row that failed. The
/// rows that it would be calibrated with are such that it computes. `row`
/// makes rows by number, which may share a pass; `wrong` makes one that the model must refuse.
///
/// # Panics
/// If it does not hold.
pub fn check<M: RowModel>(
    open: impl Fn(&InferenceSettings) -> Vec<M>,
    row: impl Fn(u32) -> M::Row + Sync,
    wrong: impl Fn() -> M::Row,
) where
    M::Output: PartialEq + Debug + Send + Sync,
{
    for batch in BATCHES {
        let mut sessions = open(&settings(batch));
        assert!(sessions.len() > 1, "one session has nothing to share");
        let first = &mut sessions[0];
        for typical in first.typical_rows() {
            assert!(M::can_share(&typical, &typical) && M::weight(&typical).elements > 0.0);
            alone(first, typical);
        }
        assert_eq!(first.batch(), batch);
        let expected: Vec<M::Output> = (0..ROWS).map(|number| alone(first, row(number))).collect();
        assert!(expected[1..].iter().all(|output| *output != expected[0]), "it gives the same for all rows");
        let refused = first.run(&mut [wrong()]).expect_err("it takes a row that is wrong");
        assert!(!refused.to_string().is_empty());
        if batch > 1 {
            together(first, &row, &expected);
            after_a_failure(first, &row, wrong(), &expected);
        }
        side_by_side(sessions, &row, &expected);
    }
}

fn alone<M: RowModel>(model: &mut M, row: M::Row) -> M::Output {
    model.run(&mut [row]).expect("a row that is right").pop().expect("its output")
}

/// Passes of all sizes, each row at each place.
fn together<M: RowModel>(model: &mut M, row: impl Fn(u32) -> M::Row, expected: &[M::Output])
where
    M::Output: PartialEq + Debug,
{
    for count in 1..=ROWS {
        for first in 0..ROWS {
            let numbers: Vec<u32> = (first..first + count).map(|number| number % ROWS).collect();
            let mut rows: Vec<M::Row> = numbers.iter().map(|number| row(*number)).collect();
            assert!(rows.iter().all(|one| M::can_share(&rows[0], one)));
            let outputs = model.run(&mut rows).expect("rows that are right");
            assert_eq!(outputs.len(), numbers.len());
            for (number, output) in numbers.iter().zip(outputs) {
                assert_eq!(output, expected[*number as usize], "row {number} among {numbers:?}");
            }
        }
    }
}

/// A pass that failed leaves its rows as they were.
fn after_a_failure<M: RowModel>(
    model: &mut M,
    row: impl Fn(u32) -> M::Row,
    wrong: M::Row,
    expected: &[M::Output],
) where
    M::Output: PartialEq + Debug,
{
    let mut rows = [row(0), wrong, row(1)];
    assert!(model.run(&mut rows).is_err(), "it takes a pass with a row that is wrong");
    let [first, _, second] = rows;
    assert_eq!([alone(model, first), alone(model, second)].as_slice(), &expected[..2]);
}

/// All sessions at the same time.
fn side_by_side<M: RowModel>(sessions: Vec<M>, row: impl Fn(u32) -> M::Row + Sync, expected: &[M::Output])
where
    M::Output: PartialEq + Debug + Send + Sync,
{
    thread::scope(|scope| {
        for (session, mut model) in (0..).zip(sessions) {
            let row = &row;
            scope.spawn(move || {
                for turn in 0..ROWS * ROUNDS {
                    // Each session in an order of its own.
                    let number = (turn * 3 + session) % ROWS;
                    let output = alone(&mut model, row(number));
                    assert_eq!(output, expected[number as usize], "row {number}, session {session}");
                }
            });
        }
    });
}
