//! `reverie.diffusion.v1.InitialPicture` to pixels: the image that another one is drawn from.

use reverie_proto::diffusion::v1::InitialPicture;
use reverie_proto::limits::is_strength;
use reverie_proto::sizes::Size;

use crate::encoded::Encoded;
use crate::fit::{self, Fit};
use crate::mask::Mask;
use crate::pictures::{self, PictureError, Rgb};
use crate::pool;

/// The strength of a request that gives none, without and with a mask.
const DEFAULT_STRENGTH: f64 = 0.8;
const DEFAULT_STRENGTH_OF_MASK: f64 = 1.0;

/// The share of the steps that a request without a strength takes.
pub fn default_strength(has_mask: bool) -> f64 {
    if has_mask { DEFAULT_STRENGTH_OF_MASK } else { DEFAULT_STRENGTH }
}

/// A picture to start from, checked as far as its header tells.
#[derive(Debug, Clone)]
pub struct Opened {
    image: Encoded,
    mask: Option<Encoded>,
    fit: Fit,
    strength: f64,
}

/// A picture to start from at each size that is needed of it. The picture as it came is gone.
#[derive(Debug, Clone, PartialEq)]
pub struct Initial {
    starts: Vec<(Size, Start)>,
    /// The share of the steps that are taken, in (0, 1].
    pub strength: f64,
    /// How many of the caller's pixels there are along the width of the picture to draw.
    pub own_width: u32,
}

/// The picture and its mask at one size.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    /// The picture.
    pub picture: Rgb,
    /// What of it is drawn anew; of the picture's size. None for all.
    pub mask: Option<Mask>,
}

/// What is wrong with a picture to start from.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InitialError {
    /// There is none.
    #[error("is missing: a strength and a mask are of a picture to start from")]
    Missing,
    /// It cannot be read.
    #[error(transparent)]
    Image(PictureError),
    /// The mask cannot be read.
    #[error(transparent)]
    Mask(PictureError),
    /// The mask is of another picture.
    #[error("is {size} pixels, must have the size of the picture, {picture}")]
    MaskSize {
        /// Of the mask, pixels.
        size: Size,
        /// Of the picture, pixels.
        picture: Size,
    },
    /// The mask leaves nothing to do.
    #[error("has no white pixel in the part of the picture that is used: white is drawn anew, black is kept")]
    AllKept,
    /// No share of the steps.
    #[error("must be above 0 and at most 1, not {0}")]
    Strength(f64),
    /// No way to bring it to other proportions.
    #[error("{0}")]
    Fit(String),
}

impl InitialError {
    /// The wrong field of the message.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing | Self::Image(_) => "image",
            Self::Mask(_) | Self::MaskSize { .. } | Self::AllKept => "mask",
            Self::Strength(_) => "strength",
            Self::Fit(_) => "fit",
        }
    }
}

