//! Contact sheets: a row is the neighbours, then every level of the cascade, then, where there is one, the same picture drawn
//! without them.

use image::imageops::{FilterType, overlay, resize};
use reverie_proto::pictures::{self, Rgb};
use reverie_proto::tensor::v1::{Image, ImageFormat};

use crate::Failure;
use crate::generate::Outcome;

/// Side of a cell, pixels.
const CELL: u32 = 320;
/// Space around cells, pixels.
const GAP: u32 = 12;
/// Space between parts of a row, pixels.
const DIVIDER: u32 = 36;
const PAPER: image::Rgb<u8> = image::Rgb([250, 249, 246]);

/// Lays out what came of a request that asked for previews, and of the same request without neighbours.
pub(crate) fn row(outcome: &Outcome, without: Option<&Outcome>) -> Result<Rgb, Failure> {
    let neighbours = outcome.neighbours.neighbours.iter().filter_map(|neighbour| neighbour.image.as_ref());
    let levels = outcome.previews.iter().filter_map(|preview| preview.image.as_ref()).chain([&outcome.image]);
    let parts: [Vec<&Image>; 3] =
        [neighbours.collect(), levels.collect(), without.map(|without| &without.image).into_iter().collect()];
    let parts = parts.iter().filter(|part| !part.is_empty());
    let cells: u32 = parts.clone().map(|part| part.len() as u32).sum();
    let dividers = parts.clone().count().saturating_sub(1) as u32;

    let width = cells * (CELL + GAP) + GAP + dividers * DIVIDER;
    let mut row = Rgb::from_pixel(width, CELL + 2 * GAP, PAPER);
    let mut left = GAP;
    for part in parts {
        for image in part {
            let picture = pictures::decode(image)?;
            // Small pictures keep their pixels; large ones are made smooth.
            let filter = if picture.width() < CELL { FilterType::Nearest } else { FilterType::Lanczos3 };
            overlay(&mut row, &resize(&picture, CELL, CELL, filter), i64::from(left), i64::from(GAP));
            left += CELL + GAP;
        }
        left += DIVIDER;
    }
    Ok(row)
}

/// A sheet of rows, one below the other.
pub(crate) fn stack(rows: &[Rgb], format: ImageFormat) -> Result<Image, Failure> {
    let width = rows.iter().map(Rgb::width).max().unwrap_or(1);
    let height = GAP + rows.iter().map(|row| row.height() - GAP).sum::<u32>();
    let mut sheet = Rgb::from_pixel(width, height, PAPER);
    let mut top = 0;
    for row in rows {
        overlay(&mut sheet, row, 0, i64::from(top));
        top += row.height() - GAP;
    }
    Ok(pictures::encode(&sheet, format)?)
}
