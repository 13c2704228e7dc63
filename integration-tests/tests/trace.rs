//! One request is one trace through all six processes, and log lines name it. No prompt is told to who does not ask for it.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use reverie_integration_tests::Fallible;
use reverie_integration_tests::collector::Collector;
use reverie_integration_tests::processes::{Process, Processes};
use reverie_integration_tests::requests::{draw, quick};
use reverie_proto::generation::v1::Retrieval;
use reverie_proto::generation::v1::generate_request::Memory;
use serde_json::{Value, json};
use tokio::net::TcpListener;

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
    let endpoint = format!("telemetry.otlp_endpoint={}", collector.endpoint());
    let mut six = Processes::start(&[endpoint, "telemetry.log_format=json".to_owned()]).await?;
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
    assert_eq!((root.status.as_deref(), refused.status.as_deref()), (Some("OK"), Some("NOT_FOUND")));
    assert_eq!(root.service, "reverie-pipeline");
    assert!(root.parent.is_empty(), "{root:?}");
    let of_request: Vec<_> = spans.iter().filter(|span| span.trace == root.trace).collect();
    let services: Vec<_> =
        of_request.iter().map(|span| span.service.as_str()).collect::<BTreeSet<_>>().into_iter().collect();
    assert_eq!(services, SERVICES, "{spans:?}");
    assert!(
        of_request
            .iter()
            .all(|span| !span.name.starts_with("reverie.") || span.status.as_deref() == Some("OK")),
        "{spans:?}"
    );
    for span in &of_request {
        let caused = span.id == root.id || of_request.iter().any(|other| other.id == span.parent);
        assert!(caused, "nothing in the trace caused {span:?}");
    }

    for (key, value) in [
        ("gen_ai.provider.name", "reverie"),
        ("gen_ai.operation.name", "generate_content"),
        ("gen_ai.output.type", "image"),
        ("gen_ai.request.model", "bestiary-base-64"),
        ("gen_ai.request.seed", "1"),
    ] {
        assert_eq!(root.attributes.get(key).map(String::as_str), Some(value), "{key} of {root:?}");
    }
    let searched = spans.iter().find(|span| span.name.ends_with("/Retrieve")).unwrap();
    assert_eq!(searched.attributes["gen_ai.data_source.id"], "creatures");
    let told = spans.iter().find(|span| span.attributes.values().any(|value| value.contains("zunin")));
    assert!(told.is_none(), "a span tells the prompt: {told:?}");

    let mut in_traces = 0;
    for process in six.all() {
        for line in process.log().lines() {
            assert!(!line.contains("zunin"), "a line tells the prompt: {line}");
            let line: Value = serde_json::from_str(line)?;
            let Some(trace) = line.get("trace_id") else { continue };
            let span = spans.iter().find(|span| hex::encode(&span.id) == line["span_id"]);
            let span = span.ok_or_else(|| format!("no span of {line}"))?;
            assert_eq!(*trace, hex::encode(&span.trace), "{line}");
            assert_eq!(span.service, format!("reverie-{}", process.service()));
            in_traces += 1;
        }
    }
    // That there is no such knowledge base is logged.
    assert!(in_traces > 0, "no line has a trace");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn prompts_are_told_to_those_who_ask_for_them() -> Fallible<()> {
    let collector = Collector::start().await?;
    let endpoint = format!("telemetry.otlp_endpoint={}", collector.endpoint());
    let mut six = Processes::start(&[endpoint, "telemetry.record_prompts=true".to_owned()]).await?;
    draw(&six.pipeline.address()?, quick("a \"small\" zunin", 64, 1)).await?;
    try_join_all(six.all().map(Process::terminate)).await?;
    let spans = collector.spans();
    let root = spans.iter().find(|span| span.name == ROOT).unwrap();
    let messages: Value = serde_json::from_str(&root.attributes["gen_ai.input.messages"])?;
    let parts = json!([{ "type": "text", "content": "a \"small\" zunin" }]);
    assert_eq!(messages, json!([{ "role": "user", "parts": parts }]));
    let searched = spans.iter().find(|span| span.name.ends_with("/Retrieve")).unwrap();
    assert_eq!(searched.attributes["gen_ai.retrieval.query.text"], "a \"small\" zunin");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_down_costs_one_line_and_one_when_it_is_back() -> Fallible<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let settings = [
        format!("telemetry.otlp_endpoint=http://{}", listener.local_addr()?),
        "telemetry.metrics_interval_seconds=1".to_owned(),
    ];
    let retrieval = Process::start("retrieval", &settings).await?;
    // One that is not there breaks off every connection.
    for _ in 0..4 {
        let (connection, _) = listener.accept().await?;
        drop(connection);
    }
    retrieval.says("the collector cannot be reached").await?;
    let collector = Collector::start_on(listener)?;
    retrieval.says("the collector takes traces and metrics again").await?;
    assert!(collector.metrics().contains("process.thread.count"), "{:?}", collector.metrics());
    let log = retrieval.log();
    let told = log.lines().filter(|line| line.contains("collector") || line.contains("opentelemetry"));
    assert_eq!(told.count(), 2, "{log}");
    Ok(())
}
