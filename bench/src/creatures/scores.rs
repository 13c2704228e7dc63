//! What the verdicts come to: faithfulness to the creature, alignment with the text, distance from true drawings.

use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use std::collections::HashMap;
use std::path::Path;

use reverie::Failure;
use reverie_imaging::pictures::{self, Rgb};
use reverie_proto::tensor::v1::Image;
use serde::Serialize;

use super::arms::{Arm, Memory};
use super::benchmark::{Benchmark, Creature, Named, PromptKind};
use super::draw::Drawn;
use super::judge::{Judge, Verdict};
use super::statistics::{Estimate, Look, estimate, kernel_distance};

/// A picture and what was said of it.
#[derive(Debug)]
pub(super) struct Scored {
    pub(super) picture: Rgb,
    pub(super) verdict: Verdict,
    /// Share of the creature's looks that the judge named.
    pub(super) faithful: f64,
    /// 1 if all looks were named that the creature's pictures among the neighbours reveal; none if they reveal none.
    pub(super) strict: Option<f64>,
    /// Share of what the prompt says that the judge named.
    pub(super) text: f64,
    /// Of a picture of two creatures: the share of looks with each taken for the other.
    pub(super) swapped: Option<f64>,
}

/// Pictures that are judged at a time.
const AT_A_TIME: usize = 8;

/// Judges every picture of `drawn`, in order.
pub(super) async fn score(
    benchmark: &Benchmark,
    judge: &Judge,
    drawn: &[Drawn],
    folder: &Path,
) -> Result<Vec<Scored>, Failure> {
    let judged = stream::iter(drawn).map(async |drawn| {
        let path = folder.join(&drawn.file);
        let data = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let picture = pictures::decode(&Image { data: data.into(), ..Image::default() })?;
        let creature = &benchmark.creatures[drawn.creature];
        let prompt = &creature.prompts[drawn.prompt];
        if let Some(companion) = &prompt.companion {
            let left = judge.names(&half_kept(&picture, true)).await?;
            let right = judge.names(&half_kept(&picture, false)).await?;
            let both = |one, other| f64::midpoint(share(one, &left), share(other, &right));
            return Ok(Scored {
                faithful: both(&creature.looks, &companion.looks),
                swapped: Some(both(&companion.looks, &creature.looks)),
                strict: None,
                text: share(&prompt.says, &left),
                picture,
                verdict: left,
            });
        }
        let verdict = judge.names(&picture).await?;
        let own = creature.pictures.iter().filter(|picture| drawn.neighbours.contains(&picture.id));
        let shown: Vec<usize> = own.flat_map(|picture| picture.reveals.iter().copied()).collect();
        let revealed: Vec<Named> =
            prompt.looks.iter().filter(|look| shown.contains(&look.factor)).copied().collect();
        Ok(Scored {
            faithful: share(&prompt.looks, &verdict),
            strict: (!revealed.is_empty())
                .then(|| if right(&revealed, &verdict) == revealed.len() { 1.0 } else { 0.0 }),
            text: share(&prompt.says, &verdict),
            swapped: None,
            picture,
            verdict,
        })
    });
    judged.buffered(AT_A_TIME).try_collect().await
}

