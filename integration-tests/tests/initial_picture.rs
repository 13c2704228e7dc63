//! Image to image, and inpainting through the cascade.

use reverie::client::Outcome;
use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::Fallible;
use reverie_integration_tests::mesh::with_mesh;
use reverie_integration_tests::requests::{OF_FOUR_STEPS, draw, quick, steps};
use reverie_proto::diffusion::v1::{InitialPicture, Sampler, Sampling};
use reverie_proto::generation::v1::GenerateRequest;
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::{Fit, Image, ImageFormat};

const PROMPT: &str = "a small zunin on the left, snow";
const OTHER_PROMPT: &str = "a large zunin on the right, sunset";

fn request(initial: InitialPicture, size: u32) -> GenerateRequest {
    GenerateRequest { initial: Some(initial), ..quick(PROMPT, size, 5) }
}

fn from(picture: &Image, strength: f64) -> InitialPicture {
    InitialPicture { image: Some(picture.clone()), strength: Some(strength), ..InitialPicture::default() }
}

/// Bands and squares that no model draws.
fn own(side: u32) -> Rgb {
    Rgb::from_fn(side, side, |x, y| {
        [(x * 255 / side) as u8, (y % 3 * 100) as u8, ((x ^ y) % 200) as u8].into()
    })
}

/// The left half is drawn anew.
fn left_half(side: u32) -> Rgb {
    Rgb::from_fn(side, side, |x, _| [if x < side / 2 { 255 } else { 0 }; 3].into())
}

async fn inpaint(pipeline: &reverie_service_kit::Address, side: u32, size: u32) -> Fallible<Rgb> {
    let image = Some(pictures::encode(&own(side), ImageFormat::Png)?);
    let mask = Some(pictures::encode(&left_half(side), ImageFormat::Png)?);
    let drawn =
        draw(pipeline, request(InitialPicture { image, mask, ..InitialPicture::default() }, size)).await?;
    Ok(pictures::decode(&drawn.image)?)
}

/// How many of the right half's and of the left half's pixels are the same.
fn the_same(one: &Rgb, other: &Rgb) -> (usize, usize) {
    assert_eq!(one.dimensions(), other.dimensions());
    let half = one.width() / 2;
    let same = one.enumerate_pixels().filter(|(x, y, pixel)| *pixel == other.get_pixel(*x, *y));
    let (kept, drawn): (Vec<_>, Vec<_>) = same.partition(|(x, ..)| *x >= half);
    (kept.len(), drawn.len())
}

/// Mean difference of a channel.
fn distance(one: &Outcome, other: &Outcome) -> Fallible<f64> {
    let (one, other) = (pictures::decode(&one.image)?, pictures::decode(&other.image)?);
    let differences = one.iter().zip(other.iter()).map(|(one, other)| f64::from(one.abs_diff(*other)));
    Ok(differences.sum::<f64>() / one.len() as f64)
}

#[test]
fn the_strength_says_how_much_is_drawn_anew() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let start = draw(&pipeline, quick(OTHER_PROMPT, 64, 3)).await?;
        let at = async |strength| draw(&pipeline, request(from(&start.image, strength), 64)).await;
        let plain = draw(&pipeline, quick(PROMPT, 64, 5)).await?;

        // Of four steps.
        let quarter = at(0.25).await?;
        let most = at(0.75).await?;
        assert_eq!((quarter.completed.step_kinds.len(), most.completed.step_kinds.len()), (1, 3));
        let distances = [distance(&start, &quarter)?, distance(&start, &most)?, distance(&start, &plain)?];
        assert!(distances[0] < distances[1] && 3.0 * distances[0] < distances[2], "{distances:?}");

        assert_eq!(at(0.25).await?.image.data, quarter.image.data, "a seed gives the same picture");
        let mut other_seed = request(from(&start.image, 0.75), 64);
        other_seed.seed = Some(6);
        assert_ne!(draw(&pipeline, other_seed).await?.image.data, most.image.data);

        // All steps start from as good as noise alone, whatever the picture.
        let bands = pictures::raw(own(100));
        for picture in [&start.image, &bands] {
            let whole = draw(&pipeline, request(from(picture, 1.0), 64)).await?;
            let trace = distance(&whole, &plain)?;
            assert!(trace < 1.0 && trace < distances[0], "{trace}");
        }
        let of_bands = draw(&pipeline, request(from(&bands, 0.75), 64)).await?;
        assert!(of_bands.image.data != most.image.data, "another picture gives another one");
        Ok(())
    })
}

#[test]
fn every_sampler_starts_from_a_picture() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let start = pictures::raw(own(64));
        for (sampler, evaluations) in OF_FOUR_STEPS {
            let mut request = request(from(&start, 0.5), 64);
            request.base_sampling = Some(Sampling { sampler: sampler.into(), ..steps(8) });
            let outcome = draw(&pipeline, request).await?;
            assert_eq!(outcome.completed.step_kinds.len(), evaluations, "{sampler:?}");
        }
        let mut few = request(from(&start, 0.5), 64);
        few.base_sampling = Some(Sampling { sampler: Sampler::Pndm.into(), ..steps(6) });
        let refused = draw(&pipeline, few).await.map(|_| ()).expect_err("three steps are left of six");
        assert!(refused.message().contains("at least 4 steps, not 3"), "{refused}");
        Ok(())
    })
}

#[test]
fn inpainting_keeps_what_the_mask_keeps() -> Fallible<()> {
    with_mesh(async |pipeline| {
        // A picture of the size that is asked for keeps its own pixels.
        for side in [64, 256] {
            let drawn = inpaint(&pipeline, side, side).await?;
            let (kept, same) = the_same(&drawn, &own(side));
            let half = (side * side / 2) as usize;
            assert_eq!(kept, half, "{side}: all that is kept");
            assert!(same < half / 10, "{side}: {same} of what is drawn anew is as before");
        }
        // A larger one is shrunk: to the base model's size, and to a level's.
        let shrunk = pictures::shrink(&own(256), Size::square(64));
        assert_eq!(the_same(&inpaint(&pipeline, 256, 64).await?, &shrunk).0, 64 * 32);
        // One that has more pixels than the level starts from is enlarged.
        let enlarged = pictures::resize_square(&own(128), 256);
        assert_eq!(the_same(&inpaint(&pipeline, 128, 256).await?, &enlarged).0, 256 * 128);
        // One that has not is enlarged by the level.
        let enlarged = pictures::resize_square(&own(64), 256);
        assert!(the_same(&inpaint(&pipeline, 64, 256).await?, &enlarged).0 < 256 * 128);
        Ok(())
    })
}

#[test]
fn a_photo_of_other_proportions_is_cut_or_padded() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let photo = Rgb::from_fn(96, 64, |x, y| own(96).get_pixel(x, y).0.into());
        let middle = Rgb::from_fn(64, 64, |x, y| *photo.get_pixel(x + 16, y));
        let drawn = async |image: &Rgb, fit: Fit| {
            let initial = InitialPicture { fit: fit.into(), ..from(&pictures::raw(image.clone()), 0.5) };
            draw(&pipeline, request(initial, 64)).await.map(|outcome| outcome.image.data)
        };
        let cut = drawn(&photo, Fit::Unspecified).await?;
        assert_eq!(cut, drawn(&middle, Fit::Crop).await?, "its middle, to the bit");
        assert_ne!(cut, drawn(&photo, Fit::Pad).await?);
        Ok(())
    })
}
