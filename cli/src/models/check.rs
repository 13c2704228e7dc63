//! `reverie models check`: every package of a bundle verified, and every graph run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use reverie_engine::execution::Provider;
use reverie_engine::{InferenceSettings, Session, Tried};
use reverie_packages::package::{DType, Extent, TensorFacts};
use reverie_packages::weights::Flaw;
use reverie_packages::{Bundle, Package, Role, Tokenizer};
use reverie_service_kit::output::OutputError;
use reverie_service_kit::say;
use serde_json::{Value, json};

use crate::Failure;
use crate::mesh::{self, MeshArguments};

/// Runs that are timed, after the first.
const RUNS: usize = 3;
/// A first run that takes longer is the only one: what comes after it is hardly faster.
const LONG: Duration = Duration::from_millis(500);
/// Tensors that are named, of those that hold what is no number.
const NAMED: usize = 5;
/// What an open axis is given if nothing is known of it.
const OPEN_AXIS: usize = 2;

/// Verifies checksums and manifests, looks for weights that are not numbers (NaN, infinity), loads every graph and runs it.
/// Prints the inputs and outputs of each, what it runs on, how long one row takes, and, on another provider than the CPU, how far its
/// numbers are from those of the CPU.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The bundle.
    #[arg(value_name = "FOLDER")]
    bundle: String,
    /// Overrides one setting of the denoiser, whose execution provider and threads are used; may be repeated:
    /// --set inference.provider=cuda
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    overrides: Vec<(String, String)>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was seen of one package.
#[derive(Debug)]
struct Seen {
    folder: String,
    package: Package,
    outputs: Vec<Tried>,
    /// How far each output is from the CPU's; empty on the CPU.
    differences: BTreeMap<String, f64>,
    load: Duration,
    row: Duration,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let bundle = Bundle::open(&arguments.bundle).await?;
    let overrides = arguments.overrides.into_iter();
    let settings = MeshArguments {
        bundle: arguments.bundle.clone(),
        overrides: overrides.map(|(key, value)| ("denoiser".to_owned(), key, value)).collect(),
        ..MeshArguments::default()
    };
    let inference = mesh::service::<reverie_denoiser::Settings>(&settings)?.inference;
    let mut all = Vec::new();
    for (folder, role) in bundle.manifest.packages.all() {
        let package = bundle.package_on_disk(&folder, role).await?;
        let inference = inference.clone();
        let seen = tokio::task::spawn_blocking(move || try_out(folder, package, &inference)).await??;
        if !arguments.json {
            tell(&seen)?;
        }
        all.push(seen);
    }
    let provider = inference.provider_name();
    if arguments.json {
        let packages: Vec<Value> = all.iter().map(as_json).collect();
        say!("{:#}", json!({"bundle": arguments.bundle, "provider": provider, "packages": packages}))?;
    } else {
        say!("{} packages are sound, and every graph runs on {provider}", all.len())?;
    }
    Ok(())
}

fn try_out(folder: String, package: Package, inference: &InferenceSettings) -> Result<Seen, Failure> {
    if matches!(package.manifest.role, Role::TextEncoder | Role::JointText) {
        Tokenizer::load(&package)?;
    }
    let flaws = package.look_at_weights()?;
    if !flaws.is_empty() {
        return Err(not_numbers(&package, &flaws).into());
    }
    let begun = Instant::now();
    let mut session = Session::open(&package, inference)?;
    let load = begun.elapsed();
    let begun = Instant::now();
    let extent = |axis: &str| if axis == "batch" { inference.batch.get() } else { open_axis(&package, axis) };
    let fill = |name: &str, facts: &TensorFacts, elements| numbers(&package, name, facts, elements);
    let outputs = session.try_out(extent, fill)?;
    let mut pass = begun.elapsed();
    for _ in 0..if pass > LONG { 0 } else { RUNS } {
        let begun = Instant::now();
        session.try_out(extent, |_, _, elements| vec![0.0; elements])?;
        pass = pass.min(begun.elapsed());
    }
    let row = pass.div_f64(inference.batch.get() as f64);
    let mut differences = BTreeMap::new();
    if inference.provider != Provider::Cpu {
        let on_cpu = InferenceSettings { provider: Provider::Cpu, ..inference.clone() };
        let cpu = Session::open(&package, &on_cpu)?.try_out(extent, fill)?;
        for (given, cpu) in outputs.iter().zip(&cpu) {
            let is_finite = |tried: &Tried| tried.numbers.iter().all(|number| number.is_finite());
            if is_finite(cpu) && !is_finite(given) {
                let (location, provider) = (&package.location, inference.provider_name());
                return Err(format!(
                    "{location}: on {provider}, {} is not finite; on the CPU it is",
                    given.name
                )
                .into());
            }
            differences.insert(given.name.clone(), difference(&given.numbers, &cpu.numbers));
        }
    }
    Ok(Seen { folder, package, outputs, differences, load, row })
}

/// What an input is tried with, the same each time: ones for masks and whole numbers, the middle of the noise for a timestep, and
/// numbers at random, of mean 0 and variance 1, for everything else.
fn numbers(package: &Package, name: &str, facts: &TensorFacts, elements: usize) -> Vec<f32> {
    let is_whole = matches!(facts.dtype, DType::I64 | DType::I32);
    if is_whole || name.ends_with("mask") {
        return vec![1.0; elements];
    }
    if let ("timestep", Some(diffusion)) = (name, &package.manifest.diffusion) {
        return vec![0.5 * diffusion.train_timesteps as f32 * diffusion.timestep_scale; elements];
    }
    let seed = name.bytes().fold(0, |seed: u64, byte| 31 * (seed % (1 << 32)) + u64::from(byte));
    let mut random = StdRng::seed_from_u64(seed);
    let bound = 3_f32.sqrt();
    (0..elements).map(|_| random.random_range(-bound..bound)).collect()
}

