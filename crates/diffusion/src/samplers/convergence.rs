//! Samplers against what is known exactly: the sums of huggingface/diffusers' own scheduler tests, and data that is normal.

use proptest::prelude::*;

use super::evaluations;
use crate::levels::NoiseLevel;
use crate::*;

const NOISE: NoiseSource = NoiseSource::new(42, 0, 0);

/// Runs a whole trajectory; `model` replaces x by the output, and may change what the step starts from.
fn run(
    schedule: &NoiseSchedule,
    settings: &SamplerSettings,
    mut x: Vec<f32>,
    model: impl Fn(&mut f32, NoiseLevel, f32) -> f32,
) -> Vec<f32> {
    let levels: Vec<NoiseLevel> =
        evaluations(schedule, settings).unwrap().iter().map(|evaluation| evaluation.level).collect();
    let mut sampler = Sampler::new(schedule, settings).unwrap();
    for (i, level) in levels.into_iter().enumerate() {
        let t = sampler.timestep(i);
        let mut output: Vec<f32> = x.iter_mut().map(|x| model(x, level, t)).collect();
        sampler.step(i, &mut x, &mut output, &NOISE);
    }
    x
}

/// What the "full loop" of tests/schedulers/ in huggingface/diffusers sums up in absolute value: x t / (t + 1) as the
/// model, ten steps, a linear schedule, from x[b, c, h, w] = (((8 c + h) 8 + w) 4 + b) / 768, four samples of 3 x 8 x 8.
///
/// Those of the samplers in sigma begin from sigma times that, and step from the model's input as if it were the sample.
fn golden_sum(train_timesteps: u32, settings: &SamplerSettings) -> f64 {
    let schedule = NoiseSchedule::new(BetaSchedule::Linear, train_timesteps).unwrap();
    let settings = SamplerSettings { steps: 10, ..settings.clone() };
    let in_sigma = matches!(settings.method, Method::Euler | Method::Heun);
    let scale = if in_sigma { evaluations(&schedule, &settings).unwrap()[0].level.s } else { 1.0 };
    let sample: Vec<f32> = (0..768).map(|i| (f64::from(i) / 768.0 * scale) as f32).collect();
    let end = run(&schedule, &settings, sample, |x, level, t| {
        let output = *x * t / (t + 1.0);
        if in_sigma {
            *x *= level.a as f32;
        }
        output
    });
    end.iter().map(|x| f64::from(x.abs())).sum()
}

#[test]
fn samplers_give_the_golden_sums_of_diffusers() {
    use PredictionType::{Epsilon, VPrediction};
    use SamplerKind::{Euler, Heun, Pndm, UniPc};
    use TimestepSpacing::{Leading, Linspace};
    let karras = NoiseLevels::Karras;
    let trained = NoiseLevels::Trained;
    for (kind, train_timesteps, spacing, prediction, levels, expected) in [
        (Pndm, 1000, Leading, Epsilon, trained, 198.1318),
        (Pndm, 1000, Leading, VPrediction, trained, 67.3986),
        (Euler, 1100, Linspace, Epsilon, trained, 10.0807),
        (Euler, 1100, Linspace, VPrediction, trained, 0.0002),
        (Euler, 1100, Linspace, Epsilon, karras, 124.5230),
        (Heun, 1100, Linspace, Epsilon, trained, 0.1233),
    ] {
        let settings = SamplerSettings {
            method: kind.into(),
            spacing,
            prediction,
            levels,
            ..SamplerSettings::default()
        };
        let sum = golden_sum(train_timesteps, &settings);
        assert!((sum - expected).abs() < 1e-2, "{settings:?}: {sum} is not {expected}");
    }
    // Of these the tests give the mean. They end with noise, 2M in second order.
    let two_m = Method::DpmSolver { stochastic: false, lower_order_final: false };
    let unipc = Method::from(UniPc);
    for (method, prediction, levels, expected) in [
        (two_m, Epsilon, trained, 0.3301),
        (two_m, VPrediction, trained, 0.2251),
        (two_m, VPrediction, karras, 0.2096),
        (unipc, Epsilon, trained, 0.2464),
        (unipc, Epsilon, karras, 0.2925),
        (unipc, VPrediction, trained, 0.1014),
        (unipc, VPrediction, karras, 0.1966),
    ] {
        let (spacing, final_sigma) = (Linspace, FinalSigma::SigmaMin);
        let settings = SamplerSettings {
            method,
            spacing,
            levels,
            final_sigma,
            prediction,
            ..SamplerSettings::default()
        };
        let mean = golden_sum(1000, &settings) / 768.0;
        assert!((mean - expected).abs() < 1e-3, "{settings:?}: {mean} is not {expected}");
    }
}

