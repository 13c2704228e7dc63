//! Pixels to `reverie.tensor.v1.Image`, resized, and to the planes that models take.

use bytes::Bytes;
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use image::imageops::FilterType;
use image::{ExtendedColorType, ImageEncoder as _, RgbImage};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Image, ImageFormat};

use crate::bicubic;
pub use crate::encoded::{MAX_ENCODED_BYTES, MAX_SIDE, decode};
pub use crate::error::PictureError;

/// Pixels: interleaved 8-bit RGB.
pub use image::RgbImage as Rgb;

const JPEG_QUALITY: u8 = 92;

/// Encodes a picture. [`ImageFormat::Unspecified`] means PNG; WebP is lossless.
pub fn encode(picture: &RgbImage, format: ImageFormat) -> Result<Image, PictureError> {
    let (width, height) = picture.dimensions();
    let format = if format == ImageFormat::Unspecified { ImageFormat::Png } else { format };
    let mut data = Vec::new();
    let rgb8 = ExtendedColorType::Rgb8;
    match format {
        ImageFormat::Jpeg => {
            JpegEncoder::new_with_quality(&mut data, JPEG_QUALITY).write_image(picture, width, height, rgb8)
        }
        ImageFormat::Webp => WebPEncoder::new_lossless(&mut data).write_image(picture, width, height, rgb8),
        ImageFormat::Rgb8 => {
            data.extend_from_slice(picture);
            Ok(())
        }
        ImageFormat::Png | ImageFormat::Unspecified => {
            PngEncoder::new(&mut data).write_image(picture, width, height, rgb8)
        }
    }
    .map_err(|error| PictureError::Undecodable(error.to_string()))?;
    Ok(Image { format: format.into(), width, height, data: Bytes::from(data) })
}

/// Wraps pixels as `IMAGE_FORMAT_RGB8` without encoding.
pub fn raw(picture: RgbImage) -> Image {
    let (width, height) = picture.dimensions();
    Image { format: ImageFormat::Rgb8.into(), width, height, data: Bytes::from(picture.into_raw()) }
}

/// Resizes to `size`: Lanczos 3, as smooth as models were trained on.
pub fn resize(picture: &RgbImage, size: Size) -> RgbImage {
    if Size::from(picture.dimensions()) == size {
        return picture.clone();
    }
    image::imageops::resize(picture, size.width, size.height, FilterType::Lanczos3)
}

/// Resizes to `side` x `side`; see [`resize`].
pub fn resize_square(picture: &RgbImage, side: u32) -> RgbImage {
    resize(picture, Size::square(side))
}

/// Resizes so that the shorter side has `shorter` pixels (bicubic, to the last bit as encoders of pictures were trained), and
/// cuts a square of `side` out of the middle: at most `shorter`. Nothing but the middle is computed: the whole of 4,096 x 1 pixels
/// would be 4,096 `shorter` pixels wide.
pub fn crop_square(picture: &RgbImage, shorter: u32, side: u32) -> RgbImage {
    let side = side.min(shorter);
    let (width, height) = picture.dimensions();
    let longer = |other: u32, own: u32| (u64::from(other) * u64::from(shorter) / u64::from(own)) as u32;
    let size = if width <= height {
        Size { width: shorter, height: longer(height, width) }
    } else {
        Size { width: longer(width, height), height: shorter }
    };
    let (left, top) = ((size.width - side) / 2, (size.height - side) / 2);
    bicubic::window(picture, size, left..left + side, top..top + side)
}

/// Shrinks to `size`: each pixel is the mean of the area that it covers, parts of pixels included (an area filter).
pub fn shrink(picture: &RgbImage, size: Size) -> RgbImage {
    let Size { width, height } = size;
    let (across, down) = (covered(picture.width(), width), covered(picture.height(), height));
    // 1. Every row to its new width.
    let rows: Vec<[f32; 3]> = picture
        .rows()
        .flat_map(|row| {
            let row: Vec<_> = row.map(|pixel| pixel.0.map(f32::from)).collect();
            across.iter().map(move |covered| mean(covered, |x| row[x])).collect::<Vec<_>>()
        })
        .collect();
    // 2. Every column to its new height.
    RgbImage::from_fn(width, height, |x, y| {
        let means = mean(&down[y as usize], |row| rows[row * width as usize + x as usize]);
        image::Rgb(means.map(|value| (value + 0.5) as u8))
    })
}

/// The places of `from` that each of `to` places covers, with their shares of it.
fn covered(from: u32, to: u32) -> Vec<Vec<(usize, f32)>> {
    let length = f64::from(from) / f64::from(to);
    let shares = |i: u32| {
        let (start, end) = (f64::from(i) * length, f64::from(i + 1) * length);
        let places = start as u32..(end.ceil() as u32).min(from);
        let share = |place| (f64::from(place + 1).min(end) - f64::from(place).max(start)) / length;
        places.map(|place| (place as usize, share(place) as f32)).collect()
    };
    (0..to).map(shares).collect()
}

fn mean(covered: &[(usize, f32)], value: impl Fn(usize) -> [f32; 3]) -> [f32; 3] {
    covered.iter().fold([0.0; 3], |sum, &(place, share)| {
        let value = value(place);
        std::array::from_fn(|channel| sum[channel] + share * value[channel])
    })
}

