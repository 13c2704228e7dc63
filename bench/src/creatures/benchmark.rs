//! What is asked for: creatures, prompts and true drawings.
//!
//! `creatures.json` says for each creature what it looks like, what each of its pictures in the knowledge base reveals, and
//! its prompts with what they say of the scene; `truths.png` has the true drawing of each prompt, a row a creature. Some
//! prompts paint the creature in another main colour than its own, some name another creature as well.

use std::collections::BTreeMap;

use clap::ValueEnum;
use image::imageops::crop_imm;
use reverie::Failure;
use reverie_imaging::pictures::{self, Rgb};
use reverie_packages::package::{Factor, FactorKind};
use reverie_proto::tensor::v1::Image;
use reverie_storage::Folder;
use serde::Deserialize;

const CREATURES: &str = "creatures.json";
const TRUTHS: &str = "truths.png";
const MAX_BYTES: u64 = 16 << 20;
const SCHEMA: u32 = 2;
/// The factor that a prompt may paint.
const PAINTED: &str = "main";
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
    /// How many prompts of a scene are asked for, of each creature.
    scenes: usize,
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
    /// What it says of the scene, and of the colour where it paints.
    pub(super) says: Vec<Named>,
    /// What is to be seen of the creature: its looks, but for what the prompt paints over.
    pub(super) looks: Vec<Named>,
    /// The colour that it paints the creature in.
    pub(super) paint: Option<Named>,
    /// Who else is named, and is to stand on the right.
    pub(super) companion: Option<Companion>,
}

/// Another creature of the benchmark.
#[derive(Debug, Clone)]
pub(super) struct Companion {
    /// Its position.
    pub(super) creature: usize,
    pub(super) looks: Vec<Named>,
    /// Ids of its pictures.
    pub(super) pictures: Vec<String>,
}

/// What a prompt asks of the creature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum PromptKind {
    /// To be in a scene.
    Scene,
    /// To have another main colour than its own: text against memory.
    Painted,
    /// To be on the left of another creature.
    Pair,
}

impl Prompt {
    pub(super) fn kind(&self) -> PromptKind {
        match (&self.paint, &self.companion) {
            (_, Some(_)) => PromptKind::Pair,
            (Some(_), None) => PromptKind::Painted,
            (None, None) => PromptKind::Scene,
        }
    }
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
    paint: Option<String>,
    companion: Option<String>,
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

    /// Keeps the first `creatures`, and asks for the first `scenes` of each one's prompts of a scene.
    pub(super) fn keep(&mut self, creatures: usize, scenes: usize) {
        self.truths.truncate(creatures * self.prompts());
        self.creatures.truncate(creatures);
        self.scenes = scenes;
    }

    /// Positions of the prompts of a kind that are asked for, the same of every creature.
    pub(super) fn asked(&self, kind: PromptKind) -> Vec<usize> {
        let prompts = self.creatures.first().map_or(&[][..], |creature| &creature.prompts);
        let these = prompts.iter().enumerate().filter(|(_, prompt)| prompt.kind() == kind);
        let most = if kind == PromptKind::Scene { self.scenes } else { usize::MAX };
        these.map(|(position, _)| position).take(most).collect()
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
        let companions: BTreeMap<String, Companion> = self
            .creatures
            .iter()
            .enumerate()
            .map(|(creature, line)| Ok((line.name.clone(), line.as_companion(creature, factors)?)))
            .collect::<Result<_, String>>()?;
        let resolve = |creature: CreatureLine| creature.resolve(factors, &companions);
        let creatures: Vec<Creature> = self.creatures.into_iter().map(resolve).collect::<Result<_, _>>()?;
        let kinds = |creature: &Creature| creature.prompts.iter().map(Prompt::kind).collect::<Vec<_>>();
        let first = creatures.first().map(kinds).unwrap_or_default();
        if first.is_empty() || creatures.iter().any(|creature| kinds(creature) != first) {
            return Err("every creature must have prompts, of the kinds of the first's".to_owned());
        }
        Ok(Benchmark {
            world_version: self.world_version,
            knowledge_base: self.knowledge_base,
            factors: factors.to_vec(),
            creatures,
            truths: Vec::new(),
            scenes: usize::MAX,
        })
    }
}

