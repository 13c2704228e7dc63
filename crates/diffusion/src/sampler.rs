//! From a model's output to the next x, whichever sampler was asked for.
//!
//! To add a sampler: one file with an `updates` function beside [`ddim`] and [`ddpm`], one variant of [`SamplerKind`],
//! one arm in [`Sampler::new`].

use std::thread;

use serde::{Deserialize, Serialize};

use crate::ddim::{self, PreviousTimestep};
use crate::ddpm::{self, Variance};
use crate::noise::NoiseSource;
use crate::prediction::{Conversion, PredictionType};
use crate::schedule::NoiseSchedule;
use crate::threads::threads_for;
use crate::threshold::{ThresholdError, Thresholder, Thresholding};
use crate::timesteps::{TimestepError, TimestepSpacing};
use crate::update::Update;

/// The samplers, named as in model packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerKind {
    /// Song et al. 2021; deterministic unless `ddim_eta` is above 0.
    Ddim,
    /// Ho et al. 2020; stochastic, for many steps.
    Ddpm,
}

/// Everything that decides how x moves, apart from the model and the schedule it was trained with.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerSettings {
    /// Which sampler.
    pub kind: SamplerKind,
    /// N, between 1 and T.
    pub steps: u32,
    /// Which timesteps the N steps visit.
    pub spacing: TimestepSpacing,
    /// Added to every timestep of leading spacing.
    pub steps_offset: u32,
    /// What the model's output means.
    pub prediction: PredictionType,
    /// How x0 is kept in range.
    pub thresholding: Thresholding,
    /// DDIM only, in [0, 1]: 0 is deterministic, 1 as stochastic as DDPM.
    pub ddim_eta: f32,
    /// DDIM only: whether the last step lands on x0 itself or on timestep 0.
    pub set_alpha_to_one: bool,
    /// DDIM only: which noise level a step moves to.
    pub ddim_previous: PreviousTimestep,
    /// DDPM only.
    pub variance: Variance,
}

impl Default for SamplerSettings {
    /// DDIM, 50 steps, trailing, eps prediction, no thresholding.
    fn default() -> Self {
        Self {
            kind: SamplerKind::Ddim,
            steps: 50,
            spacing: TimestepSpacing::Trailing,
            steps_offset: 0,
            prediction: PredictionType::Epsilon,
            thresholding: Thresholding::None,
            ddim_eta: 0.0,
            set_alpha_to_one: true,
            ddim_previous: PreviousTimestep::Stride,
            variance: Variance::FixedSmall,
        }
    }
}

/// Why a sampler cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SamplerError {
    /// The timesteps cannot be laid out.
    #[error(transparent)]
    Timesteps(#[from] TimestepError),
    /// The thresholding is out of range.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// Above 1 the noise added would exceed the noise wanted.
    #[error("ddim_eta must be in [0, 1], not {0}")]
    DdimEta(f32),
}

/// One trajectory's sampler: everything that depends on the timestep is worked out beforehand, so that a step allocates
/// nothing.
#[derive(Debug, Clone)]
pub struct Sampler {
    timesteps: Vec<u32>,
    conversions: Vec<Conversion>,
    updates: Vec<Update>,
    thresholder: Thresholder,
}

impl Sampler {
    /// A sampler over a model's training schedule.
    pub fn new(schedule: &NoiseSchedule, settings: &SamplerSettings) -> Result<Self, SamplerError> {
        let eta = settings.ddim_eta;
        if !(0.0..=1.0).contains(&eta) {
            return Err(SamplerError::DdimEta(eta));
        }
        let timesteps =
            settings.spacing.timesteps(schedule.train_timesteps(), settings.steps, settings.steps_offset)?;
        let updates = match settings.kind {
            SamplerKind::Ddim => ddim::updates(
                schedule,
                &timesteps,
                settings.ddim_previous,
                f64::from(eta),
                settings.set_alpha_to_one,
            ),
            SamplerKind::Ddpm => ddpm::updates(schedule, &timesteps, settings.variance),
        };
        Ok(Self {
            conversions: timesteps
                .iter()
                .map(|&t| settings.prediction.conversion(schedule.abar(t)))
                .collect(),
            thresholder: Thresholder::new(settings.thresholding)?,
            timesteps,
            updates,
        })
    }

    /// N, the number of steps.
    pub fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// The timestep the model is evaluated at in each step, falling.
    pub fn timesteps(&self) -> &[u32] {
        &self.timesteps
    }

