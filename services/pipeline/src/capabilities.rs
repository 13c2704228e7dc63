//! What the mesh can do, for callers who know only the public door.

use reverie_imaging::pictures::{MAX_ENCODED_BYTES, MAX_SIDE};
use reverie_proto::denoiser::v1::{GetModelResponse, OtherSizes as SizesOfModel};
use reverie_proto::diffusion::v1::GuidanceStrategy;
use reverie_proto::generation::v1::{
    GetCapabilitiesResponse, Level, OtherSizes, RequestLimits, SearchableKnowledgeBase,
};
use reverie_proto::knowledge::v1::RetrievalStrategy;
use reverie_proto::limits::{MAX_NEIGHBOURS, MAX_TEXT_BYTES};
use reverie_proto::names::Named;
use reverie_proto::retrieval::v1::KnowledgeBase;
use reverie_service_kit::guidance::unfit_negative_prompt;

use crate::convert::{OUTPUT_FORMATS, max_images};
use crate::settings::{Defaults, Limits};
use crate::stages::{LevelOptions, Models, ServedLevel};

/// The answer for these models, knowledge bases and settings.
pub(crate) fn of(
    models: Models,
    knowledge_bases: Vec<KnowledgeBase>,
    limits: &Limits,
    defaults: &Defaults,
) -> GetCapabilitiesResponse {
    let takes_initial = models.takes_initial();
    let Models { base, levels, .. } = models;
    let takes_negative_prompt = unfit_negative_prompt(&base).is_none();
    let max_neighbours = base.max_neighbours.min(MAX_NEIGHBOURS);
    // A model that takes no neighbours searches for none.
    let knowledge_bases = if max_neighbours == 0 { Vec::new() } else { knowledge_bases };
    let max_step_previews_per_second = limits.step_previews(&base);
    let GetModelResponse { model, image_size, other_sizes, latent, .. } = base;
    let level = |level: ServedLevel| {
        let LevelOptions {
            samplers,
            max_steps,
            default_sampling,
            default_guidance_weight,
            default_noise_level,
        } = level.options;
        Level {
            model: Some(level.model),
            low_resolution_size: level.low_side,
            image_size: level.side,
            samplers,
            max_steps,
            default_sampling,
            default_guidance_weight,
            default_noise_level,
        }
    };
    let sizes =
        |SizesOfModel { multiple, max_side, max_pixels }| OtherSizes { multiple, max_side, max_pixels };
    GetCapabilitiesResponse {
        base_model: model,
        base_size: image_size,
        other_sizes: other_sizes.map(sizes),
        levels: levels.into_iter().map(level).collect(),
        samplers: base.samplers,
        max_steps: base.max_steps,
        default_sampling: base.default_sampling,
        guidance_strategies: all_if::<GuidanceStrategy>(max_neighbours > 0),
        default_guidance: base.default_guidance,
        takes_negative_prompt,
        takes_initial,
        needs_mask: latent.is_some_and(|latent| latent.paints_into_picture),
        max_neighbours,
        default_neighbours: defaults.neighbours.min(max_neighbours),
        retrieval_strategies: all_if::<RetrievalStrategy>(!knowledge_bases.is_empty()),
        knowledge_bases: knowledge_bases.into_iter().map(searchable).collect(),
        output_formats: OUTPUT_FORMATS.map(i32::from).to_vec(),
        max_step_previews_per_second,
        limits: Some(RequestLimits {
            max_text_bytes: bytes(MAX_TEXT_BYTES),
            max_image_bytes: bytes(MAX_ENCODED_BYTES),
            max_image_side: MAX_SIDE,
            max_request_bytes: bytes(limits.max_request_mib << 20),
            max_request_seconds: u32::try_from(limits.max_request_seconds).unwrap_or(u32::MAX),
            max_in_flight: bytes(limits.max_in_flight),
            max_images: max_images(limits),
        }),
    }
}

fn searchable(knowledge_base: KnowledgeBase) -> SearchableKnowledgeBase {
    let KnowledgeBase { name, description, epoch, size, is_default, .. } = knowledge_base;
    SearchableKnowledgeBase { name, description, epoch, size, is_default }
}

fn all_if<E: Named + Into<i32>>(fits: bool) -> Vec<i32> {
    if fits { E::all().into_iter().map(Into::into).collect() } else { Vec::new() }
}

fn bytes(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
