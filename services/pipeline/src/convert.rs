//! Requests to cascade runs: everything that can be checked without a model is checked here, and every violation named.

use std::sync::Arc;

use reverie_imaging::fit::Reader;
use reverie_imaging::initial::{Initial, InitialError, Opened};
use reverie_proto::denoiser::v1::{GetModelResponse, NeighbourPicture};
use reverie_proto::diffusion::v1::{Guidance, InitialPicture, Sampling};
use reverie_proto::generation::v1::{GenerateRequest, SuperResolutionOptions};
use reverie_proto::limits::{GUIDANCE_WEIGHT, MAX_IMAGES, MAX_TEXT_BYTES, SHARE};
use reverie_proto::sizes::Size;
use reverie_proto::tensor::v1::ImageFormat;
use reverie_service_kit::guidance::{unfit_guidance, unfit_negative_prompt};
use reverie_service_kit::{Violations, ranges};
use tonic::Status;

use crate::images::{self, Undecoded};
use crate::memory::Memory;
use crate::settings::{Defaults, Limits};
use crate::stages::{Models, ServedLevel};

/// The encodings that an image may be asked for in.
pub(crate) const OUTPUT_FORMATS: [ImageFormat; 3] = [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp];

/// Images to draw, checked.
#[derive(Debug)]
pub(crate) struct Run {
    /// The digests of the models that it was planned with.
    pub(crate) digests: Vec<String>,
    pub(crate) base: GetModelResponse,
    pub(crate) prompt: String,
    pub(crate) negative_prompt: Option<String>,
    /// Of each image, by index; at least one.
    pub(crate) seeds: Vec<u64>,
    pub(crate) memory: Memory,
    /// The most reference images that it is drawn with.
    pub(crate) most_neighbours: u32,
    pub(crate) guidance: Option<Guidance>,
    pub(crate) base_sampling: Option<Sampling>,
    /// The picture to start from; none until it is decoded.
    pub(crate) initial: Option<Arc<Initial>>,
    /// The sizes at which it is needed.
    pub(crate) initial_sizes: Vec<Size>,
    /// How the base model takes neighbours' pictures, if it takes any.
    pub(crate) reader: Option<Reader>,
    /// Of the base picture, pixels.
    pub(crate) size: Size,
    /// The field that it is asked for by.
    pub(crate) size_field: &'static str,
    /// The levels to go through, each with its options.
    pub(crate) levels: Vec<(ServedLevel, SuperResolutionOptions)>,
    pub(crate) output_format: ImageFormat,
    pub(crate) previews: bool,
    /// Whether a smaller image will do; never where there are no levels to leave out.
    pub(crate) may_degrade: bool,
    pub(crate) step_previews: bool,
    /// The least time between two of them.
    pub(crate) step_preview_milliseconds: u32,
}

impl Run {
    /// Width and height of the images that are drawn, pixels.
    pub(crate) fn image_size(&self) -> (u32, u32) {
        self.levels.last().map_or((self.size.width, self.size.height), |(level, _)| (level.side, level.side))
    }
}

