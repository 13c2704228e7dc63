//! Which pixels of a picture are drawn anew, and which are kept.

use crate::pictures::Rgb;

/// The mean of the three channels from which on a pixel of a mask is white.
const WHITE: u32 = 128;

/// Whether a pixel of a mask is white: the mean of its channels is 128 or more.
pub fn is_white(pixel: &image::Rgb<u8>) -> bool {
    pixel.0.map(u32::from).iter().sum::<u32>() >= 3 * WHITE
}

/// A square mask. White is drawn anew, black is kept, as in diffusers; a pixel is white or black, nothing between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mask {
    side: usize,
    drawn: Vec<bool>,
}

impl Mask {
    /// Reads a square picture.
    ///
    /// `None` if the picture is not square.
    pub fn from_picture(picture: &Rgb) -> Option<Self> {
        (picture.width() == picture.height())
            .then(|| Self { side: picture.width() as usize, drawn: picture.pixels().map(is_white).collect() })
    }

    /// Which pixels are drawn anew, row by row.
    pub fn drawn(&self) -> &[bool] {
        &self.drawn
    }

    /// The mask as a picture, black and white.
    pub fn to_picture(&self) -> Rgb {
        let side = self.side as u32;
        Rgb::from_fn(side, side, |x, y| {
            let drawn = self.drawn[(y * side + x) as usize];
            image::Rgb([if drawn { u8::MAX } else { 0 }; 3])
        })
    }

    /// The mask of a picture of `side` x `side` pixels: one that covers anything white is white, so that nothing of what is
    /// to be drawn anew is kept.
    #[must_use]
    pub fn resized(&self, side: u32) -> Self {
        let side = side as usize;
        // The pixels that a pixel covers, wholly or in part.
        let covered = |i: usize| i * self.side / side..((i + 1) * self.side).div_ceil(side);
        let is_drawn = |y: usize, x: usize| {
            covered(y).any(|row| self.drawn[row * self.side..][covered(x)].contains(&true))
        };
        let drawn = (0..side * side).map(|pixel| is_drawn(pixel / side, pixel % side)).collect();
        Self { side, drawn }
    }

    /// The mask of a latent of `side` x `side` pixels, as diffusers takes it: each is white where the upper left of the pixels that
    /// it covers is.
    #[must_use]
    pub fn sampled(&self, side: u32) -> Self {
        let side = side as usize;
        let at =
            |pixel: usize| (pixel / side * self.side / side) * self.side + pixel % side * self.side / side;
        Self { side, drawn: (0..side * side).map(|pixel| self.drawn[at(pixel)]).collect() }
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
        Mask::from_picture(&picture).unwrap()
    }

    #[test]
    fn white_is_drawn_and_black_is_kept() {
        let levels = [[0; 3], [127; 3], [128; 3], [255; 3]];
        let picture = Rgb::from_fn(2, 2, |x, y| image::Rgb(levels[(2 * y + x) as usize]));
        let mask = Mask::from_picture(&picture).unwrap();
        assert_eq!(mask.drawn(), [false, false, true, true]);
        let (own, mut drawn) = (picture, Rgb::from_pixel(2, 2, image::Rgb([7; 3])));
        mask.keep(&own, &mut drawn);
        let pixels: Vec<_> = drawn.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels, [[0; 3], [127; 3], [7; 3], [7; 3]]);
        assert_eq!(Mask::from_picture(&Rgb::new(2, 3)), None);
    }

    #[test]
    fn a_smaller_mask_covers_all_that_is_white_and_a_larger_one_no_more() {
        let one = mask(6, |x, y| (x, y) == (4, 1));
        assert_eq!(one.resized(3), mask(3, |x, y| (x, y) == (2, 0)));
        // Pixel 1 of 4 covers 1.5 to 3 of 6, pixel 2 covers 3 to 4.5, pixel 3 covers 4.5 to 6.
        assert_eq!(one.resized(4), mask(4, |x, y| x >= 2 && y <= 1 && (x == 2 || x == 3)));
        assert_eq!(one.resized(12), mask(12, |x, y| (8..10).contains(&x) && (2..4).contains(&y)));
        assert_eq!(one.resized(6), one);
    }

    #[test]
    fn a_latents_mask_is_that_of_the_upper_left_pixels() {
        assert_eq!(mask(6, |x, y| (x, y) == (4, 2)).sampled(3), mask(3, |x, y| (x, y) == (2, 1)));
        assert_eq!(mask(6, |x, y| (x, y) == (5, 2)).sampled(3), mask(3, |_, _| false));
    }
}