/// Mean and standard deviation of the data.
const MU: f64 = 0.3;
const SD: f64 = 0.5;

/// The largest error of a deterministic sampler that is told the exact x0 of normal data.
///
/// The probability flow keeps every element's quantile, which gives the exact end.
fn error(method: Method, levels: NoiseLevels, steps: u32) -> f64 {
    let schedule = NoiseSchedule::new(BetaSchedule::Linear, 1000).unwrap();
    let prediction = PredictionType::Sample;
    let settings = SamplerSettings { method, steps, levels, prediction, ..SamplerSettings::default() };
    let mean = |level: NoiseLevel| level.a * MU;
    let spread = |level: NoiseLevel| (level.a * SD).hypot(level.s);
    let first = evaluations(&schedule, &settings).unwrap()[0].level;
    // Quantiles, as numbers of standard deviations.
    let quantiles = [-2.0, -1.0, -0.25, 0.5, 1.5];
    let start = quantiles.map(|z| (mean(first) + spread(first) * z) as f32).to_vec();
    let end = run(&schedule, &settings, start, |x, level, _| {
        let z = (f64::from(*x) - mean(level)) / spread(level);
        (MU + level.a * SD * SD / spread(level) * z) as f32
    });
    quantiles.iter().zip(end).map(|(z, end)| (MU + SD * z - f64::from(end)).abs()).fold(0.0, f64::max)
}

#[test]
fn samplers_converge_with_their_order() {
    let edm = NoiseLevels::Edm(EdmLevels::default());
    let flow = NoiseLevels::Flow(FlowShift::Static(1.0));
    for (method, levels, order) in [
        (Method::DDIM, NoiseLevels::Trained, 1.0),
        (Method::Euler, edm, 1.0),
        (Method::Euler, flow, 1.0),
        (Method::Heun, edm, 2.0),
        (SamplerKind::DpmSolver.into(), edm, 2.0),
        // Of the predictor; the corrector adds one.
        (Method::UniPc { order: 1 }, edm, 1.0 + 1.0),
        (Method::UniPc { order: 2 }, edm, 2.0 + 1.0),
    ] {
        let errors = [25, 50, 100].map(|steps| error(method, levels, steps));
        for pair in errors.windows(2) {
            let seen = (pair[0] / pair[1]).log2();
            assert!((seen - order).abs() < 0.3, "{method:?}: order {seen}, not {order}: {errors:?}");
        }
    }
}

#[test]
fn more_is_gained_by_a_higher_order() {
    let of = |kind: SamplerKind| error(kind.into(), NoiseLevels::Trained, 25);
    let ddim = of(SamplerKind::Ddim);
    for kind in
        [SamplerKind::Heun, SamplerKind::DpmSolver, SamplerKind::UniPc, SamplerKind::Pndm, SamplerKind::Plms]
    {
        assert!(of(kind) < 0.3 * ddim, "{kind:?}: {} of {ddim}", of(kind));
    }
}

