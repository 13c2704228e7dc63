//! The gRPC face: convert, submit, answer.

use std::sync::Arc;

use futures::stream::BoxStream;
use reverie_denoising::Trajectory;
use reverie_denoising::serving::{answers, picture, submit_status};
use reverie_inference::package::WithoutText;
use reverie_proto::superresolution::v1::super_resolution_service_server::SuperResolutionService;
use reverie_proto::superresolution::v1::upscale_response::Event;
use reverie_proto::superresolution::v1::{
    Level as LevelMessage, ListLevelsRequest, ListLevelsResponse, UpscaleCompleted, UpscaleRequest,
    UpscaleResponse,
};
use reverie_service_kit::{Context, Refusal};
use tonic::{Request, Response, Status};

use crate::convert::{self, Job};
use crate::level::Level;

pub(crate) struct SuperResolution {
    levels: Arc<Vec<Level>>,
}

impl SuperResolution {
    pub(crate) fn new(levels: Vec<Level>) -> Self {
        Self { levels: Arc::new(levels) }
    }
}

#[tonic::async_trait]
impl SuperResolutionService for SuperResolution {
    type UpscaleStream = BoxStream<'static, Result<UpscaleResponse, Status>>;

    async fn upscale(
        &self,
        request: Request<UpscaleRequest>,
    ) -> Result<Response<Self::UpscaleStream>, Status> {
        let context = Context::of(&request);
        let levels = Arc::clone(&self.levels);
        let prepare = tokio::task::spawn_blocking(move || convert::job(request.get_ref(), &levels));
        let prepared =
            async { prepare.await.map_err(|_| Status::from(Refusal::internal("the service panicked")))? };
        let Job { level, sampler, plan, noise, conditions } =
            context.within("preparing the smaller picture", prepared).await?;

        let side = level.facts.side;
        let events = level
            .scheduler
            .submit(Trajectory {
                elements: 3 * side * side,
                has_variance: level.facts.diffusion.learned_variance.is_some(),
                sampler,
                plan,
                noise,
                initial: None,
                conditions: Arc::new(conditions),
                deadline: context.deadline(),
            })
            .map_err(submit_status)?;
        let model = Some(level.facts.identity.clone());
        let stream = answers(
            events,
            |progress| UpscaleResponse { event: Some(Event::Progress(progress)) },
            move |x| picture(&x, side as u32, side as u32),
            move |drawn| UpscaleResponse {
                event: Some(Event::Completed(UpscaleCompleted {
                    image: Some(drawn.sample),
                    timings: Some(drawn.timings),
                    model,
                })),
            },
        );
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_levels(
        &self,
        _: Request<ListLevelsRequest>,
    ) -> Result<Response<ListLevelsResponse>, Status> {
        let levels = self
            .levels
            .iter()
            .map(|level| LevelMessage {
                low_resolution_size: level.facts.low_side as u32,
                image_size: level.facts.side as u32,
                model: Some(level.facts.identity.clone()),
                takes_empty_text: level
                    .facts
                    .text
                    .as_ref()
                    .is_some_and(|text| text.without == WithoutText::EmptyText),
                text_encoder_digest: level
                    .facts
                    .text
                    .as_ref()
                    .map(|text| text.encoder.clone())
                    .unwrap_or_default(),
            })
            .collect();
        Ok(Response::new(ListLevelsResponse { levels }))
    }
}
