//! What holds for every [`RowModel`], as a test that each of them runs (feature `contract`).

use std::fmt::Debug;
use std::thread;

use crate::lane::RowModel;

/// Rows that differ from each other.
const ROWS: u32 = 4;
/// Times that each is computed on each session.
const ROUNDS: u32 = 3;

/// Checks sessions of one model: an output depends on its row alone, not on the session, on what was computed before, on what is
/// computed at the same time, or on a row that failed. `row` makes rows by number, `wrong` one that the model must refuse.
///
/// # Panics
/// If it does not hold.
pub fn check<M: RowModel>(
    mut sessions: Vec<M>,
    row: impl Fn(u32) -> M::Row + Sync,
    wrong: impl Fn() -> M::Row,
) where
    M::Output: PartialEq + Debug + Send + Sync,
{
    assert!(sessions.len() > 1, "one session has nothing to share");
    let first = &mut sessions[0];
    let expected: Vec<M::Output> =
        (0..ROWS).map(|number| first.run(row(number)).expect("a row that is right")).collect();
    assert!(expected[1..].iter().all(|output| *output != expected[0]), "it gives the same for all rows");
    let refused = first.run(wrong()).expect_err("it takes a row that is wrong");
    assert!(!refused.to_string().is_empty());
    thread::scope(|scope| {
        for (session, mut model) in (0..).zip(sessions) {
            let (row, expected) = (&row, &expected);
            scope.spawn(move || {
                for turn in 0..ROWS * ROUNDS {
                    // Each session in an order of its own.
                    let number = (turn * 3 + session) % ROWS;
                    let output = model.run(row(number)).expect("a row that is right");
                    assert_eq!(output, expected[number as usize], "row {number}, session {session}");
                }
            });
        }
    });
}
