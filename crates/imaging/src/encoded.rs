//! `reverie.tensor.v1.Image` to pixels, in two steps: the header, which says what the pixels will take, then the pixels.
//!
//! One set of rules for every image that comes in: the picture is turned as its EXIF orientation says, its colours are
//! converted to sRGB, and its transparency is left out (the colours beneath it count), as diffusers and transformers do.

use std::io::Cursor;

use bytes::Bytes;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat as Codec, ImageReader, Limits, RgbImage};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Image, ImageFormat};

use crate::mask::Mask;
use crate::{PictureError, colour, format, jpeg};

/// Largest encoded picture that is looked at, bytes.
pub const MAX_ENCODED_BYTES: usize = 8 << 20;
/// Longest side of a picture that is decoded, pixels.
pub const MAX_SIDE: u32 = 4096;
/// Most memory that decoding one picture may take, bytes.
const MAX_DECODE_BYTES: u64 = 160 << 20;

/// An image whose header has been read. Bytes and sides are within bounds; not a pixel is decoded.
#[derive(Debug, Clone)]
pub struct Encoded {
    format: Known,
    data: Bytes,
    /// As it is to be looked at.
    size: Size,
}

#[derive(Debug, Clone, Copy)]
enum Known {
    Raw,
    Jpeg,
    Other(Codec),
}

impl Encoded {
    /// Reads the header of an image that a message must have.
    ///
    /// # Errors
    /// Why it cannot be decoded, as far as the header tells.
    pub fn required(image: Option<&Image>) -> Result<Self, PictureError> {
        image.ok_or(PictureError::Missing).and_then(Self::read)
    }

    /// Reads the header.
    ///
    /// # Errors
    /// Why it cannot be decoded, as far as the header tells.
    pub fn read(message: &Image) -> Result<Self, PictureError> {
        let data = message.data.clone();
        if data.is_empty() {
            return Err(PictureError::Empty);
        }
        let format = match ImageFormat::try_from(message.format) {
            Ok(ImageFormat::Rgb8) => return Self::raw(message),
            Ok(ImageFormat::Unspecified) => format::of(&data),
            Ok(format) => Some(format),
            Err(_) => return Err(PictureError::UnknownFormat),
        };
        if let Some(name) = format::unsupported(&data) {
            return Err(PictureError::Unsupported(name));
        }
        if data.len() > MAX_ENCODED_BYTES {
            return Err(PictureError::TooManyBytes(data.len()));
        }
        let (format, stored, orientation) = match format {
            Some(ImageFormat::Jpeg) => {
                let header = jpeg::Header::read(&data)?;
                (Known::Jpeg, header.size, header.orientation)
            }
            Some(ImageFormat::Png) => other(Codec::Png, &data)?,
            Some(ImageFormat::Webp) => other(Codec::WebP, &data)?,
            _ => return Err(PictureError::UnknownFormat),
        };
        PictureError::check_sides(stored)?;
        Ok(Self { format, data, size: turned(stored, orientation) })
    }

    fn raw(message: &Image) -> Result<Self, PictureError> {
        let (width, height) = (message.width, message.height);
        let size = Size { width, height };
        PictureError::check_sides(size)?;
        let expected = 3 * size.pixels();
        let actual = message.data.len();
        if expected != actual as u64 {
            return Err(PictureError::Length { width, height, expected, actual });
        }
        Ok(Self { format: Known::Raw, data: message.data.clone(), size })
    }

    /// Width and height of the picture, turned as it is to be looked at.
    pub fn size(&self) -> Size {
        self.size
    }

    /// What the pixels are decoded from: images of equal bytes and equal sizes have equal pixels.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Decodes the pixels. Blocks; [`crate::pool`] bounds how many are decoded at a time.
    ///
    /// # Errors
    /// Why it cannot be decoded.
    pub fn decode(&self) -> Result<RgbImage, PictureError> {
        let (image, profile) = self.pixels()?;
        colour::to_srgb(image, profile.as_deref())
    }

    /// Decodes a mask; see [`Mask::read`]. Blocks.
    ///
    /// # Errors
    /// Why it is no mask.
    pub fn decode_mask(&self) -> Result<Mask, PictureError> {
        Mask::read(self.pixels()?.0)
    }

    /// The pixels, turned as they are to be looked at, and the profile that says what colours they are.
    fn pixels(&self) -> Result<(DynamicImage, Option<Vec<u8>>), PictureError> {
        let Size { width, height } = self.size;
        let (mut image, orientation, profile) = match self.format {
            Known::Raw => {
                let image = RgbImage::from_raw(width, height, self.data.to_vec());
                let image = image.ok_or_else(|| PictureError::undecodable("it does not fill its size"))?;
                return Ok((image.into(), None));
            }
            Known::Jpeg => {
                let mut header = jpeg::Header::read(&self.data)?;
                let profile = header.profile.take().filter(|_| !header.is_in_inks());
                let orientation = header.orientation;
                (header.decode()?, orientation, profile)
            }
            Known::Other(codec) => {
                if codec == Codec::WebP && !is_whole_riff(&self.data) {
                    return Err(PictureError::CutOff);
                }
                let mut decoder = decoder(codec, &self.data)?;
                let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
                let profile = decoder.icc_profile().map_err(PictureError::undecodable)?;
                let image = DynamicImage::from_decoder(decoder).map_err(|error| match &error {
                    image::ImageError::IoError(error)
                        if error.kind() == std::io::ErrorKind::UnexpectedEof =>
                    {
                        PictureError::CutOff
                    }
                    _ => PictureError::undecodable(error),
                })?;
                (image, orientation, profile)
            }
        };
        image.apply_orientation(orientation);
        Ok((image, profile))
    }
}

/// Whether there are as many bytes as the file says it has after its first eight; the last may be a filling one.
fn is_whole_riff(data: &[u8]) -> bool {
    let length =
        data.get(4..8).and_then(|length| length.first_chunk()).map(|length| u32::from_le_bytes(*length));
    length.is_some_and(|length| length as usize <= data.len().saturating_sub(7))
}

/// A decoder that has read the header, within bounds.
fn decoder(codec: Codec, data: &[u8]) -> Result<impl ImageDecoder, PictureError> {
    let mut limits = Limits::default();
    limits.max_alloc = Some(MAX_DECODE_BYTES);
    let mut reader = ImageReader::with_format(Cursor::new(data), codec);
    reader.limits(limits);
    reader.into_decoder().map_err(PictureError::undecodable)
}

fn other(codec: Codec, data: &[u8]) -> Result<(Known, Size, Orientation), PictureError> {
    let mut decoder = decoder(codec, data)?;
    let size = decoder.dimensions().into();
    // A damaged EXIF block says nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    Ok((Known::Other(codec), size, orientation))
}

fn turned(size: Size, orientation: Orientation) -> Size {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => Size { width: size.height, height: size.width },
        _ => size,
    }
}

/// Reads and decodes a picture at once. Blocks.
///
/// # Errors
/// Why it cannot be decoded.
pub fn decode(message: &Image) -> Result<RgbImage, PictureError> {
    Encoded::read(message)?.decode()
}
