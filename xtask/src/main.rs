//! The project's own commands: set-up, demonstration, tests, benchmark and every check that CI runs.
//!
//! `cargo xtask --help` lists them. What CI does is `cargo xtask ci` and nothing else, so a change that passes here
//! passes there.

mod attack;
mod bench;
mod cache_folder;
mod cargo_build;
mod cargo_checks;
mod cargo_deny;
mod cargo_machete;
mod cargo_tool;
mod chart;
mod checksum;
mod ci;
mod clients;
mod cluster;
mod contracts;
mod demo;
mod fixtures;
mod fuzz;
mod go_build;
mod guides;
mod images;
mod kills;
mod milvus;
mod missing;
mod observability;
mod onnxruntime;
mod openvino;
mod peers;
mod png;
mod process;
mod python;
mod python_environment;
mod ray;
mod sampler_speed;
mod storage;
mod test_suite;
mod training_tests;
mod wait;
mod wheel;
mod workspace;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// What every task returns: nothing, or why it stopped.
type Outcome = Result<(), Box<dyn Error>>;

/// Reverie's own commands: set-up, demonstration, tests, benchmark and checks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Fetch and verify the pinned ONNX Runtime (once), and print where the library is
    #[command(name = "onnxruntime")]
    OnnxRuntime,
    /// Draw a picture: fetch ONNX Runtime, build in release, run `reverie generate`
    Demo {
        /// The sentence to draw
        prompt: String,
        /// Further flags, passed to `reverie generate` as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
        flags: Vec<String>,
    },
    /// Run every test: fetch ONNX Runtime, build the services, run `cargo test --workspace`
    Test {
        /// Further arguments, passed to `cargo test` as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Measure: build in release and run `reverie-bench` (picture, load, creatures, super-resolution, vectors)
    Bench {
        /// Further arguments, passed to `reverie-bench` as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Measure beside services written in Python: build in release, fetch what they run with (once), and compare
    Peers {
        /// Further arguments, passed to bench/peers/compare.py as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// The same with a Stable Diffusion, which optimum exports, beside optimum-onnx and diffusers
    ImportedPeers {
        /// Further arguments, passed to bench/peers/imported/compare.py as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Measure the vector service beside faiss and hnswlib, on the same vectors
    VectorPeers {
        /// Further arguments, passed to `reverie-bench vectors` as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGS")]
        args: Vec<String>,
    },
    /// Check the Helm chart: renders, schemas of Kubernetes, alert rules (builds helm and kubeconform with Go, once)
    Chart {
        /// Write the committed renders anew instead of comparing them
        #[arg(long)]
        update: bool,
    },
    /// Run the commands of docs/guides/laptop.md (those of the other guides need containers or a cluster)
    Guide,
    /// Check the client libraries: generated code, types, style, and tests with a mesh
    Clients,
    /// Run the mesh on OpenVINO: fetch an ONNX Runtime that has it (once), and compare images with those of the CPU
    #[command(name = "openvino")]
    OpenVino,
    /// Test the vector service with its vectors in a Milvus: fetch one (once), and run the tests of its contract
    Milvus,
    /// Test the bulk import on a local Ray: fetch it (once), and run the tests of clients/ray
    Ray,
    /// Every check a change must pass, in order: fmt, clippy, doc, deny, machete, buf, chart, training, test, clients, openvino, milvus, ray,
    /// guide, observability, storage, images, cluster
    Ci,
    /// Try the chart and the images on a real Kubernetes, brought up where none is named (needs root and the images)
    Cluster(cluster::Arguments),
    /// Check the formatting of all Rust code
    Fmt,
    /// Lint all Rust code, warnings denied
    Clippy,
    /// Build the documentation, warnings denied
    Doc,
    /// Check dependencies: bans, licences, sources (installs cargo-deny if it is absent)
    Deny,
    /// Find dependencies that nothing uses (installs cargo-machete if it is absent)
    Machete,
    /// Check dependencies against the advisory database (fetched over the network; not part of `ci`)
    Advisories,
    /// Make the reference trajectories of the samplers anew and compare them with those committed (not part of `ci`)
    Fixtures {
        /// A Python that has what crates/diffusion/fixtures/generate.py asks for
        #[arg(long, default_value = "python3")]
        python: String,
    },
    /// Measure a step of each sampler beside the same step in diffusers, and print a table (not part of `ci`)
    SamplerSpeed {
        /// A Python that has what crates/diffusion/fixtures/generate.py asks for
        #[arg(long, default_value = "python3")]
        python: String,
    },
    /// Lint and build the contracts in protos/ with buf (through npx), and compare them with the last release
    Buf,
    /// Build the container images, check them from outside, draw with them, save them in the cache folder
    Images(images::Arguments),
    /// Try traces, metrics, logs and alert rules on a real OpenTelemetry collector and a real Prometheus
    Observability,
    /// Kill the services of a knowledge base at random moments while it is written to, for long (not part of `ci`)
    Kills(kills::Arguments),
    /// Let faults happen to a mesh while it is called, for long: kills, partitions, floods, full disks (not part of `ci`)
    Attack(attack::AttackArguments),
    /// Feed every parser of bytes from outside with inputs in which one thing is wrong, for long (not part of `ci`)
    Fuzz(fuzz::Arguments),
    /// Leave a mesh under load that comes and goes, for hours: nothing may grow or fail (not part of `ci`)
    Soak(attack::SoakArguments),
    /// Try object storage on real servers of S3, Google Cloud Storage and Azure (builds them once)
    Storage,
    /// Run the Python tests of models/training (makes their environment if it is absent)
    Training,
}

impl Task {
    fn run(&self) -> Outcome {
        let workspace = Workspace::locate();
        match self {
            Self::OnnxRuntime => {
                println!("{}", onnxruntime::ensure()?.display());
                Ok(())
            }
            Self::Demo { prompt, flags } => demo::run(&workspace, prompt, flags),
            Self::Test { args } => test_suite::run(&workspace, args),
            Self::Bench { args } => bench::run(&workspace, args),
            Self::Peers { args } => peers::compare(&workspace, args),
            Self::VectorPeers { args } => peers::compare_vectors(&workspace, args),
            Self::ImportedPeers { args } => peers::compare_imported(&workspace, args),
            Self::Chart { update } => chart::check(&workspace, *update),
            Self::Guide => guides::follow_laptop(&workspace),
            Self::Clients => clients::run(&workspace),
            Self::OpenVino => openvino::run(&workspace),
            Self::Milvus => milvus::run(&workspace),
            Self::Ray => ray::run(&workspace),
            Self::Ci => ci::run(&workspace),
            Self::Cluster(arguments) => cluster::run(&workspace, arguments),
            Self::Fmt => cargo_checks::fmt(&workspace),
            Self::Clippy => cargo_checks::clippy(&workspace),
            Self::Doc => cargo_checks::doc(&workspace),
            Self::Deny => cargo_deny::check(&workspace),
            Self::Machete => cargo_machete::check(&workspace),
            Self::Advisories => cargo_deny::advisories(&workspace),
            Self::Fixtures { python } => fixtures::check(&workspace, python),
            Self::SamplerSpeed { python } => sampler_speed::compare(&workspace, python),
            Self::Buf => contracts::check(&workspace),
            Self::Images(arguments) => images::run(&workspace, arguments),
            Self::Observability => observability::run(&workspace),
            Self::Kills(arguments) => kills::run(&workspace, arguments),
            Self::Attack(arguments) => attack::attack(&workspace, arguments),
            Self::Fuzz(arguments) => fuzz::run(&workspace, arguments),
            Self::Soak(arguments) => attack::soak(&workspace, arguments),
            Self::Storage => storage::run(&workspace),
            Self::Training => training_tests::run(&workspace),
        }
    }
}

fn main() -> ExitCode {
    match CommandLine::parse().task.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(inner) = cause {
                eprintln!("  because: {inner}");
                cause = inner.source();
            }
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn flags_after_the_prompt_pass_through_untouched() {
        let line = ["cargo xtask", "demo", "a small dribago", "--seed", "7", "--help", "-v"];
        let Task::Demo { prompt, flags } = CommandLine::try_parse_from(line).unwrap().task else {
            panic!("not a demo");
        };
        assert_eq!(prompt, "a small dribago");
        assert_eq!(flags, ["--seed", "7", "--help", "-v"]);
    }

    #[test]
    fn test_passes_arguments_for_the_harness_through() {
        let line = ["cargo xtask", "test", "-p", "xtask", "--", "--nocapture"];
        let Task::Test { args } = CommandLine::try_parse_from(line).unwrap().task else {
            panic!("not a test");
        };
        assert_eq!(args, ["-p", "xtask", "--", "--nocapture"]);
    }
}
