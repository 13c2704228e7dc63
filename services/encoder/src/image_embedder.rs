//! The joint image encoder.

use reverie_engine::{Input, Lane, ModelError, RowData, RowError, RowModel, RunError, Session, Values};
use reverie_imaging::fit::Reader;
use reverie_imaging::pictures::{Rgb, to_normalized_planes, to_planes};
use reverie_packages::package::{Extent, PictureFacts};
use reverie_packages::{Package, PackageError};
use reverie_service_kit::Context;
use reverie_stage::lanes;

use crate::Settings;

pub(crate) struct ImageEmbedder {
    pub(crate) lane: Lane<ImageGraph>,
    /// How it takes images.
    pub(crate) reader: Reader,
    /// Length of a vector.
    pub(crate) dim: usize,
    picture: Option<PictureFacts>,
    /// Identity of the model.
    pub(crate) digest: String,
}

impl ImageEmbedder {
    /// Loads a package. Blocks.
    pub(crate) fn load(package: &Package, settings: &Settings) -> Result<Self, ModelError> {
        let wrong =
            |why: &str| PackageError::Graph { package: package.manifest.name.clone(), why: why.to_owned() };
        let side = match package.manifest.graph.inputs.get("image").map(|facts| facts.shape.as_slice()) {
            Some([_, Extent::Fixed(3), Extent::Fixed(height), Extent::Fixed(width)]) if height == width => {
                u32::try_from(*width).map_err(|_| wrong("the input image is too large"))?
            }
            _ => return Err(wrong("the input image must be [batch, 3, side, side]").into()),
        };
        let dim = package.sample_shape("embedding")?.iter().product();
        let sessions = Session::open_all(package, &settings.inference)?;
        let graph = |session| ImageGraph { session, side: side as usize, dim };
        let graphs = sessions.into_iter().map(graph).collect();
        let picture = package.manifest.picture;
        Ok(Self {
            lane: Lane::of_package(package, graphs, &settings.lane, &settings.inference)?,
            reader: Reader { side, shorter: picture.and_then(|facts| facts.resized_to(side)) },
            dim,
            picture,
            digest: package.digest(),
        })
    }

    /// Embeds one image, the square that [`Self::reader`] makes of it.
    pub(crate) async fn embed(&self, square: &Rgb, context: Context) -> Result<Vec<f32>, RunError> {
        let planes = match self.picture {
            Some(PictureFacts { mean, std, .. }) => to_normalized_planes(square, mean, std),
            None => to_planes(square),
        };
        let computed = self.lane.run(lanes::call(context), planes).await;
        computed.map(|computed| computed.output)
    }
}

/// The graph on one session.
pub(crate) struct ImageGraph {
    session: Session,
    side: usize,
    dim: usize,
}

impl RowModel for ImageGraph {
    /// f32 `[3, side, side]`.
    type Row = Vec<f32>;
    /// f32 `[dim]`.
    type Output = Vec<f32>;

    fn batch(&self) -> usize {
        self.session.batch()
    }

    fn typical_rows(&self) -> Vec<Vec<f32>> {
        vec![vec![0.0; 3 * self.side * self.side]]
    }

    fn can_share(one: &Vec<f32>, other: &Vec<f32>) -> bool {
        one.len() == other.len()
    }

    fn run(&mut self, squares: &mut [Vec<f32>]) -> Result<Vec<Vec<f32>>, RowError> {
        let shape = [1, 3, self.side, self.side];
        let mut embeddings = vec![vec![0.0; self.dim]; squares.len()];
        let data = squares.iter().zip(&mut embeddings).map(|(planes, embedding)| RowData {
            inputs: vec![Input { name: "image", shape: &shape, values: Values::F32(planes), identity: None }],
            outputs: vec![("embedding", embedding.as_mut_slice())],
        });
        let mut data: Vec<RowData<'_>> = data.collect();
        self.session.run(&mut data)?;
        Ok(embeddings)
    }
}

#[cfg(test)]
mod tests {
    use reverie_engine::{InferenceSettings, contract};
    use reverie_packages::Role;
    use reverie_service_kit::settings::{self, Sources};

    use super::*;

    #[tokio::test]
    async fn a_row_depends_on_nothing_but_itself() {
        let package = contract::package(Role::JointImage).await;
        let settings: Settings = settings::load(&Sources::default()).unwrap();
        let ImageEmbedder { reader, dim, .. } = ImageEmbedder::load(&package, &settings).unwrap();
        let side = reader.side as usize;
        let row = |number| contract::values(3 * side * side, number);
        let open = |inference: &InferenceSettings| {
            let sessions = Session::open_all(&package, inference).unwrap();
            sessions.into_iter().map(|session| ImageGraph { session, side, dim }).collect()
        };
        contract::check(open, row, || vec![0.0; 5]);
    }
}
