//! Philox4x32-10, a counter-based random number generator.
//!
//! Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3" (SC'11), section 3.3. A block of four words is a
//! keyed bijection of its four-word counter, so any block can be drawn in any order on any machine.

#![expect(clippy::inline_always, reason = "compiled for the processor's vectors with the loop around it")]

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and sqrt(3) - 1, in units of 2^-32: the Weyl sequence of round keys.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// The four random words of `counter` under `key`.
///
/// Words stay in the lower halves of `u64`, whatever is in the upper: that is how processors multiply several at once, and
/// nothing has to be moved between rounds.
#[inline(always)]
pub(crate) fn philox4x32(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter.map(u64::from), key);
    for _ in 0..ROUNDS {
        let product0 = u64::from(MULTIPLIERS[0]) * u64::from(c0 as u32);
        let product1 = u64::from(MULTIPLIERS[1]) * u64::from(c2 as u32);
        (c0, c1, c2, c3) = (
            (product1 >> 32) ^ c1 ^ u64::from(k0),
            product1,
            (product0 >> 32) ^ c3 ^ u64::from(k1),
            product0,
        );
        k0 = k0.wrapping_add(WEYL[0]);
        k1 = k1.wrapping_add(WEYL[1]);
    }
    [c0, c1, c2, c3].map(|word| word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors of Random123 (`kat_vectors`, philox 4x32 10).
    #[test]
    fn known_answers() {
        let ones = u32::MAX;
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox4x32([ones; 4], [ones; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        // The digits of pi.
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
