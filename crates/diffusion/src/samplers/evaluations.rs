//! From settings to evaluations: which file's sampler was asked for, over which noise levels.

use super::{DdimNoise, Method, ddim, ddpm, dpm_solver, euler, heun, lcm, pndm, unipc};
use crate::levels::{Layout, NoiseLevels, NoiseSchedule, Steps};
use crate::step::{Evaluation, SamplerError, SamplerSettings, Thresholding, initial};

/// The evaluations of the sampler that was asked for.
pub(crate) fn evaluations(
    schedule: &NoiseSchedule,
    settings: &SamplerSettings,
) -> Result<Vec<Evaluation>, SamplerError> {
    let SamplerSettings { method, levels, prediction, spacing, .. } = *settings;
    let (count, offset) = (settings.steps, settings.steps_offset);
    let skipped = initial::skipped_steps(settings)?;
    let all_timesteps = || {
        if levels != NoiseLevels::Trained {
            return Err(SamplerError::TrainedLevelsOnly(method));
        }
        Ok(spacing.timesteps(schedule.train_timesteps(), count, offset)?)
    };
    let timesteps = || Ok::<_, SamplerError>(all_timesteps()?.split_off(skipped as usize));
    let is_flow = matches!(levels, NoiseLevels::Flow(_));
    if is_flow && method.kind().is_in_sigma() && !method.kind().fits_flow() {
        return Err(SamplerError::NotForFlow(method.kind()));
    }
    let stride = schedule.train_timesteps() / count.max(1);
    let trajectory = |layout| {
        if !levels.are_valid() {
            return Err(SamplerError::Levels(levels));
        }
        let steps = Steps { count, spacing, offset, final_sigma: settings.final_sigma };
        Ok(levels.trajectory(schedule, steps, layout)?.without_first(skipped as usize))
    };
    Ok(match method {
        Method::Ddim { eta, set_alpha_to_one, previous, noise } => {
            if !(0.0..=1.0).contains(&eta) {
                return Err(SamplerError::DdimEta(eta));
            }
            // They are the same where x0 is left alone.
            let noise = if settings.thresholding == Thresholding::None { DdimNoise::OfX0 } else { noise };
            let (timesteps, eta) = (timesteps()?, f64::from(eta));
            ddim::evaluations(schedule, &timesteps, previous, stride, eta, set_alpha_to_one, noise)
        }
        Method::Ddpm { variance } => ddpm::evaluations(schedule, &timesteps()?, variance),
        Method::Euler => euler::euler(&trajectory(Layout::SingleStep)?),
        Method::EulerAncestral => euler::euler_ancestral(&trajectory(Layout::SingleStep)?),
        Method::Heun if is_flow => heun::evaluations_of_flow(&trajectory(Layout::SingleStep)?),
        Method::Heun => heun::evaluations(&trajectory(Layout::SingleStep)?),
        Method::DpmSolver { stochastic, lower_order_final } => {
            let first_order_last = lower_order_final && count < dpm_solver::FEW_STEPS;
            dpm_solver::evaluations(&trajectory(Layout::DpmSolver)?, stochastic, first_order_last)
        }
        Method::UniPc { order } => {
            if !(1..=unipc::MAX_ORDER).contains(&order) {
                return Err(SamplerError::Order(order));
            }
            unipc::evaluations(&trajectory(Layout::UniPc)?, order)
        }
        Method::Pndm { runge_kutta, set_alpha_to_one } => {
            let transfer = pndm::Transfer::new(schedule, stride, prediction, set_alpha_to_one);
            if !runge_kutta {
                return Ok(transfer.plms(&all_timesteps()?, skipped as usize));
            }
            let taken = count - skipped;
            if taken < pndm::MIN_STEPS {
                return Err(SamplerError::RungeKuttaSteps(taken));
            }
            transfer.pndm(&timesteps()?)
        }
        Method::Lcm { original_steps, spreads_steps } => {
            // Refuses levels that do not fit; the spacing is the distillation's.
            all_timesteps()?;
            let share = if spreads_steps { settings.strength } else { 1.0 };
            let most = (f64::from(original_steps) * share) as u32;
            let timesteps = lcm::timesteps(schedule.train_timesteps(), count, original_steps, most)
                .ok_or(SamplerError::LcmSteps { steps: count, most, original_steps })?;
            lcm::evaluations(schedule, &timesteps[skipped as usize..])
        }
    })
}
