//! Which pixels of a picture are drawn anew, and which are kept.

use image::DynamicImage;
use reverie_proto::sizes::Size;

use crate::PictureError;
use crate::fit::{self, Fit, Part};
use crate::pictures::Rgb;

/// The mean of the three channels from which on a pixel of a mask is white.
const WHITE: u32 = 128;

/// The alpha from which on a pixel of a mask can be seen.
const VISIBLE: u8 = 128;
/// How far a channel of pure white or pure black may be from it.
const IMPURE: u8 = 16;

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
    /// Reads an image that may be transparent.
    ///
    /// Where nothing is transparent, colours decide. Where colours say nothing, as all are white or all are black, what is
    /// transparent is drawn anew (the way of `OpenAI`'s API). Where both say the same (white strokes on nothing, or black with
    /// white beneath a hole), that counts.
    ///
    /// # Errors
    /// [`PictureError::AmbiguousMask`] if they say different things, as with a photo that has a hole;
    /// [`PictureError::EmptyMask`] if all of it is transparent.
    pub fn read(image: DynamicImage) -> Result<Self, PictureError> {
        if !image.color().has_alpha() {
            return Ok(Self::from_picture(&image.into_rgb8()));
        }
        let image = image.into_rgba8();
        let (width, height) = (image.width() as usize, image.height() as usize);
        let mask = |is_drawn: fn((bool, bool)) -> bool| {
            let drawn = image.pixels().map(|pixel| is_drawn(white_and_visible(*pixel))).collect();
            Ok(Self { width, height, drawn })
        };
        let seen = Seen::of(&image);
        match seen {
            Seen { transparent: 0, .. } => mask(|(white, _)| white),
            Seen { visible: 0, .. } => Err(PictureError::EmptyMask),
            Seen { white: 0, .. } | Seen { black: 0, .. } => mask(|(_, visible)| !visible),
            Seen { impure: false, white_shows: true, .. } => mask(|(white, visible)| white && visible),
            Seen { impure: false, white_hides: true, .. } => mask(|(white, _)| white),
            Seen { .. } => Err(PictureError::AmbiguousMask),
        }
    }

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

    /// The mask of an image that [`fit::bring_to`] brings to `size`. Bars are drawn anew.
    #[must_use]
    pub fn brought_to(&self, size: Size, fit: Fit) -> Self {
        let own = Size { width: self.width as u32, height: self.height as u32 };
        if own.is_proportional_to(size) {
            return self.resized(size);
        }
        match fit {
            Fit::Crop => {
                let Part { left, top, size: part } = fit::middle(own, size);
                let (left, top) = (left as usize, top as usize);
                Self::of(part, |x, y| self.drawn[(top + y) * self.width + left + x]).resized(size)
            }
            Fit::Pad => {
                let Part { left, top, size: part } = fit::between_bars(own, size);
                let inner = self.resized(part);
                let (left, top) = (left as usize, top as usize);
                Self::of(size, |x, y| {
                    let inside = x.checked_sub(left).zip(y.checked_sub(top));
                    match inside.filter(|(x, y)| *x < inner.width && *y < inner.height) {
                        Some((x, y)) => inner.drawn[y * inner.width + x],
                        None => true,
                    }
                })
            }
        }
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

fn white_and_visible(pixel: image::Rgba<u8>) -> (bool, bool) {
    let [red, green, blue, alpha] = pixel.0;
    (is_white(&image::Rgb([red, green, blue])), alpha >= VISIBLE)
}

/// What there is to see in a mask with transparent parts.
#[derive(Debug, Default)]
struct Seen {
    visible: usize,
    transparent: usize,
    /// By colour, visible or not.
    white: usize,
    black: usize,
    /// Whether any colour is neither pure white nor pure black.
    impure: bool,
    /// Whether white is what can be seen, and black what cannot.
    white_shows: bool,
    /// Whether white is what cannot be seen, and black what can.
    white_hides: bool,
}

impl Seen {
    fn of(image: &image::RgbaImage) -> Self {
        let mut seen = Self { white_shows: true, white_hides: true, ..Self::default() };
        for pixel in image.pixels() {
            let (white, visible) = white_and_visible(*pixel);
            *(if visible { &mut seen.visible } else { &mut seen.transparent }) += 1;
            *(if white { &mut seen.white } else { &mut seen.black }) += 1;
            let [colours @ .., alpha] = pixel.0;
            // The rim of a stroke is half transparent, and of any colour.
            if visible || alpha == 0 {
                seen.impure |=
                    !colours.iter().all(|level| level.abs_diff(if white { 255 } else { 0 }) <= IMPURE);
                seen.white_shows &= white == visible;
                seen.white_hides &= white != visible;
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use image::{Rgba, RgbaImage};

    use super::*;

    /// Two columns, of the pixels `left` and `right`.
    fn read(left: [u8; 4], right: [u8; 4]) -> Result<Vec<bool>, PictureError> {
        let image = RgbaImage::from_fn(2, 2, |x, _| Rgba(if x == 0 { left } else { right }));
        Mask::read(image.into()).map(|mask| mask.drawn()[..2].to_vec())
    }

    #[test]
    fn a_mask_with_transparency_never_redraws_all_of_it_in_silence() {
        const WHITE: [u8; 4] = [255; 4];
        const BLACK: [u8; 4] = [0, 0, 0, 255];
        let nothing = [0; 4];
        assert_eq!(read(WHITE, BLACK), Ok(vec![true, false]), "opaque: colours decide");
        assert_eq!(read(WHITE, nothing), Ok(vec![true, false]), "white strokes on nothing");
        assert_eq!(read(BLACK, nothing), Ok(vec![false, true]), "a hole in black");
        assert_eq!(read(WHITE, [255, 255, 255, 0]), Ok(vec![false, true]), "a hole in white, white beneath");
        assert_eq!(read(BLACK, [255, 255, 255, 0]), Ok(vec![false, true]), "both say the hole");
        assert_eq!(read([30, 40, 90, 255], nothing), Ok(vec![false, true]), "a hole in a dark photo");
        assert_eq!(read([200, 180, 90, 255], [210, 190, 95, 0]), Ok(vec![false, true]), "in a bright one");
        let ambiguous = Err(PictureError::AmbiguousMask);
        assert_eq!(read([200, 180, 90, 255], nothing), ambiguous, "a bright photo, its hole made black");
        assert_eq!(read(nothing, [255, 255, 255, 0]), Err(PictureError::EmptyMask));
        let three = RgbaImage::from_fn(3, 1, |x, _| Rgba([WHITE, BLACK, nothing][x as usize]));
        assert_eq!(
            Mask::read(three.into()),
            Err(PictureError::AmbiguousMask),
            "painted, and partly left alone"
        );
        let rim = RgbaImage::from_fn(3, 1, |x, _| Rgba([WHITE, [255, 255, 255, 60], nothing][x as usize]));
        assert_eq!(Mask::read(rim.into()).unwrap().drawn(), [true, false, false]);
        assert_eq!(
            read([255, 255, 255, 200], [0, 0, 0, 130]),
            Ok(vec![true, false]),
            "nothing is transparent"
        );
    }

    #[test]
    fn a_mask_is_cut_and_padded_with_its_image() {
        // Of 8 x 4, white at both ends.
        let ends =
            Mask::from_picture(&Rgb::from_fn(8, 4, |x, _| [if x % 7 == 0 { 255 } else { 0 }; 3].into()));
        assert!(!ends.brought_to(Size::square(4), Fit::Crop).drawn().contains(&true), "they are cut off");
        let padded = ends.brought_to(Size::square(8), Fit::Pad);
        let rows: Vec<bool> = padded.drawn().chunks(8).map(|row| row[3]).collect();
        assert_eq!(rows, [true, true, false, false, false, false, true, true], "bars are drawn anew");
        assert!(padded.drawn()[8 * 4] && padded.drawn()[8 * 4 + 7]);
    }

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