/// The root of the mean square of the difference, as a share of that of the CPU's numbers.
fn difference(given: &[f32], cpu: &[f32]) -> f64 {
    let square = |numbers: &mut dyn Iterator<Item = f32>| -> f64 {
        numbers.map(|number| f64::from(number).powi(2)).sum::<f64>()
    };
    let off = square(&mut given.iter().zip(cpu).map(|(given, cpu)| given - cpu));
    let all = square(&mut cpu.iter().copied());
    if off == 0.0 { 0.0 } else { (off / all).sqrt() }
}

/// What is wrong with weights that were broken on their way, or never right.
fn not_numbers(package: &Package, flaws: &[Flaw]) -> String {
    let name = |flaw: &Flaw| match (flaw.not_numbers, flaw.infinite) {
        (nan, 0) => format!("{} ({nan} NaN)", flaw.tensor),
        (0, infinite) => format!("{} ({infinite} infinite)", flaw.tensor),
        (nan, infinite) => format!("{} ({nan} NaN, {infinite} infinite)", flaw.tensor),
    };
    let mut named: Vec<String> = flaws.iter().take(NAMED).map(name).collect();
    if flaws.len() > NAMED {
        named.push(format!("{} more", flaws.len() - NAMED));
    }
    format!(
        "{}: weights of {} are no numbers: {}. Export the model anew; in float32, if that was in float16",
        package.location,
        package.manifest.graph.file,
        named.join(", ")
    )
}

/// How many a run is given of an axis that is open, but for the rows: the picture of a model's own size, a latent of 64 x 64, and two of
/// everything else.
fn open_axis(package: &Package, axis: &str) -> usize {
    if let Some(diffusion) = &package.manifest.diffusion {
        let [_, height, width] = diffusion.own_sample();
        let patch = diffusion.latent.as_ref().and_then(|latent| latent.patch).unwrap_or(1);
        match axis {
            "height" => return height,
            "width" => return width,
            "image_tokens" => return (height / patch) * (width / patch),
            _ => {}
        }
    }
    match (axis, package.manifest.latent) {
        ("height" | "width", Some(latent)) => match package.manifest.role {
            Role::LatentEncoder => 64 * latent.downscale,
            _ => 64,
        },
        _ => OPEN_AXIS,
    }
}

fn tell(seen: &Seen) -> Result<(), OutputError> {
    let Seen { folder, package, outputs, differences, load, row } = seen;
    let manifest = &package.manifest;
    say!("{folder} ({})", manifest.name)?;
    say!("  digest    {}", manifest.digest())?;
    say!("  time      {:.1} ms a row, loaded in {:.0} ms", milliseconds(*row), milliseconds(*load))?;
    for (name, facts) in &manifest.graph.inputs {
        say!("  takes     {name} {}", describe(facts))?;
    }
    for (name, facts) in &manifest.graph.outputs {
        let given = outputs.iter().find(|given| given.name == *name);
        say!(
            "  gives     {name} {}, here {:?}",
            describe(facts),
            given.map(|given| given.shape.as_slice()).unwrap_or_default()
        )?;
    }
    for (name, difference) in differences {
        say!("  differs   {name} by {:.4} % from the CPU's", 100.0 * difference)?;
    }
    Ok(())
}

fn describe(facts: &TensorFacts) -> String {
    let extents: Vec<String> = facts
        .shape
        .iter()
        .map(|extent| match extent {
            Extent::Fixed(extent) => extent.to_string(),
            Extent::Dynamic(name) => name.clone(),
        })
        .collect();
    format!("{:?} [{}] as {:?}", facts.dtype, extents.join(", "), facts.name)
        .replace("F32", "f32")
        .replace("F16", "f16")
}

fn as_json(seen: &Seen) -> Value {
    let tensors = |tensors: &BTreeMap<String, TensorFacts>| serde_json::to_value(tensors).unwrap_or_default();
    let graph = &seen.package.manifest.graph;
    json!({
        "folder": seen.folder,
        "name": seen.package.manifest.name,
        "digest": seen.package.digest(),
        "inputs": tensors(&graph.inputs),
        "outputs": tensors(&graph.outputs),
        "output_shapes": seen.outputs.iter().map(|output| (&output.name, &output.shape)).collect::<BTreeMap<_, _>>(),
        "differences": seen.differences,
        "load_seconds": seen.load.as_secs_f64(),
        "row_seconds": seen.row.as_secs_f64(),
    })
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((parts.0.to_owned(), parts.1.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_a_share_of_the_numbers() {
        assert!(difference(&[3.0, -4.0], &[3.0, -4.0]) < f64::EPSILON);
        assert!((difference(&[3.0, -4.0], &[3.0, -5.0]) - 1.0 / 34_f64.sqrt()).abs() < 1e-9);
        assert!(difference(&[0.0], &[0.0]) < f64::EPSILON);
        assert!(difference(&[1.0], &[0.0]).is_infinite());
        assert!(difference(&[f32::INFINITY], &[f32::INFINITY]).is_nan(), "nothing is known of it");
    }
}
