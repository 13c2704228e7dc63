//! A smaller image where the time does not suffice for the whole, from the real mesh.

use std::time::{Duration, Instant};

use reverie::client;
use reverie_integration_tests::Fallible;
use reverie_integration_tests::mesh::with_mesh;
use reverie_integration_tests::requests::{dimensions, draw, quick, steps};
use reverie_proto::generation::v1::{GenerateRequest, SuperResolutionOptions};
use tonic::Code;

const PROMPT: &str = "a small zunin on the left, snow";
const DEADLINE: Duration = Duration::from_secs(5);

/// Its last level would take minutes.
fn too_long(count: u32) -> GenerateRequest {
    let mut request = quick(PROMPT, 1024, 5);
    let long = SuperResolutionOptions { sampling: Some(steps(1000)), ..Default::default() };
    request.super_resolution[1] = long;
    GenerateRequest { count: Some(count), allow_degraded: true, ..request }
}

#[test]
fn what_can_be_done_by_the_deadline_is_sent_before_it() -> Fallible<()> {
    with_mesh(async |pipeline| {
        // What rows cost is measured before the first request, and this settles it.
        let own = draw(&pipeline, quick(PROMPT, 256, 5)).await?;
        let begun = Instant::now();
        let outcome = client::ask(&pipeline, too_long(2), DEADLINE, |_| ()).await?;
        assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
        assert!(outcome.completed.degraded);
        assert_eq!(dimensions(&outcome)?, (256, 256));
        for (image, report) in outcome.images.iter().zip(&outcome.completed.images) {
            assert_eq!((image.degraded, image.level, report.degraded, report.level), (true, 1, true, 1));
        }
        assert_eq!(outcome.image, own.image, "byte for byte the image of that size");

        let whole = GenerateRequest { allow_degraded: false, ..too_long(1) };
        let refused = client::ask(&pipeline, whole, DEADLINE, |_| ()).await.map(|_| ());
        let refused = refused.expect_err("the whole takes longer");
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert!(refused.message().contains("it takes "), "{refused}");
        Ok(())
    })
}

#[test]
fn time_enough_gives_the_whole_image() -> Fallible<()> {
    with_mesh(async |pipeline| {
        let whole = draw(&pipeline, quick(PROMPT, 256, 6)).await?;
        let request = GenerateRequest { allow_degraded: true, ..quick(PROMPT, 256, 6) };
        let allowed = draw(&pipeline, request).await?;
        assert!(!allowed.completed.degraded && allowed.images[0].level == 1);
        assert_eq!(allowed.image, whole.image);
        Ok(())
    })
}

#[test]
fn what_not_even_the_base_model_can_do_is_a_deadline_exceeded() -> Fallible<()> {
    with_mesh(async |pipeline| {
        draw(&pipeline, quick(PROMPT, 64, 5)).await?;
        let long = GenerateRequest { base_sampling: Some(steps(1000)), ..too_long(1) };
        let refused = client::ask(&pipeline, long, Duration::from_secs(1), |_| ()).await.map(|_| ());
        assert_eq!(refused.expect_err("1000 steps take longer").code(), Code::DeadlineExceeded);
        Ok(())
    })
}
