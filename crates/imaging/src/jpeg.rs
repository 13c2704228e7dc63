//! JPEG, baseline and progressive. A file that is cut off or damaged is refused, where decoders fill in gray.
//!
//! What lost bytes in its middle and still has its end-of-image marker is accepted: the decoder takes a scan that ends early for a
//! whole one, and does not say how much of it there was.

use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use reverie_proto::sizes::Size;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use crate::PictureError;
use crate::encoded::MAX_SIDE;

/// A JPEG whose header has been read.
pub(crate) struct Header<'a> {
    decoder: JpegDecoder<ZCursor<&'a [u8]>>,
    data: &'a [u8],
    /// As stored, before it is turned.
    pub(crate) size: Size,
    pub(crate) orientation: Orientation,
    pub(crate) profile: Option<Vec<u8>>,
}

impl<'a> Header<'a> {
    pub(crate) fn read(data: &'a [u8]) -> Result<Self, PictureError> {
        // Sides are checked by the caller, who names them.
        let options = DecoderOptions::default()
            .set_strict_mode(false)
            .set_max_width(usize::from(u16::MAX))
            .set_max_height(usize::from(u16::MAX));
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
        decoder.decode_headers().map_err(|error| match data {
            [0xff, 0xd8, ..] if !reaches_its_end(data) => PictureError::CutOff,
            _ => PictureError::undecodable(error),
        })?;
        let (width, height) = decoder.dimensions().unwrap_or_default();
        let orientation = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif));
        Ok(Self {
            data,
            size: Size { width: width as u32, height: height as u32 },
            orientation: orientation.unwrap_or(Orientation::NoTransforms),
            profile: decoder.icc_profile(),
            decoder,
        })
    }

    /// Whether it is in inks: their profile says how they print, and is not read.
    pub(crate) fn is_in_inks(&self) -> bool {
        matches!(self.decoder.input_colorspace(), Some(ColorSpace::CMYK | ColorSpace::YCCK))
    }

    pub(crate) fn decode(mut self) -> Result<DynamicImage, PictureError> {
        if !reaches_its_end(self.data) {
            return Err(PictureError::CutOff);
        }
        let is_gray = self.decoder.input_colorspace() == Some(ColorSpace::Luma);
        let space = if is_gray { ColorSpace::Luma } else { ColorSpace::RGB };
        // Strict from here on: what is damaged is an error.
        let options = self
            .decoder
            .options()
            .jpeg_set_out_colorspace(space)
            .set_strict_mode(true)
            .set_max_width(MAX_SIDE as usize)
            .set_max_height(MAX_SIDE as usize);
        self.decoder.set_options(options);
        let pixels = self.decoder.decode().map_err(PictureError::undecodable)?;
        let Size { width, height } = self.size;
        let image = if is_gray {
            GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
        } else {
            RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
        };
        image.ok_or_else(|| PictureError::undecodable("its size is not that of its pixels"))
    }
}

/// Whether there is an end-of-image marker after the scans (ITU-T T.81, annex B): segments are skipped by their length, coded
/// data up to the next marker.
fn reaches_its_end(data: &[u8]) -> bool {
    let mut at = 0;
    while let Some(start) = data.get(at..).and_then(|rest| rest.iter().position(|byte| *byte == 0xff)) {
        at += start + 1;
        match data.get(at) {
            None => return false,
            // EOI.
            Some(0xd9) => return true,
            // A coded 0xff, and the markers without a segment: TEM, RST and SOI.
            Some(0 | 0x01 | 0xd0..=0xd8) => at += 1,
            // Before a marker there may be any number of them.
            Some(0xff) => {}
            Some(_) => match data.get(at + 1..at + 3) {
                Some(&[high, low]) => at += 1 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
        }
    }
    false
}
