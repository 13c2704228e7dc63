//! Callers that leave, wait or do not read.

use std::sync::atomic::Ordering;

use reverie_proto::generation::v1::GenerateRequest;

use crate::stages::{Conduct, Mesh, PATIENCE, request};

/// Wherever in the answer a caller leaves: its stages are given up, and the places of all its images are free.
#[tokio::test]
async fn a_caller_may_leave_after_any_event() {
    const IMAGES: u32 = 3;
    let asked = || GenerateRequest { count: Some(IMAGES), seed: Some(7), ..request() };
    // All of it, and with an image that never comes.
    for hangs in [false, true] {
        let mesh = Mesh::start_with(
            |stages| {
                stages.odd_seed = Some(8);
                stages.level = if hangs { Conduct::Hangs } else { Conduct::Right };
            },
            |settings| settings.limits.max_in_flight = IMAGES as usize,
        )
        .await;
        let mut events = 0;
        let mut reads = 0;
        while reads <= events {
            let Ok(mut answers) = mesh.ask_for(asked(), PATIENCE).await else {
                // The pipeline has not heard yet that the one before left.
                tokio::task::yield_now().await;
                continue;
            };
            let mut read = 0;
            while read < reads && answers.message().await.unwrap().is_some() {
                read += 1;
            }
            // As many as there are: steps may be left out, and one that hangs ends nothing.
            events = if hangs { 30 } else { read + usize::from(read == reads) };
            reads += 1;
            drop(answers);
        }
        assert!(reads > 25, "{reads} events");
        while mesh.seen.hanging.load(Ordering::SeqCst) > 0 {
            tokio::task::yield_now().await;
        }
        if !hangs {
            while mesh.draw_for(asked(), PATIENCE).await.1.is_err() {
                tokio::task::yield_now().await;
            }
        }
    }
}
