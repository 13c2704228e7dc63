//! Mutations of valid inputs: everything stays as it was but for one to three places, where something is missing, twice, moved,
//! of another type or extreme. Random bytes end at the first check of a reader; these get past it.

pub mod documents;
mod png;
mod raw;
mod wire;

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::Value;

pub use documents::document;
pub use png::{checksum, png};
pub use raw::call;
pub use wire::message;

use crate::Fallible;

/// Repeats a run: the number that it printed.
const SEED: &str = "REVERIE_MUTATION_SEED";
/// How long each test goes on, minutes, instead of its number of cases.
const MINUTES: &str = "REVERIE_MUTATION_MINUTES";
/// How long one case may take on a busy machine before it counts as one that hangs.
const PATIENCE: Duration = Duration::from_mins(1);
/// The most memory that a process may take for small inputs, bytes.
const MOST_MEMORY: u64 = 1 << 30;

/// The source of all that is random in a case.
pub type Random = StdRng;

/// Runs `case` so often, or for as many minutes as `REVERIE_MUTATION_MINUTES` says, each time with other random numbers. A case that panics, hangs or
/// fails ends the test, and is named with the seed that repeats it.
pub fn cases(count: u64, mut case: impl FnMut(&mut Random) -> Fallible<()> + Send + 'static) -> Fallible<()> {
    let first = match env::var(SEED) {
        Ok(seed) => seed.parse()?,
        Err(_) => rand::random::<u64>() >> 1,
    };
    let time = match env::var(MINUTES) {
        Ok(minutes) => Some(Duration::from_secs(60 * minutes.parse::<u64>()?)),
        Err(_) => None,
    };
    let begun = Instant::now();
    let is_enough = |done: u64| time.map_or(done == count, |time| begun.elapsed() >= time);
    let (ended, endings) = mpsc::sync_channel(0);
    thread::spawn(move || {
        for seed in first.. {
            let run = || case(&mut Random::seed_from_u64(seed)).map_err(|error| error.to_string());
            let outcome = panic::catch_unwind(AssertUnwindSafe(run));
            let outcome = outcome.unwrap_or_else(|_| Err("it panicked, as told above".to_owned()));
            if ended.send(outcome).is_err() {
                return;
            }
        }
    });
    let mut done = 0;
    while !is_enough(done) {
        let seed = first + done;
        let again = format!("{SEED}={seed} repeats it as the first case");
        match endings.recv_timeout(PATIENCE) {
            Ok(Ok(())) => done += 1,
            Ok(Err(why)) => return Err(format!("{why}; {again}").into()),
            Err(RecvTimeoutError::Timeout) => return Err(format!("a case hangs; {again}").into()),
            Err(RecvTimeoutError::Disconnected) => {
                return Err(format!("a case ended its thread; {again}").into());
            }
        }
    }
    println!("{done} cases, seeds from {first}");
    check_peak_memory("self").map_err(|error| format!("{error}; seeds from {first}").into())
}

/// A process, by its id or `self`, has never had more memory than small inputs need; where the system does not tell (it is not Linux), it may
/// have.
pub fn check_peak_memory(id: &str) -> Fallible<()> {
    let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) else { return Ok(()) };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("VmHWM is not told")?;
    let peak = kib.parse::<u64>()? << 10;
    if peak > MOST_MEMORY { Err(format!("{peak} bytes were resident").into()) } else { Ok(()) }
}

/// Lines of JSON with one of them changed.
pub fn line(random: &mut Random, text: &str) -> Fallible<String> {
    let mut lines: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let at = random.random_range(0..lines.len());
    document(random, &mut lines[at]);
    let mut changed = String::new();
    for line in lines {
        changed += &line.to_string();
        changed.push('\n');
    }
    Ok(changed)
}

/// One of `choices`, which are not empty.
pub fn choose<'a, T>(random: &mut Random, choices: &'a [T]) -> &'a T {
    &choices[random.random_range(0..choices.len())]
}

/// Changes the bytes of a file without regard to its format: flips, cuts, repeats and moves.
pub fn bytes(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..random.random_range(1..=3) {
        if bytes.is_empty() {
            return;
        }
        let at = random.random_range(0..bytes.len());
        let end = (at + random.random_range(1..=64)).min(bytes.len());
        match random.random_range(0..5) {
            0 => bytes[at] ^= 1 << random.random_range(0..8),
            1 => bytes[at] = *choose(random, &[0, 1, 0x7f, 0x80, 0xff]),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            _ => {
                let run = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, run);
            }
        }
    }
}
