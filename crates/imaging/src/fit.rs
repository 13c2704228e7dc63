//! Images of other proportions than those that are needed: one rule for all of them.
//!
//! The middle is cut out, or, if the request asks for it, the whole is kept and gray bars are added.

use image::RgbImage;
use image::imageops::{crop_imm, replace};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1;

use crate::bicubic;
use crate::pictures::{self, crop_square};

/// Half-way between black and white: 0 for models that see [-1, 1].
const BARS: image::Rgb<u8> = image::Rgb([128; 3]);

/// What becomes of an image of other proportions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// The largest part of the needed proportions is cut out of its middle.
    #[default]
    Crop,
    /// All of it is kept, with gray bars at two sides.
    Pad,
}

impl Fit {
    /// Reads the enum of messages.
    ///
    /// # Errors
    /// What to write instead of an unknown number.
    pub fn from_message(fit: i32) -> Result<Self, String> {
        match v1::Fit::try_from(fit) {
            Ok(v1::Fit::Unspecified | v1::Fit::Crop) => Ok(Self::Crop),
            Ok(v1::Fit::Pad) => Ok(Self::Pad),
            Err(_) => Err(format!("must be FIT_CROP or FIT_PAD (got {fit})")),
        }
    }
}

/// A part of a picture, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) left: u32,
    pub(crate) top: u32,
    pub(crate) size: Size,
}

/// The largest part of `size` with the proportions of `wanted`, in its middle; never empty.
pub(crate) fn middle(size: Size, wanted: Size) -> Part {
    let inner = inside(size, wanted);
    Part { left: (size.width - inner.width) / 2, top: (size.height - inner.height) / 2, size: inner }
}

/// The largest size of the proportions of `of` that fits in `bounds`, rounded down; a side is at least 1.
fn inside(bounds: Size, of: Size) -> Size {
    let scaled = |side: u32, to: u32, from: u32| {
        (u64::from(side) * u64::from(to) / u64::from(from)).clamp(1, u64::from(u32::MAX)) as u32
    };
    // As wide as the bounds, or as high.
    let height = scaled(bounds.width, of.height, of.width);
    if height <= bounds.height {
        Size { width: bounds.width, height }
    } else {
        Size { width: scaled(bounds.height, of.width, of.height).min(bounds.width), height: bounds.height }
    }
}

/// Where all of `size` goes in a picture of `wanted`, with bars around it.
pub(crate) fn between_bars(size: Size, wanted: Size) -> Part {
    middle(wanted, size)
}

/// The picture at `size`, by `resize`. One of these proportions is resized and nothing else.
pub fn bring_to(
    picture: &RgbImage,
    size: Size,
    fit: Fit,
    resize: impl Fn(&RgbImage, Size) -> RgbImage,
) -> RgbImage {
    let own = Size::from(picture.dimensions());
    if own.is_proportional_to(size) {
        return resize(picture, size);
    }
    match fit {
        Fit::Crop => {
            let part = middle(own, size);
            let cut = crop_imm(picture, part.left, part.top, part.size.width, part.size.height);
            resize(&cut.to_image(), size)
        }
        Fit::Pad => {
            let part = between_bars(own, size);
            let mut padded = RgbImage::from_pixel(size.width, size.height, BARS);
            let (left, top) = (i64::from(part.left), i64::from(part.top));
            replace(&mut padded, &resize(picture, part.size), left, top);
            padded
        }
    }
}

/// How a model that reads pictures takes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reader {
    /// Side of the square that it sees, pixels.
    pub side: u32,
    /// What the shorter side is resized to, bicubic, before the square is cut out of the middle (CLIP's way). None where the
    /// square is resized by Lanczos 3.
    pub shorter: Option<u32>,
}

impl Reader {
    /// The square that the model sees.
    pub fn square(self, picture: &RgbImage, fit: Fit) -> RgbImage {
        match (self.shorter, fit) {
            (None, fit) => bring_to(picture, Size::square(self.side), fit, pictures::resize),
            (Some(shorter), Fit::Crop) => crop_square(picture, shorter, self.side),
            (Some(shorter), Fit::Pad) => {
                let whole = bring_to(picture, Size::square(shorter), fit, bicubic::resize);
                crop_square(&whole, shorter, self.side)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Size = Size { width: 12, height: 6 };

    /// Red on the left, green in the middle half, blue on the right.
    fn stripes(size: Size) -> RgbImage {
        RgbImage::from_fn(size.width, size.height, |x, _| match 4 * x / size.width {
            0 => image::Rgb([255, 0, 0]),
            3 => image::Rgb([0, 0, 255]),
            _ => image::Rgb([0, 255, 0]),
        })
    }

    #[test]
    fn the_middle_is_cut_out() {
        let green = RgbImage::from_pixel(3, 3, image::Rgb([0, 255, 0]));
        assert_eq!(bring_to(&stripes(WIDE), Size::square(3), Fit::Crop, pictures::resize), green);
        for shorter in [None, Some(3)] {
            assert_eq!(
                Reader { side: 3, shorter }.square(&stripes(WIDE), Fit::Crop).get_pixel(1, 1),
                green.get_pixel(1, 1)
            );
        }
    }

    #[test]
    fn all_is_kept_between_gray_bars() {
        for shorter in [None, Some(8)] {
            let square = Reader { side: 8, shorter }.square(&stripes(WIDE), Fit::Pad);
            assert_eq!(square.dimensions(), (8, 8));
            for (y, is_bar) in [(0, true), (1, true), (2, false), (5, false), (6, true), (7, true)] {
                assert_eq!(*square.get_pixel(4, y) == BARS, is_bar, "row {y}");
            }
            assert!(
                square.get_pixel(0, 3).0[0] > 200 && square.get_pixel(7, 3).0[2] > 200,
                "both ends are there"
            );
        }
    }

    #[test]
    fn extreme_shapes_stay_in_bounds() {
        for (width, height) in [(4096, 1), (1, 4096), (1, 1), (4096, 4095)] {
            for wanted in [Size::square(64), Size { width: 64, height: 1 }, Size { width: 3, height: 97 }] {
                let own = Size { width, height };
                for (part, bounds) in [(middle(own, wanted), own), (between_bars(own, wanted), wanted)] {
                    assert!(part.size.width >= 1 && part.left + part.size.width <= bounds.width, "{part:?}");
                    assert!(
                        part.size.height >= 1 && part.top + part.size.height <= bounds.height,
                        "{part:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn an_unknown_number_is_named() {
        assert_eq!(Fit::from_message(0), Ok(Fit::Crop));
        assert_eq!(Fit::from_message(2), Ok(Fit::Pad));
        assert_eq!(Fit::from_message(9), Err("must be FIT_CROP or FIT_PAD (got 9)".to_owned()));
    }
}
