//! The contact sheet of the report: a row a creature, the true drawing and what each memory gave.

use std::path::Path;

use reverie_proto::tensor::v1::ImageFormat;

use super::arms::{Arm, Memory};
use super::benchmark::{PromptKind, SIDE};
use super::draw::Drawn;
use super::report::Results;
use crate::{Failure, sheet};

const SHEET: &str = "sheet.png";
/// File and what it shows.
pub(super) const FILES: [(&str, &str); 1] = [(
    SHEET,
    "The true drawing, then drawn with: nothing, its own pictures, another creature's, BM25, embedding, hybrid",
)];
const ROWS: usize = 12;
const CELL: u32 = 2 * SIDE;
const COLUMNS: [Memory; 6] =
    [Memory::None, Memory::Oracle, Memory::Wrong, Memory::Bm25, Memory::Embedding, Memory::Hybrid];

/// Writes the sheet: the first creatures' prompts in turn, the first seed. Arms that were not drawn are left blank.
pub(super) fn write(results: &Results, out: &Path) -> Result<(), Failure> {
    let benchmark = &results.benchmark;
    let columns: Vec<_> = COLUMNS.iter().map(|memory| results.pictures(&Arm::of(*memory))).collect();
    let rows = (0..benchmark.creatures.len().min(ROWS)).map(|row| {
        let asked = benchmark.asked(PromptKind::Scene);
        let prompt = asked[row % asked.len()];
        let this = |drawn: &Drawn| (drawn.creature, drawn.prompt, drawn.seed) == (row, prompt, 0);
        let drawn = columns.iter().map(|pictures| {
            let found = pictures.as_ref()?.iter().find(|(drawn, _)| this(drawn));
            found.map(|(_, scored)| &scored.picture)
        });
        sheet::lay_out(&[vec![benchmark.truth(row, prompt)], drawn.collect()], CELL)
    });
    let sheet = sheet::stack(&rows.collect::<Vec<_>>(), ImageFormat::Png)?;
    std::fs::write(out.join(SHEET), sheet.data)?;
    Ok(())
}
