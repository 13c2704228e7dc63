//! The gRPC face: convert, submit, answer.

use std::sync::Arc;

use futures::stream::BoxStream;
use reverie_engine::trajectory::Trajectory;
use reverie_packages::package::WithoutText;
use reverie_proto::superresolution::v1::super_resolution_service_server::SuperResolutionService;
use reverie_proto::superresolution::v1::upscale_response::Event;
use reverie_proto::superresolution::v1::{
    CheckOptionsRequest, CheckOptionsResponse, Level as LevelMessage, ListLevelsRequest, ListLevelsResponse,
    UpscaleCompleted, UpscaleRequest, UpscaleResponse,
};
use reverie_service_kit::{Context, Permit};
use reverie_stage::answers::{answers, picture};
use reverie_stage::lanes;
use tonic::{Request, Response, Status};

use crate::convert::{self, Job};
use crate::level::Level;

pub(crate) struct SuperResolution {
    levels: Arc<[Level]>,
    progress_events: usize,
    bundle_digest: String,
}

impl SuperResolution {
    pub(crate) fn new(levels: Arc<[Level]>, progress_events: usize, bundle_digest: String) -> Self {
        Self { levels, progress_events, bundle_digest }
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
        let prepared = Permit::of(&request).run_blocking(move || convert::job(request.get_ref(), &levels));
        let Job { level, sampler, plan, noise, conditions } =
            context.within("preparing the smaller image", prepared).await?;

        let side = level.facts.side;
        let trajectory = Trajectory {
            elements: level.facts.elements(),
            has_variance: level.facts.diffusion.learned_variance.is_some(),
            sampler,
            plan,
            noise,
            initial: None,
            conditions: Arc::new(conditions),
        };
        let events = trajectory
            .submit(&level.lane, lanes::call(context), self.progress_events)
            .map_err(|error| lanes::submit_status(&error, context))?;
        let model = Some(level.facts.identity.clone());
        let stream = answers(
            events,
            context,
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

    async fn check_options(
        &self,
        request: Request<CheckOptionsRequest>,
    ) -> Result<Response<CheckOptionsResponse>, Status> {
        let context = Context::of(&request);
        let levels = Arc::clone(&self.levels);
        let checked = Permit::of(&request).run_blocking(move || convert::check(request.get_ref(), &levels));
        let (level, left) = context.within("checking the options", checked).await?;
        let weight = level.facts.elements() as f64;
        Ok(Response::new(CheckOptionsResponse {
            prediction: lanes::predict(&level.lane, left, weight, context),
        }))
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
        Ok(Response::new(ListLevelsResponse { levels, bundle_digest: self.bundle_digest.clone() }))
    }
}
