//! The bounds of the contracts' values, each once. What a model allows may be narrower; its service says so.

use std::ops::RangeInclusive;

/// Longest text: a prompt, a negative prompt, a caption, a query. Bytes of UTF-8.
pub const MAX_TEXT_BYTES: usize = 8000;
/// Most neighbours, or references, of one image.
pub const MAX_NEIGHBOURS: u32 = 8;
/// Most neighbours that a search without drawing finds.
pub const MAX_FOUND: u32 = 100;
/// Most images of one request.
pub const MAX_IMAGES: u32 = 16;
/// Steps of a sampler.
pub const STEPS: RangeInclusive<u32> = 1..=1000;
/// Weights of guidance; 1 is none.
pub const GUIDANCE_WEIGHT: RangeInclusive<f32> = 1.0..=50.0;
/// Shares: the interleave ratio (Re-Imagen, section 3.4), the share of rescaling (Lin et al., 2024), DDIM's eta, the level of
/// conditioning noise.
pub const SHARE: RangeInclusive<f32> = 0.0..=1.0;
/// Scores that neighbours can be asked to reach (`minimum_score`).
pub const SCORE: RangeInclusive<f32> = -1.0..=1.0;
/// Longest name of a knowledge base, bytes.
pub const MAX_KNOWLEDGE_BASE_NAME_BYTES: usize = 64;

/// Whether a share of the steps can be drawn anew (`strength`): above 0 and at most 1.
pub fn is_strength(strength: f64) -> bool {
    strength > 0.0 && strength <= 1.0
}
