//! The service over in-memory channels, with stages that answer as they are told.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reverie_knowledge::Live;
use reverie_proto::encoder::v1::encoder_service_server::EncoderServiceServer;
use reverie_proto::knowledge::v1::{ImageDetail, RetrievalStrategy};
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::tensor::v1::ImageFormat;
use reverie_proto::vector::v1::vector_service_server::VectorServiceServer;
use reverie_service_kit::client::{Channel, Upstream};
use reverie_service_kit::settings::{Sources, load};
use reverie_service_kit::{Address, Listener, RunError, Server, Shutdown, Standing};
use reverie_storage::Folder;
use tokio::task::JoinHandle;
use tonic::Code;

use crate::agreement::Agreement;
use crate::knowledge_base::tests::{PNG, reader, write};
use crate::run;
use crate::settings::Stages;

use super::*;

mod selection;
mod stages;

use stages::{FirstEntries, StillEncoder};

/// 40 creatures, four captions each; the dribagos are entries 100 to 103.
fn captions() -> Vec<String> {
    let name = |creature: usize| match creature {
        25 => "dribago".to_owned(),
        _ => format!("{}o", ["bel", "cor", "dun", "fip", "gam"][creature % 5].repeat(1 + creature / 5)),
    };
    let views = [
        "a small {} on the left, snow",
        "a large {} seen close up",
        "a {} tilted, desert",
        "a {} on the right",
    ];
    (0..160).map(|entry| views[entry % 4].replace("{}", &name(entry / 4))).collect()
}

struct Mesh {
    client: RetrievalServiceClient<Channel>,
    stage: Upstream,
    shutdown: Shutdown,
    running: JoinHandle<Result<(), RunError>>,
    stages: Stages,
    directory: tempfile::TempDir,
}

