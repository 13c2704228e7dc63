//! Previews between the steps of the base model, from the real mesh.

use std::time::Instant;

use reverie::client;
use reverie_imaging::pictures;
use reverie_integration_tests::Fallible;
use reverie_integration_tests::mesh::with_mesh;
use reverie_integration_tests::requests::{PATIENCE, draw, quick, steps};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::{GenerateRequest, Preview, Stage};

const STEPS: u32 = 100;

#[test]
fn the_image_appears_step_by_step_at_a_bounded_rate() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let told = client::capabilities(&pipeline, PATIENCE).await?;
        let rate = told.max_step_previews_per_second;
        assert!(rate > 0.0);
        let mut request = quick("a large zunin in the middle, snow", 64, 5);
        request.base_sampling = Some(steps(STEPS));
        let plain = draw(&pipeline, request.clone()).await?;
        assert!(plain.previews.is_empty());

        let (mut shown, begun): (Vec<Preview>, _) = (Vec::new(), Instant::now());
        let asked = GenerateRequest { step_previews: true, count: Some(2), ..request };
        let outcome = client::ask(&pipeline, asked, PATIENCE, |event| {
            if let Event::Preview(preview) = event {
                shown.push(preview.clone());
            }
        });
        let outcome = outcome.await?;
        let seconds = begun.elapsed().as_secs_f64();
        assert_eq!(outcome.image, plain.image, "byte for byte the image without previews");
        assert!(outcome.previews.is_empty(), "they are no levels");

        let last = pictures::decode(&plain.image)?;
        let mut distances = Vec::new();
        for index in 0..2 {
            let own: Vec<_> = shown.iter().filter(|preview| preview.index == index).collect();
            let most = (rate * seconds).floor() as usize + 1;
            assert!((1..=most).contains(&own.len()), "{} in {seconds} s", own.len());
            assert!(own.is_sorted_by_key(|preview| preview.step));
            for preview in own {
                assert_eq!((preview.stage(), preview.steps), (Stage::Base, STEPS));
                let image = preview.image.clone().unwrap_or_default();
                let picture = pictures::decode(&image)?;
                assert!(
                    picture.dimensions() == (64, 64) && preview.step < STEPS && image.data.len() < 20_000
                );
                let apart =
                    picture.iter().zip(last.iter()).map(|(one, other)| f64::from(one.abs_diff(*other)));
                if index == 0 {
                    distances.push(apart.sum::<f64>() / picture.len() as f64);
                }
            }
        }
        println!("{distances:?} of 255 from the image");
        Ok(())
    })
}
