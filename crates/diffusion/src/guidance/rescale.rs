//! Guidance rescale: Lin et al. 2024, "Common diffusion noise schedules and sample steps are flawed", section 3.4.
//!
//! A large weight makes the guided output vary more than any output the model was trained to give, and pictures
//! overexposed. With std over all elements of a sample:
//!
//! 1. rescaled = guided std(conditional) / std(guided)
//! 2. guided <- phi rescaled + (1 - phi) guided

/// Rescales the guided output of one sample, in place, towards the spread of its conditional row.
///
/// `phi` lies in [0, 1]: 0 changes nothing; the paper's choice is 0.7.
///
/// # Panics
/// When the two slices differ in length.
pub fn rescale(guided: &mut [f32], conditional: &[f32], phi: f32) {
    assert_eq!(guided.len(), conditional.len(), "rows have the shape of the output");
    let spread = spread(guided);
    // A constant has no spread to correct.
    if spread == 0.0 {
        return;
    }
    let phi = f64::from(phi);
    let factor = (phi * self::spread(conditional) / spread + (1.0 - phi)) as f32;
    for value in guided {
        *value *= factor;
    }
}

/// Standard deviation.
fn spread(values: &[f32]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    (values.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum::<f64>() / count).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phi_of_one_gives_the_spread_of_the_conditional_row() {
        let conditional = [0.5, -1.0, 2.0, 0.25];
        let mut guided = [3.0, -7.0, 11.0, 1.0];
        rescale(&mut guided, &conditional, 1.0);
        assert!((spread(&guided) - spread(&conditional)).abs() < 1e-6);
        // The direction stays.
        assert!((guided[1] / guided[0] + 7.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn phi_blends_and_zero_changes_nothing() {
        let conditional = [1.0, -1.0];
        let guided = [4.0, -4.0];
        for (phi, expected) in [(0.0, 4.0), (0.5, 2.5), (1.0, 1.0)] {
            let mut rescaled = guided;
            rescale(&mut rescaled, &conditional, phi);
            assert_eq!(rescaled, [expected, -expected]);
        }
        let mut constant = [2.0, 2.0];
        rescale(&mut constant, &conditional, 1.0);
        assert_eq!(constant, [2.0, 2.0]);
    }
}