impl Mesh {
    /// What the service's health follows, once the stages serve.
    async fn agreement(&self) -> Result<(), String> {
        let location = self.directory.path().to_str().unwrap();
        let live = Live::open(Folder::open(location).unwrap(), reader("creatures")).await.unwrap();
        let knowledge_bases = Arc::new(BTreeMap::from([("creatures".to_owned(), Arc::new(live))]));
        let agreement = Agreement::new(EmbeddingSearch::new(&self.stages), knowledge_bases);
        loop {
            match agreement.check().await {
                Err(why) if why.contains("is not serving") => tokio::task::yield_now().await,
                outcome => return outcome,
            }
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn serve_encoder(space: &'static str, shutdown: &Shutdown, settings: &Settings) -> Address {
    let (listener, address) = Listener::memory();
    let mut server = Server::new("encoder", &[], Standing::Stage, &settings.common.server, 64).await;
    server.routes().add_service(EncoderServiceServer::new(StillEncoder(space)));
    tokio::spawn(server.serve(listener, shutdown.clone(), || async { Ok(()) }));
    address
}

async fn serve_vector(service: FirstEntries, shutdown: &Shutdown, settings: &Settings) -> Address {
    let (listener, address) = Listener::memory();
    let mut server = Server::new("vector", &[], Standing::Stage, &settings.common.server, 64).await;
    server.routes().add_service(VectorServiceServer::new(service));
    tokio::spawn(server.serve(listener, shutdown.clone(), || async { Ok(()) }));
    address
}

/// The address of a service that is gone.
fn nobody() -> Address {
    Listener::memory().1
}

async fn mesh(space: &'static str, overloaded: bool, with_encoder: bool) -> Mesh {
    mesh_of(space, with_encoder, PNG, |content_digest| FirstEntries { overloaded, content_digest }).await
}

/// A mesh whose entries all have this picture.
async fn mesh_with(picture: &'static [u8]) -> Mesh {
    mesh_of("a", true, picture, |content_digest| FirstEntries { overloaded: false, content_digest }).await
}

/// A mesh whose vector service is made for the identity of the knowledge base.
async fn mesh_of(
    space: &'static str,
    with_encoder: bool,
    picture: &'static [u8],
    vector: impl FnOnce(String) -> FirstEntries,
) -> Mesh {
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_str().unwrap();
    let content_digest = write(location, &captions(), picture).await;
    let overrides = vec![("knowledge_bases.creatures".to_owned(), format!("{location:?}"))];
    let mut settings: Settings = load(&Sources { config: None, overrides }).unwrap();
    let shutdown = Shutdown::new();
    let encoder = if with_encoder { serve_encoder(space, &shutdown, &settings).await } else { nobody() };
    settings.stages.encoder = encoder.into();
    settings.stages.vector = serve_vector(vector(content_digest), &shutdown, &settings).await.into();
    let (listener, address) = Listener::memory();
    let stages = settings.stages.clone();
    let running = tokio::spawn(run(settings, listener, shutdown.clone()));
    let stage = Upstream::new("retrieval", &address);
    let client = RetrievalServiceClient::new(stage.channel());
    Mesh { client, stage, shutdown, running, stages, directory }
}

fn ask(text: &str, strategy: RetrievalStrategy) -> RetrieveRequest {
    RetrieveRequest {
        knowledge_base: String::new(),
        text: text.to_owned(),
        limit: 4,
        strategy: strategy.into(),
        images: ImageDetail::Original.into(),
        ..RetrieveRequest::default()
    }
}

fn ids(response: &RetrieveResponse) -> Vec<&str> {
    response.neighbours.iter().map(|neighbour| neighbour.id.as_str()).collect()
}

#[tokio::test]
async fn a_prompt_that_names_an_entity_finds_its_pictures() {
    let mut mesh = mesh("a", false, true).await;
    for text in [
        "a small dribago on the left, snow",
        "two Dribagos? no: a dribago",
        "a dribago tilted seen close up, desert",
    ] {
        let request = ask(text, RetrievalStrategy::Unspecified);
        let found = mesh.client.retrieve(request).await.unwrap().into_inner();
        let mut found_ids = ids(&found);
        found_ids.sort_unstable();
        assert_eq!(found_ids, ["100", "101", "102", "103"], "{text}");
        assert!(found.neighbours.iter().all(|neighbour| (0.0..=1.0).contains(&neighbour.score)));
    }
    let found =
        mesh.client.retrieve(ask("a small dribago on the left, snow", RetrievalStrategy::Hybrid)).await;
    assert_eq!(ids(found.unwrap().get_ref())[0], "100");
}

#[tokio::test]
async fn each_strategy_ranks_by_its_own_score() {
    let mut mesh = mesh("a", false, true).await;
    let found =
        mesh.client.retrieve(ask("dribago", RetrievalStrategy::Embedding)).await.unwrap().into_inner();
    assert_eq!(ids(&found), ["0", "1", "2", "3"]);
    assert!((found.neighbours[0].score - 0.9).abs() < 1e-6);
    let found =
        mesh.client.retrieve(ask("small dribago", RetrievalStrategy::Bm25)).await.unwrap().into_inner();
    assert_eq!(ids(&found)[0], "100");
    assert_eq!((found.knowledge_base.as_str(), found.epoch), ("creatures", 3));
    let neighbour = &found.neighbours[0];
    assert_eq!(neighbour.caption, "a small dribago on the left, snow");
    assert_eq!(neighbour.attribution, "drawn by nobody");
    let image = neighbour.image.as_ref().unwrap();
    assert_eq!((image.format(), image.data.as_ref()), (ImageFormat::Png, PNG));
    let listed = mesh.client.list_knowledge_bases(ListKnowledgeBasesRequest {}).await.unwrap().into_inner();
    assert_eq!((listed.knowledge_bases[0].name.as_str(), listed.knowledge_bases[0].size), ("creatures", 160));
}

#[tokio::test]
async fn a_name_that_no_caption_has_is_an_answer() {
    let mut mesh = mesh("a", false, true).await;
    for strategy in [RetrievalStrategy::Hybrid, RetrievalStrategy::Bm25] {
        let request = ask("a small quopple on the left, snow", strategy);
        let found = mesh.client.retrieve(request.clone()).await.unwrap().into_inner();
        assert!(found.nothing_matched && found.neighbours.is_empty());
        assert_eq!(found.unmatched_words, ["quopple"]);
        let request = RetrieveRequest { nearest: true, ..request };
        let found = mesh.client.retrieve(request).await.unwrap().into_inner();
        assert!(found.nothing_matched && found.neighbours.len() == 4);
        assert!(found.neighbours.iter().all(|neighbour| neighbour.score < 1.0));
    }
    // Pictures that are like a text without names match.
    let found = mesh.client.retrieve(ask("small, on the left", RetrievalStrategy::Hybrid)).await.unwrap();
    let found = found.into_inner();
    assert!(!found.nothing_matched && found.unmatched_words.is_empty());
    assert_eq!(found.neighbours.len(), 4);
}

#[tokio::test]
async fn each_neighbour_says_why_it_was_found() {
    let mut mesh = mesh("a", false, true).await;
    let request = ask("a small dribago and a quopple, snow", RetrievalStrategy::Hybrid);
    let found = mesh.client.retrieve(request.clone()).await.unwrap().into_inner();
    assert_eq!(
        (found.nothing_matched, found.unmatched_words.as_slice()),
        (false, &["quopple".to_owned()][..])
    );
    for neighbour in &found.neighbours {
        assert_eq!(neighbour.matched_words, ["dribago"]);
        assert!(neighbour.score > 0.4 && neighbour.score < 0.8, "{}", neighbour.score);
    }
    let request = RetrieveRequest { minimum_score: Some(0.9), ..request };
    assert!(mesh.client.retrieve(request).await.unwrap().into_inner().nothing_matched);
    let request =
        RetrieveRequest { minimum_score: Some(0.85), ..ask("dribago", RetrievalStrategy::Embedding) };
    let found = mesh.client.retrieve(request.clone()).await.unwrap().into_inner();
    assert!(!found.neighbours.is_empty());
    for neighbour in found.neighbours {
        assert!(neighbour.matched_words.is_empty() && neighbour.similarity == Some(neighbour.score));
    }
    let request = RetrieveRequest { minimum_score: Some(0.95), ..request };
    assert!(mesh.client.retrieve(request).await.unwrap().into_inner().nothing_matched);
}

#[tokio::test]
async fn what_cannot_be_asked_is_told_by_field() {
    let mut mesh = mesh("a", false, true).await;
    let good = ask("a dribago", RetrievalStrategy::Bm25);
    let cases = [
        (RetrieveRequest { text: " ".to_owned(), ..good.clone() }, Code::InvalidArgument, "text"),
        (RetrieveRequest { text: "x".repeat(8001), ..good.clone() }, Code::InvalidArgument, "text"),
        (RetrieveRequest { limit: 0, ..good.clone() }, Code::InvalidArgument, "limit"),
        (RetrieveRequest { limit: 9, ..good.clone() }, Code::InvalidArgument, "limit: must be 1 to 8"),
        (RetrieveRequest { strategy: 99, ..good.clone() }, Code::InvalidArgument, "strategy"),
        (
            RetrieveRequest { minimum_score: Some(f32::NAN), ..good.clone() },
            Code::InvalidArgument,
            "minimum_score",
        ),
        (
            RetrieveRequest { knowledge_base: "birds".to_owned(), ..good.clone() },
            Code::NotFound,
            "ListKnowledgeBases",
        ),
    ];
    for (request, code, told) in cases {
        let status = mesh.client.retrieve(request).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        assert!(status.message().contains(told), "{status}");
    }
}

#[tokio::test]
async fn a_stage_that_fails_is_named_and_words_still_work() {
    let mut gone = mesh("a", false, false).await;
    let status = gone.client.retrieve(ask("a dribago", RetrievalStrategy::Hybrid)).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("encoder"), "{status}");
    assert!(gone.client.retrieve(ask("a dribago", RetrievalStrategy::Bm25)).await.is_ok());
    let unhealthy = gone.stage.check_health(Duration::from_secs(5)).await.unwrap_err();
    assert!(unhealthy.contains("not serving"), "{unhealthy}");

    let mut full = mesh("a", true, true).await;
    let status = full.client.retrieve(ask("a dribago", RetrievalStrategy::Embedding)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().starts_with("vector"), "{status}");
}

#[tokio::test]
async fn a_knowledge_base_of_another_encoder_does_not_start() {
    let mut foreign = mesh("b", false, true).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), &mut foreign.running).await;
    let error = ended.expect("it serves").unwrap().unwrap_err().to_string();
    for told in ["\"creatures\"", &"a".repeat(64), &"b".repeat(64), "build it again"] {
        assert!(error.contains(told), "{error}");
    }
}

