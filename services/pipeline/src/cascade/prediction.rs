//! What the images of a request will take of the stages.

use futures::future::try_join_all;
use reverie_engine::Cores;
use reverie_imaging::initial::Opened;
use reverie_proto::autoencoder::v1::{PredictRequest as PredictCodingRequest, PredictResponse};
use reverie_proto::denoiser::v1::PredictRequest;
use reverie_proto::diffusion::v1::Prediction;
use reverie_proto::generation::v1::Stage;
use reverie_service_kit::Context;
use tonic::Status;

use crate::admission::Need;
use crate::convert::Run;
use crate::fields::Fields;
use crate::pace::Pace;
use crate::position::Place;
use crate::stages::Stages;

/// Asks the stages that draw what the images take of them, in the order of the cascade. A level that cannot use its options says so now,
/// and not when the image before it is drawn.
pub(crate) async fn predict(
    run: &Run,
    initial: Option<&Opened>,
    stages: &Stages,
    context: Context,
    pace: &Pace,
) -> Result<Vec<Need>, Status> {
    let fields = Fields::of(run);
    let request = PredictRequest {
        neighbours: run.most_neighbours,
        guidance: run.guidance,
        sampling: run.base_sampling,
        strength: initial.map(Opened::strength),
        size: Some(run.size),
        model_digest: run.base.model.as_ref().map(|model| model.digest.clone()).unwrap_or_default(),
    };
    let base = stages.predict(context, request, |field| fields.base(field));
    let coding = async {
        let Some(latent) = &run.base.latent else { return Ok(PredictResponse::default()) };
        let request =
            PredictCodingRequest { size: Some(run.size), decoder_digest: latent.decoder_digest.clone() };
        stages.predict_coding(context, request, |field| fields.autoencoder(field)).await
    };
    let levels = run.levels.iter().enumerate().map(|(index, (level, options))| {
        stages.check_options(context, level, options, move |field| Fields::level(index, field))
    });
    let (base, coding, levels) = tokio::try_join!(base, coding, try_join_all(levels))?;

    let encoded = initial.map_or(0, |initial| {
        let paints_into_picture = run.base.latent.as_ref().is_some_and(|latent| latent.paints_into_picture);
        if paints_into_picture && initial.has_mask() { 2 } else { 1 }
    });
    let encode = coding.encode.filter(|_| encoded > 0).map(|encode| times(encoded, encode));
    let levels = (0..).zip(levels).map(|(index, level)| (Place::level(index), level));
    let drawing =
        [(Stage::Base.into(), base), (Stage::Decode.into(), coding.decode)].into_iter().chain(levels);
    let need = |is_shared| {
        move |(place, prediction): (Place, Option<Prediction>)| {
            Some(Need { place, prediction: prediction?, is_shared })
        }
    };
    let mut needs: Vec<Need> = [(Stage::EncodePicture.into(), encode)]
        .into_iter()
        .filter_map(need(true))
        .chain(drawing.filter_map(need(false)))
        .collect();
    let before = pace.before_base(run.most_neighbours).and_then(|seconds| preparation(seconds, &needs));
    needs.splice(
        0..0,
        before.map(|prediction| Need { place: Stage::Encode.into(), prediction, is_shared: true }),
    );
    Ok(needs)
}

/// So many of the same, one after the other, as an autoencoder of one session does them.
fn times(count: u32, one: Prediction) -> Prediction {
    let (seconds, unit_seconds) = (f64::from(count) * one.seconds, f64::from(count) * one.unit_seconds);
    Prediction { seconds, unit_seconds, ..one }
}

/// What comes before the base model and takes so many seconds. Where the stages are in this process, it takes a core from them; elsewhere
/// it takes nothing of what they compute with. None as long as they predict nothing.
fn preparation(seconds: f64, needs: &[Need]) -> Option<Prediction> {
    let cores = Cores::of_process().id();
    let mut predictions = needs.iter().map(|need| need.prediction);
    let here = predictions.clone().find(|prediction| prediction.resource == cores);
    Some(Prediction {
        seconds,
        unit_seconds: if here.is_some() { seconds } else { 0.0 },
        others_unit_seconds: 0.0,
        ..here.or_else(|| predictions.next())?
    })
}