impl Opened {
    /// Checks a message, without decoding a pixel.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn read(message: &InitialPicture) -> Result<Self, Vec<InitialError>> {
        let mut errors = Vec::new();
        let mut note = |error| errors.push(error);
        let image = message.image.as_ref().ok_or(InitialError::Missing);
        let image = image.and_then(|image| Encoded::read(image).map_err(InitialError::Image));
        let image = image.map_err(&mut note).ok();
        let read_mask = |mask| Encoded::read(mask).map_err(InitialError::Mask);
        let mask = message.mask.as_ref().and_then(|mask| read_mask(mask).map_err(&mut note).ok());
        if let Some((image, mask)) = image.as_ref().zip(mask.as_ref())
            && image.size() != mask.size()
        {
            note(InitialError::MaskSize { size: mask.size(), picture: image.size() });
        }
        let strength = message.strength.unwrap_or(default_strength(message.mask.is_some()));
        if !is_strength(strength) {
            note(InitialError::Strength(strength));
        }
        let fit =
            Fit::from_message(message.fit).map_err(|why| note(InitialError::Fit(why))).unwrap_or_default();
        match image {
            Some(image) if errors.is_empty() => Ok(Self { image, mask, fit, strength }),
            _ => Err(errors),
        }
    }

    /// Its width and height in pixels.
    pub fn size(&self) -> Size {
        self.image.size()
    }

    /// Whether a mask keeps a part of it.
    pub fn has_mask(&self) -> bool {
        self.mask.is_some()
    }

    /// The share of the steps that are taken, in (0, 1].
    pub fn strength(&self) -> f64 {
        self.strength
    }

    /// How many of the caller's pixels there are along the width of a picture of `size` that starts from it.
    pub fn own_width(&self, size: Size) -> u32 {
        let own = self.size();
        match self.fit {
            Fit::Crop => fit::middle(own, size).size.width,
            Fit::Pad => {
                let inner = fit::between_bars(own, size).size.width;
                (u64::from(own.width) * u64::from(size.width) / u64::from(inner)) as u32
            }
        }
    }

    /// Decodes it in the process's pool, at each of the `sizes`, which have the proportions of the first.
    ///
    /// # Errors
    /// Why it cannot be decoded, or [`InitialError::AllKept`].
    pub async fn bring_to(self, sizes: Vec<Size>) -> Result<Initial, InitialError> {
        let masks = u64::from(self.has_mask());
        let pixels = self.size().pixels() * (1 + masks);
        let decoded = pool::run(pixels, move || Ok(self.decode(sizes))).await;
        decoded.map_err(InitialError::Image).flatten()
    }

    fn decode(self, sizes: Vec<Size>) -> Result<Initial, InitialError> {
        let picture = self.image.decode().map_err(InitialError::Image)?;
        let mask = self.mask.as_ref().map(Encoded::decode_mask).transpose().map_err(InitialError::Mask)?;
        let own_width = sizes.first().map_or(0, |size| self.own_width(*size));
        let start = |size: Size| {
            let mask = mask.as_ref().map(|mask| mask.brought_to(size, self.fit));
            if mask.as_ref().is_some_and(|mask| !mask.drawn().contains(&true)) {
                return Err(InitialError::AllKept);
            }
            Ok((size, Start { picture: fit::bring_to(&picture, size, self.fit, resize), mask }))
        };
        let starts = sizes.into_iter().map(start).collect::<Result<_, _>>()?;
        Ok(Initial { starts, strength: self.strength, own_width })
    }
}

/// The mean of what each pixel covers where `size` is smaller, Lanczos 3 where it is larger, and the pixels as they came where
/// it is neither.
fn resize(picture: &Rgb, size: Size) -> Rgb {
    if size.width < picture.width() {
        pictures::shrink(picture, size)
    } else {
        pictures::resize(picture, size)
    }
}

impl Initial {
    /// The picture and its mask at `size`, which must be one of those that it was brought to.
    pub fn at(&self, size: Size) -> Option<&Start> {
        self.starts.iter().find(|(at, _)| *at == size).map(|(_, start)| start)
    }

