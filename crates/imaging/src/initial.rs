//! `reverie.denoiser.v1.InitialPicture` to pixels: the picture that another one is drawn from.

use crate::mask::Mask;
use crate::pictures::{self, PictureError, Rgb};
use reverie_proto::denoiser::v1::InitialPicture;
use reverie_proto::sizes::Size;

/// The strength of a request that gives none, without and with a mask.
const DEFAULT_STRENGTH: f64 = 0.8;
const DEFAULT_STRENGTH_OF_MASK: f64 = 1.0;

/// The share of the steps that a request without a strength takes.
pub fn default_strength(has_mask: bool) -> f64 {
    if has_mask { DEFAULT_STRENGTH_OF_MASK } else { DEFAULT_STRENGTH }
}

/// A picture to start from, checked and decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct Initial {
    picture: Rgb,
    /// What of it is drawn anew; of the picture's size. None for all.
    pub mask: Option<Mask>,
    /// The share of the steps that are taken, in (0, 1].
    pub strength: f64,
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
    /// It has not the proportions of the picture to draw.
    #[error("is {size} pixels, must have the proportions of the picture to draw, {drawn}: crop it")]
    Proportions {
        /// Of the initial picture, pixels.
        size: Size,
        /// Of the picture to draw, pixels.
        drawn: Size,
    },
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
    #[error("has no white pixel: white is drawn anew, black is kept")]
    AllKept,
    /// No share of the steps.
    #[error("must be above 0 and at most 1, not {0}")]
    Strength(f64),
}

impl InitialError {
    /// The wrong field of the message.
    pub fn field(&self) -> &'static str {
        match self {
            Self::Missing | Self::Image(_) | Self::Proportions { .. } => "image",
            Self::Mask(_) | Self::MaskSize { .. } | Self::AllKept => "mask",
            Self::Strength(_) => "strength",
        }
    }
}

impl Initial {
    /// Checks and decodes a message.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_message(message: &InitialPicture) -> Result<Self, Vec<InitialError>> {
        let mut errors = Vec::new();
        let mut note = |error| errors.push(error);
        let picture = match &message.image {
            Some(image) if !image.data.is_empty() => {
                pictures::decode(image).map_err(|error| note(InitialError::Image(error))).ok()
            }
            _ => {
                note(InitialError::Missing);
                None
            }
        };
        let mask = message
            .mask
            .as_ref()
            .and_then(|mask| pictures::decode(mask).map_err(|error| note(InitialError::Mask(error))).ok());
        if let Some((picture, mask)) = picture.as_ref().zip(mask.as_ref())
            && picture.dimensions() != mask.dimensions()
        {
            let (size, picture) = (mask.dimensions().into(), picture.dimensions().into());
            note(InitialError::MaskSize { size, picture });
        }
        let mask = mask.as_ref().map(Mask::from_picture);
        if mask.as_ref().is_some_and(|mask| !mask.drawn().contains(&true)) {
            note(InitialError::AllKept);
        }
        let strength = message.strength.unwrap_or(default_strength(message.mask.is_some()));
        if !(strength > 0.0 && strength <= 1.0) {
            note(InitialError::Strength(strength));
        }
        match picture {
            Some(picture) if errors.is_empty() => Ok(Self { picture, mask, strength }),
            _ => Err(errors),
        }
    }

    /// Its width and height in pixels.
    pub fn size(&self) -> Size {
        self.picture.dimensions().into()
    }

    /// Finds out whether a picture of the size `drawn` can start from it.
    ///
    /// # Errors
    /// [`InitialError::Proportions`]
    pub fn check_proportions(&self, drawn: Size) -> Result<(), InitialError> {
        let size = self.size();
        if size.is_proportional_to(drawn) { Ok(()) } else { Err(InitialError::Proportions { size, drawn }) }
    }

    /// The picture at `size`, of its own proportions: the mean of what each pixel covers where that is smaller, Lanczos 3
    /// where it is larger, and the pixels as they came where it is neither.
    pub fn picture_at(&self, size: Size) -> Rgb {
        if size.width < self.size().width {
            pictures::shrink(&self.picture, size)
        } else {
            pictures::resize(&self.picture, size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reverie_proto::tensor::v1::Image;

    fn gray(width: u32, height: u32, level: u8) -> Image {
        pictures::raw(Rgb::from_pixel(width, height, image::Rgb([level; 3])))
    }

    fn read(
        image: Option<&Image>,
        mask: Option<&Image>,
        strength: Option<f64>,
    ) -> Result<Initial, Vec<InitialError>> {
        let message = InitialPicture { image: image.cloned(), strength, mask: mask.cloned() };
        Initial::from_message(&message)
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
        let strength = |mask, strength| read(Some(&own), mask, strength).unwrap().strength.to_bits();
        assert_eq!(strength(None, None), 0.8_f64.to_bits());
        assert_eq!(strength(Some(&mask), None), 1.0_f64.to_bits());
        assert_eq!(strength(Some(&mask), Some(0.3)), 0.3_f64.to_bits());
    }

    #[test]
    fn all_that_is_wrong_is_named() {
        let (own, white) = (gray(4, 4, 9), gray(4, 4, 255));
        let missing = "is missing: a strength and a mask are of a picture to start from".to_owned();
        assert_eq!(errors(None, Some(&white), None), [("image", missing.clone())]);
        assert_eq!(errors(Some(&Image::default()), None, None), [("image", missing)]);
        let strength = "must be above 0 and at most 1, not 0".to_owned();
        let size = "is 8 x 8 pixels, must have the size of the picture, 4 x 4".to_owned();
        let large = gray(8, 8, 255);
        assert_eq!(errors(Some(&own), Some(&large), Some(0.0)), [("mask", size), ("strength", strength)]);
        let kept = "has no white pixel: white is drawn anew, black is kept".to_owned();
        assert_eq!(errors(Some(&own), Some(&gray(4, 4, 100)), None), [("mask", kept)]);
        let wide = read(Some(&gray(6, 4, 9)), None, None).unwrap();
        assert_eq!(wide.check_proportions((12, 8).into()), Ok(()));
        let error = wide.check_proportions(Size::square(64)).unwrap_err();
        let proportions =
            "is 6 x 4 pixels, must have the proportions of the picture to draw, 64 x 64: crop it";
        assert_eq!((error.field(), error.to_string().as_str()), ("image", proportions));
        for strength in [1.5, -1.0, f64::NAN] {
            assert_eq!(errors(Some(&own), None, Some(strength))[0].0, "strength");
        }
        let unreadable = Image { data: vec![1, 2, 3].into(), ..Image::default() };
        assert_eq!(errors(Some(&unreadable), None, None)[0].0, "image");
        assert_eq!(errors(Some(&own), Some(&unreadable), None)[0].0, "mask");
    }
}
