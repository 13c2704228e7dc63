//! Random numbers as a pure function of where they are used.
//!
//! A number is addressed by (seed, sample, stage, stream, step, index) and by nothing else: not by how many were drawn
//! before, in which batch, or on which thread. So a seed gives the same picture alone or in a crowd, and any part of
//! a picture can be drawn first.
//!
//! Normals are Box & Muller 1958 in `f64`. Logarithms and cosines come from `libm`, which is the same code on every
//! platform; the ones of the standard library are the platform's own and differ in the last bits.

use std::f64::consts::TAU;

use crate::philox::philox4x32;

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

/// All random numbers of one sample at one stage of the cascade.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoiseSource {
    seed: u64,
    sample: u32,
    stage: u16,
}

impl NoiseSource {
    /// The numbers of sample `sample` (0-based within its request) at stage `stage` (0 = base, then one a
    /// super-resolution level).
    pub fn new(seed: u64, sample: u32, stage: u16) -> Self {
        Self { seed, sample, stage }
    }

    /// One number, uniform on [0, 1) in steps of 2^-32.
    pub fn uniform(&self, stream: Stream, step: u32) -> f64 {
        unit(self.words(stream, step, 0)[0])
    }

    /// Fills `out` with standard normals number `start`, `start + 1`, ... of a step.
    ///
    /// Filling a picture in parts gives what filling it at once gives. A step has 2^34 normals.
    pub fn fill_normal(&self, stream: Stream, step: u32, start: usize, out: &mut [f32]) {
        let mut block = start / 4;
        let mut skip = start % 4;
        let mut rest = out;
        while !rest.is_empty() {
            let normals = box_muller(self.words(stream, step, block as u32));
            let (head, tail) = rest.split_at_mut(rest.len().min(4 - skip));
            head.copy_from_slice(&normals[skip..skip + head.len()]);
            (rest, skip, block) = (tail, 0, block + 1);
        }
    }

    fn words(&self, stream: Stream, step: u32, block: u32) -> [u32; 4] {
        let use_of = u32::from(self.stage) << 16 | u32::from(stream as u16);
        philox4x32([block, step, self.sample, use_of], [self.seed as u32, (self.seed >> 32) as u32])
    }
}

/// A word as a fraction of 2^32, in [0, 1).
fn unit(word: u32) -> f64 {
    f64::from(word) * 2_f64.powi(-32)
}

/// Four standard normals from four uniform words; |z| <= sqrt(64 ln 2) = 6.66.
fn box_muller(words: [u32; 4]) -> [f32; 4] {
    let pair = |radius_word: u32, angle_word: u32| {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * libm::log(1.0 - unit(radius_word))).sqrt();
        let (sin, cos) = libm::sincos(TAU * unit(angle_word));
        ((radius * cos) as f32, (radius * sin) as f32)
    };
    let ((z0, z1), (z2, z3)) = (pair(words[0], words[1]), pair(words[2], words[3]));
    [z0, z1, z2, z3]
}