/// Pixels to f32 `[3, height, width]` in [-1, 1].
pub fn to_planes(picture: &RgbImage) -> Vec<f32> {
    let area = picture.width() as usize * picture.height() as usize;
    let mut planes = Vec::with_capacity(3 * area);
    for channel in 0..3 {
        planes.extend(picture.pixels().map(|pixel| f32::from(pixel.0[channel]) / 127.5 - 1.0));
    }
    planes
}

/// Pixels to f32 `[3, height, width]`: (pixel / 255 - mean) / std of each channel, as encoders of pictures take them.
pub fn to_normalized_planes(picture: &RgbImage, mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let area = picture.width() as usize * picture.height() as usize;
    let mut planes = Vec::with_capacity(3 * area);
    for channel in 0..3 {
        let level = |value: u8| (f32::from(value) / 255.0 - mean[channel]) / std[channel];
        planes.extend(picture.pixels().map(|pixel| level(pixel.0[channel])));
    }
    planes
}

/// f32 `[3, height, width]` in [-1, 1] to pixels; values outside are clipped.
///
/// # Errors
/// [`PictureError::Length`] if `planes` does not hold 3 x height x width values.
pub fn from_planes(planes: &[f32], width: u32, height: u32) -> Result<RgbImage, PictureError> {
    let area = width as usize * height as usize;
    let mut pixels = Vec::with_capacity(planes.len());
    if planes.len() == 3 * area {
        let (red, rest) = planes.split_at(area);
        let (green, blue) = rest.split_at(area);
        // (v + 1) 127.5, rounded: the cast cuts off the fraction and clips to 0..255.
        let level = |value: &f32| (value * 127.5 + 128.0) as u8;
        for ((red, green), blue) in red.iter().zip(green).zip(blue) {
            pixels.extend_from_slice(&[level(red), level(green), level(blue)]);
        }
    }
    let length = PictureError::Length { width, height, expected: 3 * area as u64, actual: planes.len() };
    RgbImage::from_raw(width, height, pixels).ok_or(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]))
    }

    #[test]
    fn lossless_formats_give_the_same_pixels_back() {
        for format in [ImageFormat::Png, ImageFormat::Webp, ImageFormat::Rgb8, ImageFormat::Unspecified] {
            let picture = gradient(40, 30);
            let mut message = encode(&picture, format).unwrap();
            assert_eq!(decode(&message).unwrap(), picture);
            if format != ImageFormat::Rgb8 {
                message.format = ImageFormat::Unspecified.into();
                assert_eq!(decode(&message).unwrap(), picture, "the format is told from the bytes");
            }
        }
    }

    #[test]
    fn planes_give_the_same_pixels_back() {
        let picture = gradient(16, 16);
        assert_eq!(from_planes(&to_planes(&picture), 16, 16).unwrap(), picture);
        assert!(matches!(from_planes(&[0.0; 5], 16, 16), Err(PictureError::Length { .. })));
    }

    #[test]
    fn a_picture_that_claims_a_huge_size_is_refused_before_decoding() {
        let mut message = encode(&gradient(8, 8), ImageFormat::Png).unwrap();
        let mut data = message.data.to_vec();
        // The IHDR chunk's width and height, big-endian, and its checksum made right again.
        data[16..24].copy_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff]);
        let checksum = crc32(&data[12..29]);
        data[29..33].copy_from_slice(&checksum.to_be_bytes());
        message.data = data.into();
        assert_eq!(decode(&message), Err(PictureError::Size { width: 65535, height: 65535 }));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0u32, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| {
                (crc >> 1) ^ (0xedb8_8320 & (!(crc & 1)).wrapping_add(1))
            })
        })
    }

    #[test]
    fn the_middle_of_a_long_picture_is_cut_out() {
        for (width, height) in [(4096, 1), (1, 4096), (33, 71)] {
            let square = crop_square(&RgbImage::from_pixel(width, height, image::Rgb([9, 8, 7])), 256, 224);
            assert_eq!(square, RgbImage::from_pixel(224, 224, image::Rgb([9, 8, 7])));
        }
    }

    #[test]
    fn a_smaller_picture_has_the_means_of_what_it_covers() {
        // 1, 2 / 3, 6 and so on in blocks of two.
        let levels = [[1, 3], [2, 6]];
        let blocks = RgbImage::from_fn(4, 4, |x, y| image::Rgb([levels[x as usize % 2][y as usize % 2]; 3]));
        assert!(shrink(&blocks, Size::square(2)).pixels().all(|pixel| pixel.0 == [3; 3]));
        // Three columns to two: the middle one is shared.
        let columns = RgbImage::from_fn(3, 3, |x, _| image::Rgb([[0, 90, 240][x as usize]; 3]));
        let means: Vec<_> = shrink(&columns, Size::square(2)).pixels().map(|pixel| pixel.0[0]).collect();
        assert_eq!(means, [30, 190, 30, 190]);
        assert_eq!(shrink(&gradient(7, 7), Size::square(7)), gradient(7, 7));
    }

    #[test]
    fn raw_pixels_must_fill_the_picture() {
        let message =
            Image { format: ImageFormat::Rgb8.into(), width: 2, height: 2, data: vec![0; 11].into() };
        assert!(matches!(decode(&message), Err(PictureError::Length { expected: 12, actual: 11, .. })));
        let message =
            Image { format: ImageFormat::Rgb8.into(), width: 0, height: 9, data: vec![0; 11].into() };
        assert!(matches!(decode(&message), Err(PictureError::Size { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(format in 0i32..6, data in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&Image { format, width: 3, height: 3, data: data.into() });
        }
    }
}
