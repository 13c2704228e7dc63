//! The vector service: finds the entries of a knowledge base whose pictures are nearest to a vector.
//!
//! A request goes `grpc.rs` -> `convert.rs` -> `collection.rs`, which searches the vectors of each segment (`vectors.rs`): in the index of
//! `crates/knowledge`, or in a Milvus (`milvus.rs`). `reader.rs` loads epochs, `recall.rs` measures what searches miss.

mod collection;
mod convert;
mod error;
mod grpc;
mod milvus;
mod reader;
mod recall;
mod settings;
mod vectors;

use std::sync::Arc;

use reverie_knowledge::index::Searches;
use reverie_knowledge::{Live, follow, one_is_loaded};
use reverie_proto::vector::v1::vector_service_server::{SERVICE_NAME, VectorServiceServer};
use reverie_service_kit::settings::ServiceSettings as _;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing, Unfit};
use reverie_storage::Folder;

pub use error::CollectionError;
pub use milvus::{IndexKind, MilvusSettings};
pub use settings::{Limits, Search, Settings};

use convert::Collections;
use milvus::Milvus;
use reader::{Backend, Reader};

/// Loads every collection, then serves until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let settings::Search { exact_mib, expansion } = settings.search;
    let milvus = Milvus::of(&settings.milvus, expansion).map_err(RunError::prepare("Milvus"))?;
    let searches = Searches { threads: grpc::threads_of_indexes(), expansion };
    let backend = match &milvus {
        Some(milvus) => Backend::Milvus(Arc::clone(milvus)),
        None => Backend::Usearch { searches, exact_bytes: exact_mib << 20 },
    };
    let mut collections = Collections::new();
    for (name, location) in settings.knowledge_bases() {
        let open = async { Live::open(Folder::open(location)?, Reader::new(name, backend.clone())).await };
        let what = format!("knowledge base {name:?} at {location:?}");
        let live = open.await.map_err(RunError::prepare::<CollectionError>(what))?;
        collections.insert(name.to_owned(), Arc::new(live));
    }
    let live: Vec<_> = collections.values().cloned().collect();
    one_is_loaded(&live).map_err(RunError::prepare("the knowledge bases"))?;
    let tidying = async {
        match milvus.clone() {
            Some(milvus) => milvus::tidy(milvus, live.clone(), settings.epochs.interval().is_some()).await,
            None => std::future::pending().await,
        }
    };
    let following = follow(live.clone(), settings.epochs.interval());
    // A search in Milvus takes no core here.
    let at_a_time = if milvus.is_some() { settings.limits.max_in_flight } else { grpc::threads() };
    let service = grpc::Vector::new(collections, at_a_time);
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
    tokio::select! {
        // An epoch that is loaded stays, so a service that started can do its work, if it has it in memory.
        outcome = server.serve(listener, shutdown, || is_fit(milvus.as_deref())) => outcome,
        never = following => match never {},
        never = tidying => match never {},
    }
}

/// Whether searches can be answered.
async fn is_fit(milvus: Option<&Milvus>) -> Result<(), Unfit> {
    match milvus {
        Some(milvus) => milvus.check().await.map_err(|error| Unfit::ForNow(error.to_string())),
        None => Ok(()),
    }
}
