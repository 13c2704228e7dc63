//! What the base model takes, as its package says.

use reverie_diffusion::NoiseSchedule;
use reverie_imaging::fit::Reader;
use reverie_packages::package::{
    Defaults, DiffusionFacts, Extent, GuidanceCondition, NeighbourConditions, TextCondition, WithoutText,
};
use reverie_packages::{Package, PackageError};
use reverie_proto::denoiser::v1::{GetModelResponse, LatentModel, NeighbourPicture, OtherSizes};
use reverie_proto::diffusion::v1::ModelIdentity;
use reverie_proto::sizes::Size;
use reverie_service_kit::Violations;
use reverie_stage::model;
use reverie_stage::sampling::Offer;

use crate::guidance::Settled;

/// What the base model takes.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub(crate) diffusion: DiffusionFacts,
    pub(crate) defaults: Defaults,
    pub(crate) text: TextCondition,
    pub(crate) neighbours: Option<NeighbourConditions>,
    /// How the neighbour encoder takes pictures; none until it is loaded.
    pub(crate) neighbour_reader: Option<Reader>,
    /// The neighbour encoder's outputs that the model takes.
    pub(crate) features: Vec<Feature>,
    /// How the model is told the weight of guidance, if it is.
    pub(crate) guidance: Option<GuidanceCondition>,
    /// Whether x has a mask and a masked picture for further channels.
    pub(crate) paints_into_picture: bool,
    pub(crate) schedule: NoiseSchedule,
    pub(crate) identity: ModelIdentity,
    /// Of the bundle; "" until it is known.
    pub(crate) bundle_digest: String,
}

/// What is drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Of the picture, pixels.
    pub(crate) size: Size,
    /// Channels, height and width of x.
    pub(crate) sample: [usize; 3],
}

impl Frame {
    pub(crate) fn elements(&self) -> usize {
        self.sample.iter().product()
    }
}

/// One of a neighbour's features.
#[derive(Debug, Clone)]
pub(crate) struct Feature {
    pub(crate) name: String,
    /// Its extents for one neighbour.
    pub(crate) shape: Vec<usize>,
}

impl Facts {
    pub(crate) fn of(package: &Package) -> Result<Self, PackageError> {
        let wrong = |why: &str| package.wrong(why.to_owned());
        let conditions = &package.manifest.conditions;
        let (diffusion, defaults) = model::facts(package)?;
        let text = conditions.text.clone().ok_or_else(|| wrong("[conditions.text] is missing"))?;
        let neighbours = conditions.neighbours.clone();
        let paints_into_picture = conditions.masked_picture.is_some();
        if paints_into_picture && diffusion.latent.is_none() {
            return Err(wrong("[conditions.masked_picture] is for models that work on latents"));
        }
        let feature = |name: &String| {
            let shape = match &neighbours {
                Some(neighbours) if neighbours.after_text => Some(vec![text.dim]),
                _ => package.manifest.graph.inputs.get(name).and_then(|facts| {
                    // [batch, neighbours, …]
                    let fixed = |extent: &Extent| match extent {
                        Extent::Fixed(extent) => Some(*extent),
                        Extent::Dynamic(_) => None,
                    };
                    facts.shape.iter().skip(2).map(fixed).collect()
                }),
            };
            let shape = shape.ok_or_else(|| wrong("a feature is no input, or has an open extent"))?;
            Ok(Feature { name: name.clone(), shape })
        };
        let names = neighbours.iter().flat_map(|neighbours| &neighbours.features);
        let features = names.map(feature).collect::<Result<Vec<_>, PackageError>>()?;
        if neighbours.as_ref().is_some_and(|neighbours| neighbours.after_text) && features.len() != 1 {
            return Err(wrong("conditions.neighbours.after_text is for one feature"));
        }
        let schedule = diffusion.schedule().map_err(|error| wrong(&error.to_string()))?;
        Ok(Self {
            diffusion,
            defaults,
            text,
            neighbours,
            neighbour_reader: None,
            bundle_digest: String::new(),
            features,
            guidance: conditions.guidance,
            paints_into_picture,
            schedule,
            identity: model::identity(package),
        })
    }

    /// The most neighbours it takes.
    pub(crate) fn max_neighbours(&self) -> usize {
        self.neighbours.as_ref().map_or(0, |neighbours| neighbours.max)
    }

    pub(crate) fn has_neighbours_after_text(&self) -> bool {
        self.neighbours.as_ref().is_some_and(|neighbours| neighbours.after_text)
    }

    /// All that callers are told of the model.
    pub(crate) fn describe(&self) -> GetModelResponse {
        let Offer { samplers, max_steps, default } =
            Offer::of(&self.diffusion, &self.defaults, self.own_frame().sample);
        GetModelResponse {
            samplers,
            default_sampling: Some(default),
            default_guidance: Some(Settled::of(&mut Violations::new(), None, &self.defaults).into()),
            max_steps,
            ..GetModelResponse::from(self)
        }
    }

    /// What pictures of the model's own size are drawn on.
    pub(crate) fn own_frame(&self) -> Frame {
        self.frame(Size::square(self.diffusion.image_size as u32))
    }

    /// What a picture of `size`, which the model draws, is drawn on.
    pub(crate) fn frame(&self, size: Size) -> Frame {
        let sample = self.diffusion.sample_extents(size.width as usize, size.height as usize);
        Frame { size, sample }
    }
}

/// What requests are checked by.
impl From<&Facts> for GetModelResponse {
    fn from(facts: &Facts) -> Self {
        Self {
            model: Some(facts.identity.clone()),
            image_size: facts.diffusion.image_size as u32,
            max_neighbours: facts.max_neighbours() as u32,
            takes_empty_text: facts.text.without == WithoutText::EmptyText,
            is_told_guidance: facts.guidance.is_some(),
            latent: facts.diffusion.latent.as_ref().map(|latent| LatentModel {
                decoder_digest: latent.decoder.clone(),
                downscale: latent.downscale as u32,
                paints_into_picture: facts.paints_into_picture,
            }),
            other_sizes: facts.diffusion.other_sizes.map(|sizes| OtherSizes {
                multiple: sizes.multiple,
                max_side: sizes.max_side,
                max_pixels: sizes.max_pixels,
            }),
            neighbour_picture: facts.neighbour_reader.map(|Reader { side, shorter }| NeighbourPicture {
                side,
                shorter_side: shorter.unwrap_or_default(),
            }),
            text_encoder_digest: facts.text.encoder.clone(),
            bundle_digest: facts.bundle_digest.clone(),
            ..Self::default()
        }
    }
}