/// Checks a request: all but the pixels of its images, which are decoded when all else is right.
pub(crate) fn run(
    request: GenerateRequest,
    models: Models,
    defaults: &Defaults,
    limits: &Limits,
) -> Result<(Run, Undecoded), Status> {
    let Models { base, levels, .. } = &models;
    let mut violations = Violations::new();
    let prompt = violations.text("prompt", &request.prompt, MAX_TEXT_BYTES);
    let negative_prompt = request.negative_prompt.as_ref().map(|text| match text.as_str() {
        "" => String::new(),
        text => violations.text("negative_prompt", text, MAX_TEXT_BYTES),
    });
    foreign_notation(&mut violations, "prompt", &prompt);
    if let Some(negative) = &negative_prompt {
        foreign_notation(&mut violations, "negative_prompt", negative);
        if let Some(why) = unfit_negative_prompt(base) {
            violations.add("negative_prompt", why);
        }
    }
    let seeds = seeds(&mut violations, request.seed, request.count, max_images(limits));
    let mut undecoded = Undecoded::default();
    let most = defaults.neighbours;
    let memory = Memory::read(&mut violations, request.memory, &prompt, &models, most, &mut undecoded);
    if let Some(guidance) = &request.guidance {
        for (field, why) in unfit_guidance(base, guidance) {
            violations.add(format!("guidance.{field}"), why);
        }
        ranges::guidance(&mut violations, guidance);
    }
    if let Some(sampling) = &request.base_sampling {
        ranges::sampling(&mut violations, "base_sampling", sampling);
    }
    let initial = initial(&mut violations, request.initial.as_ref(), &models);
    let (size, depth) =
        size(&mut violations, request.size, request.resolution, initial.as_ref(), base, levels);
    violations.require(
        request.super_resolution.len() <= levels.len(),
        "super_resolution",
        format!("must be at most {} levels (got {})", levels.len(), request.super_resolution.len()),
    );
    for (index, options) in request.super_resolution.iter().enumerate().take(levels.len()) {
        let field = |name: &str| format!("super_resolution[{index}].{name}");
        violations.in_range(&field("guidance_weight"), options.guidance_weight, GUIDANCE_WEIGHT);
        violations.in_range(&field("noise_level"), options.noise_level, SHARE);
        if let Some(sampling) = &options.sampling {
            ranges::sampling(&mut violations, &field("sampling"), sampling);
        }
    }
    let output_format = match ImageFormat::try_from(request.output_format) {
        Ok(ImageFormat::Unspecified) => ImageFormat::Png,
        Ok(format) if OUTPUT_FORMATS.contains(&format) => format,
        _ => {
            violations.add("output_format", "must be PNG, JPEG or WEBP");
            ImageFormat::Png
        }
    };
    violations.require(
        !request.step_previews || limits.step_previews(base) > 0.0,
        "step_previews",
        "must not be set: the base model works on latents, which are not decoded between steps, or they are turned off here \
         (limits.step_previews_per_second)",
    );
    violations.into_result()?;
    let options = request.super_resolution.into_iter().chain(std::iter::repeat_with(Default::default));
    let sides = levels.iter().take(depth).map(|level| (level.low_side, level.side));
    let initial_sizes = initial.as_ref().map(|initial| images::initial_sizes(initial, size, sides));
    undecoded.initial = initial;
    let neighbours = models.base.neighbour_picture;
    let run = Run {
        digests: models.digests(),
        prompt,
        negative_prompt,
        seeds,
        most_neighbours: memory.most(),
        memory,
        guidance: request.guidance,
        base_sampling: request.base_sampling,
        initial: None,
        initial_sizes: initial_sizes.unwrap_or_default(),
        reader: neighbours.map(|NeighbourPicture { side, shorter_side }| Reader {
            side,
            shorter: (shorter_side > 0).then_some(shorter_side),
        }),
        size,
        size_field: if request.resolution.is_some() { "resolution" } else { "size" },
        levels: models.levels.into_iter().take(depth).zip(options).collect(),
        base: models.base,
        output_format,
        previews: request.previews,
        may_degrade: request.allow_degraded && depth > 0,
        step_previews: request.step_previews,
        step_preview_milliseconds: (1000.0 / limits.step_previews_per_second).ceil() as u32,
    };
    Ok((run, undecoded))
}

/// The picture to start from, as far as its header tells.
fn initial(violations: &mut Violations, message: Option<&InitialPicture>, models: &Models) -> Option<Opened> {
    violations.require(
        message.is_none() || models.takes_initial(),
        "initial",
        "must not be set: the model works on latents, and the bundle has no latent_encoder to encode a picture to them",
    );
    let field = |error: &InitialError| format!("initial.{}", error.field());
    let initial = message.and_then(|message| violations.take_all(Opened::read(message), field));
    if models.base.latent.as_ref().is_some_and(|latent| latent.paints_into_picture) {
        violations.require(
            initial.as_ref().is_none_or(Opened::has_mask) && message.is_some(),
            "initial.mask",
            "is missing: this model paints into a picture, where its mask is white",
        );
    }
    initial
}

