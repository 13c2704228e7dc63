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
use reverie_stage::sampling::Offer;
use tonic::{Request, Response, Status};

use crate::convert::{self, Job};
use crate::level::{Facts, Level};

pub(crate) struct SuperResolution {
    levels: Arc<[Level]>,
    progress_events: usize,
    described: ListLevelsResponse,
}

impl SuperResolution {
    pub(crate) fn new(levels: Arc<[Level]>, progress_events: usize, bundle_digest: String) -> Self {
        let described = levels.iter().map(|level| describe(&level.facts)).collect();
        Self { levels, progress_events, described: ListLevelsResponse { levels: described, bundle_digest } }
    }
}

/// All that callers are told of a level.
fn describe(facts: &Facts) -> LevelMessage {
    let (Facts { diffusion, defaults, .. }, text) = (facts, facts.text.as_ref());
    let Offer { samplers, max_steps, default } = Offer::of(diffusion, defaults, diffusion.own_sample());
    LevelMessage {
        low_resolution_size: facts.low_side as u32,
        image_size: facts.side as u32,
        model: Some(facts.identity.clone()),
        takes_empty_text: text.is_some_and(|text| text.without == WithoutText::EmptyText),
        text_encoder_digest: text.map(|text| text.encoder.clone()).unwrap_or_default(),
        samplers,
        max_steps,
        default_sampling: Some(default),
        default_guidance_weight: text.is_some().then(|| facts.default_guidance_weight()),
        default_noise_level: facts.default_noise_level(),
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
        let permit = Permit::of(&request);
        let afterwards = permit.without_message();
        let prepared = permit.run_blocking(move || convert::job(request.get_ref(), &levels));
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
            (context, afterwards),
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
        Ok(Response::new(self.described.clone()))
    }
}
