//! Every sampler against diffusers, step by step: the trajectories in `fixtures/`, made by `fixtures/generate.py`.
//!
//! The script's docs say what the files hold and what the references are. Model outputs and noise are made up here in the
//! same way, and each step starts from the reference sample, so that what is measured is the step.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Variance;
use crate::*;

const ELEMENTS: usize = 3;

/// What a made-up number stands for.
#[derive(Clone, Copy)]
enum Made {
    Output = 1,
    Noise = 2,
    Variance = 3,
}

/// The made-up numbers of an evaluation, in [-2, 2).
fn made_up(made: Made, evaluation: usize) -> [f32; ELEMENTS] {
    std::array::from_fn(|element| {
        let mut h = (evaluation as u32)
            .wrapping_mul(0x9E37_79B1)
            .wrapping_add((element as u32).wrapping_mul(0x85EB_CA77))
            .wrapping_add((made as u32).wrapping_mul(0xC2B2_AE3D))
            .wrapping_add(1);
        h ^= h >> 15;
        h = h.wrapping_mul(0x2C1B_3C6D);
        h ^= h >> 12;
        h = h.wrapping_mul(0x297A_2D39);
        h ^= h >> 15;
        ((f64::from(h >> 8) / f64::from(1 << 23) - 1.0) * 2.0) as f32
    })
}

/// A name of serde's, as in the fixtures.
fn named<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_value(name.into()).unwrap()
}

fn schedule(name: &str) -> NoiseSchedule {
    match name {
        "-" => NoiseSchedule::new(BetaSchedule::Linear, 1000).unwrap(),
        "zero_snr" => NoiseSchedule::new(BetaSchedule::ScaledLinear, 1000).unwrap().with_zero_terminal_snr(),
        shape => NoiseSchedule::new(named(shape), 1000).unwrap(),
    }
}

fn settings(sampler: &str, spacing: &str, prediction: &str, steps: u32, strength: f64) -> SamplerSettings {
    let ddim = |eta, set_alpha_to_one| Method::Ddim {
        eta,
        set_alpha_to_one,
        previous: PreviousTimestep::Stride,
        noise: if sampler.ends_with("_own_eps") { DdimNoise::OfOutput } else { DdimNoise::OfX0 },
    };
    let kind = |name: &str| Method::from(named::<SamplerKind>(name));
    let edm = NoiseLevels::Edm(EdmLevels::default());
    let (method, levels) = match sampler {
        "ddim_eta" => (ddim(0.7, true), NoiseLevels::Trained),
        "ddim_clip" | "ddim_clip_own_eps" | "ddim_dynamic_own_eps" => (ddim(0.0, true), NoiseLevels::Trained),
        "ddim_stable_diffusion" => (ddim(0.0, false), NoiseLevels::Trained),
        "plms_stable_diffusion" => (kind("plms"), NoiseLevels::Trained),
        "unipc_3" => (Method::UniPc { order: 3 }, NoiseLevels::Trained),
        "dpmpp_2m_sigma_min" => {
            (Method::DpmSolver { stochastic: false, lower_order_final: false }, NoiseLevels::Trained)
        }
        "euler_sigma_min" => (Method::Euler, NoiseLevels::Trained),
        "unipc_sigma_min" => (kind("unipc"), NoiseLevels::Trained),
        "dpmpp_2m_dynamic" => (kind("dpmpp_2m"), NoiseLevels::Trained),
        "ddpm_dynamic" => (kind("ddpm"), NoiseLevels::Trained),
        "flow_euler" => (Method::Euler, NoiseLevels::Flow(FlowShift::Static(1.0))),
        "flow_euler_shift_3" => (Method::Euler, NoiseLevels::Flow(FlowShift::Static(3.0))),
        "flow_euler_dynamic" => {
            (Method::Euler, NoiseLevels::Flow(FlowShift::Dynamic { mu: 0.8, to_last_timestep: false }))
        }
        "flow_heun" => (Method::Heun, NoiseLevels::Flow(FlowShift::Static(1.0))),
        "flow_heun_shift_3" => (Method::Heun, NoiseLevels::Flow(FlowShift::Static(3.0))),
        "flow_unipc_dynamic" => {
            (kind("unipc"), NoiseLevels::Flow(FlowShift::Dynamic { mu: 0.8, to_last_timestep: true }))
        }
        "flow_unipc" | "flow_dpmpp_2m" | "flow_dpmpp_2m_sde" => {
            let name = sampler.trim_start_matches("flow_");
            (kind(name), NoiseLevels::Flow(FlowShift::Static(3.0)))
        }
        name => match (name.strip_suffix("_karras"), name.strip_prefix("edm_"), name.strip_prefix("ddpm_")) {
            (Some(name), ..) => (kind(name), NoiseLevels::Karras),
            (_, Some(name), _) => (kind(name), edm),
            (.., Some(variance)) => (Method::Ddpm { variance: named(variance) }, NoiseLevels::Trained),
            _ => (kind(name), NoiseLevels::Trained),
        },
    };
    let thresholding = match sampler {
        name if name.contains("_dynamic") && !name.starts_with("flow") => {
            Thresholding::Dynamic { quantile: 0.9, cap: Some(100.0) }
        }
        "ddim_clip" | "ddim_clip_own_eps" => Thresholding::Static,
        _ => Thresholding::None,
    };
    SamplerSettings {
        method,
        steps,
        spacing: if spacing == "-" { TimestepSpacing::Leading } else { named(spacing) },
        steps_offset: u32::from(sampler.ends_with("_stable_diffusion")),
        levels,
        final_sigma: if sampler.ends_with("_sigma_min") { FinalSigma::SigmaMin } else { FinalSigma::Zero },
        prediction: named(prediction),
        thresholding,
        strength,
    }
}

