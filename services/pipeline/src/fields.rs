//! What callers call the fields that stages complain of. A field that has no name here was not the caller's to choose.

use crate::convert::{Memory, Run};

/// The names of one request's fields.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    has_negative_prompt: bool,
    has_references: bool,
    has_initial: bool,
    /// The field that the size of the picture is asked for by.
    size: &'static str,
}

impl Fields {
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            has_negative_prompt: run.negative_prompt.is_some(),
            has_references: matches!(run.memory, Memory::References { .. }),
            // It is decoded only after the stages were asked what the image takes.
            has_initial: !run.initial_sizes.is_empty(),
            size: run.size_field,
        }
    }

    /// Of the encoder: the prompt, and what is not to be drawn.
    pub(crate) fn texts(&self, field: &str) -> Option<String> {
        match entry(field, "texts")? {
            (0, "") => Some("prompt".to_owned()),
            (1, "") if self.has_negative_prompt => Some("negative_prompt".to_owned()),
            _ => None,
        }
    }

    /// Of the encoder: captions.
    pub(crate) fn captions(&self, field: &str) -> Option<String> {
        let (index, _) = entry(field, "texts").filter(|_| self.has_references)?;
        Some(format!("references.references[{index}].caption"))
    }

    /// Of retrieval.
    pub(crate) fn retrieval(field: &str) -> Option<String> {
        Some(match field {
            "text" => "prompt".to_owned(),
            "limit" => "retrieval.neighbours".to_owned(),
            "strategy" | "knowledge_base" | "minimum_score" => format!("retrieval.{field}"),
            _ => return None,
        })
    }

    /// Of the autoencoder, which is given pictures of the size to draw, and their latents.
    pub(crate) fn autoencoder(&self, field: &str) -> Option<String> {
        matches!(field, "image" | "latent.values").then(|| self.size.to_owned())
    }

    /// Of the denoiser.
    pub(crate) fn base(&self, field: &str) -> Option<String> {
        if let Some((index, part)) = entry(field, "neighbours") {
            return self.has_references.then(|| format!("references.references[{index}]{part}"));
        }
        let (first, rest) =
            field.split_once('.').map_or((field, ""), |(first, _)| (first, &field[first.len()..]));
        Some(match first {
            "guidance" => field.to_owned(),
            "sampling" => format!("base_sampling{rest}"),
            "size" => self.size.to_owned(),
            "initial" | "initial_latent" if self.has_initial => format!("initial{rest}"),
            "negative_text" if self.has_negative_prompt => "negative_prompt".to_owned(),
            "neighbours" if self.has_references => "references.references".to_owned(),
            "neighbours" => "retrieval.neighbours".to_owned(),
            _ => return None,
        })
    }

    /// Of a super-resolution level.
    pub(crate) fn level(index: usize, field: &str) -> Option<String> {
        let first = field.split('.').next().unwrap_or_default();
        let is_callers = matches!(first, "guidance_weight" | "noise_level" | "sampling");
        is_callers.then(|| format!("super_resolution[{index}].{field}"))
    }
}

/// The index of `list[index]part`, and the part.
fn entry<'a>(field: &'a str, list: &str) -> Option<(usize, &'a str)> {
    let (index, part) = field.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
    Some((index.parse().ok()?, part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_stages_are_told_as_those_of_the_caller() {
        let all =
            Fields { has_negative_prompt: true, has_references: true, has_initial: true, size: "resolution" };
        let none =
            Fields { has_negative_prompt: false, has_references: false, has_initial: false, size: "size" };
        let cases: [(Option<String>, Option<&str>); 18] = [
            (all.texts("texts[0]"), Some("prompt")),
            (all.texts("texts[1]"), Some("negative_prompt")),
            (none.texts("texts[1]"), None),
            (all.captions("texts[1]"), Some("references.references[1].caption")),
            (none.captions("texts[1]"), None),
            (Fields::retrieval("limit"), Some("retrieval.neighbours")),
            (Fields::retrieval("text"), Some("prompt")),
            (all.base("guidance.interval.max_sigma"), Some("guidance.interval.max_sigma")),
            (all.base("sampling.steps"), Some("base_sampling.steps")),
            (all.base("sampling"), Some("base_sampling")),
            (all.base("size"), Some("resolution")),
            (all.base("initial_latent.strength"), Some("initial.strength")),
            (none.base("initial_latent.strength"), None),
            (all.base("neighbours[3].image"), Some("references.references[3].image")),
            (none.base("neighbours[3].image"), None),
            (none.base("neighbours"), Some("retrieval.neighbours")),
            (Fields::level(1, "sampling.steps"), Some("super_resolution[1].sampling.steps")),
            (Fields::level(1, "text"), None),
        ];
        for (told, expected) in cases {
            assert_eq!(told.as_deref(), expected);
        }
    }
}
