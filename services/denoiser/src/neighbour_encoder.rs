//! Neighbours to features: the base model's DStack at t = 0, over a neighbour's image and caption (Re-Imagen, section 3.2).
//!
//! Features depend on neither the noisy image nor the timestep, so they are computed once, and kept by the content that came in: nothing
//! is done for a neighbour that is known.

use std::sync::Arc;

use reverie_engine::{
    Cache, InferenceSettings, Input, Lane, ModelError, RowData, RowError, RowModel, RunError, Session, Values,
};
use reverie_imaging::fit::{Fit, Reader};
use reverie_imaging::pictures::{Rgb, to_normalized_planes, to_planes};
use reverie_imaging::{PictureError, pool};
use reverie_packages::package::{NeighbourConditions, PictureFacts};
use reverie_packages::{Package, PackageError};
use reverie_proto::tensors::EncodedText;
use reverie_service_kit::Context;
use reverie_stage::lanes;
use sha2::{Digest as _, Sha256};

use crate::Settings;
use crate::convert::Neighbour;
use crate::facts::{Facts, Feature};

/// One neighbour's features, in the order of [`Facts`].
pub(crate) type Features = Arc<Vec<Vec<f32>>>;

/// Why a neighbour has no features.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EncodeError {
    /// Its image cannot be decoded.
    #[error(transparent)]
    Image(#[from] PictureError),
    /// The model did not encode it.
    #[error(transparent)]
    Run(#[from] RunError),
}

pub(crate) struct NeighbourEncoder {
    lane: Lane<NeighbourModel>,
    reader: Reader,
    picture: Option<PictureFacts>,
    max_tokens: usize,
    cache: Cache<Features>,
}

impl NeighbourEncoder {
    /// Loads the encoder of the neighbours that a denoiser takes.
    pub(crate) fn load(
        package: &Package,
        neighbours: &NeighbourConditions,
        facts: &Facts,
        settings: &Settings,
    ) -> Result<Self, ModelError> {
        let wrong = |why: String| PackageError::Graph { package: package.manifest.name.clone(), why };
        if package.digest() != neighbours.encoder {
            return Err(wrong(format!(
                "the denoiser was trained with the neighbour encoder {}, this one is {}",
                neighbours.encoder,
                package.digest()
            ))
            .into());
        }
        for Feature { name, shape } in &facts.features {
            let given = package.sample_shape(name)?;
            if given != *shape {
                let why = format!("it gives {name} as {given:?}, the denoiser takes {shape:?}");
                return Err(wrong(why).into());
            }
        }
        let models = NeighbourModel::open_all(package, neighbours, facts, &settings.inference)?;
        let lane = Lane::of_package(package, models, &settings.lane, &settings.inference)?;
        let (side, picture) = (neighbours.image_size as u32, package.manifest.picture);
        Ok(Self {
            lane,
            reader: Reader { side, shorter: picture.and_then(|facts| facts.resized_to(side)) },
            picture,
            max_tokens: facts.text.max_tokens,
            cache: Cache::new("neighbour-features", settings.cache.neighbours_mib << 20, bytes),
        })
    }

    /// How it takes images.
    pub(crate) fn reader(&self) -> Reader {
        self.reader
    }

    pub(crate) fn lane(&self) -> &Lane<NeighbourModel> {
        &self.lane
    }

    /// The features of one neighbour.
    pub(crate) async fn encode(
        &self,
        neighbour: &Neighbour,
        context: Context,
    ) -> Result<Features, Arc<EncodeError>> {
        let compute = async || {
            let reader = Some(self.reader).filter(|_| !neighbour.is_prepared);
            let facts = self.picture;
            let see = move |picture: &Rgb| match reader {
                Some(reader) => planes(&reader.square(picture, Fit::Crop), facts),
                None => planes(picture, facts),
            };
            let row = NeighbourRow {
                planes: pool::decode(neighbour.image.clone(), see).await?,
                tokens: neighbour.caption.tokens.clone(),
                mask: neighbour.caption.mask(self.max_tokens),
            };
            let computed = self.lane.run(lanes::call(context), row).await.map_err(EncodeError::Run)?;
            Ok(Arc::new(computed.output))
        };
        let is_personal = |error: &EncodeError| match error {
            EncodeError::Run(error) => error.is_personal(),
            EncodeError::Image(_) => false,
        };
        self.cache.get_or_compute(content_key(neighbour), compute, is_personal).await
    }
}

fn planes(square: &Rgb, facts: Option<PictureFacts>) -> Vec<f32> {
    match facts {
        Some(PictureFacts { mean, std, .. }) => to_normalized_planes(square, mean, std),
        None => to_planes(square),
    }
}

fn bytes(features: &Features) -> usize {
    features.iter().map(|feature| 4 * feature.len()).sum()
}

fn content_key(Neighbour { image, is_prepared, caption }: &Neighbour) -> [u8; 32] {
    let EncodedText { tokens, length, .. } = caption;
    let mut hash = Sha256::new();
    let size = image.size();
    for number in [u64::from(size.width), u64::from(size.height), u64::from(*is_prepared), *length as u64] {
        hash.update(number.to_le_bytes());
    }
    for token in tokens {
        hash.update(token.to_le_bytes());
    }
    hash.update(image.bytes());
    hash.finalize().into()
}

/// The neighbour encoder on one session.
pub(crate) struct NeighbourModel {
    session: Session,
    side: usize,
    /// Tokens of a caption, and their width.
    text: [usize; 2],
    features: Arc<[Feature]>,
}

/// A neighbour, as the model takes it.
pub(crate) struct NeighbourRow {
    /// f32 `[3, side, side]`.
    planes: Vec<f32>,
    /// f32 `[max_tokens, dim]`.
    tokens: Vec<f32>,
    /// f32 `[max_tokens]`, 1 for a real token.
    mask: Vec<f32>,
}

impl NeighbourModel {
    fn open_all(
        package: &Package,
        neighbours: &NeighbourConditions,
        facts: &Facts,
        inference: &InferenceSettings,
    ) -> Result<Vec<Self>, ModelError> {
        let features = Arc::<[Feature]>::from(facts.features.clone());
        let (side, text) = (neighbours.image_size, [facts.text.max_tokens, facts.text.dim]);
        let model = |session| Self { session, side, text, features: Arc::clone(&features) };
        Ok(Session::open_all(package, inference)?.into_iter().map(model).collect())
    }
}

impl RowModel for NeighbourModel {
    type Row = NeighbourRow;
    /// The features, in the order of [`Facts`].
    type Output = Vec<Vec<f32>>;

    fn batch(&self) -> usize {
        self.session.batch()
    }

    fn typical_rows(&self) -> Vec<NeighbourRow> {
        let Self { side, text: [tokens, dim], .. } = self;
        vec![NeighbourRow {
            planes: vec![0.0; 3 * side * side],
            tokens: vec![0.0; tokens * dim],
            mask: vec![1.0; *tokens],
        }]
    }

    fn can_share(one: &NeighbourRow, other: &NeighbourRow) -> bool {
        let shape = |row: &NeighbourRow| (row.planes.len(), row.tokens.len(), row.mask.len());
        shape(one) == shape(other)
    }

    fn run(&mut self, rows: &mut [NeighbourRow]) -> Result<Vec<Vec<Vec<f32>>>, RowError> {
        let Self { session, side, text: [tokens, dim], features } = self;
        let (image_shape, text_shape, mask_shape) = ([1, 3, *side, *side], [1, *tokens, *dim], [1, *tokens]);
        let empty = || features.iter().map(|feature| vec![0.0; feature.shape.iter().product()]).collect();
        let mut all: Vec<Vec<Vec<f32>>> = rows.iter().map(|_| empty()).collect();
        let data = rows.iter().zip(&mut all).map(|(row, values)| {
            let input =
                |name, shape, values| Input { name, shape, values: Values::F32(values), identity: None };
            let inputs = [
                input("image", &image_shape[..], &row.planes),
                input("text_tokens", &text_shape, &row.tokens),
                input("text_mask", &mask_shape, &row.mask),
            ];
            RowData {
                // Not every encoder reads the caption.
                inputs: inputs.into_iter().filter(|input| session.takes(input.name)).collect(),
                outputs: features
                    .iter()
                    .zip(values)
                    .map(|(feature, values)| (feature.name.as_str(), values.as_mut_slice()))
                    .collect(),
            }
        });
        let mut data: Vec<RowData<'_>> = data.collect();
        session.run(&mut data)?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use reverie_engine::contract;
    use reverie_packages::Role;

    use super::*;

    #[tokio::test]
    async fn a_row_depends_on_nothing_but_itself() {
        let base = contract::package(Role::Denoiser).await;
        let facts = Facts::of(&base).unwrap();
        let package = contract::package(Role::NeighbourEncoder).await;
        let condition = facts.neighbours.as_ref().unwrap();
        let (side, tokens, dim) = (condition.image_size, facts.text.max_tokens, facts.text.dim);
        let row = |number: u32, elements: usize| NeighbourRow {
            planes: (0..elements)
                .map(|place| ((place as u32 * 5 + number * 11) % 23) as f32 / 23.0)
                .collect(),
            tokens: vec![0.2; tokens * dim],
            mask: vec![1.0; tokens],
        };
        let open = |inference: &InferenceSettings| {
            NeighbourModel::open_all(&package, condition, &facts, inference).unwrap()
        };
        contract::check(open, |number| row(number, 3 * side * side), || row(0, 5));
    }
}
