//! Guidance: which conditional evaluations a step needs, and how they add up.
//!
//! Ho & Salimans 2022 (classifier-free guidance) and Chen et al. 2022 (Re-Imagen), section 3.3. With e(p, n) the model's
//! output given text p and neighbours n, and `-` for a condition left out:
//!
//! - text-enhanced       e_p = w_p e(p, n) - (w_p - 1) e(-, n)
//! - neighbour-enhanced  e_n = w_n e(p, n) - (w_n - 1) e(p, -)
//! - interleaved         e_p if R < ratio, else e_n, with R uniform on [0, 1) at each step
//! - weighted            ratio e_p + (1 - ratio) e_n, the mean of interleaved over R
//! - joint               w_p e(p, n) - (w_p - 1) e(-, -)
//!
//! w = 1 is no guidance (Ho & Salimans count from 0). The coefficients of a step always sum to 1, so guidance commutes
//! with reading x0, eps or v from the output.
//!
//! A plan can leave out guidance where it does harm, at the noisiest and the cleanest levels: Kynkäänniemi et al. 2024,
//! "Applying guidance in a limited interval improves sample and distribution quality in diffusion models"
//! ([`Plan::only_in`]); and correct the contrast that large weights lead to ([`rescale`]).

mod combine;
mod condition;
mod plan;
mod rescale;
mod step_plan;
mod strategy;

pub use combine::combine;
pub use condition::Condition;
pub use plan::Plan;
pub use rescale::rescale;
pub use step_plan::{MAX_ROWS, PlannedRow, StepKind, StepPlan};
pub use strategy::{Draw, Guidance, GuidanceError, Strategy};
