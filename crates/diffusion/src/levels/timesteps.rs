//! Which N of the T training timesteps a sampler visits.
//!
//! The three spacings of Lin et al. 2024 ("Common diffusion noise schedules and sample steps are flawed", table 2), with
//! the rounding of numpy, since that is what published models were sampled with. Samplers in sigma lay them out a little
//! differently: [`TimestepSpacing::unrounded`] for the Euler family, [`TimestepSpacing::of_multistep`] for the multistep
//! solvers, whose last step ends where others would take one more.

use serde::{Deserialize, Serialize};

/// How sampling timesteps are spread over the training timesteps, named as in model packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    /// Both ends included: `round(linspace(0, T - 1, N))`. With N = 1 that is the timestep 0, as in numpy.
    Linspace,
    /// Multiples of `T / N` (integer division) from 0 upwards, plus an offset; never starts from pure noise.
    Leading,
    /// From T - 1 downwards by T / N: `round(arange(T, 0, -T / N)) - 1`; always starts from pure noise.
    Trailing,
}

/// Why no timesteps can be laid out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimestepError {
    /// A sampler takes at least one step and at most one per training timestep.
    #[error("steps must be between 1 and {train_timesteps}, not {steps}")]
    Steps {
        /// N, as asked for.
        steps: u32,
        /// T, or T - 1 for a multistep solver that ends between two timesteps.
        train_timesteps: u32,
    },
    /// The offset pushes the first timestep out of the schedule.
    #[error("steps_offset {offset} moves the first timestep past {last}")]
    Offset {
        /// The offset, as asked for.
        offset: u32,
        /// T - 1.
        last: u32,
    },
}

impl TimestepSpacing {
    /// The `steps` (N) timesteps to visit, strictly falling, each below `train_timesteps` (T).
    ///
    /// `offset` (usually 0; 1 for Stable Diffusion) is added by [`Self::Leading`] only.
    pub fn timesteps(self, train_timesteps: u32, steps: u32, offset: u32) -> Result<Vec<u32>, TimestepError> {
        if !(1..=train_timesteps).contains(&steps) {
            return Err(TimestepError::Steps { steps, train_timesteps });
        }
        let last = train_timesteps - 1;
        let timesteps = match self {
            Self::Linspace => {
                let stride = if steps == 1 { 0.0 } else { f64::from(last) / f64::from(steps - 1) };
                (0..steps).rev().map(|i| (f64::from(i) * stride).round_ties_even() as u32).collect()
            }
            Self::Leading => {
                let stride = train_timesteps / steps;
                if offset > last - (steps - 1) * stride {
                    return Err(TimestepError::Offset { offset, last });
                }
                (0..steps).rev().map(|i| i * stride + offset).collect()
            }
            Self::Trailing => {
                let stride = f64::from(train_timesteps) / f64::from(steps);
                let visit =
                    |i| (f64::from(train_timesteps) - f64::from(i) * stride).round_ties_even() as u32 - 1;
                (0..steps).map(visit).collect()
            }
        };
        Ok(timesteps)
    }

    /// [`Self::timesteps`] without the rounding of [`Self::Linspace`].
    pub(crate) fn unrounded(
        self,
        train_timesteps: u32,
        steps: u32,
        offset: u32,
    ) -> Result<Vec<f64>, TimestepError> {
        let rounded = self.timesteps(train_timesteps, steps, offset)?.into_iter().map(f64::from);
        let last = f64::from(train_timesteps - 1);
        let stride = if steps == 1 { 0.0 } else { last / f64::from(steps - 1) };
        Ok(match self {
            Self::Linspace => (0..steps).rev().map(|i| f64::from(i) * stride).collect(),
            Self::Leading | Self::Trailing => rounded.collect(),
        })
    }

