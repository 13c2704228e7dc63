//! What is asked for: creatures, prompts and true drawings.
//!
//! `creatures.json` says for each creature what it looks like, what each of its pictures in the knowledge base reveals, and
//! its prompts with what they say of the scene; `truths.png` has the true drawing of each prompt, a row a creature.

use std::collections::BTreeMap;

use image::imageops::crop_imm;
use reverie_inference::package::{Factor, FactorKind};
use reverie_proto::pictures::{self, Rgb};
use reverie_proto::tensor::v1::Image;
use reverie_storage::Folder;
use serde::Deserialize;

use crate::Failure;

const CREATURES: &str = "creatures.json";
const TRUTHS: &str = "truths.png";
const MAX_BYTES: u64 = 16 << 20;
const SCHEMA: u32 = 1;
/// Side of a true drawing, pixels.
pub(super) const SIDE: u32 = 64;

/// The benchmark; factors and values are positions in the judge's list.
#[derive(Debug)]
pub(super) struct Benchmark {
    pub(super) world_version: String,
    /// The knowledge base that shows the creatures.
    pub(super) knowledge_base: String,
    pub(super) factors: Vec<Factor>,
    pub(super) creatures: Vec<Creature>,
    /// Of each creature's each prompt, in order.
    pub(super) truths: Vec<Rgb>,
}

#[derive(Debug)]
pub(super) struct Creature {
    pub(super) name: String,
    /// Its value of each genome factor.
    pub(super) looks: Vec<Named>,
    pub(super) pictures: Vec<Picture>,
    pub(super) prompts: Vec<Prompt>,
}

/// A picture of the creature in the knowledge base.
#[derive(Debug)]
pub(super) struct Picture {
    pub(super) id: String,
    /// Factors that it shows.
    pub(super) reveals: Vec<usize>,
}

#[derive(Debug)]
pub(super) struct Prompt {
    pub(super) text: String,
    /// What it says of the scene.
    pub(super) says: Vec<Named>,
}

/// A value of a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) factor: usize,
    pub(super) value: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    world_version: String,
    knowledge_base: String,
    creatures: Vec<CreatureLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreatureLine {
    name: String,
    looks: BTreeMap<String, String>,
    pictures: Vec<PictureLine>,
    prompts: Vec<PromptLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PictureLine {
    id: String,
    reveals: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PromptLine {
    text: String,
    says: BTreeMap<String, String>,
}

impl Benchmark {
    /// Reads the benchmark in `folder`, in terms of the judge's `factors`.
    pub(super) async fn read(folder: &Folder, factors: &[Factor]) -> Result<Self, Failure> {
        let location = folder.location();
        let file: File = serde_json::from_slice(&folder.read(CREATURES, MAX_BYTES).await?)
            .map_err(|error| format!("{location}/{CREATURES}: {error}"))?;
        let benchmark = file.resolve(factors).map_err(|why| format!("{location}/{CREATURES}: {why}"))?;
        let truths = Image { data: folder.read(TRUTHS, MAX_BYTES).await?, ..Image::default() };
        benchmark
            .with_truths(&pictures::decode(&truths)?)
            .map_err(|why| format!("{location}/{TRUTHS}: {why}").into())
    }

    /// Keeps the first `creatures`, and the first `prompts` of each.
    pub(super) fn keep(&mut self, creatures: usize, prompts: usize) {
        let columns = self.prompts();
        let mut position = 0..;
        self.truths
            .retain(|_| position.next().is_some_and(|at| at / columns < creatures && at % columns < prompts));
        self.creatures.truncate(creatures);
        for creature in &mut self.creatures {
            creature.prompts.truncate(prompts);
        }
    }

    /// Prompts a creature.
    pub(super) fn prompts(&self) -> usize {
        self.creatures.first().map_or(0, |creature| creature.prompts.len())
    }

    /// The true drawing of a creature's prompt.
    pub(super) fn truth(&self, creature: usize, prompt: usize) -> Option<&Rgb> {
        self.truths.get(creature * self.prompts() + prompt)
    }

    fn with_truths(mut self, sheet: &Rgb) -> Result<Self, String> {
        let (columns, rows) = (self.prompts() as u32, self.creatures.len() as u32);
        let (width, height) = (columns * SIDE, rows * SIDE);
        if sheet.dimensions() != (width, height) {
            return Err(format!(
                "it is {} x {} pixels, not {width} x {height}",
                sheet.width(),
                sheet.height()
            ));
        }
        let cells = (0..rows).flat_map(|row| (0..columns).map(move |column| (column * SIDE, row * SIDE)));
        self.truths = cells.map(|(x, y)| crop_imm(sheet, x, y, SIDE, SIDE).to_image()).collect();
        Ok(self)
    }
}

impl File {
    fn resolve(self, factors: &[Factor]) -> Result<Benchmark, String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {} is not known here, only {SCHEMA}", self.schema));
        }
        let creatures: Vec<Creature> =
            self.creatures.into_iter().map(|creature| creature.resolve(factors)).collect::<Result<_, _>>()?;
        let prompts = creatures.first().map_or(0, |creature| creature.prompts.len());
        if prompts == 0 || creatures.iter().any(|creature| creature.prompts.len() != prompts) {
            return Err("every creature must have as many prompts as the first, and at least one".to_owned());
        }
        Ok(Benchmark {
            world_version: self.world_version,
            knowledge_base: self.knowledge_base,
            factors: factors.to_vec(),
            creatures,
            truths: Vec::new(),
        })
    }
}

