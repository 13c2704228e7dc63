//! The gRPC face: admit, convert, run, convert.

use std::sync::Arc;

use reverie_imaging::pictures;
use reverie_inference::package::LatentScale;
use reverie_proto::autoencoder::v1::autoencoder_service_server::AutoencoderService;
use reverie_proto::autoencoder::v1::{
    DecodeRequest, DecodeResponse, EncodeRequest, EncodeResponse, GetModelRequest, GetModelResponse,
};
use reverie_proto::tensor::v1::Latent;
use reverie_proto::tensors;
use reverie_service_kit::{Context, Permit, Refusal};
use tonic::{Request, Response, Status};

use crate::coder::{self, Coded, Coder};
use crate::convert::{self, Decodable, Encodable};

pub(crate) struct Autoencoder {
    pub(crate) decoder: Arc<Coder>,
    pub(crate) encoder: Option<Arc<Coder>>,
    pub(crate) max_side: usize,
}

#[tonic::async_trait]
impl AutoencoderService for Autoencoder {
    async fn decode(&self, request: Request<DecodeRequest>) -> Result<Response<DecodeResponse>, Status> {
        let (context, permit, max_side) = (Context::of(&request), Permit::of(&request), self.max_side);
        let run = self.decoder.run(context, permit, move |decoder, model| {
            let scale = decoder.scale;
            let latent = convert::latent(request.into_inner(), scale, &decoder.identity.digest, max_side)?;
            let Decodable { shape: [channels, height, width], mut values } = latent;
            for value in &mut values {
                *value = *value / scale.scale + scale.shift;
            }
            let (rows, columns) = (height * scale.downscale, width * scale.downscale);
            let latent = ("latent", &[1, channels, height, width][..], &values[..]);
            let planes = coder::run(model, latent, "picture", 3 * rows * columns)?;
            let picture = pictures::from_planes(&planes, columns as u32, rows as u32);
            picture.map(pictures::raw).map_err(|error| Refusal::internal(error).into())
        });
        let Coded { result, timings } = run.await?;
        let model = Some(self.decoder.identity.clone());
        Ok(Response::new(DecodeResponse { image: Some(result), timings: Some(timings), model }))
    }

    async fn encode(&self, request: Request<EncodeRequest>) -> Result<Response<EncodeResponse>, Status> {
        let missing =
            || Refusal::mismatch("this bundle has no latent_encoder, so nothing can start from a picture");
        let encoder = self.encoder.as_ref().ok_or_else(missing)?;
        let (context, permit, max_side) = (Context::of(&request), Permit::of(&request), self.max_side);
        let run = encoder.run(context, permit, move |encoder, model| {
            let LatentScale { channels, downscale, scale, shift } = encoder.scale;
            let Encodable { width, height, planes } =
                convert::picture(request.get_ref(), encoder.scale, max_side)?;
            let shape = [channels, height / downscale, width / downscale];
            let elements: usize = shape.iter().product();
            let picture = ("picture", &[1, 3, height, width][..], &planes[..]);
            // The mean of the distribution, then the logarithm of its variance, where the graph gives both.
            let given =
                if model.output_channels("latent") == Some(2 * channels) { 2 * elements } else { elements };
            let mut values = coder::run(model, picture, "latent", given)?;
            values.truncate(elements);
            for value in &mut values {
                *value = (*value - shift) * scale;
            }
            Ok(tensors::from_f32(&shape, &values))
        });
        let Coded { result, timings } = run.await?;
        let decoder_digest = self.decoder.identity.digest.clone();
        let latent = Some(Latent { values: Some(result), decoder_digest });
        let model = Some(encoder.identity.clone());
        Ok(Response::new(EncodeResponse { latent, timings: Some(timings), model }))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<GetModelResponse>, Status> {
        let decoder = Some(self.decoder.identity.clone());
        let encoder = self.encoder.as_ref().map(|encoder| encoder.identity.clone());
        Ok(Response::new(GetModelResponse { decoder, encoder }))
    }
}
