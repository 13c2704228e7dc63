//! The pipeline service: the public door. It runs the cascade (`cascade.rs`) over the other services.

mod access;
mod admission;
mod callers;
mod capabilities;
mod cascade;
mod convert;
mod door;
mod fields;
mod fit;
mod grpc;
mod images;
mod kept;
mod knowledge;
mod latents;
mod measure;
mod memory;
mod news;
mod pace;
mod plan;
mod position;
mod search;
mod settings;
mod stages;

use std::sync::Arc;
use std::time::Duration;

use reverie_access::Access;
use reverie_proto::generation::v1::generation_service_server::{self, GenerationServiceServer};
use reverie_proto::knowledge::v1::knowledge_service_server::{self, KnowledgeServiceServer};
use reverie_proto::retrieval::v1::retrieval_service_server::{self, RetrievalServiceServer};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::{Context, Listener, RunError, Server, Shutdown, Standing, Unfit};
use tonic::Status;

pub use callers::Callers;
pub use settings::{Settings, StageAddresses};

use crate::access::Porter;
use crate::stages::Stages;

/// How long a stage may take to say whether it is well.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the models of the stages belong together, as health says of a running pipeline.
///
/// # Errors
/// `FAILED_PRECONDITION` where they do not, other codes where a stage does not answer within `timeout`.
pub async fn check_fit(stages: &StageAddresses, timeout: Duration) -> Result<(), Status> {
    let context = Context::probe(timeout);
    context.within("asking for the models", Stages::new(stages).check_fit(context)).await
}

/// Runs the service until `shutdown`.
pub async fn run(settings: Settings, listener: Listener, shutdown: Shutdown) -> Result<(), RunError> {
    let limits = &settings.limits;
    let stages = Stages::new(&settings.stages);
    let generation = grpc::Generation::new(stages.clone(), &settings);
    let door = door::Door::new(stages.clone(), &settings);
    let access =
        Access::start(&settings.access, limits.max_in_flight).await.map_err(RunError::prepare("access"))?;
    let mut server = Server::new(
        "pipeline",
        &[
            generation_service_server::SERVICE_NAME,
            retrieval_service_server::SERVICE_NAME,
            knowledge_service_server::SERVICE_NAME,
        ],
        Standing::Door,
        &settings.common.server,
        limits.max_in_flight,
    )
    .await;
    if let Some(access) = access {
        server = server.kept_by(Arc::new(Porter(access)));
    }
    server
        .routes()
        .add_service(
            GenerationServiceServer::new(generation)
                .max_decoding_message_size(limits.max_request_mib << 20)
                .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
        )
        .add_service(
            RetrievalServiceServer::new(door.clone())
                .max_decoding_message_size(limits.max_request_mib << 20)
                .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
        )
        .add_service(
            KnowledgeServiceServer::new(door)
                .max_decoding_message_size(limits.max_request_mib << 20)
                .max_encoding_message_size(MAX_INTERNAL_MESSAGE),
        );
    server
        .serve(listener, shutdown, async || stages.check_health(HEALTH_TIMEOUT).await.map_err(Unfit::ForNow))
        .await
}
