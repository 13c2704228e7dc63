//! The samplers by name, and what each can be told.

use serde::{Deserialize, Serialize};

use super::{DdimNoise, PreviousTimestep, Variance};

/// One table makes the enum, its names and the list of all.
macro_rules! samplers {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $class:literal;)*) => {
        /// The samplers, named as in model packages.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum SamplerKind {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)*
        }

        impl SamplerKind {
            /// All of them.
            pub const ALL: [Self; [$($name),*].len()] = [$(Self::$variant),*];

            /// Its name in model packages; in requests, without the prefix and in upper case.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The scheduler class of diffusers that samples like this. Variants of one class, which its settings tell apart,
            /// share it.
            pub fn scheduler_class(self) -> &'static str {
                match self {
                    $(Self::$variant => $class,)*
                }
            }

            /// The sampler with this name.
            pub fn named(name: &str) -> Option<Self> {
                Self::ALL.into_iter().find(|kind| kind.name() == name)
            }

            /// The names of the samplers that `are` so, for people: `euler, heun`.
            pub fn names(are: impl Fn(Self) -> bool) -> String {
                Self::ALL.into_iter().filter(|kind| are(*kind)).map(Self::name).collect::<Vec<_>>().join(", ")
            }
        }
    };
}

samplers! {
    /// Song et al. 2021; deterministic unless `ddim_eta` is above 0.
    Ddim = "ddim", "DDIMScheduler";
    /// Ho et al. 2020; stochastic, for many steps.
    Ddpm = "ddpm", "DDPMScheduler";
    /// Karras et al. 2022, without the correction; deterministic.
    Euler = "euler", "EulerDiscreteScheduler";
    /// Euler with fresh noise; stochastic.
    EulerAncestral = "euler_ancestral", "EulerAncestralDiscreteScheduler";
    /// Karras et al. 2022; deterministic, second order, two evaluations a step.
    Heun = "heun", "HeunDiscreteScheduler";
    /// DPM-Solver++ 2M, Lu et al. 2022; deterministic, second order.
    DpmSolver = "dpmpp_2m", "DPMSolverMultistepScheduler";
    /// DPM-Solver++ 2M SDE, Lu et al. 2022; stochastic, second order.
    DpmSolverSde = "dpmpp_2m_sde", "DPMSolverMultistepScheduler";
    /// Zhao et al. 2023; deterministic, second order with a corrector.
    UniPc = "unipc", "UniPCMultistepScheduler";
    /// Liu et al. 2022; deterministic, fourth order, nine more evaluations than steps.
    Pndm = "pndm", "PNDMScheduler";
    /// PNDM without Runge-Kutta; one more evaluation than steps.
    Plms = "plms", "PNDMScheduler";
    /// Luo et al. 2023; stochastic, for models distilled to a few steps.
    Lcm = "lcm", "LCMScheduler";
}

/// A sampler with its own settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Method {
    /// Song et al. 2021.
    Ddim {
        /// In [0, 1]: 0 is deterministic, 1 as stochastic as DDPM.
        eta: f32,
        /// Whether the last step lands on x0 itself or on timestep 0.
        set_alpha_to_one: bool,
        /// Which noise level a step moves to.
        previous: PreviousTimestep,
        /// Which noise a step keeps where x0 was brought back into range.
        noise: DdimNoise,
    },
    /// Ho et al. 2020.
    Ddpm {
        /// How much noise a step adds.
        variance: Variance,
    },
    /// Karras et al. 2022, without the correction. Over [`NoiseLevels::Flow`](crate::NoiseLevels::Flow) the sampler of
    /// SD3 and FLUX.
    Euler,
    /// Euler with fresh noise.
    EulerAncestral,
    /// Karras et al. 2022, algorithm 1.
    Heun,
    /// DPM-Solver++ 2M, Lu et al. 2022.
    DpmSolver {
        /// Whether it solves the stochastic equation (SDE) or the ordinary one.
        stochastic: bool,
        /// Whether the last of fewer than 15 steps is of first order. That of any number is where it ends without noise.
        lower_order_final: bool,
    },
    /// Zhao et al. 2023.
    UniPc {
        /// 1 to 3; 2 is the usual choice, 3 for unguided sampling.
        order: u32,
    },
    /// Liu et al. 2022.
    Pndm {
        /// Whether the first three steps are Runge-Kutta's, of four evaluations each; takes at least 4 steps.
        runge_kutta: bool,
        /// Whether the last step lands on x0 itself or on timestep 0.
        set_alpha_to_one: bool,
    },
    /// Luo et al. 2023.
    Lcm {
        /// The timesteps that the model was distilled on, at least N; usually 50.
        original_steps: u32,
        /// What a strength below 1 does: spread all N steps over the share of these timesteps that has the least noise, or
        /// skip the first of the N like any other sampler.
        spreads_steps: bool,
    },
}

