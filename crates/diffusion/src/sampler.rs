//! From a model's output to the next x, whichever sampler was asked for.
//!
//! To add a sampler: one file with an `evaluations` function beside [`ddim`] and the others, one variant of [`Method`],
//! one arm in [`Sampler::new`].

use std::ops::Range;

use crate::combination::SLOTS;
use crate::ddim::DdimNoise;
use crate::evaluation::{Evaluation, FreshNoise, Move};
use crate::level::Level;
use crate::levels::{FinalSigma, Layout, NoiseLevels, Steps};
use crate::method::{Method, SamplerKind};
use crate::noise::{NoiseSource, Stream};
use crate::pndm::Transfer;
use crate::prediction::{Conversion, PredictionType};
use crate::schedule::NoiseSchedule;
use crate::threshold::{ThresholdError, Thresholder, Thresholding};
use crate::timesteps::{TimestepError, TimestepSpacing};
use crate::{ddim, ddpm, dpm_solver, euler, heun, initial, lcm, pndm, unipc};

/// Everything that decides how x moves, apart from the model and the schedule it was trained with.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerSettings {
    /// Which sampler.
    pub method: Method,
    /// N, between 1 and T.
    pub steps: u32,
    /// Which timesteps the N steps visit.
    pub spacing: TimestepSpacing,
    /// Added to every timestep of leading spacing.
    pub steps_offset: u32,
    /// Which noise levels the N steps go through.
    pub levels: NoiseLevels,
    /// Where the last step of a sampler in sigma ends.
    pub final_sigma: FinalSigma,
    /// What the model's output means.
    pub prediction: PredictionType,
    /// How x0 is kept in range.
    pub thresholding: Thresholding,
    /// The share of the N steps that are taken, in (0, 1], or that is left of the noise where LCM spreads them; from a sample that
    /// is not all noise: see [`InitialSample`](crate::InitialSample). Usually 1.
    pub strength: f64,
}

impl Default for SamplerSettings {
    /// DDIM, 50 steps, trailing, eps prediction, no thresholding.
    fn default() -> Self {
        Self {
            method: Method::DDIM,
            steps: 50,
            spacing: TimestepSpacing::Trailing,
            steps_offset: 0,
            levels: NoiseLevels::Trained,
            final_sigma: FinalSigma::Zero,
            prediction: PredictionType::Epsilon,
            thresholding: Thresholding::None,
            strength: 1.0,
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
    /// A share of the steps.
    #[error("strength must be above 0 and at most 1, not {0}")]
    Strength(f64),
    /// A share of the steps that is not a step.
    #[error(
        "strength {strength} of {steps} steps is less than one step: at least {least}",
        least = initial::least_strength(*.steps)
    )]
    NoSteps {
        /// The share, as asked for.
        strength: f64,
        /// N, as asked for.
        steps: u32,
    },
    /// Above 1 the noise added would exceed the noise wanted.
    #[error("ddim_eta must be in [0, 1], not {0}")]
    DdimEta(f32),
    /// UniPC keeps one x0 an order.
    #[error("UniPC's order must be between 1 and {max}, not {0}", max = unipc::MAX_ORDER)]
    Order(u32),
    /// Three steps of Runge-Kutta and at least one more.
    #[error("PNDM with Runge-Kutta takes at least {min} steps, not {0}", min = pndm::MIN_STEPS)]
    RungeKuttaSteps(u32),
    /// A distilled model knows the timesteps it was distilled on.
    #[error("LCM takes 1 to {most} steps here, not {steps}: it was distilled on {original_steps} timesteps")]
    LcmSteps {
        /// N, as asked for.
        steps: u32,
        /// The share of the timesteps below that the strength leaves; 0 where there are none, or more than T.
        most: u32,
        /// O, as asked for.
        original_steps: u32,
    },
    /// Defined on the timesteps of training.
    #[error("{0:?} has no noise levels but those of training")]
    TrainedLevelsOnly(Method),
    /// Nobody has said what its fresh noise is there.
    #[error("{0:?} is not defined on the noise levels of flow matching")]
    NotForFlow(SamplerKind),
    /// A weight of the next x is infinite or no number: no signal is left where a step needs some.
    #[error("{method:?} is not defined at a noise level of {levels:?}, where no signal is left")]
    NotFinite {
        /// The sampler.
        method: Method,
        /// The noise levels.
        levels: NoiseLevels,
    },
    /// Not positive and finite, or ends that are not in order.
    #[error("{0:?} are no noise levels")]
    Levels(NoiseLevels),
    /// v is of variance-preserving levels, the flow of all but EDM's.
    #[error("{prediction:?} does not go with {levels:?}")]
    Prediction {
        /// What the output means.
        prediction: PredictionType,
        /// The noise levels.
        levels: NoiseLevels,
    },
    /// The first timestep is pure noise, of which eps says nothing.
    #[error(
        "{0:?} says nothing of x0 at zero terminal SNR: the model must predict v, the flow or the sample"
    )]
    NoSignal(PredictionType),
}

