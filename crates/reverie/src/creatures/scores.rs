//! What the verdicts come to: faithfulness to the creature, alignment with the text, distance from true drawings.

use std::collections::HashMap;
use std::path::Path;

use reverie_inference::package::FactorKind;
use reverie_proto::pictures::{self, Rgb};
use reverie_proto::tensor::v1::Image;
use serde::Serialize;

use super::arms::{Arm, Memory};
use super::benchmark::{Benchmark, Creature, Named};
use super::draw::Drawn;
use super::judge::{Judge, Verdict};
use super::statistics::{Estimate, Look, estimate, kernel_distance};
use crate::Failure;

/// A picture and what was said of it.
#[derive(Debug)]
pub(super) struct Scored {
    pub(super) picture: Rgb,
    pub(super) verdict: Verdict,
    /// Share of the creature's looks that the judge named.
    pub(super) faithful: f64,
    /// 1 if all looks were named that the creature's pictures among the neighbours reveal; none if they reveal none.
    pub(super) strict: Option<f64>,
    /// Share of what the prompt says of the scene that the judge named.
    pub(super) text: f64,
}

/// Judges every picture of `drawn`, in order.
pub(super) fn score(
    benchmark: &Benchmark,
    judge: &mut Judge,
    drawn: &[Drawn],
    folder: &Path,
) -> Result<Vec<Scored>, Failure> {
    let judged = drawn.iter().map(|drawn| {
        let path = folder.join(&drawn.file);
        let data = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let picture = pictures::decode(&Image { data: data.into(), ..Image::default() })?;
        let verdict = judge.names(&picture)?;
        let creature = &benchmark.creatures[drawn.creature];
        let own = creature.pictures.iter().filter(|picture| drawn.neighbours.contains(&picture.id));
        let shown: Vec<usize> = own.flat_map(|picture| picture.reveals.iter().copied()).collect();
        let revealed: Vec<Named> =
            creature.looks.iter().filter(|look| shown.contains(&look.factor)).copied().collect();
        Ok(Scored {
            faithful: share(&creature.looks, &verdict),
            strict: (!revealed.is_empty())
                .then(|| if right(&revealed, &verdict) == revealed.len() { 1.0 } else { 0.0 }),
            text: share(&creature.prompts[drawn.prompt].says, &verdict),
            picture,
            verdict,
        })
    });
    judged.collect()
}

/// How many of `expected` the judge named.
fn right(expected: &[Named], verdict: &Verdict) -> usize {
    expected.iter().filter(|named| verdict.named.get(named.factor) == Some(&named.value)).count()
}

/// The share of `expected` that the judge named.
pub(super) fn share(expected: &[Named], verdict: &Verdict) -> f64 {
    right(expected, verdict) as f64 / expected.len() as f64
}

/// What all pictures of an arm come to.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) arm: String,
    pub(super) pictures: usize,
    /// Mean share of looks that were named.
    pub(super) faithful: Estimate,
    /// Mean over prompts of the best seed's.
    pub(super) best: Estimate,
    /// Share of pictures with every revealed look; NaN (null) where nothing was revealed.
    pub(super) strict: Estimate,
    /// The same pictures held against the other creatures of the benchmark: what chance gives.
    pub(super) chance: f64,
    /// Memory "wrong": held against the creature whose pictures were handed over.
    pub(super) stand_in: Option<Estimate>,
    pub(super) text: Estimate,
    /// Of the judge's features from the true drawings of the same prompts.
    pub(super) kernel_distance: f64,
    /// Share named of each genome factor, in the judge's order.
    pub(super) factors: Vec<f64>,
    pub(super) evaluations: f64,
    /// Median.
    pub(super) seconds: f64,
}

/// The pictures of one arm.
pub(super) type Pictures<'a> = Vec<(&'a Drawn, &'a Scored)>;

/// Values of an arm's pictures, a cluster a creature.
pub(super) fn by_creature(
    benchmark: &Benchmark,
    pictures: &Pictures<'_>,
    value: impl Fn(&Drawn, &Scored) -> Option<f64>,
) -> Vec<Vec<f64>> {
    let mut clusters = vec![Vec::new(); benchmark.creatures.len()];
    for (drawn, scored) in pictures {
        clusters[drawn.creature].extend(value(drawn, scored));
    }
    clusters
}