impl Method {
    /// DDIM, deterministic, with the conventions of diffusers but for the noise of a clipped x0.
    pub const DDIM: Self = Self::Ddim {
        eta: 0.0,
        set_alpha_to_one: true,
        previous: PreviousTimestep::Stride,
        noise: DdimNoise::OfX0,
    };

    /// Which sampler.
    pub fn kind(&self) -> SamplerKind {
        match self {
            Self::Ddim { .. } => SamplerKind::Ddim,
            Self::Ddpm { .. } => SamplerKind::Ddpm,
            Self::Euler => SamplerKind::Euler,
            Self::EulerAncestral => SamplerKind::EulerAncestral,
            Self::Heun => SamplerKind::Heun,
            Self::DpmSolver { stochastic: false, .. } => SamplerKind::DpmSolver,
            Self::DpmSolver { stochastic: true, .. } => SamplerKind::DpmSolverSde,
            Self::UniPc { .. } => SamplerKind::UniPc,
            Self::Pndm { runge_kutta: true, .. } => SamplerKind::Pndm,
            Self::Pndm { runge_kutta: false, .. } => SamplerKind::Plms,
            Self::Lcm { .. } => SamplerKind::Lcm,
        }
    }
}

impl From<SamplerKind> for Method {
    /// The sampler with the settings that diffusers gives it.
    fn from(kind: SamplerKind) -> Self {
        match kind {
            SamplerKind::Ddim => Self::DDIM,
            SamplerKind::Ddpm => Self::Ddpm { variance: Variance::FixedSmall },
            SamplerKind::Euler => Self::Euler,
            SamplerKind::EulerAncestral => Self::EulerAncestral,
            SamplerKind::Heun => Self::Heun,
            SamplerKind::DpmSolver => Self::DpmSolver { stochastic: false, lower_order_final: true },
            SamplerKind::DpmSolverSde => Self::DpmSolver { stochastic: true, lower_order_final: true },
            SamplerKind::UniPc => Self::UniPc { order: 2 },
            SamplerKind::Pndm => Self::Pndm { runge_kutta: true, set_alpha_to_one: false },
            SamplerKind::Plms => Self::Pndm { runge_kutta: false, set_alpha_to_one: false },
            SamplerKind::Lcm => Self::Lcm { original_steps: 50, spreads_steps: false },
        }
    }
}

impl SamplerKind {
    /// Whether it steps through noise levels of any spacing: [`NoiseLevels`](crate::NoiseLevels).
    pub fn is_in_sigma(self) -> bool {
        match self {
            Self::Euler
            | Self::EulerAncestral
            | Self::Heun
            | Self::DpmSolver
            | Self::DpmSolverSde
            | Self::UniPc => true,
            Self::Ddim | Self::Ddpm | Self::Pndm | Self::Plms | Self::Lcm => false,
        }
    }

    /// Whether it can sample a model trained by flow matching: [`NoiseLevels::Flow`](crate::NoiseLevels::Flow).
    pub fn fits_flow(self) -> bool {
        self.is_in_sigma() && self != Self::EulerAncestral
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_that_of_its_method() {
        for kind in SamplerKind::ALL {
            assert_eq!(Method::from(kind).kind(), kind);
        }
    }

    #[test]
    fn names_are_those_of_model_packages() {
        for kind in SamplerKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(SamplerKind::named(kind.name()), Some(kind));
        }
        assert_eq!(SamplerKind::named("DDIM"), None);
    }
}
