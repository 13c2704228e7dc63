//! What a step of each sampler costs, beside the same step in diffusers: both measured one after the other, as a table.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Deserialize;

use crate::workspace::Workspace;
use crate::{Outcome, process};

/// The groups of the benchmark, in the order in which the reference prints them.
const SHAPES: [&str; 3] = ["64x64x3", "128x128x4", "1024x1024x3"];

/// Milliseconds of a sampler's step, a shape each.
type Times = [f64; SHAPES.len()];

/// Runs the benchmark, then the reference with `python`, which must have what `crates/diffusion/fixtures/generate.py` asks for.
pub(crate) fn compare(workspace: &Workspace, python: &str) -> Outcome {
    // Where criterion leaves what it measured.
    let measured = tempfile::tempdir()?;
    let mut bench = workspace.cargo("bench");
    bench.args(["--package", "reverie-diffusion", "--locked", "--bench", "step"]);
    process::run(bench.env("CRITERION_HOME", measured.path()))?;
    let mut script = workspace.command(python);
    script.arg(workspace.root().join("crates/diffusion/benches/reference.py"));
    let reference = String::from_utf8(process::capture(&mut script)?.stdout)?;

    let mut lines = reference.lines();
    println!("{}", lines.next().unwrap_or_default());
    println!("\n| Step |{}", SHAPES.map(|shape| format!(" {shape} | diffusers | times |")).concat());
    println!("| --- |{}", " --- | --- | --- |".repeat(SHAPES.len()));
    for line in lines {
        let (name, theirs) = reference_times(line)?;
        let ours = our_times(measured.path(), name)?;
        let cells = ours
            .iter()
            .zip(theirs)
            .map(|(ours, theirs)| format!(" {} | {} | {:.1} |", short(*ours), short(theirs), theirs / ours));
        println!("| {name} |{}", cells.collect::<String>());
    }
    Ok(())
}

/// A line of the reference: a name, then milliseconds.
fn reference_times(line: &str) -> Result<(&str, Times), Box<dyn Error>> {
    let broken = || format!("{line:?} is no line of the reference");
    // The name may hold a blank; the times are the last words.
    let mut rest = line.trim_end();
    let mut times = [0.0; SHAPES.len()];
    for time in times.iter_mut().rev() {
        let (before, word) = rest.rsplit_once(' ').ok_or_else(broken)?;
        *time = word.parse().map_err(|_| broken())?;
        rest = before.trim_end();
    }
    Ok((rest, times))
}

/// What criterion kept of one benchmark: runs in a row, and the nanoseconds they took together.
#[derive(Deserialize)]
struct Sample {
    iters: Vec<f64>,
    times: Vec<f64>,
}

/// The median of each shape, as the reference counts.
fn our_times(measured: &Path, name: &str) -> Result<Times, Box<dyn Error>> {
    let mut times = [0.0; SHAPES.len()];
    for (time, shape) in times.iter_mut().zip(SHAPES) {
        let path = measured.join(shape).join("step").join(name).join("new/sample.json");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let Sample { iters, times } = serde_json::from_str(&text)?;
        let mut runs: Vec<f64> = times.iter().zip(iters).map(|(time, runs)| time / runs / 1e6).collect();
        runs.sort_by(f64::total_cmp);
        *time = *runs.get(runs.len() / 2).ok_or_else(|| format!("{} has no runs", path.display()))?;
    }
    Ok(times)
}

/// Two significant digits, or three from 10 on.
fn short(milliseconds: f64) -> String {
    let digits = (1.0 - milliseconds.log10().floor()).clamp(0.0, 6.0) as usize;
    format!("{milliseconds:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_reference_is_a_name_and_three_times() {
        let (name, times) = reference_times("ddim, static      0.077    0.109   19.400").unwrap();
        assert_eq!(
            (name, times.map(|time| (1000.0 * time).round() as u32)),
            ("ddim, static", [77, 109, 19_400])
        );
        for broken in ["", "ddim 1 2", "ddim 1 2 three"] {
            assert!(reference_times(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_median_of_the_runs_counts() {
        let place = tempfile::tempdir().unwrap();
        for shape in SHAPES {
            let folder = place.path().join(shape).join("step/heun/new");
            fs::create_dir_all(&folder).unwrap();
            let sample =
                r#"{"sampling_mode": "Linear", "iters": [10.0, 20.0, 30.0], "times": [4e7, 6e7, 3e8]}"#;
            fs::write(folder.join("sample.json"), sample).unwrap();
        }
        let times = our_times(place.path(), "heun").unwrap();
        assert!(times.iter().all(|time| (time - 4.0).abs() < 1e-9), "{times:?}");
        assert!(our_times(place.path(), "euler").is_err());
    }

    #[test]
    fn times_are_told_to_two_digits() {
        assert_eq!(
            [0.001_234, 0.0199, 0.5, 5.66, 66.4, 123.0].map(short),
            ["0.0012", "0.020", "0.50", "5.7", "66", "123"]
        );
    }
}
