//! Normals from uniform words: Box & Muller 1958, many at a time.
//!
//! Logarithm, sine and cosine are written out in additions, multiplications and divisions of `f32`, which IEEE 754
//! rounds the same everywhere: a platform's own functions differ in the last bits, and a seed would then not give the
//! same picture. Without branches, compilers work on several numbers at once; that is most of what a large picture's
//! noise costs. Absolute error of a normal: below 2e-6 (tested).

#![expect(clippy::inline_always, reason = "compiled for the processor's vectors with the loop around it")]

use std::f32::consts::{LN_2, SQRT_2, TAU};

/// Words worked on together.
pub(crate) const LANES: usize = 16;

/// Two normals from each pair of words: sqrt(-2 ln(1 - u)) times the cosine and the sine of v turns, with u and v the
/// words / 2^32; |z| <= sqrt(64 ln 2) = 6.66.
#[inline(always)]
pub(crate) fn box_muller(radius_words: &[u32; LANES], angle_words: &[u32; LANES]) -> [[f32; LANES]; 2] {
    let mut normals = [[0.0; LANES]; 2];
    for lane in 0..LANES {
        let radius = (-2.0 * ln_of_fraction(!radius_words[lane])).sqrt();
        let (sin, cos) = sin_cos_of_turn(angle_words[lane]);
        normals[0][lane] = radius * cos;
        normals[1][lane] = radius * sin;
    }
    normals
}

/// ln((word + 1) / 2^32): never above 0, never infinite.
///
/// With u = m 2^e, m in [sqrt(1/2), sqrt(2)]: ln u = e ln 2 + 2 artanh((m - 1) / (m + 1)), the series of artanh up to the
/// ninth power.
#[inline]
fn ln_of_fraction(word: u32) -> f32 {
    const MANTISSA: u32 = (1 << 23) - 1;
    const ONE: u32 = 127 << 23;
    // Half of the word, so that the conversion is of a signed number, which processors have an instruction for.
    let halves = (word >> 1).cast_signed() as f32 + 0.5 * (1.0 + (word & 1).cast_signed() as f32);
    let bits = halves.to_bits();
    let m = f32::from_bits(bits & MANTISSA | ONE);
    let exponent = (bits >> 23).cast_signed() - 127 - 31;
    let above = m > SQRT_2;
    let m = if above { 0.5 * m } else { m };
    let exponent = (exponent + i32::from(above)) as f32;
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    let series = 1.0 + q * (1.0 / 3.0 + q * (1.0 / 5.0 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    (exponent * LN_2 + 2.0 * s * series).min(0.0)
}

/// Sine and cosine of word / 2^32 turns: the nearest quarter turn, and Taylor's series for the rest, at most an eighth.
#[inline]
fn sin_cos_of_turn(word: u32) -> (f32, f32) {
    let quarter = word.wrapping_add(1 << 29) >> 30;
    let rest = word.wrapping_sub(quarter << 30).cast_signed();
    let x = rest as f32 * (TAU / 4_294_967_296.0);
    let q = x * x;
    let sin = x * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q * (1.0 / 362_880.0)))));
    let cos = 1.0
        + q * (-1.0 / 2.0
            + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q * (1.0 / 40320.0 + q * (-1.0 / 3_628_800.0)))));
    let odd = quarter & 1 == 1;
    let (first, second) = if odd { (cos, sin) } else { (sin, cos) };
    // Signs by quarter: sine + + - -, cosine + - - +.
    let sin_sign = (quarter & 2) << 30;
    let cos_sign = (quarter.wrapping_add(1) & 2) << 30;
    (f32::from_bits(first.to_bits() ^ sin_sign), f32::from_bits(second.to_bits() ^ cos_sign))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words at the ends, at the seams of the reductions, and many between.
    fn words() -> impl Iterator<Item = u32> {
        let seams = (0..=32).flat_map(|bit| {
            let seam = 1_u64 << bit;
            [seam - 1, seam, seam + 1, 3 * seam / 2, u64::from(u32::MAX) - seam.min(u64::from(u32::MAX))]
        });
        let between = (0..200_000_u64).map(|i| i * 21_474 + 7);
        seams.chain(between).map(|word| word as u32)
    }

    #[test]
    fn the_logarithm_is_close_to_the_exact_one() {
        for word in words() {
            let exact = ((f64::from(word) + 1.0) / 4_294_967_296.0).ln();
            let error = (f64::from(ln_of_fraction(word)) - exact).abs();
            assert!(error <= 3e-7 * exact.abs().max(1.0), "ln of {word}: off by {error}");
        }
        assert_eq!(ln_of_fraction(u32::MAX), 0.0);
        assert!((ln_of_fraction(0) + 32.0 * LN_2).abs() < 1e-5);
    }

    #[test]
    fn sine_and_cosine_are_close_to_the_exact_ones() {
        for word in words() {
            let (sin, cos) = sin_cos_of_turn(word);
            let (exact_sin, exact_cos) =
                (f64::from(word) / 4_294_967_296.0 * std::f64::consts::TAU).sin_cos();
            assert!((f64::from(sin) - exact_sin).abs() < 2e-7, "sin of {word}: {sin}, not {exact_sin}");
            assert!((f64::from(cos) - exact_cos).abs() < 2e-7, "cos of {word}: {cos}, not {exact_cos}");
        }
    }

    #[test]
    fn box_muller_is_finite_at_its_ends() {
        assert_eq!(box_muller(&[0; LANES], &[0; LANES]), [[0.0; LANES]; 2]);
        let at = |angle| {
            let [[cosine, ..], [sine, ..]] = box_muller(&[u32::MAX; LANES], &[angle; LANES]);
            (cosine, sine)
        };
        // sqrt(-2 ln 2^-32), at the angles 0 and a quarter turn.
        let largest = (64.0 * LN_2).sqrt();
        let ((z0, z1), (z2, z3)) = (at(0), at(1 << 30));
        assert!((z0 - largest).abs() < 1e-5 && z1.abs() < 1e-5, "{z0} {z1}");
        assert!(z2.abs() < 1e-5 && (z3 - largest).abs() < 1e-5, "{z2} {z3}");
    }

    #[test]
    fn normals_are_close_to_the_exact_ones() {
        let all: Vec<u32> = words().collect();
        for (radius, angle) in all.iter().zip(all.iter().rev()) {
            let [[z0, ..], [z1, ..]] = box_muller(&[*radius; LANES], &[*angle; LANES]);
            let exact = (-2.0 * (1.0 - f64::from(*radius) / 4_294_967_296.0).ln()).sqrt();
            let (sin, cos) = (f64::from(*angle) / 4_294_967_296.0 * std::f64::consts::TAU).sin_cos();
            // Near a radius of 0 the square root magnifies what the word's rounding leaves: never above 4e-4.
            let tolerance = if exact > 0.1 { 2e-6 } else { 4e-4 };
            for (z, exact) in [(z0, exact * cos), (z1, exact * sin)] {
                assert!((f64::from(z) - exact).abs() < tolerance, "{radius}, {angle}: {z}, not {exact}");
            }
        }
    }
}
