//! Requests checked against the models.

use reverie_imaging::{Encoded, pictures};
use reverie_packages::package::LatentScale;
use reverie_proto::autoencoder::v1::{DecodeRequest, EncodeRequest};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Latent, Tensor};
use reverie_proto::tensors::to_f32;
use reverie_service_kit::{Refusal, Violations};
use tonic::Status;

/// A latent that can be decoded.
#[derive(Debug, PartialEq)]
pub(crate) struct Decodable {
    /// Channels, height and width.
    pub(crate) shape: [usize; 3],
    pub(crate) values: Vec<f32>,
}

/// Checks a latent, for the decoder of the identity `decoder`.
pub(crate) fn latent(
    request: DecodeRequest,
    scale: LatentScale,
    decoder: &str,
    max_side: usize,
) -> Result<Decodable, Status> {
    let has_latent = request.latent.is_some();
    let Latent { values, decoder_digest } = request.latent.unwrap_or_default();
    // Before its extents, which may be others with another decoder.
    if has_latent && decoder_digest != decoder {
        return Err(Refusal::mismatch(format!(
            "the latent is for the decoder {decoder_digest:?}, this one is {decoder}: deploy one bundle everywhere"
        ))
        .into());
    }
    let mut violations = Violations::new();
    let read = violations.take("latent.values", to_f32(values.as_ref().unwrap_or(&Tensor::default())));
    let latent = read.and_then(|(shape, values)| {
        let most = max_side / scale.downscale;
        match shape[..] {
            [channels, height, width]
                if channels == scale.channels
                    && (1..=most).contains(&height)
                    && (1..=most).contains(&width) =>
            {
                Some(Decodable { shape: [channels, height, width], values })
            }
            _ => {
                let wanted = format!("[{}, height, width] of at most {most}", scale.channels);
                violations.add("latent.values", format!("its shape must be {wanted}, not {shape:?}"));
                None
            }
        }
    });
    violations.into_result()?;
    latent.ok_or_else(|| Refusal::internal("a request without violations is incomplete").into())
}

/// A picture that can be encoded.
#[derive(Debug)]
pub(crate) struct Encodable {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// f32 `[3, height, width]`, 0 where a mask leaves the picture out.
    pub(crate) planes: Vec<f32>,
}

/// Checks and decodes a picture. Blocks.
pub(crate) fn picture(
    request: &EncodeRequest,
    scale: LatentScale,
    max_side: usize,
) -> Result<Encodable, Status> {
    let mut violations = Violations::new();
    let image = violations.take("image", Encoded::required(request.image.as_ref()));
    if let Some(size) = image.as_ref().map(Encoded::size) {
        check_size(&mut violations, "image", size, scale, max_side);
    }
    let mask = request.mask.as_ref().and_then(|mask| violations.take("mask", Encoded::read(mask)));
    if let Some((image, mask)) = image.as_ref().zip(mask.as_ref()) {
        violations.require(
            mask.size() == image.size(),
            "mask",
            format!("must be {} pixels, like the picture", image.size()),
        );
    }
    violations.into_result()?;
    // Both are within the bounds.
    let mut violations = Violations::new();
    let image = image.and_then(|image| violations.take("image", image.decode()));
    let mask = mask.and_then(|mask| violations.take("mask", mask.decode_mask()));
    violations.into_result()?;
    let image = image.ok_or_else(|| Refusal::internal("a request without violations is incomplete"))?;
    let mut planes = pictures::to_planes(&image);
    if let Some(mask) = mask {
        let white = mask.drawn().iter().cycle();
        planes.iter_mut().zip(white).filter(|(_, white)| **white).for_each(|(value, _)| *value = 0.0);
    }
    Ok(Encodable { width: image.width() as usize, height: image.height() as usize, planes })
}

/// Checks the size of an image that there is none of yet. Gives its width and height.
pub(crate) fn size(
    size: Option<Size>,
    scale: LatentScale,
    max_side: usize,
) -> Result<(usize, usize), Status> {
    let mut violations = Violations::new();
    let size = size.unwrap_or_default();
    check_size(&mut violations, "size", size, scale, max_side);
    violations.into_result()?;
    Ok((size.width as usize, size.height as usize))
}

fn check_size(violations: &mut Violations, field: &str, size: Size, scale: LatentScale, max_side: usize) {
    let multiple = scale.downscale;
    let fits =
        |side: u32| (1..=max_side).contains(&(side as usize)) && (side as usize).is_multiple_of(multiple);
    violations.require(
        fits(size.width) && fits(size.height),
        field,
        format!(
            "is {} x {} pixels, must have sides of at most {max_side} that are multiples of {multiple}",
            size.width, size.height
        ),
    );
}

#[cfg(test)]
mod tests {
    use reverie_imaging::pictures::Rgb;
    use reverie_proto::tensors::from_f32;
    use tonic::Code;

    use super::*;

    const SCALE: LatentScale = LatentScale { channels: 4, downscale: 8, scale: 0.18215, shift: 0.0 };

    fn request(shape: &[usize], digest: &str) -> DecodeRequest {
        let values = vec![0.5; shape.iter().product()];
        let latent = Latent { values: Some(from_f32(shape, &values)), decoder_digest: digest.to_owned() };
        DecodeRequest { latent: Some(latent) }
    }

    #[test]
    fn latents_of_other_shapes_or_decoders_are_refused() {
        let decode = |shape: &[usize], digest: &str| latent(request(shape, digest), SCALE, "mine", 64);
        assert_eq!(decode(&[4, 8, 6], "mine").unwrap().shape, [4, 8, 6]);
        for shape in [&[3, 8, 8][..], &[4, 9, 8], &[4, 8], &[1, 4, 8, 8]] {
            let status = decode(shape, "mine").unwrap_err();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        }
        for shape in [&[4, 8, 8][..], &[16, 8, 8]] {
            assert_eq!(decode(shape, "other").unwrap_err().code(), Code::FailedPrecondition);
        }
        let nothing = latent(DecodeRequest { latent: None }, SCALE, "mine", 64).unwrap_err();
        assert_eq!(nothing.code(), Code::InvalidArgument);
    }

    #[test]
    fn pictures_that_do_not_fit_a_latent_are_refused() {
        let encode = |width, height| {
            let image = Some(pictures::raw(Rgb::new(width, height)));
            picture(&EncodeRequest { image, ..Default::default() }, SCALE, 64)
        };
        let fits = encode(64, 16).unwrap();
        assert_eq!((fits.width, fits.height), (64, 16));
        for (width, height) in [(60, 16), (16, 72)] {
            assert_eq!(encode(width, height).unwrap_err().code(), Code::InvalidArgument);
        }
    }
    #[test]
    fn a_mask_leaves_gray_behind() {
        let image = Some(pictures::raw(Rgb::from_pixel(8, 8, [255; 3].into())));
        let left = Rgb::from_fn(8, 8, |x, _| [if x < 4 { 255 } else { 0 }; 3].into());
        let request = EncodeRequest { image, mask: Some(pictures::raw(left)), ..Default::default() };
        let planes = picture(&request, SCALE, 64).unwrap().planes;
        assert!(planes.chunks_exact(4).step_by(2).flatten().all(|value| value.to_bits() == 0));
        assert!(planes.chunks_exact(4).skip(1).step_by(2).flatten().all(|value| (value - 1.0).abs() < 1e-6));
        let mask = Some(pictures::raw(Rgb::new(16, 8)));
        let other = picture(&EncodeRequest { mask, ..request }, SCALE, 64).unwrap_err();
        assert_eq!(other.code(), Code::InvalidArgument);
    }
}