proptest! {
    /// Data that is a single point: whatever the way, it ends there.
    #[test]
    fn every_sampler_arrives_where_all_data_is(
        kind in prop::sample::select(&SamplerKind::ALL), shape in 0_usize..4, steps in 4_u32..60, spacing in 0_usize..3,
        prediction in 0_usize..3, karras: bool,
    ) {
        let shape = [
            BetaSchedule::Linear,
            BetaSchedule::ScaledLinear,
            BetaSchedule::SquaredcosCapV2,
            BetaSchedule::Sigmoid,
        ][shape];
        let spacing = [TimestepSpacing::Leading, TimestepSpacing::Linspace, TimestepSpacing::Trailing][spacing];
        let prediction = [PredictionType::Sample, PredictionType::Epsilon, PredictionType::VPrediction][prediction];
        let (method, spacing, steps) = match Method::from(kind) {
            // By strides, which are even in this spacing only, and halved by Runge-Kutta.
            Method::Pndm { runge_kutta, .. } => {
                let steps = [4, 5, 10, 20, 25, 50][steps as usize % 6];
                (Method::Pndm { runge_kutta, set_alpha_to_one: true }, TimestepSpacing::Leading, steps)
            }
            Method::Ddim { .. } => {
                let previous = PreviousTimestep::Next;
                (Method::Ddim { eta: 0.5, set_alpha_to_one: true, previous, noise: DdimNoise::OfX0 }, spacing, steps)
            }
            Method::Lcm { .. } => (Method::Lcm { original_steps: 100, spreads_steps: false }, spacing, steps),
            method => (method, spacing, steps),
        };
        // A mean of v, unlike one of eps, is of no data.
        prop_assume!(!(matches!(method, Method::Pndm { .. }) && prediction == PredictionType::VPrediction));
        let in_sigma = !matches!(
            kind,
            SamplerKind::Ddim | SamplerKind::Ddpm | SamplerKind::Pndm | SamplerKind::Plms | SamplerKind::Lcm
        );
        let levels = if karras && in_sigma { NoiseLevels::Karras } else { NoiseLevels::Trained };
        let settings =
            SamplerSettings { method, steps, spacing, levels, prediction, ..SamplerSettings::default() };
        let schedule = NoiseSchedule::new(shape, 1000).unwrap();
        let x0 = 0.6;
        let end = run(&schedule, &settings, vec![1.5, -0.3, 0.01, -2.0], |x, NoiseLevel { a, s }, _| {
            let eps = (f64::from(*x) - a * x0) / s;
            (match prediction {
                PredictionType::Epsilon => eps,
                PredictionType::VPrediction => a * eps - s * x0,
                PredictionType::Sample | PredictionType::FlowPrediction => x0,
            }) as f32
        });
        for x in end {
            prop_assert!((f64::from(x) - x0).abs() < 2e-3, "{settings:?}: {x}");
        }
    }

    /// Nonsense, as large guidance weights make it, stays in range; multistep methods overshoot by what they extrapolate.
    /// Those that extrapolate eps rather than x0 (Heun, PNDM) give no such promise.
    #[test]
    fn no_sampler_leaves_the_range_by_much(
        kind in prop::sample::select(&SamplerKind::ALL), steps in 4_u32..40, spacing in 0_usize..3,
    ) {
        prop_assume!(!matches!(kind, SamplerKind::Heun | SamplerKind::Pndm | SamplerKind::Plms));
        let settings = SamplerSettings {
            method: kind.into(),
            steps,
            spacing: [TimestepSpacing::Leading, TimestepSpacing::Linspace, TimestepSpacing::Trailing][spacing],
            thresholding: Thresholding::Dynamic { quantile: 0.995, cap: None },
            ..SamplerSettings::default()
        };
        let cosine = NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap();
        let mut start = vec![0.0; 100];
        NOISE.fill_normal(Stream::InitialNoise, 0, &mut start);
        let end = run(&cosine, &settings, start, |x, _, t| 5.0 * *x - t / 500.0);
        prop_assert!(end.iter().all(|x| x.abs() < 3.0), "{:?}", end);
    }
}

/// Large samples are shared out to threads, kept tensors and all.
#[test]
fn threads_do_not_change_a_step() {
    let elements = 3 * crate::step::PART + 5;
    for kind in SamplerKind::ALL {
        let settings = SamplerSettings { method: kind.into(), steps: 5, ..SamplerSettings::default() };
        let schedule = NoiseSchedule::new(BetaSchedule::Linear, 1000).unwrap();
        let whole = Sampler::new(&schedule, &settings).unwrap();
        let mut x = vec![0.0; elements];
        NOISE.fill_normal(Stream::InitialNoise, 0, &mut x);
        let ends: Vec<Vec<f32>> = [elements, 1000]
            .into_iter()
            .map(|part| {
                let mut samplers = vec![whole.clone(); elements.div_ceil(part)];
                let mut x = x.clone();
                for i in 0..whole.evaluations() {
                    for (sampler, x) in samplers.iter_mut().zip(x.chunks_mut(part)) {
                        let mut output: Vec<f32> = x.iter().map(|x| x * 0.9 + 0.1).collect();
                        // Noise would be addressed from the beginning of each part.
                        sampler.step_with(i, x, &mut output, &[]);
                    }
                }
                x
            })
            .collect();
        assert!(ends[0] == ends[1], "{kind:?}");
    }
}
