//! Changes of knowledge bases, at the public door: the retrieval service makes them, and every replica takes up what must not be found
//! any more before the caller hears of it.

use reverie_proto::knowledge::v1 as messages;
use reverie_proto::knowledge::v1::knowledge_service_server::KnowledgeService;
use reverie_proto::retrieval::v1::PrepareRequest;
use reverie_service_kit::Context;
use tonic::{Request, Response, Status};

use crate::access;
use crate::door::Door;

impl Door {
    /// Waits until every replica of retrieval searches this epoch, or a later one, and, with `drop_older`, has let go of those before.
    async fn taken_up(
        &self,
        context: Context,
        knowledge_base: String,
        epoch: Option<&messages::Epoch>,
        drop_older: bool,
    ) -> Result<(), Status> {
        let epoch = epoch.map_or(0, |epoch| epoch.number);
        self.stages.prepare_all(context, PrepareRequest { knowledge_base, epoch, drop_older }).await.map(drop)
    }
}

/// Methods that retrieval answers.
macro_rules! forward {
    ($($method:ident($request:ident) -> $response:ident while $doing:literal $(, then $then:literal)?;)*) => {
        #[tonic::async_trait]
        impl KnowledgeService for Door {$(
            async fn $method(
                &self,
                request: Request<messages::$request>,
            ) -> Result<Response<messages::$response>, Status> {
                let context = self.context(&request);
                let request = access::resolved(request, |request| &mut request.knowledge_base)?;
                let name = request.knowledge_base.clone();
                tracing::debug!(knowledge_base = name, $doing);
                let work = async {
                    let answer = self.stages.knowledge(context, async |mut client| {
                        client.$method(context.outgoing(request)).await
                    });
                    let answer = answer.await?;
                    $(self.taken_up(context, name, answer.epoch.as_ref(), $then).await?;)?
                    Ok(Response::new(answer))
                };
                context.within($doing, work).await
            }
        )*}
    };
}

forward! {
    upsert_entries(UpsertEntriesRequest) -> UpsertEntriesResponse while "storing the entries";
    delete_entries(DeleteEntriesRequest) -> DeleteEntriesResponse while "deleting the entries", then false;
    forget_entries(ForgetEntriesRequest) -> ForgetEntriesResponse while "forgetting the entries", then true;
    batch_get_entries(BatchGetEntriesRequest) -> BatchGetEntriesResponse while "reading the entries";
    get_knowledge_base(GetKnowledgeBaseRequest) -> GetKnowledgeBaseResponse while "asking for the knowledge base";
    create_snapshot(CreateSnapshotRequest) -> CreateSnapshotResponse while "making the snapshot";
    restore_snapshot(RestoreSnapshotRequest) -> RestoreSnapshotResponse while "restoring the snapshot", then false;
    delete_snapshot(DeleteSnapshotRequest) -> DeleteSnapshotResponse while "deleting the snapshot";
}
