//! The gRPC face: convert, run, convert.

use std::sync::Arc;

use reverie_engine::Computed;
use reverie_imaging::pictures;
use reverie_packages::package::LatentScale;
use reverie_proto::autoencoder::v1::autoencoder_service_server::AutoencoderService;
use reverie_proto::autoencoder::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, GetModelRequest, GetModelResponse,
    PredictRequest, PredictResponse,
};
use reverie_proto::tensor::v1::Latent;
use reverie_proto::tensors;
use reverie_service_kit::{Context, Permit, Refusal};
use reverie_stage::lanes::{self, Lanes};
use reverie_stage::model;
use tonic::{Request, Response, Status};

use crate::coder::{Coder, CoderRow};
use crate::convert::{self, Decodable, Encodable};

pub(crate) struct Autoencoder {
    pub(crate) decoder: Arc<Coder>,
    pub(crate) encoder: Option<Arc<Coder>>,
    pub(crate) max_side: usize,
}

impl Autoencoder {
    pub(crate) fn lanes(&self) -> Lanes {
        let coders = std::iter::once(&self.decoder).chain(&self.encoder);
        coders.fold(Lanes::default(), |lanes, coder| lanes.and(&coder.lane))
    }
}

/// Runs a conversion, which blocks.
async fn converted<T: Send + 'static>(
    context: Context,
    permit: Permit,
    convert: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    context.within("converting", permit.run_blocking(convert)).await
}

#[tonic::async_trait]
impl AutoencoderService for Autoencoder {
    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        let (context, permit, max_side) = (Context::of(&request), Permit::of(&request), self.max_side);
        let (scale, decoder) = (self.decoder.scale, self.decoder.identity.digest.clone());
        let latent = converted(context, permit.clone(), move || {
            let mut latent = convert::latent(request.into_inner(), scale, &decoder, max_side)?;
            for value in &mut latent.values {
                *value = *value / scale.scale + scale.shift;
            }
            Ok(latent)
        });
        let Decodable { shape: [channels, height, width], values } = latent.await?;
        let (rows, columns) = (height * scale.downscale, width * scale.downscale);
        let (shape, output_elements) = ([1, channels, height, width], 3 * rows * columns);
        let decoded = self.decoder.run(context, CoderRow { shape, values, output_elements });
        let Computed { output, timings } = decoded.await?;
        let image = converted(context, permit, move || {
            let picture = pictures::from_planes(&output, columns as u32, rows as u32);
            Ok(picture.map(pictures::raw).map_err(Refusal::internal)?)
        });
        let (image, timings) = (Some(image.await?), Some(lanes::timings(&timings)));
        let model = Some(self.decoder.identity.clone());
        Ok(Response::new(DecodeResponse { image, timings, model }))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        let missing =
            || Refusal::mismatch("this bundle has no latent_encoder, so nothing can start from a picture");
        let encoder = self.encoder.as_ref().ok_or_else(missing)?;
        model::check_model(&request.get_ref().decoder_digest, &self.decoder.identity)?;
        let (context, permit, max_side) = (Context::of(&request), Permit::of(&request), self.max_side);
        let scale = encoder.scale;
        let picture =
            converted(context, permit, move || convert::picture(request.get_ref(), scale, max_side));
        let Encodable { width, height, planes } = picture.await?;
        let LatentScale { channels, downscale, scale, shift } = scale;
        let shape = [channels, height / downscale, width / downscale];
        let elements: usize = shape.iter().product();
        // The mean of the distribution, then the logarithm of its variance, where the graph gives both.
        let has_variance = encoder.output_channels == Some(2 * channels);
        let output_elements = if has_variance { 2 * elements } else { elements };
        let row = CoderRow { shape: [1, 3, height, width], values: planes, output_elements };
        let Computed { output: mut values, timings } = encoder.run(context, row).await?;
        values.truncate(elements);
        for value in &mut values {
            *value = (*value - shift) * scale;
        }
        let decoder_digest = self.decoder.identity.digest.clone();
        let latent = Some(Latent { values: Some(tensors::from_f32(&shape, &values)), decoder_digest });
        let (timings, model) = (Some(lanes::timings(&timings)), Some(encoder.identity.clone()));
        Ok(Response::new(EncodeResponse { latent, timings, model }))
    }

    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let (context, request) = (Context::of(&request), request.into_inner());
        model::check_model(&request.decoder_digest, &self.decoder.identity)?;
        let scale = self.decoder.scale;
        let (width, height) = convert::size(request.size, scale, self.max_side)?;
        let latent = scale.channels * (width / scale.downscale) * (height / scale.downscale);
        let encoder = self.encoder.as_ref();
        Ok(Response::new(PredictResponse {
            decode: self.decoder.predict(context, latent),
            encode: encoder.and_then(|encoder| encoder.predict(context, 3 * width * height)),
        }))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        let decoder = Some(self.decoder.identity.clone());
        let encoder = self.encoder.as_ref().map(|encoder| encoder.identity.clone());
        Ok(Response::new(GetModelResponse { decoder, encoder }))
    }
}
