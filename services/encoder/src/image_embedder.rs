//! The joint image encoder.

use std::sync::{Mutex, PoisonError};

use reverie_imaging::fit::Reader;
use reverie_imaging::pictures::{Rgb, to_normalized_planes, to_planes};
use reverie_inference::package::{Extent, PictureFacts};
use reverie_inference::{Input, Model, ModelError, Package, Values};

pub(crate) struct ImageEmbedder {
    model: Mutex<Model>,
    /// How it takes pictures.
    pub(crate) reader: Reader,
    /// Length of a vector.
    pub(crate) dim: usize,
    picture: Option<PictureFacts>,
    /// Identity of the model.
    pub(crate) digest: String,
}

impl ImageEmbedder {
    pub(crate) fn new(package: &Package, model: Model) -> Result<Self, ModelError> {
        let wrong =
            |why: &str| ModelError::Graph { package: package.manifest.name.clone(), why: why.to_owned() };
        let side = match package.manifest.graph.inputs.get("image").map(|facts| facts.shape.as_slice()) {
            Some([_, Extent::Fixed(3), Extent::Fixed(height), Extent::Fixed(width)]) if height == width => {
                u32::try_from(*width).map_err(|_| wrong("the input image is too large"))?
            }
            _ => return Err(wrong("the input image must be [batch, 3, side, side]")),
        };
        let dim = package.sample_shape("embedding")?.iter().product();
        Ok(Self {
            model: Mutex::new(model),
            reader: Reader {
                side,
                shorter: package.manifest.picture.and_then(|facts| facts.resized_to(side)),
            },
            dim,
            picture: package.manifest.picture,
            digest: package.digest(),
        })
    }

    /// Embeds one picture, the square that [`Self::reader`] makes of it. Blocks.
    pub(crate) fn embed(&self, square: &Rgb) -> Result<Vec<f32>, ModelError> {
        let planes = match self.picture {
            Some(PictureFacts { mean, std, .. }) => to_normalized_planes(square, mean, std),
            None => to_planes(square),
        };
        let side = self.reader.side as usize;
        let input = Input { name: "image", shape: &[1, 3, side, side], values: Values::F32(&planes) };
        let mut embedding = vec![0.0; self.dim];
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        model.run(&[input], &mut [("embedding", &mut embedding)])?;
        Ok(embedding)
    }
}
