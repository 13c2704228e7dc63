//! Which pixels of a picture are drawn anew, and which are kept.

use crate::pictures::Rgb;
use reverie_proto::sizes::Size;

/// The mean of the three channels from which on a pixel of a mask is white.
const WHITE: u32 = 128;

/// Whether a pixel of a mask is white: the mean of its channels is 128 or more.
pub fn is_white(pixel: &image::Rgb<u8>) -> bool {
    pixel.0.map(u32::from).iter().sum::<u32>() >= 3 * WHITE
}

/// A mask. White is drawn anew, black is kept, as in diffusers; a pixel is white or black, nothing between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    /// Row by row.
    drawn: Vec<bool>,
}

impl Mask {
    /// Reads a picture.
    pub fn from_picture(picture: &Rgb) -> Self {
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        Self { width, height, drawn: picture.pixels().map(is_white).collect() }
    }

    /// The mask of that size whose pixel (x, y) is drawn anew where `is_drawn` says so.
    fn of(size: Size, is_drawn: impl Fn(usize, usize) -> bool) -> Self {
        let (width, height) = (size.width as usize, size.height as usize);
        let drawn = (0..width * height).map(|pixel| is_drawn(pixel % width, pixel / width)).collect();
        Self { width, height, drawn }
    }

    /// Which pixels are drawn anew, row by row.
    pub fn drawn(&self) -> &[bool] {
        &self.drawn
    }

    /// The mask as a picture, black and white.
    pub fn to_picture(&self) -> Rgb {
        Rgb::from_fn(self.width as u32, self.height as u32, |x, y| {
            let drawn = self.drawn[y as usize * self.width + x as usize];
            image::Rgb([if drawn { u8::MAX } else { 0 }; 3])
        })
    }

    /// The mask of a picture of `size`: a pixel that covers anything white is white, so that nothing of what is to be drawn anew
    /// is kept.
    #[must_use]
    pub fn resized(&self, size: Size) -> Self {
        // The pixels that a pixel covers, wholly or in part.
        let covered = |i: usize, from: usize, to: u32| {
            let to = to as usize;
            i * from / to..((i + 1) * from).div_ceil(to)
        };
        Self::of(size, |x, y| {
            let across = covered(x, self.width, size.width);
            let mut rows = covered(y, self.height, size.height);
            rows.any(|row| self.drawn[row * self.width..][across.clone()].contains(&true))
        })
    }

    /// The mask of a latent of `size`, as diffusers takes it: each pixel is white where the upper left of the pixels that it
    /// covers is.
    #[must_use]
    pub fn sampled(&self, size: Size) -> Self {
        Self::of(size, |x, y| {
            let (column, row) =
                (x * self.width / size.width as usize, y * self.height / size.height as usize);
            self.drawn[row * self.width + column]
        })
    }

    /// Puts the kept pixels of `own` into `picture`. Both have the size of the mask; what lies outside of it is left alone.
    pub fn keep(&self, own: &Rgb, picture: &mut Rgb) {
        for ((picture, own), drawn) in picture.pixels_mut().zip(own.pixels()).zip(&self.drawn) {
            if !drawn {
                *picture = *own;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(side: u32, is_white: impl Fn(u32, u32) -> bool) -> Mask {
        let level = |white| if white { 255 } else { 0 };
        let picture = Rgb::from_fn(side, side, |x, y| image::Rgb([level(is_white(x, y)); 3]));
        Mask::from_picture(&picture)
    }

    #[test]
    fn white_is_drawn_and_black_is_kept() {
        let levels = [[0; 3], [127; 3], [128; 3], [255; 3]];
        let picture = Rgb::from_fn(2, 2, |x, y| image::Rgb(levels[(2 * y + x) as usize]));
        let mask = Mask::from_picture(&picture);
        assert_eq!(mask.drawn(), [false, false, true, true]);
        let (own, mut drawn) = (picture, Rgb::from_pixel(2, 2, image::Rgb([7; 3])));
        mask.keep(&own, &mut drawn);
        let pixels: Vec<_> = drawn.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels, [[0; 3], [127; 3], [7; 3], [7; 3]]);
    }

    #[test]
    fn a_smaller_mask_covers_all_that_is_white_and_a_larger_one_no_more() {
        let one = mask(6, |x, y| (x, y) == (4, 1));
        assert_eq!(one.resized(Size::square(3)), mask(3, |x, y| (x, y) == (2, 0)));
        // Pixel 1 of 4 covers 1.5 to 3 of 6, pixel 2 covers 3 to 4.5, pixel 3 covers 4.5 to 6.
        assert_eq!(one.resized(Size::square(4)), mask(4, |x, y| x >= 2 && y <= 1 && (x == 2 || x == 3)));
        assert_eq!(
            one.resized(Size::square(12)),
            mask(12, |x, y| (8..10).contains(&x) && (2..4).contains(&y))
        );
        assert_eq!(one.resized(Size::square(6)), one);
    }

    #[test]
    fn width_and_height_may_differ() {
        let white = |x, y| if (x, y) == (5, 1) { image::Rgb([255; 3]) } else { image::Rgb([0; 3]) };
        let mask = Mask::from_picture(&Rgb::from_fn(6, 4, white));
        let small = mask.resized(Size { width: 3, height: 2 });
        assert_eq!(small.drawn(), [false, false, true, false, false, false]);
        assert_eq!(small.to_picture().dimensions(), (3, 2));
        assert!(!mask.sampled(Size { width: 3, height: 2 }).drawn().contains(&true));
        let upright = mask.sampled(Size { width: 6, height: 2 });
        assert!(!upright.drawn().contains(&true));
        assert_eq!(mask.sampled(Size { width: 6, height: 4 }), mask);
    }

    #[test]
    fn a_latents_mask_is_that_of_the_upper_left_pixels() {
        assert_eq!(
            mask(6, |x, y| (x, y) == (4, 2)).sampled(Size::square(3)),
            mask(3, |x, y| (x, y) == (2, 1))
        );
        assert_eq!(mask(6, |x, y| (x, y) == (5, 2)).sampled(Size::square(3)), mask(3, |_, _| false));
    }
}