/// One trajectory's sampler: everything that depends on the timestep is worked out beforehand, so that a step allocates
/// nothing once the first few have kept what they need.
#[derive(Debug, Clone)]
pub struct Sampler {
    takes_all: bool,
    /// What unit normal noise is multiplied by where nothing is under it.
    initial_scale: f32,
    moves: Vec<Move>,
    timesteps: Vec<f32>,
    /// Where the model is evaluated; sigma never rises.
    levels: Vec<Level>,
    noises: Vec<FreshNoise>,
    thresholder: Thresholder,
    has_variance: bool,
    /// Tensors kept from earlier evaluations, by slot.
    kept: [Vec<f32>; SLOTS],
}

impl Sampler {
    /// A sampler over a model's training schedule.
    pub fn new(schedule: &NoiseSchedule, settings: &SamplerSettings) -> Result<Self, SamplerError> {
        let evaluations = evaluations(schedule, settings)?;
        if !evaluations.iter().all(Evaluation::is_finite) {
            let SamplerSettings { method, levels, .. } = *settings;
            return Err(SamplerError::NotFinite { method, levels });
        }
        let conversion = |evaluation: &Evaluation| conversion(settings, evaluation);
        let moves = evaluations.iter().map(|evaluation| Ok(Move::new(evaluation, conversion(evaluation)?)));
        Ok(Self {
            takes_all: settings.strength >= 1.0,
            initial_scale: initial_scale(settings, &evaluations),
            moves: moves.collect::<Result<_, SamplerError>>()?,
            timesteps: evaluations.iter().map(|evaluation| evaluation.timestep as f32).collect(),
            levels: evaluations.iter().map(|evaluation| evaluation.level).collect(),
            noises: evaluations.iter().map(|evaluation| evaluation.noise).collect(),
            thresholder: Thresholder::new(settings.thresholding)?,
            has_variance: matches!(settings.method, Method::Ddpm { variance } if variance.is_learned()),
            kept: Default::default(),
        })
    }

    /// Whether a step takes the variance that the model has learned besides its prediction.
    pub fn takes_variance(&self) -> bool {
        self.has_variance
    }

    /// Whether the strength is 1.
    pub(crate) fn takes_all(&self) -> bool {
        self.takes_all
    }

    /// Turns `x`, unit normal noise, into what a trajectory starts from that starts from noise alone. One that starts from
    /// a picture: [`InitialSample::begin`](crate::InitialSample::begin).
    pub fn begin(&self, x: &mut [f32]) {
        for x in x {
            *x *= self.initial_scale;
        }
    }

    /// Where x is before evaluation `i`, and after the last.
    pub(crate) fn level(&self, i: usize) -> Level {
        self.levels.get(i).copied().unwrap_or(Level::CLEAN)
    }

    /// How often the model is evaluated: once a step, but for Heun (twice, except in the last step) and PNDM.
    pub fn evaluations(&self) -> usize {
        self.moves.len()
    }

    /// What the model is told in evaluation `i` (from 0): the timestep, falling from at most T - 1, between two timesteps
    /// of training with some noise levels; ln(sigma) / 4 with [`NoiseLevels::Edm`] and sigma T with
    /// [`NoiseLevels::Flow`].
    ///
    /// # Panics
    /// When `i` is not below [`Self::evaluations`].
    pub fn timestep(&self, i: usize) -> f32 {
        self.timesteps[i]
    }

    /// The evaluations whose noise level sigma, the noise in a unit of signal, lies in [`least`, `most`].
    pub fn evaluations_between(&self, least: f64, most: f64) -> Range<usize> {
        let first = self.levels.partition_point(|level| level.sigma() > most);
        let end = self.levels.partition_point(|level| level.sigma() >= least);
        first..end.max(first)
    }

    /// Turns the model's `output` for `x` in evaluation `i` into the thresholded x0, the picture as the model sees it now, which is
    /// what a preview shows. x stays where it is: give a copy of the output, and the output itself to [`Self::step`].
    ///
    /// # Panics
    /// When `i` is not below [`Self::evaluations`], or the output has not the length of x.
    pub fn x0(&mut self, i: usize, x: &[f32], output: &mut [f32]) {
        assert_eq!(x.len(), output.len(), "a prediction has the shape of a sample");
        let conversion = self.moves[i].conversion();
        for (x, output) in x.iter().zip(output.iter_mut()) {
            *output = conversion.x0(*x, *output);
        }
        self.thresholder.apply(output);
    }

