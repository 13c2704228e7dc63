//! Embedded colour profiles (ICC) to sRGB, which is what models are trained on.

use image::{DynamicImage, RgbImage};
use moxcms::{ColorProfile, DataColorSpace, Layout, Transform8BitExecutor, TransformOptions};

use crate::PictureError;

/// Steps along each axis of the colours that tell whether a profile is sRGB.
const PROBES: u8 = 5;
/// How far a profile may be from sRGB and still be taken for it: of 255.
const TOLERANCE: u8 = 1;

/// The image in sRGB, by its profile. Transparency is left out: what is beneath counts, as in Pillow's `convert("RGB")`.
pub(crate) fn to_srgb(image: DynamicImage, profile: Option<&[u8]>) -> Result<RgbImage, PictureError> {
    let Some(profile) = profile else { return Ok(image.into_rgb8()) };
    let wrong = |why: &dyn std::fmt::Display| PictureError::Profile(why.to_string());
    let profile = ColorProfile::new_from_slice(profile).map_err(|error| wrong(&error))?;
    let srgb = ColorProfile::new_srgb();
    let transform = |layout| {
        let transform =
            profile.create_transform_8bit(layout, &srgb, Layout::Rgb, TransformOptions::default());
        transform.map_err(|error| wrong(&error))
    };
    match profile.color_space {
        DataColorSpace::Rgb => {
            let transform = transform(Layout::Rgb)?;
            let image = image.into_rgb8();
            if is_identity(&*transform)? { Ok(image) } else { apply(&*transform, &image, &image, 3) }
        }
        DataColorSpace::Gray if !image.color().has_color() => {
            let gray = image.into_luma8();
            let size = RgbImage::new(gray.width(), gray.height());
            apply(&*transform(Layout::Gray)?, &gray, &size, 1)
        }
        other => Err(wrong(&format!("it is for {other:?}, and the pixels are {:?}", image.color()))),
    }
}

/// Row by row: `pixels` have as many rows as `shape`.
fn apply(
    transform: &Transform8BitExecutor,
    pixels: &[u8],
    shape: &RgbImage,
    channels: usize,
) -> Result<RgbImage, PictureError> {
    let mut converted = RgbImage::new(shape.width(), shape.height());
    let width = shape.width() as usize;
    for (from, to) in pixels.chunks_exact(channels * width).zip(converted.chunks_exact_mut(3 * width)) {
        transform.transform(from, to).map_err(|error| PictureError::Profile(error.to_string()))?;
    }
    Ok(converted)
}

/// Whether colours stay what they are, so that an image that says it is sRGB keeps every bit.
fn is_identity(transform: &Transform8BitExecutor) -> Result<bool, PictureError> {
    let levels = || (0..PROBES).map(|level| level * (u8::MAX / (PROBES - 1)));
    let colours: Vec<u8> = levels()
        .flat_map(|red| levels().flat_map(move |green| levels().flat_map(move |blue| [red, green, blue])))
        .collect();
    let mut converted = vec![0; colours.len()];
    transform
        .transform(&colours, &mut converted)
        .map_err(|error| PictureError::Profile(error.to_string()))?;
    Ok(colours.iter().zip(&converted).all(|(one, other)| one.abs_diff(*other) <= TOLERANCE))
}
