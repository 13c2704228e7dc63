//! The retrieval service: finds reference images for a prompt (Re-Imagen, section 3).
//!
//! A request goes `grpc.rs` -> `convert.rs` -> `strategy.rs`, which asks `naming.rs` and `bm25.rs`, `embedding.rs`, or
//! both (`fusion.rs`), among the entries that `filter.rs` allows; `thinning.rs` leaves out what is too much alike.

mod agreement;
mod bm25;
mod common;
mod convert;
mod embedding;
mod error;
mod filter;
mod fusion;
mod grpc;
mod knowledge_base;
mod naming;
mod selection;
mod settings;
mod shares;
mod strategy;
mod subjects;
mod thinning;
mod thumbnails;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_proto::retrieval::v1::retrieval_service_server::{RetrievalServiceServer, SERVICE_NAME};
use reverie_service_kit::settings::ServiceSettings as _;
use reverie_service_kit::telemetry::metrics;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing, Unfit};

pub use settings::{Fusion, Limits, Settings, Stages};

use agreement::Agreement;
use embedding::EmbeddingSearch;
use knowledge_base::KnowledgeBase;

/// Loads every knowledge base, then serves until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let mut knowledge_bases = BTreeMap::new();
    for (name, location) in settings.knowledge_bases() {
        let knowledge_base = KnowledgeBase::open(name, location)
            .await
            .map_err(RunError::prepare(format!("knowledge base {name:?} at {location:?}")))?;
        tracing::info!(
            name,
            epoch = knowledge_base.epoch,
            digest = &*knowledge_base.content_digest,
            size = knowledge_base.entries.len(),
            "knowledge base loaded"
        );
        metrics::knowledge_base(name, knowledge_base.epoch, knowledge_base.entries.len() as u64);
        knowledge_bases.insert(name.to_owned(), Arc::new(knowledge_base));
    }
    let embedding = EmbeddingSearch::new(&settings.stages);
    let knowledge_bases = Arc::new(knowledge_bases);
    let agreement = Agreement::new(embedding.clone(), Arc::clone(&knowledge_bases));
    let service = grpc::Retrieval::new(knowledge_bases, embedding, &settings);
    let mut server = Server::new(
        "retrieval",
        &[SERVICE_NAME],
        Standing::Stage,
        &settings.common().server,
        settings.limits.max_in_flight,
    )
    .await;
    let service = RetrievalServiceServer::new(service).max_decoding_message_size(grpc::MAX_REQUEST_BYTES);
    server.routes().add_service(service);
    // The default strategy needs both stages.
    let check = || {
        let agreement = agreement.clone();
        async move { agreement.check().await.map_err(Unfit::ForNow) }
    };
    tokio::select! {
        outcome = server.serve(listener, shutdown, check) => outcome,
        // Like a missing model: nothing that happens later makes it good. A vector service may still be given another
        // knowledge base, so that one is waited for.
        why = agreement.refused_by_the_encoder() => Err(RunError::prepare("the knowledge bases")(why)),
    }
}