    /// Takes in evaluation `i` (from 0): moves `x` to where the model is evaluated next, or to the finished sample after
    /// the last. Evaluations come in order, from the first.
    ///
    /// `output` is the model's (guided) output for `x` at [`Self::timestep`]; where the variance is learned it has as many
    /// elements again, the variance. It holds numbers of no use afterwards.
    ///
    /// # Panics
    /// When `i` is not below [`Self::evaluations`], the lengths of the slices do not fit, or an evaluation was left out.
    pub fn step(&mut self, i: usize, x: &mut [f32], output: &mut [f32], noise: &NoiseSource) {
        let variance = self.advance(i, x, output);
        // Fresh noise, where the sampler adds some.
        match self.noises[i] {
            FreshNoise::Scaled(0.0) => {}
            FreshNoise::Scaled(scale) => noise.add_normal(Stream::StepNoise, i as u32, scale as f32, x),
            FreshNoise::Learned | FreshNoise::LearnedRange { .. } => {
                noise.multiply_normal(Stream::StepNoise, i as u32, variance);
                x.iter_mut().zip(variance).for_each(|(x, z)| *x += *z);
            }
        }
    }

    /// [`Self::step`] with the noise `z`.
    #[cfg(test)]
    pub(crate) fn step_with(&mut self, i: usize, x: &mut [f32], output: &mut [f32], z: &[f32]) {
        let deviations = self.advance(i, x, output);
        for (element, (x, z)) in x.iter_mut().zip(z).enumerate() {
            *x += z * match self.noises[i] {
                FreshNoise::Scaled(scale) => scale as f32,
                FreshNoise::Learned | FreshNoise::LearnedRange { .. } => deviations[element],
            };
        }
    }

    /// [`Self::step`] without noise; returns the standard deviations of that noise where they are learned.
    fn advance<'a>(&mut self, i: usize, x: &mut [f32], output: &'a mut [f32]) -> &'a mut [f32] {
        let parts = if self.takes_variance() { 2 } else { 1 };
        assert_eq!(parts * x.len(), output.len(), "a model's output has the shape of its input");
        let (output, variance) = output.split_at_mut(x.len());
        let step = &self.moves[i];
        for slot in step.written() {
            self.kept[slot].resize(x.len(), 0.0);
        }
        let mut conversion = step.conversion();
        if self.thresholder.is_dynamic() {
            // The range depends on the whole of x0.
            for (x, output) in x.iter().zip(output.iter_mut()) {
                *output = conversion.x0(*x, *output);
            }
            conversion = step.conversion_of_x0();
        }
        let range = self.thresholder.range(output);
        step.apply(conversion, range, x, output, self.kept.each_mut().map(Vec::as_mut_slice));
        ddpm::standard_deviations(self.noises[i], variance);
        variance
    }
}