impl CreatureLine {
    fn resolve(self, factors: &[Factor]) -> Result<Creature, String> {
        let Self { name, looks, pictures, prompts } = self;
        let looks = named(factors, FactorKind::Genome, &looks).map_err(|why| format!("{name}: {why}"))?;
        let genome = factors.iter().filter(|factor| factor.kind == FactorKind::Genome).count();
        if looks.len() != genome {
            return Err(format!("{name}: it has {} looks, the judge names {genome}", looks.len()));
        }
        let reveals = |names: Vec<String>| {
            let known = names.iter().map(|name| position(factors, FactorKind::Genome, name));
            known.collect::<Result<Vec<_>, _>>()
        };
        let pictures = pictures.into_iter().map(|picture| {
            Ok(Picture {
                reveals: reveals(picture.reveals).map_err(|why| format!("{}: {why}", picture.id))?,
                id: picture.id,
            })
        });
        let prompts = prompts.into_iter().map(|prompt| {
            let says = named(factors, FactorKind::Scene, &prompt.says)
                .map_err(|why| format!("{:?}: {why}", prompt.text))?;
            Ok(Prompt { text: prompt.text, says })
        });
        Ok(Creature {
            looks,
            pictures: pictures.collect::<Result<_, String>>()?,
            prompts: prompts.collect::<Result<_, String>>()?,
            name,
        })
    }
}

fn position(factors: &[Factor], kind: FactorKind, name: &str) -> Result<usize, String> {
    let found = factors.iter().position(|factor| factor.kind == kind && factor.name == name);
    found.ok_or_else(|| format!("{name} is no {kind:?} factor of the judge"))
}

fn named(
    factors: &[Factor],
    kind: FactorKind,
    words: &BTreeMap<String, String>,
) -> Result<Vec<Named>, String> {
    let resolve = |(name, word): (&String, &String)| {
        let factor = position(factors, kind, name)?;
        let value = factors[factor].values.iter().position(|value| value == word);
        Ok(Named { factor, value: value.ok_or_else(|| format!("{word} is no {name} that the judge knows"))? })
    };
    words.iter().map(resolve).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn factors() -> Vec<Factor> {
        let factor = |name: &str, kind, values: &[&str]| Factor {
            name: name.to_owned(),
            kind,
            values: values.iter().map(|&value| value.to_owned()).collect(),
        };
        vec![
            factor("shape", FactorKind::Genome, &["round", "tall"]),
            factor("main", FactorKind::Genome, &["red", "blue", "green"]),
            factor("background", FactorKind::Scene, &["snow", "sea"]),
        ]
    }

    const TWO: &str = r#"{"schema": 1, "world_version": "t", "knowledge_base": "creatures", "creatures": [
        {"name": "leka", "looks": {"shape": "tall", "main": "blue"},
         "pictures": [{"id": "leka-1", "reveals": ["main"]}, {"id": "leka-2", "reveals": ["shape", "main"]}],
         "prompts": [{"text": "a leka, snow", "says": {"background": "snow"}}, {"text": "a leka", "says": {}}]},
        {"name": "dibo", "looks": {"shape": "round", "main": "blue"}, "pictures": [{"id": "dibo-1", "reveals": []}],
         "prompts": [{"text": "a dibo, sea", "says": {"background": "sea"}}, {"text": "a dibo", "says": {}}]}]}"#;

    /// Two creatures with two prompts each; a truth's red tells its position.
    pub(in super::super) fn two() -> Benchmark {
        let file: File = serde_json::from_str(TWO).unwrap();
        let sheet =
            Rgb::from_fn(2 * SIDE, 2 * SIDE, |x, y| image::Rgb([(2 * (y / SIDE) + x / SIDE) as u8, 0, 0]));
        file.resolve(&factors()).unwrap().with_truths(&sheet).unwrap()
    }

    #[test]
    fn words_become_positions_in_the_judges_list() {
        let benchmark = two();
        let leka = &benchmark.creatures[0];
        assert_eq!(leka.looks, [Named { factor: 1, value: 1 }, Named { factor: 0, value: 1 }]);
        assert_eq!(leka.pictures[1].reveals, [0, 1]);
        assert_eq!(leka.prompts[0].says, [Named { factor: 2, value: 0 }]);
        assert_eq!(benchmark.truth(1, 0).unwrap().get_pixel(5, 5).0[0], 2);
    }

    #[test]
    fn a_part_keeps_the_truths_of_its_prompts() {
        let mut benchmark = two();
        benchmark.keep(2, 1);
        assert_eq!(benchmark.truths.len(), 2);
        assert_eq!(benchmark.truth(1, 0).unwrap().get_pixel(0, 0).0[0], 2);
    }

    #[test]
    fn what_the_judge_does_not_know_is_refused_and_named() {
        for (from, to, told) in [
            ("\"tall\"", "\"tell\"", "tell is no shape"),
            ("\"shape\": \"round\", ", "", "1 looks"),
            ("[\"main\"]", "[\"background\"]", "leka-1"),
            ("\"sea\"}", "\"see\"}", "see is no background"),
            ("\"schema\": 1", "\"schema\": 7", "schema 7"),
            (", {\"text\": \"a dibo\", \"says\": {}}", "", "as many prompts"),
        ] {
            assert!(TWO.contains(from), "{from}");
            let file: File = serde_json::from_str(&TWO.replace(from, to)).unwrap();
            let why = file.resolve(&factors()).unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }

    #[test]
    fn a_sheet_of_another_size_is_refused() {
        let file: File = serde_json::from_str(TWO).unwrap();
        let benchmark = file.resolve(&factors()).unwrap();
        assert!(benchmark.with_truths(&Rgb::new(SIDE, SIDE)).unwrap_err().contains("128 x 128"));
    }
}