    /// A message that brings the picture at `size` to another service, as it is.
    pub fn message(&self, size: Size) -> Option<InitialPicture> {
        let Start { picture, mask } = self.at(size)?;
        Some(InitialPicture {
            image: Some(pictures::raw(picture.clone())),
            strength: Some(self.strength),
            mask: mask.as_ref().map(|mask| pictures::raw(mask.to_picture())),
            ..InitialPicture::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use reverie_proto::tensor::v1::{self, Image};

    use super::*;

    fn gray(width: u32, height: u32, level: u8) -> Image {
        pictures::raw(Rgb::from_pixel(width, height, image::Rgb([level; 3])))
    }

    fn read(
        image: Option<&Image>,
        mask: Option<&Image>,
        strength: Option<f64>,
    ) -> Result<Opened, Vec<InitialError>> {
        let (image, mask) = (image.cloned(), mask.cloned());
        Opened::read(&InitialPicture { image, strength, mask, ..InitialPicture::default() })
    }

    fn errors(
        image: Option<&Image>,
        mask: Option<&Image>,
        strength: Option<f64>,
    ) -> Vec<(&'static str, String)> {
        let errors = read(image, mask, strength).unwrap_err();
        errors.iter().map(|error| (error.field(), error.to_string())).collect()
    }

    #[test]
    fn a_strength_that_is_not_given_depends_on_the_mask() {
        let (own, mask) = (gray(4, 4, 9), gray(4, 4, 255));
        let strength = |mask, strength| read(Some(&own), mask, strength).unwrap().strength().to_bits();
        assert_eq!(strength(None, None), 0.8_f64.to_bits());
        assert_eq!(strength(Some(&mask), None), 1.0_f64.to_bits());
        assert_eq!(strength(Some(&mask), Some(0.3)), 0.3_f64.to_bits());
    }

    #[test]
    fn all_that_is_wrong_is_named() {
        let (own, white) = (gray(4, 4, 9), gray(4, 4, 255));
        let missing = "is missing: a strength and a mask are of a picture to start from".to_owned();
        assert_eq!(errors(None, Some(&white), None), [("image", missing)]);
        let empty = "it is empty: it has 0 bytes".to_owned();
        assert_eq!(errors(Some(&Image::default()), None, None), [("image", empty.clone())]);
        assert_eq!(errors(Some(&own), Some(&Image::default()), None), [("mask", empty)]);
        let strength = "must be above 0 and at most 1, not 0".to_owned();
        let size = "is 8 x 8 pixels, must have the size of the picture, 4 x 4".to_owned();
        let large = gray(8, 8, 255);
        assert_eq!(errors(Some(&own), Some(&large), Some(0.0)), [("mask", size), ("strength", strength)]);
        for strength in [1.5, -1.0, f64::NAN] {
            assert_eq!(errors(Some(&own), None, Some(strength))[0].0, "strength");
        }
        let unreadable = Image { data: vec![1, 2, 3].into(), ..Image::default() };
        assert_eq!(errors(Some(&unreadable), None, None)[0].0, "image");
        assert_eq!(errors(Some(&own), Some(&unreadable), None)[0].0, "mask");
        let unknown = InitialPicture { image: Some(own), fit: 7, ..InitialPicture::default() };
        assert_eq!(Opened::read(&unknown).unwrap_err()[0].field(), "fit");
    }

    #[tokio::test]
    async fn a_picture_of_other_proportions_is_cut_or_padded_with_its_mask() {
        let image = Some(pictures::raw(Rgb::from_fn(12, 6, |x, _| [x as u8 * 20; 3].into())));
        let mask = Some(pictures::raw(Rgb::from_fn(12, 6, |x, _| [if x < 4 { 255 } else { 0 }; 3].into())));
        let at = async |fit: v1::Fit, mask: Option<&Image>| {
            let message =
                InitialPicture { image: image.clone(), mask: mask.cloned(), fit: fit.into(), strength: None };
            Opened::read(&message).unwrap().bring_to(vec![Size::square(6), Size::square(3)]).await
        };
        let cut = at(v1::Fit::Unspecified, mask.as_ref()).await.unwrap();
        let Start { picture, mask: drawn } = cut.at(Size::square(6)).unwrap();
        assert_eq!(
            picture.rows().next().unwrap().map(|pixel| pixel.0[0]).collect::<Vec<_>>(),
            [60, 80, 100, 120, 140, 160]
        );
        assert_eq!(drawn.as_ref().unwrap().drawn()[..6], [true, false, false, false, false, false]);
        assert_eq!((cut.own_width, cut.at(Size::square(3)).unwrap().picture.width()), (6, 3));
        assert_eq!(cut.at(Size::square(5)), None);
        let padded = at(v1::Fit::Pad, mask.as_ref()).await.unwrap();
        assert_eq!(padded.own_width, 12);
        let Start { picture, mask: drawn } = padded.at(Size::square(6)).unwrap();
        assert_eq!((picture.get_pixel(3, 0).0, picture.get_pixel(0, 3).0), ([128; 3], [10; 3]));
        assert!(drawn.as_ref().unwrap().drawn()[..6].iter().all(|drawn| *drawn), "bars are drawn anew");
        // Only what is used counts.
        let far = Some(pictures::raw(Rgb::from_fn(12, 6, |x, _| [if x < 2 { 255 } else { 0 }; 3].into())));
        assert_eq!(at(v1::Fit::Crop, far.as_ref()).await, Err(InitialError::AllKept));
        assert!(at(v1::Fit::Pad, far.as_ref()).await.is_ok());
        let black = gray(12, 6, 100);
        assert_eq!(at(v1::Fit::Crop, Some(&black)).await, Err(InitialError::AllKept));
    }

    #[tokio::test]
    async fn what_is_sent_on_is_read_as_it_was() {
        let image = Some(pictures::raw(Rgb::from_fn(9, 9, |x, y| [(x * y) as u8, 7, x as u8].into())));
        let mask = Some(pictures::raw(Rgb::from_fn(9, 9, |x, y| [if x > y { 255 } else { 0 }; 3].into())));
        let message = InitialPicture { image, mask, ..InitialPicture::default() };
        let size = Size::square(4);
        let first = Opened::read(&message).unwrap().bring_to(vec![size]).await.unwrap();
        let again = Opened::read(&first.message(size).unwrap()).unwrap().bring_to(vec![size]).await.unwrap();
        assert_eq!((again.at(size), again.strength.to_bits()), (first.at(size), first.strength.to_bits()));
    }
}
