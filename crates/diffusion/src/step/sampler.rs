//! From a model's output to the next x, whichever sampler was asked for.

use std::ops::Range;

use super::combination::SLOTS;
use super::{
    Conversion, Evaluation, FreshNoise, Move, PredictionType, SamplerError, SamplerSettings, Thresholder,
};
use crate::levels::{NoiseLevel, NoiseLevels, NoiseSchedule, TimestepSpacing};
use crate::noise::{NoiseSource, Stream};
use crate::samplers::{Method, ddpm, evaluations};

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
    levels: Vec<NoiseLevel>,
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
    pub(crate) fn level(&self, i: usize) -> NoiseLevel {
        self.levels.get(i).copied().unwrap_or(NoiseLevel::CLEAN)
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
mod tests;