/// Sums up one arm.
pub(super) fn summary<'a>(
    benchmark: &Benchmark,
    arm: &Arm,
    pictures: &Pictures<'a>,
    truths: &'a [Verdict],
) -> Summary {
    let clustered =
        |value: &dyn Fn(&Drawn, &Scored) -> Option<f64>| estimate(&by_creature(benchmark, pictures, value));
    let against =
        |creature: usize, scored: &Scored| share(&benchmark.creatures[creature].looks, &scored.verdict);

    let mut best: HashMap<(usize, usize), f64> = HashMap::new();
    for (drawn, scored) in pictures {
        let of_prompt = best.entry((drawn.creature, drawn.prompt)).or_insert(0.0);
        *of_prompt = of_prompt.max(scored.faithful);
    }
    let mut bests = vec![Vec::new(); benchmark.creatures.len()];
    for ((creature, _), faithful) in best {
        bests[creature].push(faithful);
    }

    let others = pictures.iter().flat_map(|(drawn, scored)| {
        // Not the stand-in either: its looks were handed over.
        let given = stand_in(benchmark, arm, drawn);
        let others = (0..benchmark.creatures.len())
            .filter(move |&other| other != drawn.creature && Some(other) != given);
        others.map(|other| against(other, scored))
    });
    let factors =
        benchmark.factors.iter().enumerate().filter(|(_, factor)| factor.kind == FactorKind::Genome);
    let shown = |drawn: &Drawn| stand_in(benchmark, arm, drawn).unwrap_or(drawn.creature);
    let look = |creature, verdict: &'a Verdict| Look { creature, features: &verdict.features };
    let looks: Vec<Look<'_>> =
        pictures.iter().map(|(drawn, scored)| look(shown(drawn), &scored.verdict)).collect();
    let truths: Vec<Look<'_>> =
        truths.iter().enumerate().map(|(at, truth)| look(at / benchmark.prompts(), truth)).collect();
    let mut seconds: Vec<f64> = pictures.iter().map(|(drawn, _)| drawn.seconds).collect();
    seconds.sort_by(f64::total_cmp);

    Summary {
        arm: arm.to_string(),
        pictures: pictures.len(),
        faithful: clustered(&|_, scored| Some(scored.faithful)),
        best: estimate(&bests),
        strict: clustered(&|_, scored| scored.strict),
        chance: mean(others),
        stand_in: (arm.memory == Memory::Wrong)
            .then(|| clustered(&|drawn, scored| Some(against(stand_in(benchmark, arm, drawn)?, scored)))),
        text: clustered(&|_, scored| Some(scored.text)),
        kernel_distance: kernel_distance(&looks, &truths),
        factors: factors
            .map(|(factor, _)| {
                mean(pictures.iter().map(|(drawn, scored)| {
                    let looks = &benchmark.creatures[drawn.creature].looks;
                    let look = looks.iter().find(|look| look.factor == factor);
                    look.map_or(f64::NAN, |look| share(&[*look], &scored.verdict))
                }))
            })
            .collect(),
        evaluations: mean(pictures.iter().map(|(drawn, _)| drawn.evaluations as f64)),
        seconds: seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN),
    }
}

/// Memory "wrong": the creature whose pictures were handed over.
fn stand_in(benchmark: &Benchmark, arm: &Arm, drawn: &Drawn) -> Option<usize> {
    let given =
        |creature: &Creature| creature.pictures.iter().any(|picture| drawn.neighbours.contains(&picture.id));
    benchmark.creatures.iter().position(given).filter(|_| arm.memory == Memory::Wrong)
}

pub(super) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    sum / f64::from(count)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::creatures::benchmark::tests::two;

    pub(in super::super) fn picture(
        creature: usize,
        prompt: usize,
        seed: u64,
        named: [usize; 3],
    ) -> (Drawn, Scored) {
        let benchmark = two();
        let verdict = Verdict { named: named.to_vec(), features: vec![named[0] as f32, named[1] as f32] };
        let drawn = Drawn {
            arm: "oracle".to_owned(),
            creature,
            prompt,
            seed,
            file: "p.png".into(),
            neighbours: Vec::new(),
            evaluations: 8,
            seconds: 0.5,
            models: [("base".to_owned(), "d".to_owned())].into(),
        };
        let scored = Scored {
            picture: Rgb::new(64, 64),
            faithful: share(&benchmark.creatures[creature].looks, &verdict),
            strict: None,
            text: share(&benchmark.creatures[creature].prompts[prompt].says, &verdict),
            verdict,
        };
        (drawn, scored)
    }

    fn of(pictures: &[(Drawn, Scored)], arm: &str) -> Summary {
        let borrowed = pictures.iter().map(|(drawn, scored)| (drawn, scored)).collect();
        let truth = Verdict { named: vec![0, 0, 0], features: vec![0.0, 0.0] };
        summary(&two(), &arm.parse().unwrap(), &borrowed, &[truth.clone(), truth])
    }

    /// leka is tall and blue, dibo round and blue.
    #[test]
    fn a_summary_counts_what_was_named() {
        let pictures = [
            picture(0, 0, 0, [1, 1, 0]), // tall, blue, snow: all right
            picture(0, 0, 1, [0, 1, 1]), // round: half; sea: wrong
            picture(1, 0, 0, [1, 0, 1]), // tall, red: nothing; sea: right
            picture(1, 0, 1, [0, 0, 1]), // round: half
        ];
        let summary = of(&pictures, "oracle");
        assert_eq!(summary.faithful.mean, (1.0 + 0.5 + 0.0 + 0.5) / 4.0);
        assert_eq!(summary.best.mean, f64::midpoint(1.0, 0.5));
        assert_eq!(summary.text.mean, 0.75);
        assert_eq!(summary.factors, [0.5, 0.5]);
        // Against the other creature: dibo 1/2, 1; leka 1/2, 0.
        assert_eq!(summary.chance, 0.5);
        assert!(summary.stand_in.is_none());
        assert_eq!((summary.pictures, summary.evaluations, summary.seconds), (4, 8.0, 0.5));
    }

    #[test]
    fn a_wrong_memory_is_held_against_the_creature_that_was_shown() {
        let mut pictures = [picture(0, 0, 0, [0, 1, 0]), picture(1, 0, 0, [1, 1, 0])];
        pictures[0].0.neighbours.push("dibo-1".to_owned());
        pictures[1].0.neighbours.push("leka-2".to_owned());
        let summary = of(&pictures, "wrong");
        assert_eq!(summary.stand_in.unwrap().mean, 1.0);
        assert_eq!(summary.faithful.mean, 0.5);
    }
}
