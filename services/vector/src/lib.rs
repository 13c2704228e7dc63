//! The vector service: finds the entries of a knowledge base whose pictures are nearest to a vector.
//!
//! A request goes `grpc.rs` -> `convert.rs` -> `collection.rs`, which searches the index of `crates/knowledge`. `recall.rs` measures what
//! searches miss.

mod collection;
mod convert;
mod error;
mod grpc;
mod recall;
mod settings;

use std::sync::Arc;

use reverie_knowledge::index::Searches;
use reverie_knowledge::{Live, follow, one_is_loaded};
use reverie_proto::vector::v1::vector_service_server::{SERVICE_NAME, VectorServiceServer};
use reverie_service_kit::settings::ServiceSettings as _;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing};
use reverie_storage::Folder;

pub use error::CollectionError;
pub use settings::{Limits, Search, Settings};

use collection::Reader;
use convert::Collections;

/// Loads every collection, then serves until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let settings::Search { exact_mib, expansion } = settings.search;
    let searches = Searches { threads: grpc::threads_of_indexes(), expansion };
    let mut collections = Collections::new();
    for (name, location) in settings.knowledge_bases() {
        let open = async {
            let reader = Reader { name: name.to_owned(), searches, exact_bytes: exact_mib << 20 };
            Live::open(Folder::open(location)?, reader).await
        };
        let what = format!("knowledge base {name:?} at {location:?}");
        let live = open.await.map_err(RunError::prepare::<CollectionError>(what))?;
        collections.insert(name.to_owned(), Arc::new(live));
    }
    let live: Vec<_> = collections.values().cloned().collect();
    one_is_loaded(&live).map_err(RunError::prepare("the knowledge bases"))?;
    let following = follow(live, settings.epochs.interval());
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
    tokio::select! {
        // An epoch that is loaded stays, so a service that started can do its work.
        outcome = server.serve(listener, shutdown, || async { Ok(()) }) => outcome,
        never = following => match never {},
    }
}
