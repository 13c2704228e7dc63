//! Ways of asking for a picture: what is remembered, and how it guides.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use reverie::names;
use reverie_proto::diffusion::v1::{Guidance, GuidanceInterval, GuidanceStrategy, Sampler, Sampling};

use super::benchmark::PromptKind;

/// One way of asking. What is not set is the model's own default.
///
/// Written as a memory and settings, such as `oracle,k=2,ratio=0.25`: that is also the name of its folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    pub(super) memory: Memory,
    pub(super) neighbours: Option<u32>,
    pub(super) interleave_ratio: Option<f32>,
    pub(super) text_weight: Option<f32>,
    pub(super) neighbour_weight: Option<f32>,
    /// The noise levels at which there is guidance.
    pub(super) min_sigma: Option<f32>,
    pub(super) max_sigma: Option<f32>,
    pub(super) steps: Option<u32>,
    pub(super) strategy: Option<GuidanceStrategy>,
    pub(super) sampler: Option<Sampler>,
    /// Which prompts are drawn.
    pub(super) prompts: PromptKind,
}

/// What is remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Memory {
    /// Nothing.
    None,
    /// The creature's own pictures, handed over as references.
    Oracle,
    /// Another creature's pictures, handed over as references: what is drawn must be that other creature.
    Wrong,
    /// What BM25 finds.
    Bm25,
    /// What the joint embedding finds.
    Embedding,
    /// What both find.
    Hybrid,
}

/// A group of arms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Suite {
    /// Every memory.
    Memory,
    /// K from 0 to 4.
    Neighbours,
    /// Interleave ratios from 0 to 1.
    Ratio,
    /// Interleaved, weighted and joint guidance at 4 to 64 steps.
    Steps,
    /// Prompts that paint the creature in another colour, at interleave ratios from 0 to 1: text against memory.
    Painted,
    /// Prompts that name two creatures: nothing remembered, the pictures of both, what is found.
    Pairs,
    /// Text weights against neighbour weights.
    Guidance,
    /// Samplers at 4 to 32 steps.
    Samplers,
}

pub(super) const RATIOS: [f32; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];
pub(super) const MOST_NEIGHBOURS: u32 = 4;
pub(super) const STRATEGIES: [GuidanceStrategy; 3] =
    [GuidanceStrategy::Interleaved, GuidanceStrategy::Weighted, GuidanceStrategy::Joint];
const STEPS: [u32; 5] = [4, 8, 16, 32, 64];
pub(super) const SAMPLERS: [Sampler; 4] = [Sampler::Ddim, Sampler::Dpmpp2m, Sampler::Unipc, Sampler::Heun];
const SAMPLER_STEPS: [u32; 4] = [4, 8, 16, 32];
const TEXT_WEIGHTS: [f32; 3] = [1.0, 2.0, 4.0];
const NEIGHBOUR_WEIGHTS: [f32; 4] = [1.0, 2.0, 3.0, 5.0];

impl Suite {
    fn arms(self) -> Vec<Arm> {
        let oracle = || Arm::of(Memory::Oracle);
        match self {
            Self::Memory => Memory::value_variants().iter().copied().map(Arm::of).collect(),
            Self::Neighbours => (0..=MOST_NEIGHBOURS).map(Arm::with_neighbours).collect(),
            Self::Ratio => RATIOS.map(Arm::at_ratio).to_vec(),
            Self::Painted => {
                RATIOS.map(|ratio| Arm { prompts: PromptKind::Painted, ..Arm::at_ratio(ratio) }).to_vec()
            }
            Self::Pairs => [Memory::None, Memory::Oracle, Memory::Hybrid]
                .map(|memory| Arm { prompts: PromptKind::Pair, ..Arm::of(memory) })
                .to_vec(),
            Self::Steps => {
                let of = |strategy| {
                    STEPS.map(|steps| Arm { strategy: Some(strategy), steps: Some(steps), ..oracle() })
                };
                STRATEGIES.map(of).concat()
            }
            Self::Samplers => {
                let of = |sampler| {
                    SAMPLER_STEPS.map(|steps| Arm { sampler: Some(sampler), steps: Some(steps), ..oracle() })
                };
                SAMPLERS.map(of).concat()
            }
            Self::Guidance => {
                let of = |text| {
                    NEIGHBOUR_WEIGHTS.map(|neighbour| Arm {
                        text_weight: Some(text),
                        neighbour_weight: Some(neighbour),
                        ..oracle()
                    })
                };
                TEXT_WEIGHTS.map(of).concat()
            }
        }
    }
}

/// The arms of the suites and the others, each once; the usual suites where nothing is asked for.
pub(super) fn chosen(suites: &[Suite], others: &[Arm]) -> Vec<Arm> {
    let usual = [Suite::Memory, Suite::Neighbours, Suite::Ratio, Suite::Painted, Suite::Pairs, Suite::Steps];
    let suites = if suites.is_empty() && others.is_empty() { &usual } else { suites };
    let mut arms: Vec<Arm> = Vec::new();
    for arm in suites.iter().flat_map(|suite| suite.arms()).chain(others.iter().cloned()) {
        if !arms.contains(&arm) {
            arms.push(arm);
        }
    }
    arms
}

