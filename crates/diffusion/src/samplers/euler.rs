//! Euler's method in sigma: Karras et al. 2022 (EDM), algorithm 1 without the correction; and its ancestral form, with the
//! noise of DDPM (Song et al. 2021, "Score-based generative modeling through stochastic differential equations").
//!
//! Euler, with d = (x - x0) / sigma = eps and x in units of signal:
//!
//! 1. x <- x + (sigma' - sigma) d, which is x0 + sigma' eps
//!
//! Euler ancestral steps to less noise than wanted and adds the rest anew:
//!
//! 1. sigma_up^2 = sigma'^2 (sigma^2 - sigma'^2) / sigma^2
//! 2. sigma_down^2 = sigma'^2 - sigma_up^2
//! 3. x <- x0 + sigma_down eps + sigma_up z

use crate::levels::Waypoints;
use crate::step::{Combination, Evaluation};

pub(crate) fn euler(trajectory: &Waypoints) -> Vec<Evaluation> {
    trajectory
        .steps()
        .map(|(point, next)| Evaluation::new(point, next.mix(Combination::X0, point.level.eps())))
        .collect()
}

pub(crate) fn euler_ancestral(trajectory: &Waypoints) -> Vec<Evaluation> {
    trajectory
        .steps()
        .map(|(point, next)| {
            let (from, to) = (point.level.sigma(), next.sigma());
            // 1. and 2.; sigma is infinite where no signal is left.
            let share = to / from;
            let up = to * (1.0 - share * share).max(0.0).sqrt();
            let down = to * share;
            // 3.
            let x = next.a * (Combination::X0 + down * point.level.eps());
            Evaluation::new(point, x).with_noise(next.a * up)
        })
        .collect()
}
