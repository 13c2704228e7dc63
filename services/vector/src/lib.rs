//! The vector service: finds the entries of a knowledge base whose pictures are nearest to a vector.
//!
//! A request goes `grpc.rs` -> `convert.rs` -> `collection.rs`, which searches the index of `crates/knowledge`.

mod collection;
mod convert;
mod error;
mod grpc;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_proto::vector::v1::vector_service_server::{SERVICE_NAME, VectorServiceServer};
use reverie_service_kit::settings::ServiceSettings as _;
use reverie_service_kit::telemetry::metrics;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};

pub use error::CollectionError;
pub use settings::{Limits, Search, Settings};

use collection::Collection;

/// Loads every collection, then serves until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let exact_bytes = settings.search.exact_mib << 20;
    let mut collections = BTreeMap::new();
    for (name, location) in settings.knowledge_bases() {
        let collection = Collection::open(name, location, settings.limits.max_in_flight, exact_bytes)
            .await
            .map_err(RunError::prepare(format!("knowledge base {name:?} at {location:?}")))?;
        let manifest = collection.manifest();
        let digest = collection.content_digest();
        tracing::info!(name, epoch = manifest.epoch, size = manifest.entries(), digest, "collection loaded");
        metrics::knowledge_base(name, manifest.epoch, manifest.entries() as u64);
        collections.insert(name.to_owned(), Arc::new(collection));
    }
    let service = grpc::Vector::new(collections);
    let mut server = Server::new(
        "vector",
        &[SERVICE_NAME],
        Standing::Stage,
        &settings.common().server,
        settings.limits.max_in_flight,
    )
    .await;
    let service = VectorServiceServer::new(service).max_decoding_message_size(grpc::MAX_REQUEST_BYTES);
    server.routes().add_service(service);
    // What is loaded stays: indices are immutable and in memory, so a service that started can do its work.
    server.serve(listener, shutdown, || async { Ok(()) }).await
}