/// One half of a picture; the other repeats the column next to it, as in the judge's training.
fn half_kept(picture: &Rgb, left: bool) -> Rgb {
    let half = picture.width() / 2;
    Rgb::from_fn(picture.width(), picture.height(), |x, y| {
        *picture.get_pixel(if left { x.min(half - 1) } else { x.max(half) }, y)
    })
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
    /// Prompts that paint the creature: how often it has that colour, and how often its own.
    pub(super) painted: Option<[f64; 2]>,
    /// Prompts that name two creatures: with each taken for the other.
    pub(super) swapped: Option<Estimate>,
    /// Of the judge's features from the true drawings of the same prompts; NaN (null) for two creatures.
    pub(super) kernel_distance: f64,
    /// Share named of each factor in the judge's order: of looks, and of what the prompts say; NaN (null) if they never do.
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
        // Not the stand-in or the companion either: their looks were handed over.
        let given = stand_in(benchmark, arm, drawn).or_else(|| {
            let prompt = &benchmark.creatures[drawn.creature].prompts[drawn.prompt];
            prompt.companion.as_ref().map(|companion| companion.creature)
        });
        let others = (0..benchmark.creatures.len())
            .filter(move |&other| other != drawn.creature && Some(other) != given);
        others.map(|other| against(other, scored))
    });
    let shown = |drawn: &Drawn| stand_in(benchmark, arm, drawn).unwrap_or(drawn.creature);
    let look = |creature, verdict: &'a Verdict| Look { creature, features: &verdict.features };
    let looks: Vec<Look<'_>> =
        pictures.iter().map(|(drawn, scored)| look(shown(drawn), &scored.verdict)).collect();
    let asked = benchmark.asked(arm.prompts);
    let truths = truths.iter().enumerate().filter(|(at, _)| asked.contains(&(at % benchmark.prompts())));
    let truths: Vec<Look<'_>> = truths.map(|(at, truth)| look(at / benchmark.prompts(), truth)).collect();
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
        painted: (arm.prompts == PromptKind::Painted).then(|| painted(benchmark, pictures)),
        swapped: (arm.prompts == PromptKind::Pair).then(|| clustered(&|_, scored| scored.swapped)),
        kernel_distance: if arm.prompts == PromptKind::Pair {
            f64::NAN
        } else {
            kernel_distance(&looks, &truths)
        },
        factors: (0..benchmark.factors.len()).map(|factor| named(benchmark, pictures, factor)).collect(),
        evaluations: mean(pictures.iter().map(|(drawn, _)| drawn.evaluations as f64)),
        seconds: seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN),
    }
}

/// How often a factor is named as the creature looks or the prompt says.
fn named(benchmark: &Benchmark, pictures: &Pictures<'_>, factor: usize) -> f64 {
    mean(pictures.iter().filter_map(|(drawn, scored)| {
        let creature = &benchmark.creatures[drawn.creature];
        let mut asked = creature.looks.iter().chain(&creature.prompts[drawn.prompt].says);
        let asked = asked.find(|asked| asked.factor == factor)?;
        Some(share(&[*asked], &scored.verdict))
    }))
}

/// How often a painted creature has the prompt's colour, and how often its own.
fn painted(benchmark: &Benchmark, pictures: &Pictures<'_>) -> [f64; 2] {
    let shares = |own: bool| {
        mean(pictures.iter().filter_map(|(drawn, scored)| {
            let creature = &benchmark.creatures[drawn.creature];
            let paint = creature.prompts[drawn.prompt].paint?;
            let colour = creature.looks.iter().copied().find(|look| own && look.factor == paint.factor);
            Some(share(&[colour.unwrap_or(paint)], &scored.verdict))
        }))
    };
    [shares(false), shares(true)]
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
            faithful: share(&benchmark.creatures[creature].prompts[prompt].looks, &verdict),
            strict: None,
            text: share(&benchmark.creatures[creature].prompts[prompt].says, &verdict),
            swapped: None,
            verdict,
        };
        (drawn, scored)
    }

    fn of(pictures: &[(Drawn, Scored)], arm: &str) -> Summary {
        let borrowed = pictures.iter().map(|(drawn, scored)| (drawn, scored)).collect();
        let truth = Verdict { named: vec![0, 0, 0], features: vec![0.0, 0.0] };
        summary(&two(), &arm.parse().unwrap(), &borrowed, &vec![truth; 8])
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
        assert_eq!(summary.factors, [0.5, 0.5, 0.75]);
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

    /// leka, who is tall and blue, is to be green; dibo, round and blue, is to be red.
    #[test]
    fn a_painted_creature_has_the_colour_of_the_prompt_or_its_own() {
        let pictures = [picture(0, 2, 0, [1, 2, 0]), picture(1, 2, 0, [0, 1, 0])];
        let summary = of(&pictures, "oracle,prompts=painted");
        assert_eq!(summary.painted, Some([0.5, 0.5]));
        assert_eq!((summary.faithful.mean, summary.text.mean), (1.0, 0.5));
    }

    #[test]
    fn a_half_hides_the_other() {
        let picture = Rgb::from_fn(4, 1, |x, _| image::Rgb([x as u8, 0, 0]));
        let reds = |picture: Rgb| picture.pixels().map(|pixel| pixel.0[0]).collect::<Vec<_>>();
        assert_eq!(reds(half_kept(&picture, true)), [0, 1, 1, 1]);
        assert_eq!(reds(half_kept(&picture, false)), [2, 2, 2, 3]);
    }
}