/// One step from the reference sample `x`, with made-up output and noise.
fn step(sampler: &mut Sampler, variance: Option<Variance>, i: usize, x: &mut [f32; ELEMENTS]) {
    let mut output = made_up(Made::Output, i).to_vec();
    match variance {
        Some(Variance::Learned) => output.extend(made_up(Made::Variance, i).map(f32::abs)),
        Some(Variance::LearnedRange) => output.extend(made_up(Made::Variance, i)),
        _ => {}
    }
    let z = made_up(Made::Noise, i);
    sampler.step_with(i, x, &mut output, &z);
}

/// How far the timesteps that the model is told may differ.
fn slack(sampler: &str, schedule: &str) -> f32 {
    match (sampler, schedule) {
        // diffusers cuts the fraction off for this schedule alone, where we and it round for all others.
        ("dpmpp_2m_karras", "squaredcos_cap_v2") => 1.0,
        _ => 1e-5,
    }
}

#[test]
fn every_step_is_that_of_diffusers() {
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");
    let cases = std::fs::read_to_string(format!("{fixtures}/cases.txt")).unwrap();
    let bytes = std::fs::read(format!("{fixtures}/values.bin")).unwrap();
    let values: Vec<f32> =
        bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
    let mut values = values.as_slice();
    let mut take = |count: usize| values.split_off(..count).unwrap();

    // The largest error of a sampler, and where.
    let mut worst: BTreeMap<&str, (f64, &str)> = BTreeMap::new();
    let mut off = Vec::new();
    for case in cases.lines() {
        let fields: Vec<&str> = case.split(' ').collect();
        let [name, schedule_name, spacing, prediction, steps, evaluations, ref strength @ ..] = fields[..]
        else {
            panic!("{case}")
        };
        let strength = strength.first().map_or(1.0, |strength| strength.parse().unwrap());
        let evaluations: usize = evaluations.parse().unwrap();
        let settings = settings(name, spacing, prediction, steps.parse().unwrap(), strength);
        let mut sampler = Sampler::new(&schedule(schedule_name), &settings).unwrap();
        assert_eq!(sampler.evaluations(), evaluations, "{case}");
        let variance = match settings.method {
            Method::Ddpm { variance } => Some(variance),
            _ => None,
        };
        let (mut timestep, mut x) = (take(1)[0], take(ELEMENTS));
        for i in 0..evaluations {
            let told = sampler.timestep(i);
            if (told - timestep).abs() > slack(name, schedule_name).max(1e-6 * timestep.abs()) {
                off.push(format!("{case}: timestep {i} is {told}, not {timestep}"));
            }
            let mut moved = x.try_into().unwrap();
            step(&mut sampler, variance, i, &mut moved);
            if i + 1 < evaluations {
                timestep = take(1)[0];
            }
            x = take(ELEMENTS);
            let size = x.iter().fold(0.0, |size: f64, x| size.max(f64::from(x.abs())));
            let error = moved.iter().zip(x).map(|(moved, x)| f64::from((moved - x).abs()) / size);
            let error = error.fold(0.0, f64::max);
            if error > 1e-5 || error.is_nan() {
                off.push(format!("{case}: step {i} is off by {error:.1e}"));
            }
            let worst = worst.entry(name).or_default();
            if error > worst.0 {
                *worst = (error, case);
            }
        }
    }
    assert!(values.is_empty(), "values without a case");
    let table = worst.iter().fold(String::new(), |mut table, (name, (error, case))| {
        let _ = writeln!(table, "{name:<22} {error:.1e}  {case}");
        table
    });
    println!("{table}");
    assert!(
        off.is_empty(),
        "{} of {}:\n{}",
        off.len(),
        cases.lines().count(),
        off[..off.len().min(60)].join("\n")
    );
}
