//! The bicubic filter by which encoders of pictures were given theirs, to the last bit.
//!
//! Keys 1981 ("Cubic convolution interpolation for digital image processing") with a = -1/2, widened by the scale where a picture
//! is shrunk: as in Pillow, and so in the image processors of transformers. Rows first, then columns, each rounded to 8 bits;
//! weights have 22 bits after the point, as there. Where the height loses more than twice what the width loses, as in shrinking
//! an image that is taller than twice its width, Pillow takes columns first.

use std::ops::Range;

use image::RgbImage;
use reverie_proto::sizes::Size;

const BITS: u32 = 22;
const A: f64 = -0.5;
/// Places to either side of the centre that have a weight.
const SUPPORT: f64 = 2.0;

fn weight(distance: f64) -> f64 {
    let x = distance.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < SUPPORT {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// For each of the places `window` of `to` places the first of the `from` places that it takes, and their weights.
fn taps(from: u32, to: u32, window: Range<u32>) -> Vec<(u32, Vec<i64>)> {
    let scale = f64::from(from) / f64::from(to);
    let widened = scale.max(1.0);
    let tap = |i: u32| {
        let centre = (f64::from(i) + 0.5) * scale;
        let first = (centre - SUPPORT * widened + 0.5).max(0.0) as u32;
        let end = ((centre + SUPPORT * widened + 0.5) as u32).min(from);
        let weights: Vec<f64> =
            (first..end).map(|place| weight((f64::from(place) - centre + 0.5) / widened)).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: &f64| (weight / sum * f64::from(1_u32 << BITS)).round() as i64;
        (first, weights.iter().map(fixed).collect())
    };
    window.map(tap).collect()
}

/// The weighted sum of `pixel(place)` for the places of a tap.
fn sum((first, weights): &(u32, Vec<i64>), pixel: impl Fn(u32) -> [u8; 3]) -> [u8; 3] {
    let mut sums = [1_i64 << (BITS - 1); 3];
    for (place, weight) in (*first..).zip(weights) {
        let pixel = pixel(place);
        sums.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += i64::from(value) * weight);
    }
    sums.map(|sum| (sum >> BITS).clamp(0, 255) as u8)
}

/// Resizes to `size`, each side at least 1.
pub(crate) fn resize(picture: &RgbImage, size: Size) -> RgbImage {
    window(picture, size, 0..size.width, 0..size.height)
}

/// The columns and rows of the picture resized to `size`; no others are computed.
pub(crate) fn window(picture: &RgbImage, size: Size, columns: Range<u32>, rows: Range<u32>) -> RgbImage {
    let (width, height) = picture.dimensions();
    let across = taps(width, size.width, columns);
    let down = taps(height, size.height, rows);
    let (new_width, new_height) = (across.len() as u32, down.len() as u32);
    let widen = |picture: &RgbImage| {
        RgbImage::from_fn(new_width, picture.height(), |x, y| {
            sum(&across[x as usize], |place| picture.get_pixel(place, y).0).into()
        })
    };
    let lengthen = |picture: &RgbImage| {
        RgbImage::from_fn(picture.width(), new_height, |x, y| {
            sum(&down[y as usize], |place| picture.get_pixel(x, place).0).into()
        })
    };
    let lost = |from: u32, to: u32| i64::from(from) - i64::from(to);
    let (columns_lost, rows_lost) = (lost(width, size.width), lost(height, size.height));
    if rows_lost > 0 && rows_lost > 2 * columns_lost {
        widen(&lengthen(picture))
    } else {
        lengthen(&widen(picture))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The gray values (7 x + 31 y + x y) % 256.
    fn picture(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| [((7 * x + 31 * y + x * y) % 256) as u8; 3].into())
    }

    fn levels(picture: &RgbImage) -> Vec<u8> {
        picture.pixels().map(|pixel| pixel.0[0]).collect()
    }

    /// Made by bicubic.py: in each direction larger and smaller, a little and a lot, with either direction first.
    #[test]
    fn is_pillows() {
        for ((width, height), (new_width, new_height), expected) in PILLOW {
            let resized = resize(&picture(width, height), Size { width: new_width, height: new_height });
            let what = format!("{width} x {height} to {new_width} x {new_height}");
            assert_eq!(levels(&resized), expected, "{what}");
        }
        assert_eq!(resize(&picture(6, 5), Size { width: 6, height: 5 }), picture(6, 5));
    }

    #[test]
    fn a_window_is_a_part_of_the_whole() {
        for (width, height) in [(33, 71), (71, 33), (9, 10)] {
            let picture = picture(width, height);
            let size = Size { width: 20, height: 24 };
            let whole = resize(&picture, size);
            let part = image::imageops::crop_imm(&whole, 3, 5, 10, 12).to_image();
            assert_eq!(window(&picture, size, 3..13, 5..17), part);
        }
    }

    type Case = ((u32, u32), (u32, u32), &'static [u8]);

    const PILLOW: [Case; 12] = [
        ((6, 5), (3, 2), &[31, 46, 62, 103, 123, 143]),
        (
            (6, 5),
            (4, 7),
            &[
                0, 10, 21, 31, 17, 28, 40, 51, 42, 54, 67, 79, 65, 77, 92, 104, 87, 101, 116, 130, 112, 127,
                143, 158, 129, 145, 162, 178,
            ],
        ),
        (
            (33, 71),
            (4, 9),
            &[
                119, 129, 134, 129, 129, 125, 126, 127, 126, 126, 124, 126, 125, 129, 129, 127, 129, 120,
                125, 133, 129, 125, 132, 128, 128, 131, 129, 136, 127, 130, 126, 129, 137, 128, 130, 126,
            ],
        ),
        (
            (33, 66),
            (4, 8),
            &[
                119, 129, 134, 129, 129, 125, 125, 128, 126, 127, 124, 126, 126, 128, 128, 128, 129, 120,
                126, 132, 129, 126, 132, 129, 126, 132, 128, 137, 130, 128, 126, 124,
            ],
        ),
        (
            (33, 65),
            (4, 7),
            &[
                120, 128, 134, 129, 129, 125, 124, 128, 125, 128, 126, 126, 128, 123, 127, 131, 130, 123,
                130, 129, 128, 131, 129, 135, 127, 129, 126, 128,
            ],
        ),
        (
            (7, 40),
            (5, 12),
            &[
                40, 52, 65, 77, 92, 149, 166, 167, 183, 162, 146, 111, 77, 88, 84, 89, 115, 148, 169, 168,
                178, 173, 130, 87, 84, 71, 79, 116, 154, 169, 158, 169, 138, 135, 83, 109, 66, 79, 131, 167,
                96, 157, 179, 140, 91, 184, 110, 78, 110, 161, 93, 105, 170, 145, 103, 155, 185, 128, 78,
                139,
            ],
        ),
        (
            (40, 7),
            (12, 5),
            &[
                17, 39, 64, 88, 113, 136, 166, 203, 196, 157, 176, 52, 59, 86, 115, 146, 179, 213, 174, 111,
                105, 46, 80, 120, 105, 137, 177, 199, 194, 79, 62, 67, 107, 163, 185, 178, 152, 194, 207, 91,
                36, 80, 120, 166, 200, 141, 131, 50, 200, 200, 68, 53, 109, 150, 198, 197, 88, 56, 96, 149,
            ],
        ),
        (
            (9, 30),
            (11, 6),
            &[
                72, 82, 91, 98, 106, 113, 121, 122, 125, 134, 140, 160, 134, 135, 130, 107, 125, 138, 118,
                112, 127, 138, 125, 124, 137, 146, 140, 126, 144, 130, 135, 140, 113, 121, 105, 117, 127,
                116, 120, 133, 132, 122, 124, 145, 140, 139, 129, 111, 106, 138, 127, 120, 118, 120, 125, 87,
                94, 110, 135, 158, 151, 141, 126, 113, 104, 101,
            ],
        ),
        (
            (30, 9),
            (6, 11),
            &[
                14, 46, 82, 117, 153, 187, 37, 74, 113, 151, 204, 214, 66, 107, 150, 210, 160, 109, 93, 137,
                196, 193, 76, 45, 120, 171, 211, 93, 52, 117, 147, 210, 102, 45, 111, 164, 181, 194, 45, 90,
                155, 223, 214, 114, 60, 134, 208, 133, 185, 57, 101, 184, 179, 65, 111, 59, 146, 197, 94, 86,
                59, 94, 184, 142, 55, 142,
            ],
        ),
        (
            (5, 12),
            (8, 3),
            &[
                49, 54, 62, 67, 74, 83, 90, 93, 173, 167, 161, 172, 164, 141, 146, 154, 111, 93, 73, 85, 88,
                79, 89, 97,
            ],
        ),
        (
            (4, 9),
            (6, 13),
            &[
                0, 1, 6, 11, 16, 19, 14, 17, 22, 28, 34, 37, 37, 41, 48, 53, 60, 64, 59, 64, 70, 76, 82, 87,
                80, 85, 93, 98, 106, 111, 102, 107, 115, 121, 129, 134, 123, 129, 137, 144, 152, 158, 144,
                150, 159, 167, 176, 182, 166, 172, 181, 189, 205, 217, 187, 194, 204, 214, 217, 216, 208,
                224, 246, 255, 143, 39, 237, 182, 125, 143, 70, 4, 255, 128, 0, 2, 26, 40,
            ],
        ),
        (
            (50, 20),
            (6, 4),
            &[
                110, 136, 136, 132, 122, 123, 128, 124, 130, 127, 127, 124, 134, 125, 125, 130, 128, 122,
                121, 128, 122, 128, 136, 135,
            ],
        ),
    ];
}
