//! What callers call the fields that stages complain of. A field that has no name here was not the caller's to choose.

use crate::convert::Run;

/// The names of one request's fields.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    has_negative_prompt: bool,
    /// The field that has the caller's own references, and how many they are.
    references: (&'static str, usize),
    /// The field that has the text of the search, if there is one.
    query: Option<&'static str>,
    has_initial: bool,
    /// The field that the size of the picture is asked for by.
    size: &'static str,
}

impl Fields {
    pub(crate) fn of(run: &Run) -> Self {
        Self {
            has_negative_prompt: run.negative_prompt.is_some(),
            references: (run.memory.own.field, run.memory.own.captions.len()),
            // The prompt was checked; what a search is for instead may be wrong only there.
            query: run
                .memory
                .search
                .as_ref()
                .map(|search| if search.request.text == run.prompt { "prompt" } else { "retrieval.query" }),
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

    /// Of the encoder: the captions of the caller's own references.
    pub(crate) fn captions(&self, field: &str) -> Option<String> {
        let (index, _) = entry(field, "texts")?;
        Some(format!("{}[{index}].caption", self.references.0))
    }

    /// Of retrieval.
    pub(crate) fn retrieval(&self, field: &str) -> Option<String> {
        let (first, rest) =
            field.split_once('.').map_or((field, ""), |(first, _)| (first, &field[first.len()..]));
        Some(match first {
            "text" => self.query?.to_owned(),
            "limit" => "retrieval.neighbours".to_owned(),
            "image" | "vector" => format!("retrieval.query_{field}"),
            "strategy" | "knowledge_base" | "minimum_score" | "selection" => {
                format!("retrieval.{first}{rest}")
            }
            _ => return None,
        })
    }

    /// Of the autoencoder, which is given the size to draw, pictures of that size, and their latents.
    pub(crate) fn autoencoder(&self, field: &str) -> Option<String> {
        matches!(field, "size" | "image" | "latent.values").then(|| self.size.to_owned())
    }

    /// Of the denoiser.
    pub(crate) fn base(&self, field: &str) -> Option<String> {
        if let Some((index, part)) = entry(field, "neighbours") {
            let (own, count) = self.references;
            return (index < count).then(|| format!("{own}[{index}]{part}"));
        }
        let (first, rest) =
            field.split_once('.').map_or((field, ""), |(first, _)| (first, &field[first.len()..]));
        Some(match first {
            "guidance" => field.to_owned(),
            "sampling" => format!("base_sampling{rest}"),
            "size" => self.size.to_owned(),
            "initial" | "initial_latent" if self.has_initial => format!("initial{rest}"),
            "negative_text" if self.has_negative_prompt => "negative_prompt".to_owned(),
            "neighbours" if self.query.is_some() => "retrieval.neighbours".to_owned(),
            "neighbours" => self.references.0.to_owned(),
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
        let all = Fields {
            has_negative_prompt: true,
            references: ("references.references", 8),
            query: None,
            has_initial: true,
            size: "resolution",
        };
        let none = Fields {
            has_negative_prompt: false,
            references: ("", 0),
            query: Some("prompt"),
            has_initial: false,
            size: "size",
        };
        let both = Fields { references: ("retrieval.references", 1), query: Some("retrieval.query"), ..none };
        let filter = "retrieval.selection.filter.range";
        let cases: [(Option<String>, Option<&str>); 25] = [
            (all.texts("texts[0]"), Some("prompt")),
            (all.texts("texts[1]"), Some("negative_prompt")),
            (none.texts("texts[1]"), None),
            (all.captions("texts[1]"), Some("references.references[1].caption")),
            (both.captions("texts[0]"), Some("retrieval.references[0].caption")),
            (none.retrieval("limit"), Some("retrieval.neighbours")),
            (none.retrieval("text"), Some("prompt")),
            (both.retrieval("text"), Some("retrieval.query")),
            (both.retrieval("image"), Some("retrieval.query_image")),
            (both.retrieval("vector.values"), Some("retrieval.query_vector.values")),
            (both.retrieval("selection.filter.range"), Some(filter)),
            (both.retrieval("images"), None),
            (all.base("guidance.interval.max_sigma"), Some("guidance.interval.max_sigma")),
            (all.base("sampling.steps"), Some("base_sampling.steps")),
            (all.base("sampling"), Some("base_sampling")),
            (all.base("size"), Some("resolution")),
            (all.base("initial_latent.strength"), Some("initial.strength")),
            (none.base("initial_latent.strength"), None),
            (all.base("neighbours[3].image"), Some("references.references[3].image")),
            (both.base("neighbours[0].image"), Some("retrieval.references[0].image")),
            (both.base("neighbours[1].image"), None),
            (all.base("neighbours"), Some("references.references")),
            (none.base("neighbours"), Some("retrieval.neighbours")),
            (Fields::level(1, "sampling.steps"), Some("super_resolution[1].sampling.steps")),
            (Fields::level(1, "text"), None),
        ];
        for (told, expected) in cases {
            assert_eq!(told.as_deref(), expected);
        }
    }
}
