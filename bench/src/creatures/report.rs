//! The report: `report.md` for people, `report.json` for scripts.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use reverie::Failure;
use reverie_packages::package::FactorKind;
use serde::Serialize;

use super::arms::{Arm, MOST_NEIGHBOURS, Memory, RATIOS};
use super::benchmark::{Benchmark, PromptKind};
use super::draw::Drawn;
use super::judge::{Judge, Verdict};
use super::scores::{Pictures, Scored, Summary, by_creature, mean, share, summary};
use super::statistics::{Estimate, estimate, sign_flip_p, spearman};

pub(super) const MARKDOWN: &str = "report.md";
const JSON: &str = "report.json";
/// In the judge's accuracy on true drawings.
const JUDGE_MARK: f64 = 0.98;
const SIGNIFICANT: f64 = 0.05;

/// Everything that came of a run.
#[derive(Debug)]
pub(super) struct Results {
    pub(super) benchmark: Benchmark,
    pub(super) arms: Vec<Arm>,
    pub(super) summaries: Vec<Summary>,
    pub(super) drawn: Vec<Drawn>,
    pub(super) scored: Vec<Scored>,
    judge_digest: String,
    /// Share of each factor that the judge names rightly on the true drawings.
    judge_accuracy: Vec<f64>,
}

impl Results {
    pub(super) fn new(
        benchmark: Benchmark,
        judge: &Judge,
        truths: &[Verdict],
        arms: Vec<Arm>,
        drawn: Vec<Drawn>,
        scored: Vec<Scored>,
    ) -> Self {
        let judge_accuracy = accuracy(&benchmark, truths);
        let summaries = arms
            .iter()
            .map(|arm| summary(&benchmark, arm, &pictures_of(arm, &drawn, &scored), truths))
            .collect();
        Self {
            benchmark,
            arms,
            summaries,
            drawn,
            scored,
            judge_digest: judge.digest().to_owned(),
            judge_accuracy,
        }
    }