impl Arm {
    /// The arm that sets nothing but what is remembered.
    pub(super) fn of(memory: Memory) -> Self {
        Self {
            memory,
            neighbours: None,
            interleave_ratio: None,
            text_weight: None,
            neighbour_weight: None,
            min_sigma: None,
            max_sigma: None,
            steps: None,
            strategy: None,
            sampler: None,
            prompts: PromptKind::Scene,
        }
    }

    /// The creature's own pictures at an interleave ratio.
    pub(super) fn at_ratio(ratio: f32) -> Self {
        Self { interleave_ratio: Some(ratio), ..Self::of(Memory::Oracle) }
    }

    /// `k` of the creature's own pictures; 0 is no memory.
    pub(super) fn with_neighbours(k: u32) -> Self {
        match k {
            0 => Self::of(Memory::None),
            k => Self { neighbours: Some(k), ..Self::of(Memory::Oracle) },
        }
    }

    pub(super) fn guidance(&self) -> Guidance {
        let Self { min_sigma, max_sigma, .. } = *self;
        let is_limited = min_sigma.is_some() || max_sigma.is_some();
        Guidance {
            interval: is_limited.then_some(GuidanceInterval { min_sigma, max_sigma }),
            strategy: self.strategy.unwrap_or_default().into(),
            text_weight: self.text_weight,
            neighbour_weight: self.neighbour_weight,
            interleave_ratio: self.interleave_ratio,
            ..Guidance::default()
        }
    }

    pub(super) fn sampling(&self) -> Sampling {
        Sampling {
            steps: self.steps,
            sampler: self.sampler.unwrap_or_default().into(),
            ..Sampling::default()
        }
    }
}

impl fmt::Display for Arm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&name_of(self.memory))?;
        let settings = [
            ("k", self.neighbours.map(|k| k.to_string())),
            ("ratio", self.interleave_ratio.map(|ratio| ratio.to_string())),
            ("text", self.text_weight.map(|weight| weight.to_string())),
            ("neighbour", self.neighbour_weight.map(|weight| weight.to_string())),
            ("min-sigma", self.min_sigma.map(|sigma| sigma.to_string())),
            ("max-sigma", self.max_sigma.map(|sigma| sigma.to_string())),
            ("steps", self.steps.map(|steps| steps.to_string())),
            ("strategy", self.strategy.map(names::name)),
            ("sampler", self.sampler.map(names::name)),
            ("prompts", (self.prompts != PromptKind::Scene).then(|| name_of(self.prompts))),
        ];
        for (key, value) in settings {
            if let Some(value) = value {
                write!(formatter, ",{key}={value}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Arm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let memory = parts.next().unwrap_or_default();
        let known = || Memory::value_variants().iter().copied().map(name_of).collect::<Vec<_>>().join(", ");
        let memory =
            Memory::from_str(memory, false).map_err(|_| format!("{memory} is none of {}", known()))?;
        let mut arm = Self::of(memory);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| format!("{part}: write KEY=VALUE"))?;
            match key {
                "k" => arm.neighbours = Some(number(part, value)?),
                "ratio" => arm.interleave_ratio = Some(number(part, value)?),
                "text" => arm.text_weight = Some(number(part, value)?),
                "neighbour" => arm.neighbour_weight = Some(number(part, value)?),
                "min-sigma" => arm.min_sigma = Some(number(part, value)?),
                "max-sigma" => arm.max_sigma = Some(number(part, value)?),
                "steps" => arm.steps = Some(number(part, value)?),
                "strategy" => arm.strategy = Some(names::parse(value)?),
                "sampler" => arm.sampler = Some(names::parse(value)?),
                "prompts" => arm.prompts = PromptKind::from_str(value, false)?,
                _ => {
                    return Err(format!(
                        "{key} is none of k, ratio, text, neighbour, min-sigma, max-sigma, steps, strategy, sampler, prompts"
                    ));
                }
            }
        }
        Ok(arm)
    }
}

fn number<N: FromStr>(part: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("{part}: {value} is no such number"))
}

/// As it is written on the command line.
fn name_of<V: ValueEnum + Copy>(value: V) -> String {
    value.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arm_is_read_as_it_is_written() {
        let every = Suite::value_variants().iter().flat_map(|suite| suite.arms());
        for arm in every {
            assert_eq!(arm.to_string().parse(), Ok(arm));
        }
        let all = "wrong,k=3,ratio=0.25,text=1.5,neighbour=4,min-sigma=0.1,max-sigma=9.5,steps=12,strategy=weighted,sampler=ddpm,\
                   prompts=painted";
        assert_eq!(all.parse::<Arm>().unwrap().to_string(), all);
    }

    #[test]
    fn a_wrong_arm_is_refused_and_told_why() {
        for (text, told) in [
            ("orakel", "orakel is none of none, oracle"),
            ("oracle,k", "KEY=VALUE"),
            ("oracle,k=two", "k=two"),
            ("oracle,seed=1", "seed"),
            ("oracle,strategy=best", "best"),
        ] {
            let why = text.parse::<Arm>().unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }

    #[test]
    fn suites_that_share_an_arm_have_it_once() {
        let arms = chosen(&[Suite::Memory, Suite::Neighbours], &["none".parse().unwrap()]);
        assert_eq!(arms.len(), 6 + 4);
        assert_eq!(chosen(&[], &["bm25".parse().unwrap()]).len(), 1);
        assert_eq!(chosen(&[], &[]).len(), 6 + 4 + 5 + 5 + 3 + 15);
    }
}
