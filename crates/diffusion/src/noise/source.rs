//! Random numbers as a pure function of where they are used.
//!
//! A number is addressed by (seed, sample, stage, stream, step, index) and by nothing else: not by how many were drawn
//! before, in which batch, or on which thread. So a seed gives the same picture alone or in a crowd, and any part of
//! a picture can be drawn first.
//!
//! Words are Philox4x32-10; normals are made of them in `normal.rs`, bit for bit the same on every platform.

#![expect(clippy::inline_always, reason = "compiled for the processor's vectors with the loop around it")]

use multiversion::multiversion;

use super::normal::{LANES, box_muller};
use super::philox::philox4x32;
use crate::step::{share, threads_for};

/// What a random number is for: streams never share numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Stream {
    /// x_T, the noise a trajectory starts from.
    InitialNoise = 0,
    /// z, the noise a stochastic sampler adds at a step.
    StepNoise = 1,
    /// R, which decides between text and neighbours at a step of interleaved guidance.
    Interleave = 2,
    /// The noise on the low-resolution picture a super-resolution stage is conditioned on.
    Augmentation = 3,
}

/// Normals made at once: a Philox block has four words, two pairs.
const BATCH: usize = 4 * LANES;

/// Normals worth a thread of their own: some 300 us.
const PART: usize = 1 << 18;

/// All random numbers of one sample at one stage of the cascade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseSource {
    seed: u64,
    sample: u32,
    stage: u16,
}

impl NoiseSource {
    /// The numbers of sample `sample` (0-based within its request) at stage `stage` (0 = base, then one per
    /// super-resolution level).
    pub const fn new(seed: u64, sample: u32, stage: u16) -> Self {
        Self { seed, sample, stage }
    }

    /// One number, uniform on [0, 1) in steps of 2^-32.
    pub fn uniform(&self, stream: Stream, step: u32) -> f64 {
        unit(self.words(stream, step, 0)[0])
    }

    /// Fills `out` with the standard normals of a step, from the first.
    pub fn fill_normal(&self, stream: Stream, step: u32, out: &mut [f32]) {
        self.for_each_normal(stream, step, out, |value, z| *value = z);
    }

    /// Adds `scale` times the standard normals of a step to `values`.
    pub fn add_normal(&self, stream: Stream, step: u32, scale: f32, values: &mut [f32]) {
        self.for_each_normal(stream, step, values, |value, z| *value += scale * z);
    }

    /// Multiplies each of `values` by its standard normal of a step.
    pub(crate) fn multiply_normal(&self, stream: Stream, step: u32, values: &mut [f32]) {
        self.for_each_normal(stream, step, values, |value, z| *value *= z);
    }

    /// Gives each of `values` its normal, in parallel where there are many: the split changes nothing, as each normal
    /// is found by its index.
    fn for_each_normal(
        &self,
        stream: Stream,
        step: u32,
        values: &mut [f32],
        apply: impl Fn(&mut f32, f32) + Sync,
    ) {
        let batches = values.len().div_ceil(BATCH).div_ceil(threads_for(values.len(), PART));
        let parts = values.chunks_mut((BATCH * batches).max(1)).enumerate();
        share(parts, |(part, values)| with_normals(self, stream, step, part * batches, values, &apply));
    }

    /// The normals of a batch: block b of Philox gives those at 4 b to 4 b + 3.
    #[inline(always)]
    fn normals(&self, stream: Stream, step: u32, batch: usize) -> [f32; BATCH] {
        let mut words = [[0; LANES]; 4];
        let [first, second, third, fourth] = &mut words;
        for lane in 0..LANES {
            [first[lane], second[lane], third[lane], fourth[lane]] =
                self.words(stream, step, (batch * LANES + lane) as u32);
        }
        let [first, second] = box_muller(&words[0], &words[1]);
        let [third, fourth] = box_muller(&words[2], &words[3]);
        let mut normals = [0.0; BATCH];
        for (lane, block) in normals.as_chunks_mut().0.iter_mut().enumerate() {
            *block = [first[lane], second[lane], third[lane], fourth[lane]];
        }
        normals
    }

    #[inline(always)]
    fn words(&self, stream: Stream, step: u32, block: u32) -> [u32; 4] {
        let use_of = u32::from(self.stage) << 16 | u32::from(stream as u16);
        philox4x32([block, step, self.sample, use_of], [self.seed as u32, (self.seed >> 32) as u32])
    }
}