    /// The pictures of an arm, if it was drawn.
    pub(super) fn pictures(&self, arm: &Arm) -> Option<Pictures<'_>> {
        self.arms.contains(arm).then(|| pictures_of(arm, &self.drawn, &self.scored))
    }

    /// The summary of an arm, if it was drawn.
    pub(super) fn summary(&self, arm: &Arm) -> Option<&Summary> {
        let position = self.arms.iter().position(|other| other == arm)?;
        self.summaries.get(position)
    }

    /// Mean difference of a value between two arms, picture by picture with the same noise.
    fn difference(&self, more: &Arm, less: &Arm, value: fn(&Scored) -> f64) -> Option<Estimate> {
        let (more, less) = (self.pictures(more)?, self.pictures(less)?);
        let key = |drawn: &Drawn| (drawn.creature, drawn.prompt, drawn.seed);
        let less: BTreeMap<_, f64> = less.iter().map(|(drawn, scored)| (key(drawn), value(scored))).collect();
        Some(estimate(&by_creature(&self.benchmark, &more, |drawn, scored| {
            Some(value(scored) - less.get(&key(drawn))?)
        })))
    }

    /// Spearman's correlation of the interleave ratio with a value: the mean over creatures of each one's own, and how
    /// likely so large a mean is by chance.
    fn ratio_correlation(&self, value: fn(&Scored) -> f64) -> Option<Correlation> {
        let mut pairs: Vec<Vec<(f64, f64)>> = vec![Vec::new(); self.benchmark.creatures.len()];
        for ratio in RATIOS {
            for (drawn, scored) in self.pictures(&Arm::at_ratio(ratio))? {
                pairs[drawn.creature].push((f64::from(ratio), value(scored)));
            }
        }
        let each: Vec<f64> = pairs.iter().map(|pairs| spearman(pairs)).collect();
        Some(Correlation { mean: mean(each.iter().copied()), p: sign_flip_p(&each) })
    }

    fn marks(&self) -> Vec<Mark> {
        let faithful = |scored: &Scored| scored.faithful;
        let (none, oracle, wrong) = (Arm::of(Memory::None), Arm::of(Memory::Oracle), Arm::of(Memory::Wrong));
        let points = |estimate: &Estimate| {
            let [mean, low, high] = estimate.percent();
            format!("{mean:+.1} points ({low:+.1} to {high:+.1})")
        };
        let accuracy = mean(self.judge_accuracy.iter().copied());
        let mut marks = vec![Mark {
            name: format!("the judge names at least {} of the factors of true drawings", percent(JUDGE_MARK)),
            reached: percent(accuracy),
            passed: accuracy >= JUDGE_MARK,
        }];
        let mut add = |name: &str, reached: Option<(String, bool)>| {
            if let Some((reached, passed)) = reached {
                marks.push(Mark { name: name.to_owned(), reached, passed });
            }
        };
        add(
            "faithfulness with retrieval at least 30 points above none",
            self.difference(&oracle, &none, faithful).map(|gain| (points(&gain), gain.mean >= 0.3)),
        );
        add(
            "faithfulness without retrieval about chance (within 5 points)",
            self.summary(&none).map(|none| {
                let text = format!("{}, chance {}", percent(none.faithful.mean), percent(none.chance));
                (text, (none.faithful.mean - none.chance).abs() <= 0.05)
            }),
        );
        add(
            "another creature's pictures give that other creature",
            self.summary(&wrong).and_then(|wrong| {
                let shown = wrong.stand_in.as_ref()?.mean;
                let text = format!(
                    "{} of the looks shown, {} of those named",
                    percent(shown),
                    percent(wrong.faithful.mean)
                );
                Some((text, shown - wrong.faithful.mean >= 0.3))
            }),
        );
        let correlation = |found: Option<Correlation>, sign: f64| {
            found.map(|found| {
                (
                    format!("{:+.2}, p = {:.4}", found.mean, found.p),
                    found.mean * sign > 0.0 && found.p < SIGNIFICANT,
                )
            })
        };
        add(
            "interleave ratio against faithfulness: Spearman negative, p < 0.05",
            correlation(self.ratio_correlation(faithful), -1.0),
        );
        add(
            "interleave ratio against text: Spearman positive, p < 0.05",
            correlation(self.ratio_correlation(|scored| scored.text), 1.0),
        );
        add(
            "faithfulness with 4 neighbours at least 5 points above 1",
            self.difference(&Arm::with_neighbours(MOST_NEIGHBOURS), &Arm::with_neighbours(1), faithful)
                .map(|gain| (points(&gain), gain.mean >= 0.05)),
        );
        marks
    }

    /// The summaries of arms whose prompts are of a kind.
    fn of(&self, kind: PromptKind) -> impl Iterator<Item = &Summary> {
        self.arms
            .iter()
            .zip(&self.summaries)
            .filter(move |(arm, _)| arm.prompts == kind)
            .map(|(_, summary)| summary)
    }

    fn models(&self) -> BTreeMap<String, String> {
        self.drawn.first().map(|drawn| drawn.models.clone()).unwrap_or_default()
    }

    /// Positions of the factors of a kind.
    fn factors(&self, kind: FactorKind) -> impl Iterator<Item = usize> {
        let factors = self.benchmark.factors.iter().enumerate();
        factors.filter(move |(_, factor)| factor.kind == kind).map(|(position, _)| position)
    }
}

fn pictures_of<'a>(arm: &Arm, drawn: &'a [Drawn], scored: &'a [Scored]) -> Pictures<'a> {
    let name = arm.to_string();
    drawn.iter().zip(scored).filter(|(drawn, _)| drawn.arm == name).collect()
}

/// Share of each factor that is named rightly on the true drawings, where it is known.
fn accuracy(benchmark: &Benchmark, truths: &[Verdict]) -> Vec<f64> {
    let known: Vec<_> = benchmark
        .creatures
        .iter()
        .flat_map(|creature| creature.prompts.iter())
        .zip(truths)
        // A picture of two creatures is judged by halves.
        .filter(|(prompt, _)| prompt.kind() != PromptKind::Pair)
        .map(|(prompt, truth)| ([&prompt.looks[..], &prompt.says].concat(), truth))
        .collect();
    let of = |factor| {
        let named = known.iter().flat_map(|(known, truth)| {
            known.iter().filter(move |named| named.factor == factor).map(|named| share(&[*named], truth))
        });
        mean(named)
    };
    (0..benchmark.factors.len()).map(of).collect()
}

