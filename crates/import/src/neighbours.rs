//! The encoder of neighbours, for pipelines that remember pictures.

use reverie_packages::package::manifest::MAX_SHORTER_SIDE;
use reverie_packages::package::{NeighbourConditions, PictureFacts, Role};
use serde_json::Value;

use crate::ImportError;
use crate::bundle::{Content, Draft};
use crate::graph::{Part, batch_of};
use crate::keys::{Held, Keys};
use crate::pipeline::{Family, Pipeline};
use crate::source::Source;
use crate::text::Text;

/// The feature's name in the packages.
const FEATURE: &str = "neighbour_token";
/// As many as a request can bring.
const MAX: usize = 8;

/// Keys of the processor that change no picture: its name, and what it takes when it is called.
const INERT: [&str; 5] = [
    "image_processor_type",
    "feature_extractor_type",
    "processor_class",
    "_valid_processor_keys",
    "do_convert_rgb",
];
/// What CLIP's processor takes where nothing is said.
const CLIP_SIDE: usize = 224;
const CLIP_MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const CLIP_STD: [f32; 3] = [0.268_629_55, 0.261_302_6, 0.275_777_1];

/// A side, or sides by their names.
struct Sides(Vec<(String, usize)>);

impl Held for Sides {
    const WHAT: &'static str = "a number of pixels, or such numbers by name";

    fn of(value: &Value) -> Option<Self> {
        if let Some(side) = usize::of(value) {
            return Some(Self(vec![("side".to_owned(), side)]));
        }
        let sides = value.as_object()?.iter().map(|(name, side)| Some((name.clone(), usize::of(side)?)));
        sides.collect::<Option<_>>().map(Self)
    }
}

/// A number for each of red, green and blue, or one for all.
struct Channels([f32; 3]);

impl Held for Channels {
    const WHAT: &'static str = "three numbers, or one";

    fn of(value: &Value) -> Option<Self> {
        if let Some(one) = f32::of(value) {
            return Some(Self([one; 3]));
        }
        let channels: Vec<f32> = value.as_array()?.iter().map(f32::of).collect::<Option<_>>()?;
        channels.try_into().ok().map(Self)
    }
}

/// What CLIP's processor does to a picture, as transformers has it: the shorter side is resized, the middle cut out, and each
/// channel scaled. Gives the side of the result.
fn preprocessing(keys: &Keys, notes: &mut Vec<String>) -> Result<(usize, PictureFacts), ImportError> {
    let read = [
        "do_resize",
        "size",
        "resample",
        "do_center_crop",
        "crop_size",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
    ];
    keys.note_others(&[&read[..], &INERT[..]].concat(), notes);
    keys.only("do_resize", &true.into(), "neighbours are of all sizes")?;
    keys.only("do_center_crop", &true.into(), "the encoder takes squares, and pictures are cut to one")?;
    keys.only("resample", &3.into(), "only bicubic resizing is served")?;
    let side = match keys.get::<Sides>("crop_size")?.map(|Sides(sides)| sides) {
        None => CLIP_SIDE,
        Some(sides) => match &sides[..] {
            [(name, side)] if name == "side" => *side,
            [(height, side), (width, other)] if height == "height" && width == "width" && side == other => {
                *side
            }
            _ => return Err(keys.wrong("crop_size", "must be square: {\"height\": N, \"width\": N}")),
        },
    };
    let shorter = match keys.get::<Sides>("size")?.map(|Sides(sides)| sides) {
        None => CLIP_SIDE,
        Some(sides) => match &sides[..] {
            [(name, side)] if name == "side" || name == "shortest_edge" => *side,
            _ => return Err(keys.wrong("size", "must be {\"shortest_edge\": N}")),
        },
    };
    if !(1..=MAX_SHORTER_SIDE).contains(&side) {
        return Err(keys.wrong("crop_size", format!("must be 1 to {MAX_SHORTER_SIDE} pixels")));
    }
    if !(side..=MAX_SHORTER_SIDE).contains(&shorter) {
        let why = format!("must have a shortest_edge of {side} (crop_size) to {MAX_SHORTER_SIDE}");
        return Err(keys.wrong("size", why));
    }
    let normalizes = keys.get("do_normalize")?.unwrap_or(true);
    let channels = |key, own| match keys.get::<Channels>(key)? {
        _ if !normalizes => Ok(None),
        Some(Channels(channels)) => Ok(Some(channels)),
        None => Ok::<_, ImportError>(Some(own)),
    };
    let (mean, std) = (channels("image_mean", CLIP_MEAN)?, channels("image_std", CLIP_STD)?);
    if std.is_some_and(|std| std.iter().any(|std| *std <= 0.0)) {
        return Err(keys.wrong("image_std", "must be above 0"));
    }
    // (value x factor - mean) / std, written for value / 255.
    let factor = match keys.get("rescale_factor")? {
        _ if !keys.get("do_rescale")?.unwrap_or(true) => 1.0,
        Some(factor) => factor,
        None => 1.0 / 255.0,
    };
    let scale = 255.0 * factor;
    if !(f64::from(f32::MIN_POSITIVE)..=1e6).contains(&scale) {
        return Err(keys.wrong("rescale_factor", "must be above 0, and at most 1000"));
    }
    let scaled = |channel: f32| (f64::from(channel) / scale) as f32;
    let facts = PictureFacts {
        mean: mean.unwrap_or([0.0; 3]).map(scaled),
        std: std.unwrap_or([1.0; 3]).map(scaled),
        crop: true,
        shorter_side: Some(shorter).filter(|shorter| *shorter != side),
    };
    Ok((side, facts))
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
    let keys = Keys::read(source, path, "it says how pictures are brought to the encoder")?;
    let (side, picture) = preprocessing(&keys, &mut draft.notes)?;
    let content = |role, what: &str| Content {
        role,
        description: format!("{what} of {}.", pipeline.class),
        of: path.to_owned(),
        texts: Vec::new(),
        facts: Box::new(move |manifest| manifest.picture = Some(picture)),
    };
    let part = |output: &str| {
        let mut part = Part::read(source, "image_encoder")?;
        if let Some(fixed) = part.input_extent("pixel_values", 2).filter(|fixed| *fixed != side) {
            return Err(
                keys.wrong("crop_size", format!("must be {fixed}, which image_encoder was exported for"))
            );
        }
        part.input("image", "pixel_values", Some(batch_of(&[3, side, side])))?;
        part.check_inputs()?;
        part.unit_output(output, "image_embeds", batch_of(&[text.width]))?;
        Ok::<_, ImportError>(part)
    };
    let encoder = content(Role::NeighbourEncoder, "Encoder of neighbours");
    let encoder = draft.package(source, "neighbour-encoder", &part(FEATURE)?, encoder)?;
    draft.packages.neighbour_encoder = Some("neighbour-encoder".to_owned());
    // The same vectors are what pictures are searched by.
    draft.package(
        source,
        "joint-image",
        &part("embedding")?,
        content(Role::JointImage, "Joint image encoder"),
    )?;
    draft.packages.joint_image = Some("joint-image".to_owned());
    Ok(Some(NeighbourConditions {
        max: MAX,
        image_size: side,
        features: vec![FEATURE.to_owned()],
        after_text: true,
        encoder,
    }))
}
