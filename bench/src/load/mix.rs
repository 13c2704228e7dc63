//! What is asked for: kinds of requests, each with its share of the calls.

use std::path::Path;
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;
use reverie::Failure;
use reverie_proto::diffusion::v1::{Guidance, Sampling};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, NoMemory, Retrieval};
use serde::Deserialize;

/// A kind of request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kind {
    /// What it is called in the report.
    pub(super) name: String,
    /// Its part of the calls, relative to the other kinds. Default 1.
    #[serde(default = "one")]
    pub(super) weight: f64,
    /// What to draw; one of them, at random.
    pub(super) prompts: Vec<String>,
    /// Side of the images, pixels. Default: the model's largest.
    pub(super) size: Option<u32>,
    /// Steps of the base model. Default: the model's own.
    pub(super) steps: Option<u32>,
    /// How many neighbours to retrieve; 0 draws from text alone. Default: the mesh's own.
    pub(super) neighbours: Option<u32>,
    /// Guidance weight on the text. Default: the model's own.
    pub(super) text_weight: Option<f32>,
    /// Guidance weight on the neighbours. Default: the model's own.
    pub(super) neighbour_weight: Option<f32>,
    /// Seconds until the caller gives up. Default: `--timeout`.
    pub(super) deadline_seconds: Option<f64>,
    /// Share of the calls that the caller drops, at a random time before an image could be done. Default 0.
    #[serde(default)]
    pub(super) abandoned: f64,
    /// Who asks (`x-reverie-caller`). Default: nobody in particular.
    pub(super) caller: Option<String>,
    /// How urgent it is (`x-reverie-priority`): interactive or batch. Default: interactive.
    pub(super) priority: Option<String>,
}

fn one() -> f64 {
    1.0
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: Vec<Kind>,
}

/// The kinds of a run.
#[derive(Debug, Clone)]
pub(super) struct Mix {
    pub(super) kinds: Vec<Kind>,
}

impl Mix {
    pub(super) fn new(kinds: Vec<Kind>) -> Result<Self, Failure> {
        if kinds.is_empty() {
            return Err("a mix needs at least one [[kind]]".into());
        }
        for Kind { name, weight, prompts, deadline_seconds, abandoned, .. } in &kinds {
            let wrong = |key: &str, what: String| -> Result<(), Failure> {
                Err(format!("kind {name:?}: {key} must be {what}").into())
            };
            if !(weight.is_finite() && *weight > 0.0) {
                wrong("weight", format!("above 0 (got {weight})"))?;
            }
            if !(0.0..=1.0).contains(abandoned) {
                wrong("abandoned", format!("0 to 1 (got {abandoned})"))?;
            }
            if let Some(seconds) = deadline_seconds
                && !(*seconds > 0.0 && *seconds <= MOST_SECONDS)
            {
                wrong("deadline_seconds", format!("above 0 and at most {MOST_SECONDS} (got {seconds})"))?;
            }
            if prompts.is_empty() {
                wrong("prompts", "a list of at least one text".to_owned())?;
            }
        }
        Ok(Self { kinds })
    }

    /// Reads a TOML file of `[[kind]]` tables.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let told = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| told(&error))?;
        let File { kind } = toml::from_str(&text).map_err(|error| told(&error))?;
        Ok(Self::new(kind).map_err(|error| told(&error))?)
    }

    /// One kind, by its weight.
    pub(super) fn draw(&self, rng: &mut StdRng) -> usize {
        let all: f64 = self.kinds.iter().map(|kind| kind.weight).sum();
        let mut left = rng.random_range(0.0..all);
        for (index, kind) in self.kinds.iter().enumerate() {
            left -= kind.weight;
            if left < 0.0 {
                return index;
            }
        }
        self.kinds.len() - 1
    }

    /// The kind called `name`.
    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.kinds.iter().position(|kind| kind.name == name)
    }
}

/// A day: no call takes longer.
pub(super) const MOST_SECONDS: f64 = 86_400.0;

impl Kind {
    /// The request of this kind with `seed`, which also chooses the prompt.
    pub(super) fn request(&self, seed: u64) -> GenerateRequest {
        let prompt = usize::try_from(seed).unwrap_or_default() % self.prompts.len();
        let guidance = Guidance {
            text_weight: self.text_weight,
            neighbour_weight: self.neighbour_weight,
            ..Guidance::default()
        };
        GenerateRequest {
            prompt: self.prompts[prompt].clone(),
            seed: Some(seed),
            size: self.size,
            memory: self.neighbours.map(|neighbours| match neighbours {
                0 => Memory::None(NoMemory {}),
                _ => Memory::Retrieval(Retrieval { neighbours: Some(neighbours), ..Retrieval::default() }),
            }),
            guidance: (guidance != Guidance::default()).then_some(guidance),
            base_sampling: Some(Sampling { steps: self.steps, ..Sampling::default() }),
            ..GenerateRequest::default()
        }
    }

    /// How long its caller waits.
    pub(super) fn deadline(&self, default: Duration) -> Duration {
        self.deadline_seconds.map_or(default, Duration::from_secs_f64)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    fn mix(text: &str) -> Result<Mix, Failure> {
        let File { kind } = toml::from_str(text)?;
        Mix::new(kind)
    }

    #[test]
    fn kinds_come_by_their_weights() {
        let mix =
            mix("[[kind]]\nname = 'a'\nweight = 3\nprompts = ['x']\n[[kind]]\nname = 'b'\nprompts = ['y']");
        let mix = mix.unwrap();
        for seed in 0..5 {
            let mut rng = StdRng::seed_from_u64(seed);
            let first = (0..4000).filter(|_| mix.draw(&mut rng) == 0).count();
            assert!((2880..=3120).contains(&first), "seed {seed}: {first} of 4,000");
        }
    }

    #[test]
    fn what_a_kind_cannot_be_is_named() {
        for (text, told) in [
            ("kind = []", "at least one [[kind]]"),
            ("[[kind]]\nname = 'a'\nprompts = []", "kind \"a\": prompts"),
            ("[[kind]]\nname = 'a'\nprompts = ['x']\nweight = 0", "weight must be above 0 (got 0)"),
            ("[[kind]]\nname = 'a'\nprompts = ['x']\nabandoned = 1.5", "0 to 1 (got 1.5)"),
            ("[[kind]]\nname = 'a'\nprompts = ['x']\ndeadline_seconds = 0", "above 0"),
            ("[[kind]]\nname = 'a'\nprompts = ['x']\nsteps_ = 3", "unknown field"),
        ] {
            let error = mix(text).unwrap_err().to_string();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn a_request_has_what_its_kind_says() {
        let text = "[[kind]]\nname = 'a'\nprompts = ['x', 'y']\nsize = 64\nsteps = 4\nneighbours = 0\ntext_weight = 2";
        let request = mix(text).unwrap().kinds[0].request(3);
        assert_eq!((request.prompt.as_str(), request.seed, request.size), ("y", Some(3), Some(64)));
        assert_eq!(request.base_sampling.unwrap().steps, Some(4));
        assert_eq!(request.memory, Some(Memory::None(NoMemory {})));
        assert_eq!(request.guidance.unwrap().text_weight, Some(2.0));
    }
}
