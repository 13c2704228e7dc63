//! Neighbours to features: the base model's DStack at t = 0, over a neighbour's picture and caption (Re-Imagen, section 3.2).
//!
//! Features depend on neither the noisy picture nor the timestep, so they are computed once and remembered by content.

use std::sync::{Arc, Mutex, PoisonError};

use moka::sync::Cache;
use reverie_imaging::fit::Reader;
use reverie_imaging::pictures::{Rgb, to_normalized_planes, to_planes};
use reverie_inference::package::{NeighbourConditions, PictureFacts};
use reverie_inference::{Input, Model, ModelError, Package, Values};
use reverie_proto::tensors::EncodedText;
use sha2::{Digest as _, Sha256};

use crate::Settings;
use crate::facts::{Facts, Feature};

/// One neighbour's features, in the order of [`Facts`].
pub(crate) type Features = Arc<Vec<Vec<f32>>>;

pub(crate) struct NeighbourEncoder {
    model: Mutex<Model>,
    facts: Facts,
    /// Side of a neighbour's picture, pixels.
    side: usize,
    picture: Option<PictureFacts>,
    cache: Cache<[u8; 32], Features>,
}

impl NeighbourEncoder {
    /// Loads the encoder of the neighbours that a denoiser takes.
    pub(crate) fn load(
        package: &Package,
        neighbours: &NeighbourConditions,
        facts: &Facts,
        settings: &Settings,
    ) -> Result<Self, ModelError> {
        let wrong = |why: String| ModelError::Graph { package: package.manifest.name.clone(), why };
        if package.digest() != neighbours.encoder {
            return Err(wrong(format!(
                "the denoiser was trained with the neighbour encoder {}, this one is {}",
                neighbours.encoder,
                package.digest()
            )));
        }
        for Feature { name, shape } in &facts.features {
            let given = package.sample_shape(name)?;
            if given != *shape {
                return Err(wrong(format!("it gives {name} as {given:?}, the denoiser takes {shape:?}")));
            }
        }
        let model = Model::load(package, &settings.inference)?;
        Ok(Self {
            model: Mutex::new(model),
            facts: facts.clone(),
            side: neighbours.image_size,
            picture: package.manifest.picture,
            cache: Cache::new(settings.cache.neighbours),
        })
    }

    /// How it takes pictures.
    pub(crate) fn reader(&self) -> Reader {
        let side = self.side as u32;
        Reader { side, shorter: self.picture.and_then(|facts| facts.resized_to(side)) }
    }

    /// The features of one neighbour, whose picture is a square of the model's side. Blocks.
    pub(crate) fn encode(&self, picture: &Rgb, caption: &EncodedText) -> Result<Features, ModelError> {
        let side = self.side;
        let key = content_key(picture, caption);
        if let Some(known) = self.cache.get(&key) {
            return Ok(known);
        }
        let planes = match self.picture {
            Some(PictureFacts { mean, std, .. }) => to_normalized_planes(picture, mean, std),
            None => to_planes(picture),
        };
        let tokens = self.facts.text.max_tokens;
        let mask = caption.mask(tokens);
        let (image_shape, text_shape) = ([1, 3, side, side], [1, tokens, self.facts.text.dim]);
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        let inputs = [
            Input { name: "image", shape: &image_shape, values: Values::F32(&planes) },
            Input { name: "text_tokens", shape: &text_shape, values: Values::F32(&caption.tokens) },
            Input { name: "text_mask", shape: &[1, tokens], values: Values::F32(&mask) },
        ];
        // Not every encoder reads the caption.
        let inputs: Vec<_> = inputs.into_iter().filter(|input| model.takes(input.name)).collect();
        let mut features: Vec<Vec<f32>> =
            self.facts.features.iter().map(|feature| vec![0.0; feature.shape.iter().product()]).collect();
        let mut outputs: Vec<(&str, &mut [f32])> = self
            .facts
            .features
            .iter()
            .zip(&mut features)
            .map(|(feature, values)| (feature.name.as_str(), values.as_mut_slice()))
            .collect();
        model.run(&inputs, &mut outputs)?;
        drop(model);
        let features = Arc::new(features);
        self.cache.insert(key, Arc::clone(&features));
        Ok(features)
    }
}

fn content_key(picture: &Rgb, caption: &EncodedText) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(picture.as_raw());
    hash.update((caption.length as u64).to_le_bytes());
    for token in &caption.tokens {
        hash.update(token.to_le_bytes());
    }
    hash.finalize().into()
}
