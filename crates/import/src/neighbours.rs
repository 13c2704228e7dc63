//! The encoder of neighbours, for pipelines that remember pictures.

use reverie_inference::package::{NeighbourConditions, PictureFacts, Role};
use serde::Deserialize;

use crate::ImportError;
use crate::bundle::{Content, Draft};
use crate::graph::{Part, batch_of};
use crate::pipeline::{Family, Pipeline};
use crate::source::Source;
use crate::text::Text;

/// The feature's name in the packages.
const FEATURE: &str = "neighbour_token";
/// As many as a request can bring.
const MAX: usize = 8;

#[derive(Deserialize)]
struct Preprocessor {
    crop_size: Size,
    image_mean: [f32; 3],
    image_std: [f32; 3],
    #[serde(default)]
    do_center_crop: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Size {
    Side(usize),
    Extents { height: usize, width: usize },
}

/// Imports the encoder of neighbours, for a pipeline that has one: CLIP's vectors of pictures, of the same space as the text's.
pub(crate) fn import(
    source: &Source,
    pipeline: &Pipeline,
    text: &Text,
    draft: &mut Draft,
) -> Result<Option<NeighbourConditions>, ImportError> {
    if pipeline.family != Family::RetrievalAugmented {
        return Ok(None);
    }
    let path = "feature_extractor/preprocessor_config.json";
    let preprocessor: Preprocessor = source.json(path, "it says how pictures are brought to the encoder")?;
    let side = match preprocessor.crop_size {
        Size::Side(side) => side,
        Size::Extents { height, width } if height == width => height,
        Size::Extents { .. } => {
            return Err(ImportError::wrong(&source.file(path, "")?, "crop_size must be square"));
        }
    };
    let Preprocessor { image_mean: mean, image_std: std, do_center_crop: crop, .. } = preprocessor;
    let picture = PictureFacts { mean, std, crop };
    let content = |role, what: &str| Content {
        role,
        description: format!("{what} of {}.", pipeline.class),
        texts: Vec::new(),
        facts: Box::new(move |manifest| manifest.picture = Some(picture)),
    };
    let part = |output: &str| {
        let mut part = Part::read(source, "image_encoder")?;
        part.input("image", "pixel_values", Some(batch_of(&[3, side, side])))?;
        part.check_inputs()?;
        part.unit_output(output, "image_embeds", batch_of(&[text.width]))?;
        Ok::<_, ImportError>(part)
    };
    let encoder = content(Role::NeighbourEncoder, "Encoder of neighbours");
    let encoder = draft.package("neighbour-encoder", &part(FEATURE)?, encoder)?;
    draft.packages.neighbour_encoder = Some("neighbour-encoder".to_owned());
    // The same vectors are what pictures are searched by.
    draft.package("joint-image", &part("embedding")?, content(Role::JointImage, "Joint image encoder"))?;
    draft.packages.joint_image = Some("joint-image".to_owned());
    Ok(Some(NeighbourConditions {
        max: MAX,
        image_size: side,
        features: vec![FEATURE.to_owned()],
        after_text: true,
        encoder,
    }))
}
