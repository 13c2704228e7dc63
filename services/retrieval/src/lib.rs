//! The retrieval service: finds reference images for a prompt (Re-Imagen, section 3).
//!
//! A request goes `grpc.rs` -> `convert.rs` -> `strategy.rs`, which asks `naming.rs` and `bm25.rs`, `embedding.rs`, or
//! both (`fusion.rs`), among the entries that `filter.rs` allows; `thinning.rs` leaves out what is too much alike.
//!
//! A change of a knowledge base goes `knowledge_service.rs` -> `writing.rs`, which stores it as a new epoch.

mod agreement;
mod bm25;
mod caption_file;
mod common;
mod convert;
mod embedding;
mod entries;
mod error;
mod filter;
mod fusion;
mod grpc;
mod knowledge_base;
mod knowledge_service;
mod library;
mod naming;
mod selection;
mod settings;
mod shares;
mod strategy;
mod subjects;
mod thinning;
mod thumbnails;
mod words;
mod writing;

use std::sync::Arc;

use reverie_knowledge::{Live, follow, one_is_loaded};
use reverie_proto::knowledge::v1::knowledge_service_server::{self, KnowledgeServiceServer};
use reverie_proto::retrieval::v1::retrieval_service_server::{self, RetrievalServiceServer};
use reverie_service_kit::settings::ServiceSettings as _;
use reverie_service_kit::{Listener, RunError, Server, Shutdown, Standing, Unfit};
use reverie_storage::Folder;
use tokio::task::JoinSet;

pub use caption_file::index_captions;
pub use settings::{Fusion, Limits, Settings, Stages};

use agreement::Agreement;
use embedding::EmbeddingSearch;
use error::KnowledgeError;
use knowledge_base::{KnowledgeBases, Reader};
use knowledge_service::Knowledge;
use library::Library;
use thumbnails::Thumbnails;
use writing::Writer;

/// Loads every knowledge base, then serves until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let (embedding, thumbnails) = (EmbeddingSearch::new(&settings.stages), Thumbnails::new());
    let mut knowledge_bases = KnowledgeBases::new();
    for (name, location) in settings.knowledge_bases() {
        let open = async {
            let (embedding, thumbnails) = (embedding.clone(), thumbnails.clone());
            let reader = Reader { name: name.to_owned(), embedding, thumbnails };
            Live::open(Folder::open(location)?, reader).await
        };
        let what = format!("knowledge base {name:?} at {location:?}");
        let live = open.await.map_err(RunError::prepare::<KnowledgeError>(what))?;
        knowledge_bases.insert(name.to_owned(), Arc::new(live));
    }
    let live: Vec<_> = knowledge_bases.values().cloned().collect();
    one_is_loaded(&live).map_err(RunError::prepare("the knowledge bases"))?;
    let following = follow(live, settings.epochs.interval());
    // They end with this function, when nobody waits for a change any more.
    let mut tasks = JoinSet::new();
    let writers = knowledge_bases.iter().filter(|(name, _)| settings.writable.contains(*name));
    let fixed = writers.clone().find(|(_, live)| !live.may_be_changed());
    if let Some((name, live)) = fixed {
        let location = live.epochs().folder().location();
        let what = format!("knowledge base {name:?} at {location:?}");
        let why = "it is among the `writable` ones, and its files cannot be listed: give the right to list, write and delete them";
        return Err(RunError::prepare(what)(why));
    }
    let writers = writers.map(|(name, live)| (name.clone(), Writer::start(live, &mut tasks))).collect();
    let knowledge_bases = Arc::new(knowledge_bases);
    let agreement = Agreement::new(embedding.clone(), Arc::clone(&knowledge_bases));
    let default = settings.default_knowledge_base.clone();
    let library = Arc::new(Library { knowledge_bases, default, writers });
    let retrieval =
        grpc::Retrieval::new(Arc::clone(&library), embedding.clone(), thumbnails.clone(), &settings);
    let knowledge = Knowledge::new(library, embedding, thumbnails, settings.limits.max_changes);
    let mut server = Server::new(
        "retrieval",
        &[retrieval_service_server::SERVICE_NAME, knowledge_service_server::SERVICE_NAME],
        Standing::Stage,
        &settings.common().server,
        settings.limits.max_in_flight,
    )
    .await;
    let most = grpc::MAX_REQUEST_BYTES;
    server
        .routes()
        .add_service(RetrievalServiceServer::new(retrieval).max_decoding_message_size(most))
        .add_service(KnowledgeServiceServer::new(knowledge).max_decoding_message_size(most));
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
        never = following => match never {},
    }
}
