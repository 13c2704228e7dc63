//! Several images of one request, from the real mesh.

use reverie_imaging::pictures::{self, Rgb};
use reverie_integration_tests::Fallible;
use reverie_integration_tests::mesh::with_mesh;
use reverie_integration_tests::requests::{PATIENCE, draw, neighbour_ids, quick};
use reverie_proto::diffusion::v1::InitialPicture;
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GenerateRequest, Stage};
use reverie_proto::tensor::v1::ImageFormat;

const PROMPT: &str = "a small zunin on the left, snow";

/// Each image of `several` is, byte for byte, the one of a request of its own.
async fn compare(pipeline: &reverie_service_kit::Address, several: GenerateRequest) -> Fallible<()> {
    let mut retrievals = 0;
    let outcome = reverie::client::ask(pipeline, several.clone(), PATIENCE, |event| {
        if let Event::Progress(progress) = event {
            retrievals += usize::from(progress.stage() == Stage::Retrieve);
        }
    });
    let outcome = outcome.await?;
    assert_eq!(retrievals, 1, "the neighbours are the same for all");
    let first = several.seed.unwrap_or_default();
    assert_eq!(outcome.images.len(), several.count.unwrap_or(1) as usize);
    for (index, (image, report)) in (0..).zip(outcome.images.iter().zip(&outcome.completed.images)) {
        assert_eq!((image.index, image.seed), (index, first + u64::from(index)));
        assert_eq!((report.index, report.seed), (image.index, image.seed));
        let own = GenerateRequest { seed: Some(image.seed), count: None, ..several.clone() };
        let own = draw(pipeline, own).await?;
        assert_eq!(image.image.as_ref(), Some(&own.image), "seed {}", image.seed);
        assert_eq!(report.step_kinds, own.completed.step_kinds);
        assert_eq!(neighbour_ids(&outcome), neighbour_ids(&own));
    }
    let bytes = |index: usize| outcome.images[index].image.as_ref().map(|image| &image.data);
    assert_ne!(bytes(0), bytes(1), "another seed gives another image");
    Ok(())
}

#[test]
fn each_image_is_that_of_a_request_of_its_own() -> Fallible<()> {
    with_mesh(async |pipeline| {
        compare(&pipeline, GenerateRequest { count: Some(4), ..quick(PROMPT, 64, 5) }).await?;
        compare(&pipeline, GenerateRequest { count: Some(2), ..quick(PROMPT, 256, 9) }).await
    })
}

#[test]
fn all_images_start_from_the_initial_image_and_keep_what_its_mask_keeps() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let own = Rgb::from_fn(256, 256, |x, y| [x as u8, (y % 3 * 100) as u8, ((x ^ y) % 200) as u8].into());
        let left = Rgb::from_fn(256, 256, |x, _| [if x < 128 { 255 } else { 0 }; 3].into());
        let image = Some(pictures::encode(&own, ImageFormat::Png)?);
        let mask = Some(pictures::encode(&left, ImageFormat::Png)?);
        for mask in [None, mask] {
            let is_masked = mask.is_some();
            let initial = InitialPicture { image: image.clone(), mask, ..InitialPicture::default() };
            let several = GenerateRequest { count: Some(3), initial: Some(initial), ..quick(PROMPT, 256, 5) };
            compare(&pipeline, several.clone()).await?;
            for drawn in draw(&pipeline, several).await?.images {
                let drawn = pictures::decode(&drawn.image.unwrap_or_default())?;
                let is_kept =
                    drawn.enumerate_pixels().all(|(x, y, pixel)| x < 128 || pixel == own.get_pixel(x, y));
                assert_eq!(is_kept, is_masked);
            }
        }
        Ok(())
    })
}