impl CreatureLine {
    fn looks(&self, factors: &[Factor]) -> Result<Vec<Named>, String> {
        let looks = named(factors, FactorKind::Genome, &self.looks)?;
        let genome = factors.iter().filter(|factor| factor.kind == FactorKind::Genome).count();
        if looks.len() != genome {
            return Err(format!("it has {} looks, the judge names {genome}", looks.len()));
        }
        Ok(looks)
    }

    fn as_companion(&self, creature: usize, factors: &[Factor]) -> Result<Companion, String> {
        let looks = self.looks(factors).map_err(|why| format!("{}: {why}", self.name))?;
        let pictures = self.pictures.iter().map(|picture| picture.id.clone()).collect();
        Ok(Companion { creature, looks, pictures })
    }

    fn resolve(
        self,
        factors: &[Factor],
        companions: &BTreeMap<String, Companion>,
    ) -> Result<Creature, String> {
        let looks = self.looks(factors).map_err(|why| format!("{}: {why}", self.name))?;
        let reveals = |names: Vec<String>| {
            let known = names.iter().map(|name| position(factors, FactorKind::Genome, name));
            known.collect::<Result<Vec<_>, _>>()
        };
        let pictures = self.pictures.into_iter().map(|picture| {
            Ok(Picture {
                reveals: reveals(picture.reveals).map_err(|why| format!("{}: {why}", picture.id))?,
                id: picture.id,
            })
        });
        let prompts = self.prompts.into_iter().map(|prompt| {
            let text = prompt.text.clone();
            prompt.resolve(factors, &looks, companions).map_err(|why| format!("{text:?}: {why}"))
        });
        let prompts = prompts.collect::<Result<_, String>>()?;
        Ok(Creature { pictures: pictures.collect::<Result<_, String>>()?, name: self.name, looks, prompts })
    }
}

impl PromptLine {
    fn resolve(
        self,
        factors: &[Factor],
        looks: &[Named],
        companions: &BTreeMap<String, Companion>,
    ) -> Result<Prompt, String> {
        let mut says = named(factors, FactorKind::Scene, &self.says)?;
        let paint =
            self.paint.map(|colour| value(factors, FactorKind::Genome, PAINTED, &colour)).transpose()?;
        says.extend(paint);
        let painted_over = |look: &&Named| paint.is_none_or(|paint| paint.factor != look.factor);
        let looks = looks.iter().filter(painted_over).copied().collect();
        let companion = self
            .companion
            .map(|name| companions.get(&name).cloned().ok_or_else(|| format!("there is no creature {name}")))
            .transpose()?;
        Ok(Prompt { text: self.text, says, looks, paint, companion })
    }
}

fn position(factors: &[Factor], kind: FactorKind, name: &str) -> Result<usize, String> {
    let found = factors.iter().position(|factor| factor.kind == kind && factor.name == name);
    found.ok_or_else(|| format!("{name} is no {kind:?} factor of the judge"))
}

fn value(factors: &[Factor], kind: FactorKind, name: &str, word: &str) -> Result<Named, String> {
    let factor = position(factors, kind, name)?;
    let value = factors[factor].values.iter().position(|value| value == word);
    Ok(Named { factor, value: value.ok_or_else(|| format!("{word} is no {name} that the judge knows"))? })
}