/// The most images of a request: each is one in flight.
pub(crate) fn max_images(limits: &Limits) -> u32 {
    u32::try_from(limits.max_in_flight).unwrap_or(u32::MAX).min(MAX_IMAGES)
}

/// The seed of each image.
fn seeds(violations: &mut Violations, seed: Option<u64>, count: Option<u32>, most: u32) -> Vec<u64> {
    let count = u64::from(violations.in_range("count", count, 1..=most).unwrap_or(1));
    let first = seed.unwrap_or_else(|| choose_seed(count));
    let last = u64::MAX - (count - 1);
    violations.require(
        first <= last,
        "seed",
        format_args!(
            "must be at most {last} for {count} images, whose seeds are seed to seed + {} (got {first})",
            count - 1
        ),
    );
    (0..count).map(|index| first.saturating_add(index)).collect()
}

/// A seed that is below 2^53 with those after it, `count` in all: JSON's numbers, as JavaScript and jq read them, are exact up to
/// there, and a seed is there to be used again.
fn choose_seed(count: u64) -> u64 {
    (rand::random::<u64>() >> 11).min((1 << 53) - count)
}

/// The size of the base picture, and how many levels enlarge it.
fn size(
    violations: &mut Violations,
    side: Option<u32>,
    resolution: Option<Size>,
    initial: Option<&Opened>,
    base: &GetModelResponse,
    levels: &[ServedLevel],
) -> (Size, usize) {
    let own = Size::square(base.image_size);
    let (field, asked) = match (side, resolution) {
        (None, None) => {
            let drawn = initial.map(Opened::size).filter(|size| size.width != size.height);
            match drawn.filter(|size| base.draws(*size)) {
                Some(size) => return (size, 0),
                None => return (own, levels.len()),
            }
        }
        (Some(side), None) => ("size", Size::square(side)),
        (None, Some(size)) => ("resolution", size),
        (Some(_), Some(size)) => {
            violations.add("size", "must not be set beside resolution, which says it too");
            ("resolution", size)
        }
    };
    let mut sizes = [own].into_iter().chain(levels.iter().map(|level| Size::square(level.side)));
    if let Some(depth) = sizes.position(|size| size == asked) {
        return (own, depth);
    }
    if base.draws(asked) {
        return (asked, 0);
    }
    let sizes = base.sizes_in_words(levels.iter().map(|level| level.side));
    violations.add(field, format!("must be {sizes}, not {asked}"));
    (own, 0)
}

/// Refuses what other programs read as an order to add weights, and what would be drawn as words here.
pub(crate) fn foreign_notation(violations: &mut Violations, field: &str, text: &str) {
    let text = text.to_lowercase();
    if let Some(tag) = ["<lora:", "<lyco:", "<hypernet:"].into_iter().find(|tag| text.contains(tag)) {
        violations.add(
            field,
            format!("must not contain {tag}…>: a prompt adds no weights here; merge them into the model before its export"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_seed_is_a_number_of_json() {
        let seeds: Vec<u64> = (0..64).map(|_| choose_seed(16)).collect();
        assert!(seeds.iter().all(|seed| seed + 15 < 1 << 53), "{seeds:?}");
        // All 53 bits are used: one that never is would be missing in all of 64 with a chance of 53 in 2^64.
        assert_eq!(seeds.iter().fold(0, |all, seed| all | seed), (1 << 53) - 1);
    }

    #[test]
    fn seeds_do_not_wrap() {
        let told = |seed, count| {
            let mut violations = Violations::new();
            let seeds = seeds(&mut violations, Some(seed), Some(count), 16);
            violations.into_result().map(|()| seeds).map_err(|status| status.message().to_owned())
        };
        assert_eq!(told(u64::MAX - 2, 3).unwrap(), [u64::MAX - 2, u64::MAX - 1, u64::MAX]);
        let refused = told(u64::MAX - 1, 3).unwrap_err();
        assert!(refused.starts_with("seed: must be at most 18446744073709551613 for 3 images"), "{refused}");
        assert_eq!(told(5, 17).unwrap_err(), "count: must be 1 to 16 (got 17)");
    }
}