/// Gives each of `values`, from the first of `first_batch`, its normal.
#[multiversion(targets = "simd")]
fn with_normals(
    noise: &NoiseSource,
    stream: Stream,
    step: u32,
    first_batch: usize,
    values: &mut [f32],
    apply: impl Fn(&mut f32, f32),
) {
    for (batch, values) in values.chunks_mut(BATCH).enumerate() {
        let normals = noise.normals(stream, step, first_batch + batch);
        values.iter_mut().zip(normals).for_each(|(value, z)| apply(value, z));
    }
}

/// A word as a fraction of 2^32, in [0, 1).
fn unit(word: u32) -> f64 {
    f64::from(word) * 2_f64.powi(-32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normals(noise: NoiseSource, stream: Stream, step: u32, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count];
        noise.fill_normal(stream, step, &mut out);
        out
    }

    #[test]
    fn normals_have_the_moments_of_the_unit_normal() {
        let count = 400_000;
        let z = normals(NoiseSource::new(1, 2, 3), Stream::StepNoise, 4, count);
        let moment = |power: i32| z.iter().map(|z| f64::from(*z).powi(power)).sum::<f64>() / count as f64;
        // Standard errors: 0.0016, 0.0022, 0.0061, 0.0155.
        for (power, expected, tolerance) in
            [(1, 0.0, 0.006), (2, 1.0, 0.009), (3, 0.0, 0.025), (4, 3.0, 0.06)]
        {
            assert!((moment(power) - expected).abs() < tolerance, "moment {power} is {}", moment(power));
        }
        // Neighbours in a block share a radius or an angle, but are not correlated.
        for lag in 1..=4 {
            let products = z.iter().zip(&z[lag..]).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            assert!((products / count as f64).abs() < 0.007, "lag {lag}");
        }
    }

    /// Pinned, so that no platform and no change of ours gives an old seed a new picture.
    #[test]
    fn a_seed_keeps_its_numbers() {
        let noise = NoiseSource::new(0x0123_4567_89ab_cdef, 3, 1);
        let z = normals(noise, Stream::InitialNoise, 0, 6);
        let bits: Vec<u32> = z.iter().map(|z| z.to_bits()).collect();
        assert_eq!(bits, [0x3e89_f90f, 0xbf3b_437c, 0xbf15_31d9, 0xbf74_f86f, 0xbfed_affc, 0xbd78_dc21]);
        // Python's integers for Philox and its math module, f64, for Box-Muller.
        let exact = [0.269_478_29, -0.731_498_54, -0.582_791_81, -0.956_915_91, -1.856_933_24, -0.060_756_81];
        for (z, exact) in z.iter().zip(exact) {
            assert!((f64::from(*z) - exact).abs() < 5e-7, "{z} is not {exact}");
        }
    }

    #[test]
    fn threads_do_not_change_the_numbers() {
        let noise = NoiseSource::new(9, 0, 0);
        let many = normals(noise, Stream::StepNoise, 7, 5 * PART + 3);
        let one_by_one =
            (0..many.len().div_ceil(BATCH)).flat_map(|batch| noise.normals(Stream::StepNoise, 7, batch));
        assert!(many.iter().copied().eq(one_by_one.take(many.len())));
    }

    #[test]
    fn adding_is_filling_scaled() {
        let noise = NoiseSource::new(5, 0, 0);
        let mut values = [1.0; 10];
        noise.add_normal(Stream::Augmentation, 0, 0.5, &mut values);
        let z = normals(noise, Stream::Augmentation, 0, 10);
        assert!(values.iter().zip(z).all(|(value, z)| *value == 1.0 + 0.5 * z));
    }

    #[test]
    fn every_part_of_the_address_matters() {
        let of = |seed, sample, stage, stream, step| {
            normals(NoiseSource::new(seed, sample, stage), stream, step, 4)
        };
        let all = [
            of(1, 0, 0, Stream::InitialNoise, 0),
            of(2, 0, 0, Stream::InitialNoise, 0),
            of(1 << 32, 0, 0, Stream::InitialNoise, 0),
            of(1, 1, 0, Stream::InitialNoise, 0),
            of(1, 0, 1, Stream::InitialNoise, 0),
            of(1, 0, 0, Stream::StepNoise, 0),
            of(1, 0, 0, Stream::InitialNoise, 1),
        ];
        for (i, one) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|other| one != other), "address {i}");
        }
    }

    #[test]
    fn uniforms_cover_the_unit_interval() {
        let noise = NoiseSource::new(11, 0, 0);
        let draws: Vec<f64> = (0..20_000).map(|step| noise.uniform(Stream::Interleave, step)).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        for tenth in 0..10 {
            let share = draws.iter().filter(|u| (**u * 10.0) as i32 == tenth).count();
            // 2000 expected, standard deviation 42.
            assert!((1800..2200).contains(&share), "{share} in tenth {tenth}");
        }
    }
}
