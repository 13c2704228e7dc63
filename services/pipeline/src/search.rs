//! Search without drawing, at the public door: the retrieval service, with the deadline and the name of the caller.

use reverie_proto::retrieval::v1::retrieval_service_server::RetrievalService;
use reverie_proto::retrieval::v1::{
    ListKnowledgeBasesRequest, ListKnowledgeBasesResponse, PrepareRequest, PrepareResponse, RetrieveRequest,
    RetrieveResponse,
};
use tonic::{Request, Response, Status};

use crate::access;
use crate::door::Door;

#[tonic::async_trait]
impl RetrievalService for Door {
    async fn retrieve(
        &self,
        request: Request<RetrieveRequest>,
    ) -> Result<Response<RetrieveResponse>, Status> {
        let context = self.context(&request);
        let request = access::resolved(request, |request| &mut request.knowledge_base)?;
        // Its fields are the caller's own.
        let found = self.stages.retrieve(context, request, |field| Some(field.to_owned()));
        Ok(Response::new(context.within("searching", found).await?))
    }

    async fn prepare(&self, request: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        let context = self.context(&request);
        let request = access::resolved(request, |request| &mut request.knowledge_base)?;
        let prepared = self.stages.prepare_all(context, request);
        let epoch = context.within("taking up an epoch", prepared).await?;
        Ok(Response::new(PrepareResponse { epoch }))
    }

    async fn list_knowledge_bases(
        &self,
        request: Request<ListKnowledgeBasesRequest>,
    ) -> Result<Response<ListKnowledgeBasesResponse>, Status> {
        let context = self.context(&request);
        let known = context.within("asking for the knowledge bases", self.stages.knowledge_bases(context));
        let knowledge_bases = access::visible(&request, known.await?);
        Ok(Response::new(ListKnowledgeBasesResponse { knowledge_bases }))
    }
}