    /// Takes step `i` (from 0): moves `x` from timestep i to the next one, or to the finished sample after the last.
    ///
    /// `output` is the model's (guided) output for `x` at `timesteps()[i]`. It is overwritten with the thresholded x0,
    /// the picture as the model sees it now, which is what a preview shows.
    ///
    /// # Panics
    /// When `i` is not below [`Self::steps`] or the two slices differ in length.
    pub fn step(&mut self, i: usize, x: &mut [f32], output: &mut [f32], noise: &NoiseSource) {
        assert_eq!(x.len(), output.len(), "a model's output has the shape of its input");
        let (mut conversion, update) = (self.conversions[i], self.updates[i]);
        if self.thresholder.is_dynamic() {
            // The range depends on the whole of x0.
            for (x, output) in x.iter().zip(output.iter_mut()) {
                *output = conversion.x0(*x, *output);
            }
            conversion = Conversion::OF_X0;
        }
        let range = self.thresholder.range(output);
        // One walk through memory: large samples cost what they move.
        let walk = |x: &mut [f32], output: &mut [f32]| {
            for (x, output) in x.iter_mut().zip(output) {
                // 1. What the model says x0 is, back in range.
                let x0 = range.bring(conversion.x0(*x, *output));
                *output = x0;
                // 2. To the next timestep, with the eps that belongs to this x0 (see `Update`).
                *x = update.moved(*x, x0);
            }
        };
        match threads_for(x.len()) {
            1 => walk(x, output),
            threads => thread::scope(|scope| {
                let part = x.len().div_ceil(threads);
                for (x, output) in x.chunks_mut(part).zip(output.chunks_mut(part)) {
                    scope.spawn(move || walk(x, output));
                }
            }),
        }
        // 3. Fresh noise, where the sampler adds some.
        update.add_noise(i as u32, x, noise);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::noise::Stream;
    use crate::schedule::BetaSchedule;
    use crate::threshold::ThresholdingKind;

    const NOISE: NoiseSource = NoiseSource::new(42, 0, 0);

    fn linear() -> NoiseSchedule {
        NoiseSchedule::new(BetaSchedule::Linear, 1000).unwrap()
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
        for i in 0..sampler.steps() {
            let t = sampler.timesteps()[i];
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
        (0..4)
            .flat_map(|b| run(schedule, &settings, sample(b), model))
            .map(|value| f64::from(value.abs()))
            .sum()
    }

    #[test]
    fn ddim_gives_the_golden_sums_of_diffusers() {
        let of = |schedule: NoiseSchedule, settings: SamplerSettings| golden_sum(&schedule, &settings);
        let v = SamplerSettings { prediction: PredictionType::VPrediction, ..SamplerSettings::default() };
        let to_first = SamplerSettings { set_alpha_to_one: false, ..SamplerSettings::default() };
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
        let exact =
            |x: f32| mu + sd * (f64::from(x) - abar.sqrt() * mu) / (abar * sd * sd + 1.0 - abar).sqrt();
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
        let spread = |steps, ddim_previous| {
            let settings = SamplerSettings { steps, ddim_previous, ..SamplerSettings::default() };
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
            let settings = SamplerSettings {
                kind: SamplerKind::Ddpm,
                steps: 1000,
                variance,
                ..SamplerSettings::default()
            };
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
                ddim_eta: 1.0,
                ..SamplerSettings::default()
            };
            let ddpm = SamplerSettings { kind: SamplerKind::Ddpm, ..ddim.clone() };
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
        for kind in [SamplerKind::Ddim, SamplerKind::Ddpm] {
            let settings = SamplerSettings {
                kind,
                steps: 4,
                variance: Variance::FixedLarge,
                ..SamplerSettings::default()
            };
            let mut sampler = Sampler::new(&linear(), &settings).unwrap();
            let (mut x, mut output) = (normals(50), vec![0.1; 50]);
            sampler.step(3, &mut x, &mut output, &NOISE);
            for (x, x0) in x.iter().zip(&output) {
                assert!((x - x0).abs() < 1e-6, "{kind:?}");
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
        sampler.step(10, &mut x, &mut output, &NOISE);
        assert_eq!(output, [1.0, -0.25]);
        // By the paper's formula, with the eps that belongs to the clipped x0.
        let (abar, abar_prev) = (schedule.abar(799), schedule.abar(779));
        for (x, x0) in x.iter().zip([1.0, -0.25]) {
            let eps = (0.5 - abar.sqrt() * x0) / (1.0 - abar).sqrt();
            let expected = abar_prev.sqrt() * x0 + (1.0 - abar_prev).sqrt() * eps;
            assert!((f64::from(*x) - expected).abs() < 1e-6, "{x} is not {expected}");
        }
    }

    #[test]
    fn names_are_those_of_model_packages() {
        assert_eq!(serde_json::to_value(SamplerKind::Ddim).unwrap(), "ddim");
        assert_eq!(serde_json::to_value(SamplerKind::Ddpm).unwrap(), "ddpm");
    }

    #[test]
    fn bad_settings_are_refused() {
        let new = |settings: SamplerSettings| Sampler::new(&linear(), &settings).unwrap_err();
        let default = SamplerSettings::default;
        assert_eq!(new(SamplerSettings { ddim_eta: 1.5, ..default() }), SamplerError::DdimEta(1.5));
        assert!(matches!(new(SamplerSettings { steps: 0, ..default() }), SamplerError::Timesteps(_)));
        let thresholding = Thresholding::Dynamic { quantile: 2.0, cap: None };
        assert!(matches!(new(SamplerSettings { thresholding, ..default() }), SamplerError::Threshold(_)));
    }

    proptest! {
        #[test]
        fn any_settings_keep_a_picture_in_range(
            steps in 1_u32..40, eta in 0_f32..=1.0, ddpm: bool, prediction in 0_usize..3, spacing in 0_usize..3,
        ) {
            let settings = SamplerSettings {
                kind: if ddpm { SamplerKind::Ddpm } else { SamplerKind::Ddim },
                steps,
                spacing: [TimestepSpacing::Leading, TimestepSpacing::Linspace, TimestepSpacing::Trailing][spacing],
                prediction: [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction][prediction],
                thresholding: Thresholding::Dynamic { quantile: 0.995, cap: None },
                ddim_eta: eta,
                ..SamplerSettings::default()
            };
            let cosine = NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap();
            // Nonsense, as large guidance weights make it.
            let end = run(&cosine, &settings, normals(100), |x, t| 5.0 * x - t as f32 / 500.0);
            prop_assert!(end.iter().all(|x| x.abs() < 1.2), "{:?}", end);
        }
    }
}
