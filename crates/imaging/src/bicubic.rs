//! The bicubic filter by which encoders of pictures were given theirs, to the last bit.
//!
//! Keys 1981 ("Cubic convolution interpolation for digital image processing") with a = -1/2, widened by the scale where a picture
//! is shrunk: as in Pillow, and so in the image processors of transformers. Rows first, then columns, each rounded to 8 bits;
//! weights have 22 bits after the point, as there.

use image::RgbImage;

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

/// For each of `to` places the first of the `from` places that it takes, and their weights.
fn taps(from: u32, to: u32) -> Vec<(u32, Vec<i64>)> {
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
    (0..to).map(tap).collect()
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

/// Resizes to `width` x `height`, each at least 1.
pub(crate) fn resize(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    let mut resized = picture.clone();
    if width != resized.width() {
        let taps = taps(resized.width(), width);
        resized = RgbImage::from_fn(width, resized.height(), |x, y| {
            sum(&taps[x as usize], |place| resized.get_pixel(place, y).0).into()
        });
    }
    if height != resized.height() {
        let taps = taps(resized.height(), height);
        resized = RgbImage::from_fn(width, height, |x, y| {
            sum(&taps[y as usize], |place| resized.get_pixel(x, place).0).into()
        });
    }
    resized
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pillow 13.0.0: Image.fromarray(rows).resize(size, Image.BICUBIC), of the gray values (7 x + 31 y + x y) % 256.
    #[test]
    fn is_pillows() {
        let level = |x: u32, y: u32| [((7 * x + 31 * y + x * y) % 256) as u8; 3];
        let picture = RgbImage::from_fn(6, 5, |x, y| level(x, y).into());
        let levels = |picture: &RgbImage| picture.pixels().map(|pixel| pixel.0[0]).collect::<Vec<_>>();
        assert_eq!(levels(&resize(&picture, 3, 2)), SMALLER);
        assert_eq!(levels(&resize(&picture, 4, 7)), TALLER);
        assert_eq!(resize(&picture, 6, 5), picture);
    }

    const SMALLER: [u8; 6] = [31, 46, 62, 103, 123, 143];
    const TALLER: [u8; 28] = [
        0, 10, 21, 31, 17, 28, 40, 51, 42, 54, 67, 79, 65, 77, 92, 104, 87, 101, 116, 130, 112, 127, 143,
        158, 129, 145, 162, 178,
    ];
}