/// Both call it "creatures", epoch 3, and positions mean other entries.
#[tokio::test]
async fn a_vector_service_with_another_knowledge_base_is_not_trusted() {
    let other = |_| FirstEntries { overloaded: false, content_digest: "c".repeat(64) };
    let mut mesh = mesh_of("a", true, PNG, other).await;
    for strategy in [RetrievalStrategy::Hybrid, RetrievalStrategy::Embedding] {
        let status = mesh.client.retrieve(ask("a dribago", strategy)).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains(&"c".repeat(64)), "{status}");
    }
    let found = mesh.client.retrieve(ask("a dribago", RetrievalStrategy::Bm25)).await.unwrap().into_inner();
    let listed = mesh.client.list_knowledge_bases(ListKnowledgeBasesRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (found.content_digest.len(), &found.content_digest),
        (64, &listed.knowledge_bases[0].content_digest)
    );
    let unfit = mesh.agreement().await.unwrap_err();
    assert!(unfit.contains("\"creatures\"") && unfit.contains(&"c".repeat(64)), "{unfit}");
}

#[tokio::test]
async fn health_follows_the_stages() {
    let mesh = mesh("a", false, true).await;
    assert_eq!(mesh.agreement().await, Ok(()));
    // The stages' own health turns to SERVING while this service looks for it once a second.
    let until = Instant::now() + Duration::from_secs(20);
    while let Err(reason) = mesh.stage.check_health(Duration::from_secs(5)).await {
        assert!(Instant::now() < until, "{reason}");
        tokio::task::yield_now().await;
    }
}