/// The evaluations of the sampler that was asked for.
pub(crate) fn evaluations(
    schedule: &NoiseSchedule,
    settings: &SamplerSettings,
) -> Result<Vec<Evaluation>, SamplerError> {
    let SamplerSettings { method, levels, prediction, spacing, .. } = *settings;
    let (count, offset) = (settings.steps, settings.steps_offset);
    let skipped = initial::skipped_steps(settings)?;
    let all_timesteps = || {
        if levels != NoiseLevels::Trained {
            return Err(SamplerError::TrainedLevelsOnly(method));
        }
        Ok(spacing.timesteps(schedule.train_timesteps(), count, offset)?)
    };
    let timesteps = || Ok::<_, SamplerError>(all_timesteps()?.split_off(skipped as usize));
    let is_flow = matches!(levels, NoiseLevels::Flow(_));
    if is_flow && method.kind().is_in_sigma() && !method.kind().fits_flow() {
        return Err(SamplerError::NotForFlow(method.kind()));
    }
    let stride = schedule.train_timesteps() / count.max(1);
    let trajectory = |layout| {
        if !levels.are_valid() {
            return Err(SamplerError::Levels(levels));
        }
        let steps = Steps { count, spacing, offset, final_sigma: settings.final_sigma };
        Ok(levels.trajectory(schedule, steps, layout)?.without_first(skipped as usize))
    };
    Ok(match method {
        Method::Ddim { eta, set_alpha_to_one, previous, noise } => {
            if !(0.0..=1.0).contains(&eta) {
                return Err(SamplerError::DdimEta(eta));
            }
            // They are the same where x0 is left alone.
            let noise = if settings.thresholding == Thresholding::None { DdimNoise::OfX0 } else { noise };
            let (timesteps, eta) = (timesteps()?, f64::from(eta));
            ddim::evaluations(schedule, &timesteps, previous, stride, eta, set_alpha_to_one, noise)
        }
        Method::Ddpm { variance } => ddpm::evaluations(schedule, &timesteps()?, variance),
        Method::Euler => euler::euler(&trajectory(Layout::SingleStep)?),
        Method::EulerAncestral => euler::euler_ancestral(&trajectory(Layout::SingleStep)?),
        Method::Heun if is_flow => heun::evaluations_of_flow(&trajectory(Layout::SingleStep)?),
        Method::Heun => heun::evaluations(&trajectory(Layout::SingleStep)?),
        Method::DpmSolver { stochastic, lower_order_final } => {
            let first_order_last = lower_order_final && count < dpm_solver::FEW_STEPS;
            dpm_solver::evaluations(&trajectory(Layout::DpmSolver)?, stochastic, first_order_last)
        }
        Method::UniPc { order } => {
            if !(1..=unipc::MAX_ORDER).contains(&order) {
                return Err(SamplerError::Order(order));
            }
            unipc::evaluations(&trajectory(Layout::UniPc)?, order)
        }
        Method::Pndm { runge_kutta, set_alpha_to_one } => {
            let transfer = Transfer::new(schedule, stride, prediction, set_alpha_to_one);
            if !runge_kutta {
                return Ok(transfer.plms(&all_timesteps()?, skipped as usize));
            }
            let taken = count - skipped;
            if taken < pndm::MIN_STEPS {
                return Err(SamplerError::RungeKuttaSteps(taken));
            }
            transfer.pndm(&timesteps()?)
        }
        Method::Lcm { original_steps, spreads_steps } => {
            // Refuses levels that do not fit; the spacing is the distillation's.
            all_timesteps()?;
            let share = if spreads_steps { settings.strength } else { 1.0 };
            let most = (f64::from(original_steps) * share) as u32;
            let timesteps = lcm::timesteps(schedule.train_timesteps(), count, original_steps, most)
                .ok_or(SamplerError::LcmSteps { steps: count, most, original_steps })?;
            lcm::evaluations(schedule, &timesteps[skipped as usize..])
        }
    })
}

/// The noise that x starts from, as published models were sampled with: `init_noise_sigma` of diffusers, at the scale of the
/// model's input. It is that of the first level where the Euler family begins at the last timestep of training, or nearly,
/// and of unit size elsewhere.
fn initial_scale(settings: &SamplerSettings, evaluations: &[Evaluation]) -> f32 {
    let SamplerSettings { method, levels, spacing, .. } = *settings;
    let is_euler = matches!(method, Method::Euler | Method::EulerAncestral | Method::Heun);
    let in_schedule = matches!(levels, NoiseLevels::Trained | NoiseLevels::Karras);
    match evaluations.first() {
        Some(first) if is_euler && in_schedule && spacing != TimestepSpacing::Leading => first.level.s as f32,
        _ => 1.0,
    }
}

/// How x0 is read from the model's output.
fn conversion(settings: &SamplerSettings, evaluation: &Evaluation) -> Result<Conversion, SamplerError> {
    let SamplerSettings { prediction, levels, .. } = *settings;
    let conversion = match levels {
        NoiseLevels::Edm(edm) => edm.conversion(prediction, evaluation.level),
        NoiseLevels::Flow(_) if prediction == PredictionType::VPrediction => None,
        _ => Some(prediction.at(evaluation.level)),
    };
    let conversion = conversion.ok_or(SamplerError::Prediction { prediction, levels })?;
    if conversion.is_finite() { Ok(conversion) } else { Err(SamplerError::NoSignal(prediction)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ddim::PreviousTimestep;
    use crate::ddpm::Variance;
    use crate::flow::FlowShift;
    use crate::schedule::BetaSchedule;
    use crate::threshold::ThresholdingKind;

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
        (0..4)
            .flat_map(|b| run(schedule, &settings, sample(b), model))
            .map(|value| f64::from(value.abs()))
            .sum()
    }

    #[test]
    fn ddim_gives_the_golden_sums_of_diffusers() {
        let of = |schedule: NoiseSchedule, settings: SamplerSettings| golden_sum(&schedule, &settings);
        let v = SamplerSettings { prediction: PredictionType::VPrediction, ..SamplerSettings::default() };
        let noise = DdimNoise::OfX0;
        let ddim =
            Method::Ddim { eta: 0.0, set_alpha_to_one: false, previous: PreviousTimestep::Stride, noise };
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
            let settings = SamplerSettings {
                method: Method::Ddpm { variance },
                steps: 1000,
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
        for (kind, prediction) in SamplerKind::ALL.into_iter().flat_map(|kind| predictions.map(|p| (kind, p)))
        {
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
}
