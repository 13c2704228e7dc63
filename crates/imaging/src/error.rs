//! Why an image cannot be read.

use reverie_proto::sizes::Size;

use crate::encoded::{MAX_ENCODED_BYTES, MAX_SIDE};

/// Why an image cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// The message has no image.
    #[error("is missing")]
    Missing,
    /// There are no bytes.
    #[error("it is empty: it has 0 bytes")]
    Empty,
    /// There are too many bytes.
    #[error("it has {0} bytes, at most {MAX_ENCODED_BYTES} are taken")]
    TooManyBytes(usize),
    /// The format is not one of the known ones.
    #[error("its format is not PNG, JPEG, WebP or RGB8")]
    UnknownFormat,
    /// The format is known, and not read here.
    #[error("{0} is not supported: convert it to PNG, JPEG or WebP")]
    Unsupported(&'static str),
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
    /// The file ends before its last pixel.
    #[error("it cannot be decoded: the file is cut off, its end is missing")]
    CutOff,
    /// The decoder gave up.
    #[error("it cannot be decoded: {0}")]
    Undecodable(String),
    /// The embedded colour profile cannot be converted.
    #[error("its colour profile cannot be converted to sRGB ({0}): save it as sRGB")]
    Profile(String),
    /// Colours and transparency of a mask say different things.
    #[error(
        "its colours and its transparency say different things: save it without transparency, white where the image is to be drawn anew and black where it is to be kept"
    )]
    AmbiguousMask,
    /// A mask without anything on it.
    #[error(
        "it is transparent everywhere: paint white what is to be drawn anew, and black what is to be kept"
    )]
    EmptyMask,
}

impl PictureError {
    pub(crate) fn undecodable(why: impl std::fmt::Display) -> Self {
        Self::Undecodable(why.to_string())
    }

    pub(crate) fn check_sides(size: Size) -> Result<(), Self> {
        let valid = 1..=MAX_SIDE;
        let Size { width, height } = size;
        if valid.contains(&width) && valid.contains(&height) {
            Ok(())
        } else {
            Err(Self::Size { width, height })
        }
    }
}
