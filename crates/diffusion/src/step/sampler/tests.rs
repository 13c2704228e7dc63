//! Whole trajectories, and every combination of settings.

use proptest::prelude::*;

use super::*;
use crate::levels::{BetaSchedule, FlowShift};
use crate::samplers::{DdimNoise, PreviousTimestep, SamplerKind, Variance};
use crate::step::{Thresholding, ThresholdingKind};

const NOISE: NoiseSource = NoiseSource::new(42, 0, 0);

fn linear() -> NoiseSchedule {
    NoiseSchedule::new(BetaSchedule::Linear, 1000).unwrap()
}

fn eta(eta: f32) -> Method {
    let noise = DdimNoise::OfX0;
    Method::Ddim { eta, set_alpha_to_one: true, previous: PreviousTimestep::Stride, noise }
}

fn normals(elements: usize) -> Vec<f32> {
    let mut x = vec![0.0; elements];
    NOISE.fill_normal(Stream::InitialNoise, 0, &mut x);
    x
}

/// Runs a whole trajectory of a model given as a function of (x, t), element by element.
fn run(
    schedule: &NoiseSchedule,
    settings: &SamplerSettings,
    mut x: Vec<f32>,
    model: impl Fn(f32, u32) -> f32,
) -> Vec<f32> {
    let mut sampler = Sampler::new(schedule, settings).unwrap();
    for i in 0..sampler.evaluations() {
        let t = sampler.timestep(i) as u32;
        let mut output: Vec<f32> = x.iter().map(|x| model(*x, t)).collect();
        sampler.step(i, &mut x, &mut output, &NOISE);
    }
    x
}

/// The deterministic sample and model of the scheduler tests in huggingface/diffusers (`dummy_sample_deter`,
/// `dummy_model` in tests/schedulers/test_schedulers.py): four samples of 3 x 8 x 8, summed up in absolute value.
fn golden_sum(schedule: &NoiseSchedule, settings: &SamplerSettings) -> f64 {
    let settings = SamplerSettings {
        steps: 10,
        spacing: TimestepSpacing::Leading,
        thresholding: Thresholding::Static,
        ..settings.clone()
    };
    let model = |x: f32, t: u32| x * t as f32 / (t + 1) as f32;
    // x[b, c, h, w] = (((8 c + h) 8 + w) 4 + b) / 768
    let sample = |b: u32| (0..192).map(|chw| (chw * 4 + b) as f32 / 768.0).collect();
    (0..4).flat_map(|b| run(schedule, &settings, sample(b), model)).map(|value| f64::from(value.abs())).sum()
}

#[test]
fn ddim_gives_the_golden_sums_of_diffusers() {
    let of = |schedule: NoiseSchedule, settings: SamplerSettings| golden_sum(&schedule, &settings);
    let v = SamplerSettings { prediction: PredictionType::VPrediction, ..SamplerSettings::default() };
    let noise = DdimNoise::OfX0;
    let ddim = Method::Ddim { eta: 0.0, set_alpha_to_one: false, previous: PreviousTimestep::Stride, noise };
    let to_first = SamplerSettings { method: ddim, ..SamplerSettings::default() };
    let steep = || NoiseSchedule::with_betas(BetaSchedule::Linear, 1000, 0.01, 0.02).unwrap();
    // test_scheduler_ddim.py: full loop without noise, with v-prediction, and with either end at beta_start 0.01.
    for (actual, expected) in [
        (of(linear(), SamplerSettings::default()), 172.0067),
        (of(linear(), v), 52.5302),
        (of(steep(), SamplerSettings::default()), 149.8295),
        (of(steep(), to_first), 149.0784),
    ] {
        assert!((actual - expected).abs() < 1e-2, "{actual} is not {expected}");
    }
}

/// The exact eps of data that is normal with mean mu and standard deviation sd in every element.
fn exact_eps(schedule: &NoiseSchedule, mu: f64, sd: f64) -> impl Fn(f32, u32) -> f32 {
    move |x, t| {
        let abar = schedule.abar(t);
        let (a, s) = (abar.sqrt(), (1.0 - abar).sqrt());
        (s * (f64::from(x) - a * mu) / (abar * sd * sd + s * s)) as f32
    }
}

#[test]
fn ddim_converges_with_order_one_on_a_gaussian() {
    let (mu, sd) = (0.3, 0.5);
    let schedule = linear();
    let start = normals(64);
    // The probability flow keeps every element's quantile.
    let abar = schedule.abar(999);
    let exact = |x: f32| mu + sd * (f64::from(x) - abar.sqrt() * mu) / (abar * sd * sd + 1.0 - abar).sqrt();
    let error = |steps| {
        let settings = SamplerSettings { steps, ..SamplerSettings::default() };
        let end = run(&schedule, &settings, start.clone(), exact_eps(&schedule, mu, sd));
        start.iter().zip(end).map(|(x, end)| (exact(*x) - f64::from(end)).abs()).fold(0.0, f64::max)
    };
    let errors = [50, 100, 200].map(error);
    assert!(errors[0] < 0.1, "{errors:?}");
    for pair in errors.windows(2) {
        assert!((1.7..2.3).contains(&(pair[0] / pair[1])), "{errors:?}");
    }
}

