//! Images that are sent along for people to look at: small enough for every client.

use image::RgbImage;
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Image, ImageFormat};

use crate::PictureError;
use crate::pictures::{encode, shrink};

/// How large a preview may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Longest side, pixels; at least 1.
    pub side: u32,
    /// Most bytes.
    pub bytes: usize,
}

impl Default for Bounds {
    /// 512 pixels and 448 KiB: eight of them and their captions stay below 4 MiB, which is what gRPC clients take unless told
    /// otherwise.
    fn default() -> Self {
        Self { side: 512, bytes: 448 << 10 }
    }
}

/// Whether an encoded image of that size is small enough to be sent as it is.
pub fn is_small(image: &Image, size: Size, bounds: Bounds) -> bool {
    size.width.max(size.height) <= bounds.side
        && image.data.len() <= bounds.bytes
        && image.format != i32::from(ImageFormat::Rgb8)
}

/// A smaller image of the same proportions, JPEG, within `bounds` (unless they have fewer bytes than a JPEG of one pixel).
///
/// # Errors
/// If it cannot be encoded.
pub fn of(picture: &RgbImage, bounds: Bounds) -> Result<Image, PictureError> {
    let own = Size::from(picture.dimensions());
    let longest = own.width.max(own.height);
    let mut side = bounds.side.min(longest);
    loop {
        let scaled = |length: u32| (u64::from(length) * u64::from(side) / u64::from(longest)).max(1) as u32;
        let size = Size { width: scaled(own.width), height: scaled(own.height) };
        let preview = encode(&shrink(picture, size), ImageFormat::Jpeg)?;
        if preview.data.len() <= bounds.bytes || side == 1 {
            return Ok(preview);
        }
        side = (side * 3 / 4).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise, which no format makes small.
    fn noise(width: u32, height: u32) -> RgbImage {
        let mut state = 1_u64;
        RgbImage::from_fn(width, height, |_, _| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = state.to_be_bytes();
            image::Rgb([bytes[0], bytes[1], bytes[2]])
        })
    }

    #[test]
    fn a_preview_is_bounded_in_pixels_and_bytes() {
        for bounds in [Bounds::default(), Bounds { side: 192, bytes: 35 << 10 }] {
            for (width, height) in [(2000, 1500), (600, 600), (4096, 1), (512, 512), (1, 700)] {
                let picture = noise(width, height);
                let preview = of(&picture, bounds).unwrap();
                let (bytes, size) = (preview.data.len(), (preview.width, preview.height));
                assert!(bytes <= bounds.bytes, "{width} x {height}: {bytes} bytes");
                assert!(size.0.max(size.1) <= bounds.side, "{size:?}");
                assert!(is_small(&preview, size.into(), bounds));
            }
        }
        let flat = of(&RgbImage::new(2000, 1000), Bounds::default()).unwrap();
        assert_eq!((flat.width, flat.height), (512, 256));
    }

    #[test]
    fn large_files_and_large_pictures_are_not_small() {
        let is_small = |image: &Image, size| is_small(image, size, Bounds::default());
        let small = Image { data: vec![0; 100].into(), ..Image::default() };
        assert!(is_small(&small, Size::square(512)) && !is_small(&small, Size::square(513)));
        let heavy = Image { data: vec![0; Bounds::default().bytes + 1].into(), ..Image::default() };
        assert!(!is_small(&heavy, Size::square(64)));
        let raw = Image { format: ImageFormat::Rgb8.into(), ..small };
        assert!(!is_small(&raw, Size::square(8)), "not a file that can be opened");
    }
}
