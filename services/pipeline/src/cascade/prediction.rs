//! What the images of a request will take of the stages.

use futures::future::try_join_all;
use reverie_proto::denoiser::v1::PredictRequest;
use reverie_proto::generation::v1::Stage;
use reverie_service_kit::Context;
use tonic::Status;

use crate::admission::Need;
use crate::convert::Run;
use crate::fields::Fields;
use crate::position::Place;
use crate::stages::Stages;

/// Asks the base model and every level what an image needs of them, in the order of the cascade. A level that cannot use its options says so
/// now, and not when the image before it is drawn.
pub(crate) async fn predict(
    run: &Run,
    strength: Option<f64>,
    stages: &Stages,
    context: Context,
) -> Result<Vec<Need>, Status> {
    let fields = Fields::of(run);
    let request = PredictRequest {
        neighbours: run.memory.most(),
        guidance: run.guidance,
        sampling: run.base_sampling,
        strength,
        size: Some(run.size),
        model_digest: run.base.model.as_ref().map(|model| model.digest.clone()).unwrap_or_default(),
    };
    let base = async {
        let prediction = stages.predict(context, request, |field| fields.base(field)).await?;
        Ok::<_, Status>(prediction.map(|prediction| Need { place: Stage::Base.into(), prediction }))
    };
    let levels = run.levels.iter().enumerate().map(async |(index, (level, options))| {
        let own = move |field: &str| Fields::level(index, field);
        let prediction = stages.check_options(context, level, options, own).await?;
        Ok::<_, Status>(prediction.map(|prediction| Need { place: Place::level(index), prediction }))
    });
    let (base, levels) = tokio::try_join!(base, try_join_all(levels))?;
    Ok(base.into_iter().chain(levels.into_iter().flatten()).collect())
}
