//! One request is one trace through all six processes.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use reverie_integration_tests::Fallible;
use reverie_integration_tests::collector::Collector;
use reverie_integration_tests::processes::{Process, Processes};
use reverie_integration_tests::requests::{draw, quick};
use reverie_proto::generation::v1::Retrieval;
use reverie_proto::generation::v1::generate_request::Memory;

const SERVICES: [&str; 6] = [
    "reverie-denoiser",
    "reverie-encoder",
    "reverie-pipeline",
    "reverie-retrieval",
    "reverie-super-resolution",
    "reverie-vector",
];
const ROOT: &str = "reverie.generation.v1.GenerationService/Generate";

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_trace_through_six_processes() -> Fallible<()> {
    let collector = Collector::start().await?;
    let mut six = Processes::start(&[format!("telemetry.otlp_endpoint={}", collector.endpoint())]).await?;
    draw(&six.pipeline.address()?, quick("a small zunin on the left, snow", 256, 1)).await?;
    // One that ends in the trailers of a stream, after the request was accepted: no knowledge base has this name.
    let mut unknown = quick("a zunin, sea", 64, 1);
    unknown.memory =
        Some(Memory::Retrieval(Retrieval { knowledge_base: "birds".to_owned(), ..Default::default() }));
    draw(&six.pipeline.address()?, unknown).await.map(|_| ()).unwrap_err();
    // A process sends what it still has before it ends.
    try_join_all(six.all().map(Process::terminate)).await?;

    let spans = collector.spans();
    // What the pipeline asks its stages once a second, to see whether it can do its work, is in no trace.
    let unasked = spans.iter().find(|span| span.parent.is_empty() && span.name != ROOT);
    assert!(unasked.is_none(), "{unasked:?}");
    let roots: Vec<_> = spans.iter().filter(|span| span.name == ROOT).collect();
    let [root, refused] = roots[..] else { panic!("{} spans {ROOT} in {spans:?}", roots.len()) };
    assert_eq!((root.status, refused.status), (Some(0), Some(5)), "OK and NOT_FOUND");
    assert_eq!(root.service, "reverie-pipeline");
    assert!(root.parent.is_empty(), "{root:?}");
    let of_request: Vec<_> = spans.iter().filter(|span| span.trace == root.trace).collect();
    let services: Vec<_> =
        of_request.iter().map(|span| span.service.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(services, SERVICES, "{spans:?}");
    assert!(
        of_request.iter().all(|span| !span.name.starts_with("reverie.") || span.status == Some(0)),
        "{spans:?}"
    );
    for span in &of_request {
        let caused = span.id == root.id || of_request.iter().any(|other| other.id == span.parent);
        assert!(caused, "nothing in the trace caused {span:?}");
    }
    Ok(())
}