/// The trap of `PreviousTimestep::Stride`, at the step counts of Re-Imagen.
#[test]
fn ddim_keeps_the_spread_of_a_gaussian_when_it_moves_to_the_next_timestep() {
    let schedule = NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap();
    let spread = |steps, previous| {
        let noise = DdimNoise::OfX0;
        let method = Method::Ddim { eta: 0.0, set_alpha_to_one: true, previous, noise };
        let settings = SamplerSettings { method, steps, ..SamplerSettings::default() };
        let end = run(&schedule, &settings, vec![-1.0, 1.0], exact_eps(&schedule, 0.3, 0.5));
        (end[1] - end[0]) / 2.0
    };
    for steps in [128, 256] {
        assert!((spread(steps, PreviousTimestep::Next) - 0.5).abs() < 0.01);
        assert!(spread(steps, PreviousTimestep::Stride) > 0.53);
    }
    // 1000 is 125 times 8: nothing to choose.
    assert_eq!(spread(125, PreviousTimestep::Next), spread(125, PreviousTimestep::Stride));
}

#[test]
fn ddpm_samples_the_gaussian_it_is_told_of() {
    let (mu, sd) = (0.3, 0.5);
    let schedule = linear();
    for variance in [Variance::FixedSmall, Variance::FixedLarge] {
        let settings =
            SamplerSettings { method: Method::Ddpm { variance }, steps: 1000, ..SamplerSettings::default() };
        let end = run(&schedule, &settings, normals(20_000), exact_eps(&schedule, mu, sd));
        let mean = end.iter().map(|x| f64::from(*x)).sum::<f64>() / 20_000.0;
        let spread = end.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / 20_000.0;
        assert!((mean - mu).abs() < 0.02, "{variance:?}: mean {mean}");
        assert!((spread.sqrt() - sd).abs() < 0.02, "{variance:?}: standard deviation {}", spread.sqrt());
    }
}

#[test]
fn ddim_of_eta_one_is_ddpm_with_the_small_variance() {
    for steps in [10, 50, 1000] {
        let ddim = SamplerSettings {
            steps,
            spacing: TimestepSpacing::Leading,
            thresholding: Thresholding::Static,
            method: eta(1.0),
            ..SamplerSettings::default()
        };
        let ddpm = SamplerSettings { method: SamplerKind::Ddpm.into(), ..ddim.clone() };
        let schedule = linear();
        let model = exact_eps(&schedule, 0.1, 0.4);
        let [one, other] = [ddim, ddpm].map(|settings| run(&schedule, &settings, normals(100), &model));
        for (one, other) in one.iter().zip(other) {
            assert!((one - other).abs() < 1e-4, "{steps} steps: {one} and {other}");
        }
    }
}

#[test]
fn the_last_step_lands_on_x0() {
    for method in [Method::DDIM, Method::Ddpm { variance: Variance::FixedLarge }] {
        let settings = SamplerSettings { method, steps: 4, ..SamplerSettings::default() };
        let mut sampler = Sampler::new(&linear(), &settings).unwrap();
        let (mut x, mut output) = (normals(50), vec![0.1; 50]);
        let mut x0 = output.clone();
        sampler.x0(3, &x, &mut x0);
        sampler.step(3, &mut x, &mut output, &NOISE);
        for (x, x0) in x.iter().zip(&x0) {
            assert!((x - x0).abs() < 1e-6, "{method:?}");
        }
    }
}

#[test]
fn a_step_shows_its_thresholded_x0_and_moves_x_towards_it() {
    let settings = SamplerSettings {
        prediction: PredictionType::Sample,
        thresholding: Thresholding::new(ThresholdingKind::Static, 0.0).unwrap(),
        ..SamplerSettings::default()
    };
    let schedule = linear();
    let mut sampler = Sampler::new(&schedule, &settings).unwrap();
    let (mut x, mut output) = (vec![0.5, 0.5], vec![3.0, -0.25]);
    let mut x0 = output.clone();
    sampler.x0(10, &x, &mut x0);
    assert_eq!(x0, [1.0, -0.25]);
    sampler.step(10, &mut x, &mut output, &NOISE);
    // By the paper's formula, with the eps that belongs to the clipped x0.
    let (abar, abar_prev) = (schedule.abar(799), schedule.abar(779));
    for (x, x0) in x.iter().zip([1.0, -0.25]) {
        let eps = (0.5 - abar.sqrt() * x0) / (1.0 - abar).sqrt();
        let expected = abar_prev.sqrt() * x0 + (1.0 - abar_prev).sqrt() * eps;
        assert!((f64::from(*x) - expected).abs() < 1e-6, "{x} is not {expected}");
    }
}