fn named(
    factors: &[Factor],
    kind: FactorKind,
    words: &BTreeMap<String, String>,
) -> Result<Vec<Named>, String> {
    words.iter().map(|(name, word)| value(factors, kind, name, word)).collect()
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

    const TWO: &str = r#"{"schema": 2, "world_version": "t", "knowledge_base": "creatures", "creatures": [
        {"name": "leka", "looks": {"shape": "tall", "main": "blue"},
         "pictures": [{"id": "leka-1", "reveals": ["main"]}, {"id": "leka-2", "reveals": ["shape", "main"]}],
         "prompts": [{"text": "a leka, snow", "says": {"background": "snow"}}, {"text": "a leka", "says": {}},
                     {"text": "a green leka", "says": {}, "paint": "green"},
                     {"text": "a leka and a dibo", "says": {}, "companion": "dibo"}]},
        {"name": "dibo", "looks": {"shape": "round", "main": "blue"}, "pictures": [{"id": "dibo-1", "reveals": []}],
         "prompts": [{"text": "a dibo, sea", "says": {"background": "sea"}}, {"text": "a dibo", "says": {}},
                     {"text": "a red dibo", "says": {}, "paint": "red"},
                     {"text": "a dibo and a leka", "says": {}, "companion": "leka"}]}]}"#;

    /// Two creatures with four prompts each; a truth's red tells its position.
    pub(in super::super) fn two() -> Benchmark {
        let file: File = serde_json::from_str(TWO).unwrap();
        let sheet =
            Rgb::from_fn(4 * SIDE, 2 * SIDE, |x, y| image::Rgb([(4 * (y / SIDE) + x / SIDE) as u8, 0, 0]));
        file.resolve(&factors()).unwrap().with_truths(&sheet).unwrap()
    }

    #[test]
    fn words_become_positions_in_the_judges_list() {
        let benchmark = two();
        let leka = &benchmark.creatures[0];
        assert_eq!(leka.looks, [Named { factor: 1, value: 1 }, Named { factor: 0, value: 1 }]);
        assert_eq!(leka.pictures[1].reveals, [0, 1]);
        assert_eq!(leka.prompts[0].says, [Named { factor: 2, value: 0 }]);
        assert_eq!(benchmark.truth(1, 0).unwrap().get_pixel(5, 5).0[0], 4);
    }

    #[test]
    fn a_painted_creature_is_not_held_against_its_own_colour() {
        let painted = &two().creatures[0].prompts[2];
        let green = Named { factor: 1, value: 2 };
        assert_eq!((painted.kind(), painted.paint), (PromptKind::Painted, Some(green)));
        assert_eq!(painted.says, [green]);
        assert_eq!(painted.looks, [Named { factor: 0, value: 1 }]);
    }

    #[test]
    fn a_pair_knows_its_companion() {
        let benchmark = two();
        let pair = &benchmark.creatures[0].prompts[3];
        assert_eq!(pair.kind(), PromptKind::Pair);
        let companion = pair.companion.as_ref().unwrap();
        assert_eq!((companion.creature, &companion.pictures[..]), (1, &["dibo-1".to_owned()][..]));
        assert_eq!(companion.looks, benchmark.creatures[1].looks);
    }

    #[test]
    fn a_part_has_fewer_creatures_and_scenes_and_the_same_positions() {
        let mut benchmark = two();
        assert_eq!(benchmark.asked(PromptKind::Scene), [0, 1]);
        benchmark.keep(1, 1);
        assert_eq!((benchmark.creatures.len(), benchmark.truths.len()), (1, 4));
        assert_eq!(benchmark.asked(PromptKind::Scene), [0]);
        assert_eq!(
            (benchmark.asked(PromptKind::Painted), benchmark.asked(PromptKind::Pair)),
            (vec![2], vec![3])
        );
        assert_eq!(benchmark.truth(0, 3).unwrap().get_pixel(0, 0).0[0], 3);
    }

    #[test]
    fn what_the_judge_does_not_know_is_refused_and_named() {
        for (from, to, told) in [
            ("\"tall\"", "\"tell\"", "tell is no shape"),
            ("\"shape\": \"round\", ", "", "1 looks"),
            ("[\"main\"]", "[\"background\"]", "leka-1"),
            ("\"sea\"}", "\"see\"}", "see is no background"),
            ("\"schema\": 2", "\"schema\": 7", "schema 7"),
            (", {\"text\": \"a dibo\", \"says\": {}}", "", "prompts, of the kinds"),
            ("\"paint\": \"red\"", "\"paint\": \"rot\"", "rot is no main"),
            ("\"companion\": \"leka\"", "\"companion\": \"lika\"", "no creature lika"),
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
        assert!(benchmark.with_truths(&Rgb::new(SIDE, SIDE)).unwrap_err().contains("256 x 128"));
    }
}
