//! `reverie.tensor.v1.Image` to pixels and back, and pixels to the [-1, 1] planes that models take.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::{jpeg::JpegEncoder, png::PngEncoder, webp::WebPEncoder};
use image::imageops::FilterType;
use image::{ExtendedColorType, ImageEncoder as _, ImageFormat as Codec, ImageReader, Limits, RgbImage};

use crate::bicubic;
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Image, ImageFormat};

/// Pixels: interleaved 8-bit RGB.
pub use image::RgbImage as Rgb;

/// Largest encoded picture that is looked at, bytes.
pub const MAX_ENCODED_BYTES: usize = 8 << 20;
/// Longest side of a picture that is decoded, pixels.
pub const MAX_SIDE: u32 = 4096;
/// Most memory that decoding one picture may take, bytes.
const MAX_DECODE_BYTES: u64 = 160 << 20;
const JPEG_QUALITY: u8 = 92;

/// Why a picture message cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// There are no bytes.
    #[error("it is empty")]
    Empty,
    /// There are too many bytes.
    #[error("it has {0} bytes, at most {MAX_ENCODED_BYTES} are taken")]
    TooManyBytes(usize),
    /// The format is not one of the known ones.
    #[error("its format is not PNG, JPEG, WebP or RGB8")]
    UnknownFormat,
    /// A side is zero or too long.
    #[error("it is {width} x {height} pixels, each side must be 1 to {MAX_SIDE}")]
    Size {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// The raw bytes do not fill the picture.
    #[error("RGB8 of {width} x {height} needs {expected} bytes, it has {actual}")]
    Length {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// Bytes needed.
        expected: u64,
        /// Bytes that came.
        actual: usize,
    },
    /// The decoder gave up.
    #[error("it cannot be decoded: {0}")]
    Undecodable(String),
}

/// Decodes a picture. Bytes, sides and memory are bounded before a pixel is decoded; transparency is laid on white.
pub fn decode(message: &Image) -> Result<RgbImage, PictureError> {
    if message.data.is_empty() {
        return Err(PictureError::Empty);
    }
    let codec = match ImageFormat::try_from(message.format) {
        Ok(ImageFormat::Rgb8) => return decode_raw(message),
        _ if message.data.len() > MAX_ENCODED_BYTES => {
            return Err(PictureError::TooManyBytes(message.data.len()));
        }
        Ok(ImageFormat::Png) => Codec::Png,
        Ok(ImageFormat::Jpeg) => Codec::Jpeg,
        Ok(ImageFormat::Webp) => Codec::WebP,
        Ok(ImageFormat::Unspecified) => match image::guess_format(&message.data) {
            Ok(codec @ (Codec::Png | Codec::Jpeg | Codec::WebP)) => codec,
            _ => return Err(PictureError::UnknownFormat),
        },
        Err(_) => return Err(PictureError::UnknownFormat),
    };
    let undecodable = |error: image::ImageError| PictureError::Undecodable(error.to_string());
    let reader = || ImageReader::with_format(Cursor::new(&message.data[..]), codec);
    let (width, height) = reader().into_dimensions().map_err(undecodable)?;
    check_sides(width, height)?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    let mut reader = reader();
    reader.limits(limits);
    let picture = reader.decode().map_err(undecodable)?;
    Ok(if picture.color().has_alpha() { on_white(&picture.to_rgba8()) } else { picture.into_rgb8() })
}

fn decode_raw(message: &Image) -> Result<RgbImage, PictureError> {
    let (width, height) = (message.width, message.height);
    check_sides(width, height)?;
    let expected = 3 * u64::from(width) * u64::from(height);
    RgbImage::from_raw(width, height, message.data.to_vec())
        .filter(|_| expected == message.data.len() as u64)
        .ok_or(PictureError::Length { width, height, expected, actual: message.data.len() })
}

fn check_sides(width: u32, height: u32) -> Result<(), PictureError> {
    let valid = 1..=MAX_SIDE;
    if valid.contains(&width) && valid.contains(&height) {
        Ok(())
    } else {
        Err(PictureError::Size { width, height })
    }
}

fn on_white(picture: &image::RgbaImage) -> RgbImage {
    let mut opaque = RgbImage::new(picture.width(), picture.height());
    for (target, source) in opaque.pixels_mut().zip(picture.pixels()) {
        let [red, green, blue, alpha] = source.0;
        let over = |channel: u8| {
            ((u32::from(channel) * u32::from(alpha) + 255 * (255 - u32::from(alpha)) + 127) / 255) as u8
        };
        target.0 = [over(red), over(green), over(blue)];
    }
    opaque
}

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

/// Resizes so that the shorter side has `side` pixels (bicubic, to the last bit as encoders of pictures were trained), and cuts
/// out the middle.
pub fn crop_square(picture: &RgbImage, side: u32) -> RgbImage {
    let (width, height) = picture.dimensions();
    let longer = |other: u32, shorter: u32| (u64::from(other) * u64::from(side) / u64::from(shorter)) as u32;
    let (width, height) =
        if width <= height { (side, longer(height, width)) } else { (longer(width, height), side) };
    let resized = bicubic::resize(picture, width, height);
    let (left, top) = ((width - side) / 2, (height - side) / 2);
    image::imageops::crop_imm(&resized, left, top, side, side).to_image()
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
    fn transparency_is_laid_on_white() {
        let clear = image::RgbaImage::from_pixel(1, 1, image::Rgba([10, 20, 30, 0]));
        assert_eq!(on_white(&clear).get_pixel(0, 0).0, [255, 255, 255]);
        let solid = image::RgbaImage::from_pixel(1, 1, image::Rgba([10, 20, 30, 255]));
        assert_eq!(on_white(&solid).get_pixel(0, 0).0, [10, 20, 30]);
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