#[test]
fn an_interval_of_noise_is_an_interval_of_evaluations() {
    let settings = SamplerSettings { method: Method::Heun, steps: 10, ..SamplerSettings::default() };
    let sampler = Sampler::new(&linear(), &settings).unwrap();
    let (least, most) = (0.3, 20.0);
    let between = sampler.evaluations_between(least, most);
    for i in 0..sampler.evaluations() {
        assert_eq!(between.contains(&i), (least..=most).contains(&sampler.levels[i].sigma()), "{i}");
    }
    assert_eq!(sampler.evaluations_between(0.0, f64::INFINITY), 0..19);
    assert!(sampler.evaluations_between(1e9, 2e9).is_empty());
    assert!(sampler.evaluations_between(2.0, 1.0).is_empty());
}

/// Every sampler, prediction, spacing, schedule and number of steps either has finite weights or is refused.
#[test]
fn whatever_is_asked_for_is_finite_or_refused() {
    let schedules = [linear(), linear().with_zero_terminal_snr()];
    let flows = [
        FlowShift::Static(3.0),
        FlowShift::Dynamic { mu: 0.8, to_last_timestep: false },
        FlowShift::Dynamic { mu: 0.8, to_last_timestep: true },
    ];
    let levels = [NoiseLevels::Trained, NoiseLevels::Karras];
    let levels: Vec<_> = levels.into_iter().chain(flows.map(NoiseLevels::Flow)).collect();
    let predictions = [
        PredictionType::Epsilon,
        PredictionType::Sample,
        PredictionType::VPrediction,
        PredictionType::FlowPrediction,
    ];
    let spacings = [TimestepSpacing::Leading, TimestepSpacing::Linspace, TimestepSpacing::Trailing];
    let thresholdings =
        [Thresholding::None, Thresholding::Static, Thresholding::Dynamic { quantile: 0.9, cap: None }];
    let mut drawn = std::collections::BTreeMap::<_, u32>::new();
    for (kind, prediction) in SamplerKind::ALL.into_iter().flat_map(|kind| predictions.map(|p| (kind, p))) {
        for (schedule, levels) in schedules.iter().flat_map(|s| levels.iter().map(move |l| (s, *l))) {
            for (spacing, steps) in
                spacings.into_iter().flat_map(|s| [1, 2, 3, 5, 999, 1000].map(|steps| (s, steps)))
            {
                for (strength, thresholding) in
                    [1.0, 0.4].into_iter().flat_map(|s| thresholdings.map(|t| (s, t)))
                {
                    let settings = SamplerSettings {
                        method: kind.into(),
                        steps,
                        spacing,
                        levels,
                        prediction,
                        thresholding,
                        strength,
                        ..SamplerSettings::default()
                    };
                    let Ok(mut sampler) = Sampler::new(schedule, &settings) else { continue };
                    *drawn.entry((kind, matches!(levels, NoiseLevels::Flow(_)))).or_default() += 1;
                    let mut x = normals(8);
                    sampler.begin(&mut x);
                    for i in 0..sampler.evaluations().min(12) {
                        let mut output: Vec<f32> = x.iter().map(|x| 0.1 - 0.5 * x).collect();
                        sampler.step(i, &mut x, &mut output, &NOISE);
                    }
                    assert!(x.iter().all(|x| x.is_finite()), "{settings:?}: {x:?}");
                }
            }
        }
    }
    for kind in SamplerKind::ALL {
        assert!(drawn.contains_key(&(kind, false)), "{kind:?} draws something");
        assert_eq!(drawn.contains_key(&(kind, true)), kind.fits_flow(), "{kind:?} with flow matching");
    }
}

#[test]
fn bad_settings_are_refused() {
    let new = |settings: SamplerSettings| Sampler::new(&linear(), &settings).unwrap_err();
    let default = SamplerSettings::default;
    assert_eq!(new(SamplerSettings { method: eta(1.5), ..default() }), SamplerError::DdimEta(1.5));
    assert!(matches!(new(SamplerSettings { steps: 0, ..default() }), SamplerError::Timesteps(_)));
    let thresholding = Thresholding::Dynamic { quantile: 2.0, cap: None };
    assert!(matches!(new(SamplerSettings { thresholding, ..default() }), SamplerError::Threshold(_)));
}

proptest! {
    #[test]
    fn any_settings_keep_a_picture_in_range(
        steps in 1_u32..40, noise in 0_f32..=1.0, ddpm: bool, prediction in 0_usize..3, spacing in 0_usize..3,
    ) {
        let settings = SamplerSettings {
            method: if ddpm { SamplerKind::Ddpm.into() } else { eta(noise) },
            steps,
            spacing: [TimestepSpacing::Leading, TimestepSpacing::Linspace, TimestepSpacing::Trailing][spacing],
            prediction: [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction][prediction],
            thresholding: Thresholding::Dynamic { quantile: 0.995, cap: None },
            ..SamplerSettings::default()
        };
        let cosine = NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap();
        // Nonsense, as large guidance weights make it.
        let end = run(&cosine, &settings, normals(100), |x, t| 5.0 * x - t as f32 / 500.0);
        prop_assert!(end.iter().all(|x| x.abs() < 1.2), "{:?}", end);
    }
}
