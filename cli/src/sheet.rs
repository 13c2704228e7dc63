//! Contact sheets: a row is the neighbours, then every level of the cascade, then, where there is one, the same picture drawn
//! without them.

use image::imageops::{FilterType, overlay, resize};
use reverie_imaging::fit::{self, Fit};
use reverie_imaging::pictures::{self, Rgb};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Image, ImageFormat};

use reverie_proto::generation::v1::GeneratedImage;

use crate::Failure;
use crate::client::Outcome;

/// Side of a cell, pixels.
const CELL: u32 = 320;
/// Space around cells, pixels.
const GAP: u32 = 12;
/// Space between parts of a row, pixels.
const DIVIDER: u32 = 36;
const PAPER: image::Rgb<u8> = image::Rgb([250, 249, 246]);

/// Lays out what came of a request that asked for previews, and of the same request without neighbours.
pub fn row(outcome: &Outcome, without: Option<&Outcome>) -> Result<Rgb, Failure> {
    let neighbours = outcome.neighbours.neighbours.iter().filter_map(|neighbour| neighbour.image.as_ref());
    let levels = outcome.previews.iter().filter_map(|preview| preview.image.as_ref()).chain([&outcome.image]);
    let parts: [Vec<&Image>; 3] =
        [neighbours.collect(), levels.collect(), without.map(|without| &without.image).into_iter().collect()];
    let decode =
        |part: &Vec<&Image>| part.iter().map(|image| pictures::decode(image)).collect::<Result<Vec<_>, _>>();
    let parts = parts.iter().map(decode).collect::<Result<Vec<_>, _>>()?;
    let parts: Vec<Vec<Option<&Rgb>>> = parts.iter().map(|part| part.iter().map(Some).collect()).collect();
    Ok(lay_out(&parts, CELL))
}

/// Lays out what came of a request that asked for previews, a row for each image. The neighbours, which are the same for all, are in
/// the first.
pub fn rows(outcome: &Outcome) -> Result<Vec<Rgb>, Failure> {
    let neighbours = outcome.neighbours.neighbours.iter().filter_map(|neighbour| neighbour.image.as_ref());
    let neighbours = neighbours.map(pictures::decode).collect::<Result<Vec<_>, _>>()?;
    let row = |image: &GeneratedImage| {
        let levels = outcome.previews.iter().filter(|preview| preview.index == image.index);
        let levels = levels.filter_map(|preview| preview.image.as_ref()).chain(&image.image);
        let levels = levels.map(pictures::decode).collect::<Result<Vec<_>, _>>()?;
        let neighbours = neighbours.iter().map(|neighbour| Some(neighbour).filter(|_| image.index == 0));
        Ok(lay_out(&[neighbours.collect(), levels.iter().map(Some).collect()], CELL))
    };
    outcome.images.iter().map(row).collect()
}

/// A row of parts, apart from each other; a cell without a picture stays blank. `side`: of a cell, pixels.
pub fn lay_out(parts: &[Vec<Option<&Rgb>>], side: u32) -> Rgb {
    let parts = parts.iter().filter(|part| !part.is_empty());
    let cells: u32 = parts.clone().map(|part| part.len() as u32).sum();
    let dividers = parts.clone().count().saturating_sub(1) as u32;

    let width = cells * (side + GAP) + GAP + dividers * DIVIDER;
    let mut row = Rgb::from_pixel(width, side + 2 * GAP, PAPER);
    let mut left = GAP;
    for part in parts {
        for picture in part {
            if let Some(picture) = picture {
                // Small pictures keep their pixels; large ones are made smooth.
                let filter = if picture.width() < side { FilterType::Nearest } else { FilterType::Lanczos3 };
                // As models see them, which take squares.
                let cell = fit::bring_to(picture, Size::square(side), Fit::Crop, |picture, size| {
                    resize(picture, size.width, size.height, filter)
                });
                overlay(&mut row, &cell, i64::from(left), i64::from(GAP));
            }
            left += side + GAP;
        }
        left += DIVIDER;
    }
    row
}

/// A sheet of rows, one below the other.
pub fn stack(rows: &[Rgb], format: ImageFormat) -> Result<Image, Failure> {
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

#[cfg(test)]
mod tests {
    use reverie_proto::generation::v1::{NeighboursFound, Preview};
    use reverie_proto::knowledge::v1::Neighbour;

    use super::*;

    /// A picture of one colour, and so is its cell on the sheet.
    fn picture(side: u32, red: u8) -> Image {
        pictures::raw(Rgb::from_pixel(side, side, image::Rgb([red, 0, 0])))
    }

    fn outcome(neighbours: u8) -> Outcome {
        let neighbours =
            (0..neighbours).map(|i| Neighbour { image: Some(picture(128, i)), ..Neighbour::default() });
        Outcome {
            neighbours: NeighboursFound { neighbours: neighbours.collect(), ..NeighboursFound::default() },
            previews: [(64, 100), (256, 101)]
                .map(|(side, red)| Preview { image: Some(picture(side, red)), ..Preview::default() })
                .to_vec(),
            image: picture(1024, 102),
            ..Outcome::default()
        }
    }

    /// The reds of a row's cells, left to right; paper is left out.
    fn cells(row: &Rgb) -> Vec<u8> {
        let middle = row.height() / 2;
        let mut reds: Vec<u8> = (0..row.width()).map(|x| row.get_pixel(x, middle)[0]).collect();
        reds.dedup();
        reds.retain(|red| *red != PAPER[0]);
        reds
    }

    #[test]
    fn a_row_shows_neighbours_levels_and_the_picture_without_them() {
        let without = Outcome { image: picture(1024, 200), ..Outcome::default() };
        assert_eq!(cells(&row(&outcome(2), Some(&without)).unwrap()), [0, 1, 100, 101, 102, 200]);
        assert_eq!(cells(&row(&outcome(0), None).unwrap()), [100, 101, 102]);
    }

    #[test]
    fn each_image_has_a_row_and_the_first_shows_the_neighbours() {
        let mut several = outcome(2);
        let image =
            |index, red| GeneratedImage { image: Some(picture(1024, red)), index, ..Default::default() };
        several.images = vec![image(0, 102), image(1, 112)];
        several.previews.insert(0, Preview { image: Some(picture(64, 110)), index: 1, ..Default::default() });
        let rows = rows(&several).unwrap();
        assert_eq!(rows.iter().map(cells).collect::<Vec<_>>(), [vec![0, 1, 100, 101, 102], vec![110, 112]]);
    }

    #[test]
    fn rows_stand_one_below_the_other_whatever_their_width() {
        let rows = [row(&outcome(2), None).unwrap(), row(&outcome(0), None).unwrap()];
        let sheet = stack(&rows, ImageFormat::Png).unwrap();
        assert_eq!((sheet.width, sheet.height), (rows[0].width(), 2 * (CELL + GAP) + GAP));
    }
}
