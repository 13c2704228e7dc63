//! Trajectories that start from a picture instead of from noise alone, and that keep a part of it.
//!
//! Image to image: Meng et al. 2022 (SDEdit), section 3. x starts as the picture x0, noised to where some step begins, and
//! the steps from there on are taken. How many of the N is said by a strength in (0, 1], with the rule of diffusers:
//!
//! 1. taken = floor(N strength), at least 1, or ceil(N strength) with flow matching; the first N - taken are skipped.
//!    Latent consistency models can lay all N over the share of the noise instead ([`lcm`](crate::samplers::lcm))
//! 2. x = a x0 + s eps at the first step taken, eps being unit normal noise
//!
//! Inpainting: what is kept is put back after each evaluation, at the level where the model is evaluated next. That is
//! Lugmayr et al. 2022 (RePaint), equation 8, without their resampling and with one eps for all steps, as in diffusers.
//! With m = 1 where the picture is drawn anew and 0 where it is kept:
//!
//! 3. x <- m x + (1 - m) (a x0 + s eps), and after the last evaluation m x + (1 - m) x0
//!
//! With a mask and strength 1, x starts from noise alone: what is drawn anew shows nothing of what was there.

use super::{Sampler, SamplerError, SamplerSettings};
use crate::levels::{NoiseLevel, NoiseLevels};
use crate::noise::{NoiseSource, Stream};
use crate::samplers::Method;

/// N - taken.
pub(crate) fn skipped_steps(settings: &SamplerSettings) -> Result<u32, SamplerError> {
    let SamplerSettings { steps, strength, levels, method, .. } = *settings;
    if !(strength > 0.0 && strength <= 1.0) {
        return Err(SamplerError::Strength(strength));
    }
    if matches!(method, Method::Lcm { spreads_steps: true, .. }) {
        return Ok(0);
    }
    let share = f64::from(steps) * strength;
    let taken = match levels {
        // What is skipped is rounded down, of a difference that has lost the last bits of the product.
        NoiseLevels::Flow(_) => steps - (f64::from(steps) - share) as u32,
        _ => share as u32,
    };
    // No steps at all are another error.
    if taken == 0 && steps > 0 {
        return Err(SamplerError::NoSteps { strength, steps });
    }
    Ok(steps - taken)
}

/// The least strength that leaves a step, rounded up to what people write.
pub(crate) fn least_strength(steps: u32) -> f64 {
    (1000.0 / f64::from(steps)).ceil() / 1000.0
}

/// The picture that a trajectory starts from.
#[derive(Debug, Clone, PartialEq)]
pub struct InitialSample {
    x0: Vec<f32>,
    /// m; none where nothing is kept.
    mask: Option<Vec<bool>>,
    /// The noised picture, to put back.
    noised: Vec<f32>,
}

impl InitialSample {
    /// Starts from `x0`, in the shape of a sample and pixels in [-1, 1].
    pub fn new(x0: Vec<f32>) -> Self {
        Self { x0, mask: None, noised: Vec::new() }
    }

    /// Keeps what `mask` does not set. The mask is one channel: x0 is one or several of its length, one after another.
    ///
    /// # Panics
    /// When the channels of x0 are not of that length.
    #[must_use]
    pub fn with_mask(self, mask: Vec<bool>) -> Self {
        assert!(!mask.is_empty() && self.x0.len().is_multiple_of(mask.len()), "a mask is a channel of x0");
        Self { mask: Some(mask), ..self }
    }

    /// Turns `x`, unit normal noise, into what a trajectory starts from: 2.
    ///
    /// # Panics
    /// When `x` has not the length of x0.
    pub fn begin(&self, sampler: &Sampler, x: &mut [f32]) {
        assert_eq!(self.x0.len(), x.len(), "a picture has the shape of a sample");
        if self.mask.is_some() && sampler.takes_all() {
            return sampler.begin(x);
        }
        let NoiseLevel { a, s } = sampler.level(0);
        for (x, x0) in x.iter_mut().zip(&self.x0) {
            *x = a as f32 * x0 + s as f32 * *x;
        }
    }

