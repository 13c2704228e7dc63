//! The noise levels that samplers in sigma step through.

use serde::{Deserialize, Serialize};

use super::karras::{self, Sigmas};
use super::{
    EdmLevels, FlowShift, NoiseLevel, NoiseSchedule, Point, TimestepError, TimestepSpacing, Waypoints,
};

/// Which noise levels a trajectory steps through, from the noisiest to none.
///
/// All but [`Self::Trained`] are for the samplers in sigma: Euler, Euler ancestral, Heun, DPM-Solver++ and UniPC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NoiseLevels {
    /// Those of the timesteps visited.
    Trained,
    /// Evenly spaced in sigma^(1/7), within the schedule: Karras et al. 2022, equation 5. The model is told the
    /// timesteps with these sigmas.
    Karras,
    /// Those of a model trained as in Karras et al. 2022, which is told ln(sigma) / 4. Of the schedule only T counts.
    Edm(EdmLevels),
    /// Those of a model trained by flow matching, which is told sigma T. Of the schedule only T counts. Not for Euler
    /// ancestral.
    Flow(FlowShift),
}

/// How a family of samplers lays out timesteps, as published models were sampled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Euler, Euler ancestral, Heun.
    SingleStep,
    /// DPM-Solver++.
    DpmSolver,
    /// UniPC.
    UniPc,
}

/// Where the last step ends, named as in model packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigma {
    /// At x0.
    #[default]
    Zero,
    /// At the least noise of training, or of the noise levels where these are not the training's.
    SigmaMin,
}

/// N and what decides where the steps go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Steps {
    pub(crate) count: u32,
    pub(crate) spacing: TimestepSpacing,
    pub(crate) offset: u32,
    pub(crate) final_sigma: FinalSigma,
}

impl NoiseLevels {
    pub(crate) fn are_valid(&self) -> bool {
        match self {
            Self::Trained | Self::Karras => true,
            Self::Edm(levels) => levels.is_valid(),
            Self::Flow(shift) => shift.is_valid(),
        }
    }

    pub(crate) fn trajectory(
        &self,
        schedule: &NoiseSchedule,
        steps: Steps,
        layout: Layout,
    ) -> Result<Waypoints, TimestepError> {
        let Steps { count, spacing, offset, final_sigma } = steps;
        let total = schedule.train_timesteps();
        // Checks N, whatever comes of it.
        let visited = match layout {
            Layout::SingleStep => spacing.unrounded(total, count, offset)?,
            Layout::DpmSolver | Layout::UniPc => spacing.of_multistep(total, count, offset)?,
        };
        let (points, least) = match self {
            Self::Trained => {
                let sigmas = Sigmas::of(schedule);
                let point = |timestep| Point { timestep, level: NoiseLevel::of_sigma(sigmas.at(timestep)) };
                (visited.into_iter().map(point).collect(), sigmas.ends().0)
            }
            Self::Karras => {
                let sigmas = Sigmas::of(schedule);
                let (min, max) = match layout {
                    Layout::SingleStep => (sigmas.at(visited[visited.len() - 1]), sigmas.at(visited[0])),
                    Layout::DpmSolver | Layout::UniPc => sigmas.ends(),
                };
                let point = |sigma| {
                    let timestep = sigmas.timestep(sigma);
                    let timestep = match layout {
                        Layout::SingleStep => timestep,
                        Layout::DpmSolver | Layout::UniPc => timestep.round_ties_even(),
                    };
                    Point { timestep, level: NoiseLevel::of_sigma(sigma) }
                };
                (karras::spaced(min, max, karras::RHO, count).map(point).collect(), sigmas.ends().0)
            }
            Self::Edm(levels) => (levels.points(count), levels.sigma_min),
            Self::Flow(shift) => (shift.points(total, count, layout), 0.0),
        };
        let end = match (final_sigma, self, layout) {
            (FinalSigma::Zero, ..) | (_, Self::Flow(_), _) => NoiseLevel::CLEAN,
            (FinalSigma::SigmaMin, Self::Trained | Self::Karras, Layout::DpmSolver | Layout::UniPc) => {
                NoiseLevel::of_sigma(least)
            }
            // The sample of the papers, noise on top of the picture.
            (FinalSigma::SigmaMin, ..) => NoiseLevel { a: 1.0, s: least },
        };
        Ok(Waypoints { points, end })
    }
}
