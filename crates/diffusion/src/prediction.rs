//! What a model's output means, and how to read x0 and eps from it.
//!
//! x = a x0 + s eps ties the three together, so any one prediction gives the other two; v is Salimans & Ho 2022
//! (Progressive distillation), v = a eps - s x0. Every conversion is linear in x and the output:
//!
//! | prediction | x0                 | eps                |
//! |------------|--------------------|--------------------|
//! | epsilon    | x / a - (s/a) out  | out                |
//! | sample     | out                | x / s - (a/s) out  |
//! | v          | a x - s out        | s x + a out        |

use serde::{Deserialize, Serialize};

/// What a denoising model predicts, named as in model packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise eps.
    Epsilon,
    /// The clean sample x0.
    Sample,
    /// The velocity v = a eps - s x0.
    VPrediction,
}

/// The coefficients that read x0 and eps from (x, output) at one timestep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conversion {
    x0_from_x: f32,
    x0_from_output: f32,
    eps_from_x: f32,
    eps_from_output: f32,
}

impl PredictionType {
    /// The conversion at a timestep with cumulative alpha `abar`, in (0, 1).
    pub fn conversion(self, abar: f64) -> Conversion {
        let (a, s) = (abar.sqrt(), (1.0 - abar).sqrt());
        let ((x0_from_x, x0_from_output), (eps_from_x, eps_from_output)) = match self {
            Self::Epsilon => ((1.0 / a, -s / a), (0.0, 1.0)),
            Self::Sample => ((0.0, 1.0), (1.0 / s, -a / s)),
            Self::VPrediction => ((a, -s), (s, a)),
        };
        Conversion {
            x0_from_x: x0_from_x as f32,
            x0_from_output: x0_from_output as f32,
            eps_from_x: eps_from_x as f32,
            eps_from_output: eps_from_output as f32,
        }
    }
}

impl Conversion {
    /// Of an output that is x0 already.
    pub(crate) const OF_X0: Self =
        Self { x0_from_x: 0.0, x0_from_output: 1.0, eps_from_x: 0.0, eps_from_output: 0.0 };

    /// x0 at one element.
    #[inline]
    pub fn x0(&self, x: f32, output: f32) -> f32 {
        self.x0_from_x * x + self.x0_from_output * output
    }

    /// eps at one element.
    #[inline]
    pub fn eps(&self, x: f32, output: f32) -> f32 {
        self.eps_from_x * x + self.eps_from_output * output
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_those_of_model_packages() {
        let all = [PredictionType::Epsilon, PredictionType::Sample, PredictionType::VPrediction];
        assert_eq!(all.map(|p| serde_json::to_value(p).unwrap()), ["epsilon", "sample", "v_prediction"]);
    }

    proptest! {
        #[test]
        fn every_prediction_reads_back_what_was_mixed(
            abar in 1e-3_f64..0.999, x0 in -1_f32..1.0, eps in -4_f32..4.0,
        ) {
            let (a, s) = (abar.sqrt() as f32, (1.0 - abar).sqrt() as f32);
            let x = a * x0 + s * eps;
            let outputs = [
                (PredictionType::Epsilon, eps),
                (PredictionType::Sample, x0),
                (PredictionType::VPrediction, a * eps - s * x0),
            ];
            for (prediction, output) in outputs {
                let conversion = prediction.conversion(abar);
                // x carries a rounding of about 4e-7, which 1/a and 1/s enlarge at the two ends.
                prop_assert!((conversion.x0(x, output) - x0).abs() < 2e-6 / a);
                prop_assert!((conversion.eps(x, output) - eps).abs() < 2e-6 / s);
            }
        }
    }
}