#[derive(Debug)]
struct Correlation {
    mean: f64,
    p: f64,
}

/// Something the models should reach.
#[derive(Debug, Serialize)]
struct Mark {
    name: String,
    reached: String,
    passed: bool,
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn interval(estimate: &Estimate) -> String {
    if estimate.mean.is_nan() {
        return "–".to_owned();
    }
    let [mean, low, high] = estimate.percent();
    format!("{mean:.1} ({low:.1}–{high:.1})")
}

/// A plot or a contact sheet.
#[derive(Debug, Clone)]
pub(super) struct Figure {
    /// Beside the report.
    pub(super) file: &'static str,
    /// What it shows.
    pub(super) told: String,
}

/// Writes both; `figures` are there already.
pub(super) fn write(results: &Results, figures: &[Figure], out: &Path) -> Result<(), Failure> {
    let marks = results.marks();
    let json = serde_json::json!({
        "world_version": results.benchmark.world_version,
        "creatures": results.benchmark.creatures.len(),
        "prompts": results.benchmark.asked(PromptKind::Scene).len(),
        "models": results.models(),
        "judge": results.judge_digest,
        "judge_accuracy": results.benchmark.factors.iter().map(|factor| factor.name.as_str())
            .zip(&results.judge_accuracy).collect::<BTreeMap<_, _>>(),
        "factors": results.benchmark.factors.iter().map(|factor| factor.name.as_str()).collect::<Vec<_>>(),
        "marks": marks,
        "arms": results.summaries,
    });
    std::fs::write(out.join(JSON), serde_json::to_vec_pretty(&json)?)?;
    std::fs::write(out.join(MARKDOWN), markdown(results, &marks, figures)?)?;
    Ok(())
}

fn markdown(results: &Results, marks: &[Mark], figures: &[Figure]) -> Result<String, Failure> {
    let mut text = String::new();
    let benchmark = &results.benchmark;
    let seeds = results.drawn.iter().map(|drawn| drawn.seed + 1).max().unwrap_or(0);
    writeln!(text, "# CreatureDrawBench\n")?;
    writeln!(
        text,
        "{} creatures that no model was trained on, {} prompts of a scene each, {seeds} seeds a prompt, {} arms: {} pictures of 64 px,\n\
         drawn through the public API. World {}.\n",
        benchmark.creatures.len(),
        benchmark.asked(PromptKind::Scene).len(),
        results.arms.len(),
        results.drawn.len(),
        benchmark.world_version,
    )?;
    writeln!(text, "| Mark | Reached | |\n| --- | --- | --- |")?;
    for mark in marks {
        writeln!(
            text,
            "| {} | {} | {} |",
            mark.name,
            mark.reached,
            if mark.passed { "passed" } else { "not reached" }
        )?;
    }
    arms_table(&mut text, results)?;
    factors_table(&mut text, results, FactorKind::Genome, "Looks")?;
    factors_table(&mut text, results, FactorKind::Scene, "Scene")?;
    painted_table(&mut text, results)?;
    pairs_table(&mut text, results)?;
    for Figure { file, told } in figures {
        writeln!(text, "\n{told}\n\n![{told}]({file})")?;
    }
    writeln!(text, "\n## Models\n\n| Stage | SHA-256 of the graph |\n| --- | --- |")?;
    for (stage, digest) in results.models() {
        writeln!(text, "| {stage} | `{digest}` |")?;
    }
    writeln!(text, "| judge | `{}` |", results.judge_digest)?;
    Ok(text)
}

fn arms_table(text: &mut String, results: &Results) -> Result<(), Failure> {
    writeln!(
        text,
        "\n## Arms\n\n\
         Per cent, with the 95 % interval of a bootstrap over creatures. *Faithful*: the judge names the creature's looks, \
         share of\nfactors. *Best*: of the seeds of a prompt. *Strict*: pictures with every look that the creature's remembered \
         pictures reveal.\n*Chance*: the same pictures held against the other creatures. *Text*: the judge names what the prompt \
         says of the scene. *KID*:\nkernel distance of the judge's features from true drawings, times 100; 0 is none. \
         *Evaluations* of the base model a picture.\n"
    )?;
    writeln!(text, "| Arm | Faithful | Best | Strict | Chance | Text | KID | Evaluations | Seconds |")?;
    writeln!(text, "| --- | --- | --- | --- | --- | --- | --- | --- | --- |")?;
    for s in results.of(PromptKind::Scene) {
        writeln!(
            text,
            "| {} | {} | {:.1} | {} | {:.1} | {} | {:.2} | {:.0} | {:.2} |",
            s.arm,
            interval(&s.faithful),
            100.0 * s.best.mean,
            interval(&s.strict),
            100.0 * s.chance,
            interval(&s.text),
            100.0 * s.kernel_distance,
            s.evaluations,
            s.seconds,
        )?;
    }
    Ok(())
}

fn factors_table(text: &mut String, results: &Results, kind: FactorKind, title: &str) -> Result<(), Failure> {
    let positions: Vec<usize> = results.factors(kind).collect();
    let columns = |of: &dyn Fn(usize) -> String| {
        positions.iter().map(|position| of(*position)).collect::<Vec<_>>().join(" | ")
    };
    writeln!(
        text,
        "\n## {title}, one by one\n\nPer cent that the judge names, of true drawings and of each arm's.\n"
    )?;
    writeln!(text, "| Arm | {} |", columns(&|at| results.benchmark.factors[at].name.clone()))?;
    writeln!(text, "| --- |{}", " --- |".repeat(positions.len()))?;
    let told = |shares: &[f64], at: usize| {
        let share = shares.get(at).filter(|share| !share.is_nan());
        share.map_or_else(|| "–".to_owned(), |share| format!("{:.0}", 100.0 * share))
    };
    writeln!(text, "| true drawings | {} |", columns(&|at| told(&results.judge_accuracy, at)))?;
    for s in results.of(PromptKind::Scene) {
        writeln!(text, "| {} | {} |", s.arm, columns(&|at| told(&s.factors, at)))?;
    }
    Ok(())
}

fn painted_table(text: &mut String, results: &Results) -> Result<(), Failure> {
    let mut rows = results.of(PromptKind::Painted).peekable();
    if rows.peek().is_some() {
        writeln!(
            text,
            "\n## In another colour\n\n\
             Prompts such as `a large blue dribago, snow` of a creature that is not blue. Per cent of the pictures in which its \
             main colour\nis the prompt's, or its own; *Faithful* are its other looks.\n\n\
             | Arm | Prompt's colour | Own colour | Faithful |\n| --- | --- | --- | --- |"
        )?;
    }
    for s in rows {
        let [asked, own] = s.painted.unwrap_or([f64::NAN; 2]);
        let faithful = interval(&s.faithful);
        writeln!(text, "| {} | {:.1} | {:.1} | {faithful} |", s.arm, 100.0 * asked, 100.0 * own)?;
    }
    Ok(())
}

fn pairs_table(text: &mut String, results: &Results) -> Result<(), Failure> {
    let mut rows = results.of(PromptKind::Pair).peekable();
    if rows.peek().is_some() {
        writeln!(
            text,
            "\n## Two creatures\n\n\
             Prompts such as `a dribago and a vornak, snow`; the judge sees one half at a time. *Faithful*: the first on the left, \
             the\nsecond on the right; *swapped*: the other way round.\n\n\
             | Arm | Faithful | Swapped | Chance | Text |\n| --- | --- | --- | --- | --- |"
        )?;
    }
    for s in rows {
        let swapped = s.swapped.as_ref().map_or_else(String::new, interval);
        let (faithful, text_told) = (interval(&s.faithful), interval(&s.text));
        writeln!(text, "| {} | {faithful} | {swapped} | {:.1} | {text_told} |", s.arm, 100.0 * s.chance)?;
    }
    Ok(())
}
