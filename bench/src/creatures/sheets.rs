//! The contact sheets of the report: a row a creature, the true drawing and what each arm gave.

use std::path::Path;

use reverie::{Failure, sheet};
use reverie_proto::tensor::v1::ImageFormat;

use super::arms::{Arm, Memory, RATIOS};
use super::benchmark::{PromptKind, SIDE};
use super::draw::Drawn;
use super::report::{Figure, Results};

const ROWS: usize = 12;
const CELL: u32 = 2 * SIDE;

/// One sheet.
struct Sheet {
    file: &'static str,
    told: &'static str,
    prompts: PromptKind,
    /// What each column shows.
    columns: Vec<(String, Arm)>,
}

fn sheets() -> [Sheet; 3] {
    let by_memory = |memories: &[(&str, Memory)], prompts| {
        let of = |&(name, memory): &(&str, Memory)| (name.to_owned(), Arm { prompts, ..Arm::of(memory) });
        memories.iter().map(of).collect()
    };
    let memories = [
        ("nothing", Memory::None),
        ("its own pictures", Memory::Oracle),
        ("another creature's", Memory::Wrong),
        ("BM25", Memory::Bm25),
        ("embedding", Memory::Embedding),
        ("hybrid", Memory::Hybrid),
    ];
    let both =
        [("nothing", Memory::None), ("the pictures of both", Memory::Oracle), ("hybrid", Memory::Hybrid)];
    let painted = |ratio| Arm { prompts: PromptKind::Painted, ..Arm::at_ratio(ratio) };
    [
        Sheet {
            file: "sheet.png",
            told: "The true drawing, then drawn with",
            prompts: PromptKind::Scene,
            columns: by_memory(&memories, PromptKind::Scene),
        },
        Sheet {
            file: "painted.png",
            told: "In another colour: the true drawing, then drawn with its own pictures at interleave ratio",
            prompts: PromptKind::Painted,
            columns: RATIOS.map(|ratio| (ratio.to_string(), painted(ratio))).to_vec(),
        },
        Sheet {
            file: "pairs.png",
            told: "Two creatures: the true drawing, then drawn with",
            prompts: PromptKind::Pair,
            columns: by_memory(&both, PromptKind::Pair),
        },
    ]
}

/// Writes the sheets whose arms were drawn: the first creatures' prompts in turn, the first seed.
pub(super) fn write(results: &Results, out: &Path) -> Result<Vec<Figure>, Failure> {
    let mut figures = Vec::new();
    for sheet in sheets() {
        let drawn = sheet.columns.iter().filter_map(|(name, arm)| Some((name, results.pictures(arm)?)));
        let (names, columns): (Vec<&String>, Vec<_>) = drawn.unzip();
        if columns.is_empty() {
            continue;
        }
        let benchmark = &results.benchmark;
        let asked = benchmark.asked(sheet.prompts);
        let rows = (0..benchmark.creatures.len().min(ROWS)).map(|row| {
            let prompt = asked[row % asked.len()];
            let this = |drawn: &Drawn| (drawn.creature, drawn.prompt, drawn.seed) == (row, prompt, 0);
            let drawn = columns.iter().map(|pictures| {
                let found = pictures.iter().find(|(drawn, _)| this(drawn));
                found.map(|(_, scored)| &scored.picture)
            });
            sheet::lay_out(&[vec![benchmark.truth(row, prompt)], drawn.collect()], CELL)
        });
        let picture = sheet::stack(&rows.collect::<Vec<_>>(), ImageFormat::Png)?;
        std::fs::write(out.join(sheet.file), picture.data)?;
        let names: Vec<&str> = names.iter().map(|name| name.as_str()).collect();
        figures.push(Figure { file: sheet.file, told: format!("{}: {}", sheet.told, names.join(", ")) });
    }
    Ok(figures)
}
