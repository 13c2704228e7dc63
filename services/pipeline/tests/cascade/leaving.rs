//! Callers that leave, wait or do not read.

use std::sync::atomic::Ordering;
use std::time::Duration;

use reverie_proto::generation::v1::GenerateRequest;
use reverie_proto::generation::v1::generate_response::Event;
use tonic::Code;

use crate::mesh::{Mesh, PATIENCE, request};
use crate::stages::Conduct;

/// What a caller does not read waits for it, as far as there is room; its images end at the time limit, and it hears of that when it reads.
#[tokio::test]
async fn a_caller_that_does_not_read_holds_nothing_up_for_longer_than_the_time_limit() {
    let mesh = Mesh::start_with(
        |stages| stages.level = Conduct::Hangs,
        |settings| settings.limits.max_request_seconds = 1,
    )
    .await;
    let mut answers = mesh.ask_for(GenerateRequest { count: Some(3), ..request() }, PATIENCE).await.unwrap();
    while mesh.seen.hanging.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    while mesh.seen.hanging.load(Ordering::SeqCst) > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut told = 0;
    let status = loop {
        match answers.message().await {
            Ok(Some(answer)) => told += usize::from(matches!(answer.event, Some(Event::Preview(_)))),
            Ok(None) => panic!("it ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(told, 6, "the base image and the first level of each");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(status.message().contains("limits.max_request_seconds"), "{status}");
}

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