    /// Those of N + 1 steps without the last, but for [`Self::Trailing`], which never visits the last anyway.
    pub(crate) fn of_multistep(
        self,
        train_timesteps: u32,
        steps: u32,
        offset: u32,
    ) -> Result<Vec<f64>, TimestepError> {
        let timesteps = match self {
            Self::Trailing => self.timesteps(train_timesteps, steps, offset)?,
            Self::Linspace | Self::Leading => {
                let too_many = TimestepError::Steps { steps, train_timesteps: train_timesteps - 1 };
                if steps >= train_timesteps {
                    return Err(too_many);
                }
                let mut timesteps = self.timesteps(train_timesteps, steps + 1, offset)?;
                timesteps.pop();
                timesteps
            }
        };
        Ok(timesteps.into_iter().map(f64::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [TimestepSpacing; 3] =
        [TimestepSpacing::Linspace, TimestepSpacing::Leading, TimestepSpacing::Trailing];

    #[test]
    fn ten_of_a_thousand() {
        let of = |spacing: TimestepSpacing| spacing.timesteps(1000, 10, 0).unwrap();
        assert_eq!(of(TimestepSpacing::Linspace), [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]);
        assert_eq!(of(TimestepSpacing::Leading), [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]);
        assert_eq!(of(TimestepSpacing::Trailing), [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]);
    }

    #[test]
    fn strides_that_are_not_whole_round_half_to_even() {
        // linspace(0, 9, 3) = 0, 4.5, 9
        assert_eq!(TimestepSpacing::Linspace.timesteps(10, 3, 0).unwrap(), [9, 4, 0]);
        // arange(10, 0, -2.5) = 10, 7.5, 5, 2.5
        assert_eq!(TimestepSpacing::Trailing.timesteps(10, 4, 0).unwrap(), [9, 7, 4, 1]);
        // 1000 / 7 = 142.857...
        assert_eq!(
            TimestepSpacing::Trailing.timesteps(1000, 7, 0).unwrap(),
            [999, 856, 713, 570, 428, 285, 142]
        );
        // 1000 // 7 = 142
        assert_eq!(
            TimestepSpacing::Leading.timesteps(1000, 7, 1).unwrap(),
            [853, 711, 569, 427, 285, 143, 1]
        );
    }

    #[test]
    fn samplers_in_sigma_lay_them_out_their_own_way() {
        assert_eq!(
            TimestepSpacing::Linspace.unrounded(1000, 5, 0).unwrap(),
            [999.0, 749.25, 499.5, 249.75, 0.0]
        );
        let of = |spacing: TimestepSpacing| spacing.of_multistep(1000, 4, 0).unwrap();
        // linspace(0, 999, 5), 1000 // 5, and as ever.
        assert_eq!(of(TimestepSpacing::Linspace), [999.0, 749.0, 500.0, 250.0]);
        assert_eq!(of(TimestepSpacing::Leading), [800.0, 600.0, 400.0, 200.0]);
        assert_eq!(of(TimestepSpacing::Trailing), [999.0, 749.0, 499.0, 249.0]);
        let error = TimestepSpacing::Leading.of_multistep(10, 10, 0).unwrap_err();
        assert_eq!(error, TimestepError::Steps { steps: 10, train_timesteps: 9 });
        assert!(TimestepSpacing::Linspace.of_multistep(10, u32::MAX, 0).is_err());
    }

    #[test]
    fn an_offset_stays_inside_the_schedule() {
        let error = TimestepSpacing::Leading.timesteps(10, 10, 1).unwrap_err();
        assert_eq!(error, TimestepError::Offset { offset: 1, last: 9 });
        assert!(TimestepSpacing::Leading.timesteps(10, 5, u32::MAX).is_err());
    }

    proptest! {
        #[test]
        fn timesteps_fall_strictly_and_stay_in_range(total in 1_u32..1200, steps in 1_u32..1200) {
            for spacing in ALL {
                match spacing.timesteps(total, steps, 0) {
                    Ok(timesteps) => {
                        prop_assert_eq!(timesteps.len(), steps as usize);
                        prop_assert!(timesteps[0] < total);
                        prop_assert!(timesteps.windows(2).all(|pair| pair[1] < pair[0]));
                    }
                    Err(error) => {
                        prop_assert!(steps > total);
                        prop_assert_eq!(error, TimestepError::Steps { steps, train_timesteps: total });
                    }
                }
            }
        }
    }
}
