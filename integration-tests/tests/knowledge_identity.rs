//! Services that were given different knowledge bases, or another encoder's, do not answer as if they fitted.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use reverie::mesh::{Mesh, MeshArguments, MeshSettings};
use reverie_integration_tests::processes::{self, Process};
use reverie_integration_tests::{BUNDLE, Fallible, folders, health};
use reverie_knowledge::epoch::{Manifest, NewEpoch, write_epoch};
use reverie_proto::knowledge::v1::RetrievalStrategy;
use reverie_proto::retrieval::v1::RetrieveRequest;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_service_kit::client::Upstream;
use reverie_storage::Folder;
use tempfile::TempDir;
use tonic::Code;
use tonic_health::ServingStatus;

/// How long a service may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn bundled() -> String {
    format!("{BUNDLE}/knowledge/creatures")
}

/// A knowledge base of the same name and epoch as the bundled one, in which two entries have changed places.
async fn in_another_order(folder: &Path) -> Fallible<()> {
    let from = Folder::open(&bundled())?;
    let Manifest { name, description, epoch, dimension, vectors: kind, space_digest, segments, .. } =
        Manifest::read(&from).await?;
    let mut entries = Manifest::read(&from).await?.read_entries(&from).await?;
    entries.swap(0, 1);
    let vectors = segments[0].read_vectors(&from).await?;
    let epoch = NewEpoch { name, description, epoch, dimension, kind, space_digest, entries, vectors };
    write_epoch(&Folder::open(&folder.display().to_string())?, epoch).await?;
    Ok(())
}

/// The bundled knowledge base as if another encoder had made its vectors.
fn of_another_encoder(folder: &Path) -> Fallible<()> {
    folders::copy(Path::new(&bundled()), folder)?;
    let manifest = folder.join("manifest.json");
    let text = fs::read_to_string(&manifest)?;
    let (before, digest) = text.split_once("\"space_digest\": \"").ok_or("no space_digest")?;
    let after = digest.get(64..).ok_or("no digest")?;
    Ok(fs::write(manifest, format!("{before}\"space_digest\": \"{}{after}", "b".repeat(64)))?)
}

fn setting(folder: &Path) -> String {
    format!("knowledge_bases.creatures={}", folder.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn retrieval_does_not_serve_with_a_vector_service_of_other_entries() -> Fallible<()> {
    let folder = TempDir::new()?;
    let other = folder.path().join("creatures");
    in_another_order(&other).await?;
    let (encoder, vector) = tokio::try_join!(Process::start("encoder", &[]), Process::start("vector", &[]))?;
    let stages = [format!("stages.encoder={}", encoder.url()), format!("stages.vector={}", vector.url())];
    let retrieval = Process::start("retrieval", &[&stages[..], &[setting(&other)]].concat()).await?;

    let started = Instant::now();
    while !retrieval.log().contains("which the vector service does not have") {
        assert!(started.elapsed() < PATIENCE, "{}", retrieval.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    health::becomes(&retrieval.address()?, ServingStatus::NotServing).await?;
    let mut client = RetrievalServiceClient::new(Upstream::new("retrieval", &retrieval.address()?).channel());
    let ask = |strategy: RetrievalStrategy| RetrieveRequest {
        text: "a small zunin on the left, snow".to_owned(),
        limit: 4,
        strategy: strategy.into(),
        ..RetrieveRequest::default()
    };
    for strategy in [RetrievalStrategy::Hybrid, RetrievalStrategy::Embedding] {
        let status = client.retrieve(ask(strategy)).await.map(|_| ()).unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
        assert!(status.message().contains("the same knowledge base"), "{status}");
    }
    assert!(client.retrieve(ask(RetrievalStrategy::Bm25)).await.is_ok(), "captions need no vectors");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_knowledge_base_of_another_encoder_is_refused_at_start() -> Fallible<()> {
    let folder = TempDir::new()?;
    let foreign = folder.path().join("creatures");
    of_another_encoder(&foreign)?;
    let settings = [setting(&foreign)];
    let (encoder, vector) =
        tokio::try_join!(Process::start("encoder", &[]), Process::start("vector", &settings))?;
    let stages = [format!("stages.encoder={}", encoder.url()), format!("stages.vector={}", vector.url())];
    let run = processes::command("retrieval", &[&stages[..], &settings].concat())?.output();
    let ended = tokio::time::timeout(PATIENCE, run).await.map_err(|_| "retrieval serves")??;
    let across = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{across}");

    let knowledge_bases = vec![("creatures".to_owned(), foreign.display().to_string())];
    let arguments = MeshArguments { bundle: BUNDLE.to_owned(), knowledge_bases, ..MeshArguments::default() };
    let start = Mesh::start(MeshSettings::load(&arguments).await?);
    let within = tokio::time::timeout(PATIENCE, start).await.map_err(|_| "the mesh waits")?;
    let within = within.err().ok_or("the mesh serves")?.to_string();
    for told in [across, within] {
        for part in ["\"creatures\"", &"b".repeat(64), "build it again"] {
            assert!(told.contains(part), "{part} is missing in: {told}");
        }
    }
    Ok(())
}