    /// Puts what is kept back into `x` after evaluation `i`: 3. `noise` is the one that the trajectory began with.
    ///
    /// # Panics
    /// When `x` has not the length of x0.
    pub fn put_back(&mut self, i: usize, sampler: &Sampler, x: &mut [f32], noise: &NoiseSource) {
        assert_eq!(self.x0.len(), x.len(), "a picture has the shape of a sample");
        let Some(mask) = &self.mask else { return };
        let NoiseLevel { a, s } = sampler.level(i + 1);
        self.noised.clear();
        self.noised.extend(self.x0.iter().map(|x0| a as f32 * x0));
        if s > 0.0 {
            noise.add_normal(Stream::InitialNoise, 0, s as f32, &mut self.noised);
        }
        for ((x, noised), drawn) in x.iter_mut().zip(&self.noised).zip(mask.iter().cycle()) {
            if !drawn {
                *x = *noised;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BetaSchedule, FlowShift, NoiseSchedule, PredictionType, SamplerKind, TimestepSpacing};

    const NOISE: NoiseSource = NoiseSource::new(42, 0, 0);

    /// Those whose steps are all of one kind: PNDM takes its first steps another way.
    const ONE_KIND: [SamplerKind; 6] = [
        SamplerKind::Ddim,
        SamplerKind::Ddpm,
        SamplerKind::Euler,
        SamplerKind::EulerAncestral,
        SamplerKind::Heun,
        SamplerKind::Lcm,
    ];

    fn cosine() -> NoiseSchedule {
        NoiseSchedule::new(BetaSchedule::SquaredcosCapV2, 1000).unwrap()
    }

    fn settings(kind: SamplerKind, steps: u32, strength: f64) -> SamplerSettings {
        let spacing = match kind {
            SamplerKind::Pndm | SamplerKind::Plms => TimestepSpacing::Leading,
            _ => TimestepSpacing::Trailing,
        };
        let prediction = PredictionType::VPrediction;
        SamplerSettings { method: kind.into(), steps, spacing, prediction, strength, ..Default::default() }
    }

    fn normals(elements: usize) -> Vec<f32> {
        let mut x = vec![0.0; elements];
        NOISE.fill_normal(Stream::InitialNoise, 0, &mut x);
        x
    }

    fn skipped_of(steps: u32, strength: f64) -> Result<u32, SamplerError> {
        skipped_steps(&SamplerSettings { steps, strength, ..SamplerSettings::default() })
    }

    #[test]
    fn the_steps_taken_are_those_of_diffusers() {
        // steps - int(steps * strength) in Python.
        for (steps, strength, skipped) in [
            (50, 1.0, 0),
            (50, 0.8, 10),
            (50, 0.75, 13),
            (50, 0.02, 49),
            (10, 0.7, 3),
            (10, 0.3, 7),
            (100, 0.29, 72),
            (24, 0.5, 12),
            (24, 0.999, 1),
            (1, 1.0, 0),
        ] {
            assert_eq!(skipped_of(steps, strength), Ok(skipped), "{strength} of {steps}");
        }
    }

    #[test]
    fn flow_matching_takes_a_step_that_is_begun() {
        let levels = NoiseLevels::Flow(FlowShift::Static(3.0));
        for (steps, strength, skipped) in [
            (5, 0.6, 2),
            (5, 0.7, 1),
            (50, 0.14, 43),
            (50, 0.28, 36),
            (100, 0.07, 93),
            (4, 0.01, 3),
            (4, 1.0, 0),
        ] {
            let settings = SamplerSettings { steps, levels, strength, ..SamplerSettings::default() };
            assert_eq!(skipped_steps(&settings), Ok(skipped), "{strength} of {steps}");
        }
    }

    /// As the image-to-image pipeline of latent consistency models in diffusers.
    #[test]
    fn lcm_can_spread_its_steps_over_what_the_strength_leaves() {
        let timesteps = |steps, strength, spreads_steps| {
            let method = Method::Lcm { original_steps: 50, spreads_steps };
            let settings = SamplerSettings { method, steps, strength, ..SamplerSettings::default() };
            let sampler = Sampler::new(&cosine(), &settings)?;
            Ok((0..sampler.evaluations()).map(|i| sampler.timestep(i)).collect::<Vec<_>>())
        };
        assert_eq!(timesteps(4, 0.5, false).unwrap(), [499.0, 259.0]);
        assert_eq!(timesteps(4, 0.5, true).unwrap(), [499.0, 379.0, 259.0, 139.0]);
        assert_eq!(timesteps(1, 0.8, true).unwrap(), [799.0]);
        let error: SamplerError = timesteps(8, 0.15, true).unwrap_err();
        assert_eq!(error.to_string(), "LCM takes 1 to 7 steps here, not 8: it was distilled on 50 timesteps");
    }

    #[test]
    fn no_step_is_no_strength() {
        for strength in [0.0, -0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(matches!(skipped_of(50, strength), Err(SamplerError::Strength(_))), "{strength}");
        }
        let error = skipped_of(24, 0.04).unwrap_err();
        assert_eq!(error.to_string(), "strength 0.04 of 24 steps is less than one step: at least 0.042");
        for steps in 1..=1000 {
            assert!(skipped_of(steps, least_strength(steps)).is_ok(), "{steps}");
        }
        let sampler = Sampler::new(&cosine(), &settings(SamplerKind::Pndm, 10, 0.3)).unwrap_err();
        assert_eq!(sampler, SamplerError::RungeKuttaSteps(3));
    }

    #[test]
    fn the_last_steps_are_taken() {
        let schedule = cosine();
        for kind in SamplerKind::ALL {
            let whole = Sampler::new(&schedule, &settings(kind, 20, 1.0)).unwrap();
            let part = Sampler::new(&schedule, &settings(kind, 20, 0.5)).unwrap();
            if ONE_KIND.contains(&kind) {
                // Heun evaluates twice in each step skipped.
                let skipped = whole.evaluations() - part.evaluations();
                assert_eq!(skipped, if kind == SamplerKind::Heun { 20 } else { 10 });
                for i in 0..part.evaluations() {
                    assert_eq!(whole.timestep(skipped + i), part.timestep(i), "{kind:?} {i}");
                    if kind == SamplerKind::Heun && i % 2 == 1 {
                        // It needs what the evaluation before kept.
                        continue;
                    }
                    let ends = [(&whole, skipped + i), (&part, i)].map(|(sampler, i)| {
                        let (mut x, mut output) = (normals(3), vec![0.1, -0.2, 0.3]);
                        sampler.clone().step_with(i, &mut x, &mut output, &[0.5; 3]);
                        x
                    });
                    assert_eq!(ends[0], ends[1], "{kind:?} {i}");
                }
            } else {
                let last = whole.evaluations() - 1;
                assert_eq!(whole.timestep(last), part.timestep(part.evaluations() - 1), "{kind:?}");
                let first = (0..=last).find(|i| whole.timestep(*i) == part.timestep(0));
                assert!(first.is_some_and(|first| first > 5), "{kind:?}");
            }
        }
    }

    /// Along the probability flow of normal data each element keeps its quantile, from wherever it starts.
    #[test]
    fn a_picture_ends_where_the_flow_takes_it() {
        let (mu, sd) = (0.3, 0.2);
        let schedule = cosine();
        let picture: Vec<f32> = (0..8).map(|i| i as f32 / 4.0 - 1.0).collect();
        for kind in SamplerKind::ALL {
            let stochastic =
                [SamplerKind::Ddpm, SamplerKind::EulerAncestral, SamplerKind::DpmSolverSde, SamplerKind::Lcm];
            if stochastic.contains(&kind) {
                continue;
            }
            let mut sampler = Sampler::new(&schedule, &settings(kind, 200, 0.25)).unwrap();
            let NoiseLevel { a, s } = sampler.level(0);
            assert!((0.3..0.5).contains(&(s / a)), "a quarter of the way there is some noise");
            let mut x = normals(picture.len());
            InitialSample::new(picture.clone()).begin(&sampler, &mut x);
            let spread = (a * a * sd * sd + s * s).sqrt();
            let expected: Vec<f64> = picture
                .iter()
                .zip(normals(picture.len()))
                .map(|(x0, eps)| mu + sd * (a * f64::from(*x0) + s * f64::from(eps) - a * mu) / spread)
                .collect();
            for i in 0..sampler.evaluations() {
                let abar = schedule.abar(sampler.timestep(i) as u32);
                let (a, s) = (abar.sqrt(), (1.0 - abar).sqrt());
                let v = |x: &f32| {
                    let eps = s * (f64::from(*x) - a * mu) / (abar * sd * sd + s * s);
                    let x0 = (f64::from(*x) - s * eps) / a;
                    (a * eps - s * x0) as f32
                };
                let mut output: Vec<f32> = x.iter().map(v).collect();
                sampler.step(i, &mut x, &mut output, &NOISE);
            }
            for (x, expected) in x.iter().zip(expected) {
                assert!((f64::from(*x) - expected).abs() < 0.02, "{kind:?}: {x} is not {expected}");
            }
        }
    }

    /// As in diffusers, whose `add_noise` leaves what signal there is at the first timestep.
    #[test]
    fn with_all_steps_there_is_a_trace_of_the_picture_but_none_under_a_mask() {
        let schedule = NoiseSchedule::new(BetaSchedule::ScaledLinear, 1000).unwrap();
        let sampler = Sampler::new(&schedule, &settings(SamplerKind::Ddim, 10, 1.0)).unwrap();
        let NoiseLevel { a, s } = sampler.level(0);
        assert!((0.06..0.08).contains(&a));
        let begun = |initial: InitialSample| {
            let mut x = normals(6);
            initial.begin(&sampler, &mut x);
            x
        };
        let initial = InitialSample::new(vec![0.9; 6]);
        let noised: Vec<f32> = normals(6).iter().map(|eps| a as f32 * 0.9 + s as f32 * eps).collect();
        assert_eq!(begun(initial.clone()), noised);
        assert_eq!(begun(initial.with_mask(vec![true, false, true])), normals(6));
    }

    #[test]
    fn what_is_kept_is_at_the_level_of_every_evaluation_and_exact_at_the_end() {
        let x0: Vec<f32> = (0..12).map(|i| 0.1 + i as f32 / 15.0).collect();
        // Two channels of six.
        let mask = vec![true, false, true, true, false, false];
        for kind in SamplerKind::ALL {
            for strength in [1.0, 0.5] {
                let mut sampler = Sampler::new(&cosine(), &settings(kind, 10, strength)).unwrap();
                let mut initial = InitialSample::new(x0.clone()).with_mask(mask.clone());
                let mut x = normals(12);
                initial.begin(&sampler, &mut x);
                for i in 0..sampler.evaluations() {
                    let NoiseLevel { a, s } = sampler.level(i);
                    for (element, eps) in normals(12).into_iter().enumerate() {
                        let kept = a as f32 * x0[element] + s as f32 * eps;
                        let is_kept = !mask[element % 6];
                        // At the beginning all of it is noised, or noise alone.
                        let noised = if i == 0 { strength < 1.0 } else { is_kept };
                        assert_eq!(x[element] == kept, noised, "{kind:?} {strength} {i} {element}");
                    }
                    let mut output: Vec<f32> = x.iter().map(|x| 0.1 - 0.5 * x).collect();
                    sampler.step(i, &mut x, &mut output, &NOISE);
                    initial.put_back(i, &sampler, &mut x, &NOISE);
                }
                for (element, x) in x.iter().enumerate() {
                    assert_eq!(*x == x0[element], !mask[element % 6], "{kind:?} {strength} {element}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a mask is a channel of x0")]
    fn a_mask_of_another_size_is_a_defect() {
        let _ = InitialSample::new(vec![0.0; 12]).with_mask(vec![true; 5]);
    }

    #[test]
    fn without_a_mask_nothing_is_put_back() {
        let sampler = Sampler::new(&cosine(), &settings(SamplerKind::Ddim, 10, 0.5)).unwrap();
        let mut x = normals(6);
        InitialSample::new(vec![0.9; 6]).put_back(9, &sampler, &mut x, &NOISE);
        assert_eq!(x, normals(6));
    }
}
