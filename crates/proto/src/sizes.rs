//! Width and height of pictures, and which of them a model draws.

use std::fmt;

use crate::denoiser::v1::{GetModelResponse, OtherSizes};
pub use crate::tensor::v1::Size;

impl Size {
    /// `side` x `side`.
    pub fn square(side: u32) -> Self {
        Self { width: side, height: side }
    }

    /// Width times height.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }

    /// Whether both have the same proportions.
    pub fn is_proportional_to(self, other: Self) -> bool {
        let product = |one: u32, other: u32| u64::from(one) * u64::from(other);
        product(self.width, other.height) == product(self.height, other.width)
    }
}

impl From<(u32, u32)> for Size {
    fn from((width, height): (u32, u32)) -> Self {
        Self { width, height }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}

impl OtherSizes {
    fn contain(self, size: Size) -> bool {
        let fits = |side: u32| (1..=self.max_side).contains(&side) && side.is_multiple_of(self.multiple);
        self.multiple > 0
            && fits(size.width)
            && fits(size.height)
            && size.pixels() <= u64::from(self.max_pixels)
    }
}

impl GetModelResponse {
    /// Whether the model draws pictures of this size.
    pub fn draws(&self, size: Size) -> bool {
        size == Size::square(self.image_size) || self.other_sizes.is_some_and(|sizes| sizes.contain(size))
    }

    /// What to ask for instead of a size that is not drawn, for people: `enlarged` are the sides that others make of the
    /// model's picture.
    pub fn sizes_in_words(&self, enlarged: impl IntoIterator<Item = u32>) -> String {
        let sides = [self.image_size].into_iter().chain(enlarged);
        let sides = sides.map(|side| Size::square(side).to_string()).collect::<Vec<_>>().join(" or ");
        match self.other_sizes {
            None => sides,
            Some(OtherSizes { multiple, max_side, max_pixels }) => format!(
                "{sides}, or have sides that are multiples of {multiple} up to {max_side} and at most {max_pixels} pixels in all"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_draws_its_own_size_and_those_it_says() {
        let fixed = GetModelResponse { image_size: 60, ..GetModelResponse::default() };
        assert!(fixed.draws(Size::square(60)) && !fixed.draws(Size::square(64)));
        assert_eq!(fixed.sizes_in_words([120]), "60 x 60 or 120 x 120");
        let open = GetModelResponse {
            other_sizes: Some(OtherSizes { multiple: 16, max_side: 128, max_pixels: 9000 }),
            ..fixed
        };
        let words =
            "60 x 60, or have sides that are multiples of 16 up to 128 and at most 9000 pixels in all";
        assert_eq!(open.sizes_in_words([]), words);
        for (width, height, is_drawn) in [
            (60, 60, true),
            (64, 128, true),
            (128, 64, true),
            (64, 60, false),
            (16, 144, false),
            (96, 96, false),
            (0, 64, false),
            (u32::MAX, u32::MAX, false),
        ] {
            assert_eq!(open.draws((width, height).into()), is_drawn, "{width} x {height}");
        }
        let nothing = GetModelResponse { other_sizes: Some(OtherSizes::default()), ..open };
        assert!(!nothing.draws(Size::square(16)), "a multiple of 0 is none");
    }

    #[test]
    fn proportions_are_exact() {
        let size = Size { width: 48, height: 32 };
        assert!(size.is_proportional_to((96, 64).into()) && size.is_proportional_to((3, 2).into()));
        assert!(!size.is_proportional_to((32, 48).into()) && !size.is_proportional_to((97, 64).into()));
        assert_eq!(size.to_string(), "48 x 32");
    }
}
