//! The contact sheet: the neighbours, then every level of the cascade, in one row.

use image::imageops::{FilterType, overlay, resize};
use reverie_proto::pictures::{self, Rgb};
use reverie_proto::tensor::v1::{Image, ImageFormat};

use crate::Failure;
use crate::generate::Outcome;

/// Side of a cell, pixels.
const CELL: u32 = 320;
/// Space around cells, pixels.
const GAP: u32 = 12;
/// Space between the neighbours and the levels, pixels.
const DIVIDER: u32 = 36;
const PAPER: image::Rgb<u8> = image::Rgb([250, 249, 246]);

/// Lays out what came of a request that asked for previews.
pub fn compose(outcome: &Outcome) -> Result<Image, Failure> {
    let neighbours = outcome.neighbours.neighbours.iter().filter_map(|neighbour| neighbour.image.as_ref());
    let neighbours = neighbours.map(pictures::decode).collect::<Result<Vec<_>, _>>()?;
    let levels = outcome.previews.iter().filter_map(|preview| preview.image.as_ref()).chain([&outcome.image]);
    let levels = levels.map(pictures::decode).collect::<Result<Vec<_>, _>>()?;

    let divider = if neighbours.is_empty() { 0 } else { DIVIDER };
    let cells = (neighbours.len() + levels.len()) as u32;
    let mut sheet = Rgb::from_pixel(cells * (CELL + GAP) + GAP + divider, CELL + 2 * GAP, PAPER);
    let mut left = GAP;
    for (index, picture) in neighbours.iter().chain(&levels).enumerate() {
        if index == neighbours.len() {
            left += divider;
        }
        // Small pictures keep their pixels; large ones are made smooth.
        let filter = if picture.width() < CELL { FilterType::Nearest } else { FilterType::Lanczos3 };
        overlay(&mut sheet, &resize(picture, CELL, CELL, filter), i64::from(left), i64::from(GAP));
        left += CELL + GAP;
    }
    Ok(pictures::encode(&sheet, ImageFormat::Png)?)
}
