//! The contact sheet of the report: a row a creature, what was remembered, the true drawing, and what each memory gave.

use std::path::Path;

use image::imageops::{FilterType, overlay, resize};
use reverie_proto::pictures::Rgb;

use super::arms::{Arm, Memory};
use super::benchmark::SIDE;
use super::report::Results;
use crate::Failure;

const SHEET: &str = "sheet.png";
/// File and what it shows.
pub(super) const FILES: [(&str, &str); 1] = [(
    SHEET,
    "The true drawing, then drawn with: nothing, its own pictures, another creature's, BM25, embedding, hybrid",
)];
const ROWS: usize = 12;
const CELL: u32 = 2 * SIDE;
const GAP: u32 = 6;
const PAPER: image::Rgb<u8> = image::Rgb([250, 249, 246]);
const COLUMNS: [Memory; 6] =
    [Memory::None, Memory::Oracle, Memory::Wrong, Memory::Bm25, Memory::Embedding, Memory::Hybrid];

/// Writes the sheet: the first creatures' prompts in turn, the first seed. Arms that were not drawn are left blank.
pub(super) fn write(results: &Results, out: &Path) -> Result<(), Failure> {
    let benchmark = &results.benchmark;
    let columns: Vec<_> = COLUMNS.iter().map(|memory| results.pictures(&Arm::of(*memory))).collect();
    let rows = benchmark.creatures.len().min(ROWS);
    let step = CELL + GAP;
    let mut sheet = Rgb::from_pixel((columns.len() as u32 + 1) * step + GAP, rows as u32 * step + GAP, PAPER);
    for row in 0..rows {
        let prompt = row % benchmark.prompts();
        let drawn = columns.iter().map(|pictures| {
            let this =
                |drawn: &super::draw::Drawn| (drawn.creature, drawn.prompt, drawn.seed) == (row, prompt, 0);
            let found = pictures.as_ref()?.iter().find(|(drawn, _)| this(drawn));
            found.map(|(_, scored)| &scored.picture)
        });
        let cells = [benchmark.truth(row, prompt)].into_iter().chain(drawn);
        for (column, picture) in cells.enumerate() {
            if let Some(picture) = picture {
                let cell = resize(picture, CELL, CELL, FilterType::Nearest);
                overlay(
                    &mut sheet,
                    &cell,
                    i64::from(GAP + column as u32 * step),
                    i64::from(GAP + row as u32 * step),
                );
            }
        }
    }
    sheet.save(out.join(SHEET))?;
    Ok(())
}
