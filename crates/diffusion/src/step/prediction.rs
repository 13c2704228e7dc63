//! What a model's output means, and how to read x0 and eps from it.
//!
//! x = a x0 + s eps ties them together, so any one prediction gives the others; v is Salimans & Ho 2022 (Progressive
//! distillation), v = a eps - s x0 where a^2 + s^2 = 1; the flow is Lipman et al. 2023 (Flow matching), eps - x0. Every
//! conversion is linear in x and the output:
//!
//! | prediction | x0                     | eps                    |
//! |------------|------------------------|------------------------|
//! | epsilon    | x / a - (s/a) out      | out                    |
//! | sample     | out                    | x / s - (a/s) out      |
//! | v          | a x - s out            | s x + a out            |
//! | flow       | (x - s out) / (a + s)  | (x + a out) / (a + s)  |

use serde::{Deserialize, Serialize};

use crate::levels::NoiseLevel;

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
    /// The velocity eps - x0 of the straight path from x0 to eps.
    FlowPrediction,
}

/// The coefficients that read x0 and eps from (x, output) at one timestep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conversion {
    x0_from_x: f64,
    x0_from_output: f64,
    eps_from_x: f64,
    eps_from_output: f64,
}

impl PredictionType {
    /// The conversion at a level, of which v assumes that it is variance preserving.
    pub(crate) fn at(self, NoiseLevel { a, s }: NoiseLevel) -> Conversion {
        let ((x0_from_x, x0_from_output), (eps_from_x, eps_from_output)) = match self {
            Self::Epsilon => ((1.0 / a, -s / a), (0.0, 1.0)),
            Self::Sample => ((0.0, 1.0), (1.0 / s, -a / s)),
            Self::VPrediction => ((a, -s), (s, a)),
            Self::FlowPrediction => ((1.0 / (a + s), -s / (a + s)), (1.0 / (a + s), a / (a + s))),
        };
        Conversion { x0_from_x, x0_from_output, eps_from_x, eps_from_output }
    }
}

impl Conversion {
    /// x0 = `from_x` x + `from_output` out at `level`, and the eps that belongs to it.
    pub(crate) fn of_x0(from_x: f64, from_output: f64, NoiseLevel { a, s }: NoiseLevel) -> Self {
        Self {
            x0_from_x: from_x,
            x0_from_output: from_output,
            eps_from_x: (1.0 - a * from_x) / s,
            eps_from_output: -a * from_output / s,
        }
    }

    /// Whether x0 can be read at all: not from eps where no signal is left.
    pub(crate) fn is_finite(&self) -> bool {
        (self.x0_from_x as f32).is_finite() && (self.x0_from_output as f32).is_finite()
    }

    /// Of x0 and of eps: what x and the output are multiplied by.
    pub(crate) fn coefficients(&self) -> [(f64, f64); 2] {
        let Self { x0_from_x, x0_from_output, eps_from_x, eps_from_output } = *self;
        [(x0_from_x, x0_from_output), (eps_from_x, eps_from_output)]
    }

    /// x0 at one element.
    #[inline]
    pub(crate) fn x0(&self, x: f32, output: f32) -> f32 {
        self.x0_from_x as f32 * x + self.x0_from_output as f32 * output
    }

    /// eps at one element.
    #[inline]
    pub(crate) fn eps(&self, x: f32, output: f32) -> f32 {
        self.eps_from_x as f32 * x + self.eps_from_output as f32 * output
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
        assert_eq!(serde_json::to_value(PredictionType::FlowPrediction).unwrap(), "flow_prediction");
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
                (PredictionType::FlowPrediction, eps - x0),
            ];
            for (prediction, output) in outputs {
                let conversion = prediction.at(NoiseLevel::of_abar(abar));
                // x carries a rounding of about 4e-7, which 1/a and 1/s enlarge at the two ends.
                prop_assert!((conversion.x0(x, output) - x0).abs() < 2e-6 / a);
                prop_assert!((conversion.eps(x, output) - eps).abs() < 2e-6 / s);
            }
        }
    }
}
