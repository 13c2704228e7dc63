//! Where the reference images of a request come from: a search, the caller, or both.

use reverie_imaging::Encoded;
use reverie_imaging::fit::Fit;
use reverie_proto::generation::v1::generate_request::Memory as Message;
use reverie_proto::generation::v1::retrieval::Embed;
use reverie_proto::generation::v1::{NoMemory, Reference, Retrieval};
use reverie_proto::knowledge::v1::{ImageDetail, NoMatch, RetrievalStrategy};
use reverie_proto::limits::{MAX_KNOWLEDGE_BASE_NAME_BYTES, MAX_NEIGHBOURS, MAX_TEXT_BYTES, SCORE};
use reverie_proto::retrieval::v1::{RetrieveRequest, retrieve_request};
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Violations, ranges};

use crate::convert::foreign_notation;
use crate::images::Undecoded;
use crate::stages::Models;

/// The reference images of a request.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) search: Option<Search>,
    /// The caller's own, which come first.
    pub(crate) own: Own,
}

/// A search of a knowledge base.
#[derive(Debug)]
pub(crate) struct Search {
    pub(crate) request: RetrieveRequest,
    /// Whether the image is refused if nothing matches.
    pub(crate) refuse: bool,
    /// What the caller sees of the images.
    pub(crate) detail: ImageDetail,
}

/// The caller's own reference images.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// The field of the request that has them.
    pub(crate) field: &'static str,
    pub(crate) captions: Vec<String>,
    /// As the base model sees them; none until they are decoded.
    pub(crate) images: Vec<Image>,
}

impl Memory {
    /// Checks the memory of a request; `usual` neighbours are found if it does not say how many.
    pub(crate) fn read(
        violations: &mut Violations,
        memory: Option<Message>,
        prompt: &str,
        models: &Models,
        usual: u32,
        undecoded: &mut Undecoded,
    ) -> Self {
        let most = models.base.max_neighbours.min(MAX_NEIGHBOURS);
        let can_search = models.can_search();
        let memory = memory.unwrap_or_else(|| {
            if can_search { Message::Retrieval(Retrieval::default()) } else { Message::None(NoMemory {}) }
        });
        match memory {
            Message::None(_) => Self::default(),
            Message::Retrieval(_) | Message::References(_) if most == 0 => {
                violations.add("memory", "must be none: the model of this mesh takes no neighbours");
                Self::default()
            }
            Message::Retrieval(_) if !models.has_retrieval => {
                violations
                    .add("retrieval", "must not be set: this mesh has no knowledge bases; give references");
                Self::default()
            }
            Message::Retrieval(mut retrieval) => {
                let references = std::mem::take(&mut retrieval.references);
                let count = u32::try_from(references.len()).unwrap_or(u32::MAX);
                violations.require(
                    count < most,
                    "retrieval.references",
                    format!("must be at most {} pictures beside neighbours, not {count}", most - 1),
                );
                let left = most.saturating_sub(count).max(1);
                let own = Own::read(violations, "retrieval.references", references, most, undecoded);
                Self { search: Some(Search::read(violations, retrieval, prompt, usual, left)), own }
            }
            Message::References(references) => {
                let (field, references) = ("references.references", references.references);
                let count = references.len();
                violations.require(
                    (1..=most as usize).contains(&count),
                    field,
                    format!("must be 1 to {most} pictures, not {count}"),
                );
                Self { search: None, own: Own::read(violations, field, references, most, undecoded) }
            }
        }
    }

    /// The most reference images that the base model may be given.
    pub(crate) fn most(&self) -> u32 {
        self.search.as_ref().map_or(0, |search| search.request.limit) + self.own.captions.len() as u32
    }
}

impl Search {
    /// Checks a search for at most `most` neighbours. What only the knowledge base can tell, retrieval checks.
    fn read(violations: &mut Violations, asked: Retrieval, prompt: &str, usual: u32, most: u32) -> Self {
        let limit = violations.in_range("retrieval.neighbours", asked.neighbours, 1..=most);
        if !asked.knowledge_base.is_empty() {
            violations.text("retrieval.knowledge_base", &asked.knowledge_base, MAX_KNOWLEDGE_BASE_NAME_BYTES);
        }
        ranges::known::<RetrievalStrategy>(violations, "retrieval.strategy", asked.strategy);
        ranges::known::<NoMatch>(violations, "retrieval.no_match", asked.no_match);
        ranges::known::<ImageDetail>(violations, "retrieval.images", asked.images);
        violations.in_range("retrieval.minimum_score", asked.minimum_score, SCORE);
        if let Some(query) = &asked.query {
            violations.text("retrieval.query", query, MAX_TEXT_BYTES);
        }
        if let Some(Embed::QueryImage(image)) = &asked.embed {
            violations.take("retrieval.query_image", Encoded::required(Some(image)));
        }
        let (no_match, detail) = (asked.no_match(), asked.images());
        let embed = asked.embed.map(|embed| match embed {
            Embed::QueryImage(image) => retrieve_request::Embed::Image(image),
            Embed::QueryVector(vector) => retrieve_request::Embed::Vector(vector),
        });
        let text = asked.query.unwrap_or_else(|| if embed.is_none() { prompt } else { "" }.to_owned());
        let request = RetrieveRequest {
            knowledge_base: asked.knowledge_base,
            text,
            limit: limit.unwrap_or(usual.min(most)),
            strategy: asked.strategy,
            minimum_score: asked.minimum_score,
            nearest: no_match == NoMatch::Nearest,
            embed,
            selection: asked.selection,
            // The model sees them.
            images: ImageDetail::Original.into(),
            exact: false,
        };
        Self { request, refuse: no_match == NoMatch::Refuse, detail }
    }
}

impl Own {
    /// Checks the references in `field`: all but their pixels, and no more than `most` of them.
    fn read(
        violations: &mut Violations,
        field: &'static str,
        references: Vec<Reference>,
        most: u32,
        undecoded: &mut Undecoded,
    ) -> Self {
        for (index, reference) in references.iter().enumerate().take(most as usize) {
            let field = |name: &str| format!("{field}[{index}].{name}");
            violations.text(&field("caption"), &reference.caption, MAX_TEXT_BYTES);
            foreign_notation(violations, &field("caption"), &reference.caption);
            let image = violations.take(field("image"), Encoded::required(reference.image.as_ref()));
            let fit = violations.take(field("fit"), Fit::from_message(reference.fit));
            undecoded.references.extend(image.zip(fit));
        }
        let captions = references.into_iter().map(|reference| reference.caption).collect();
        Self { field, captions, images: Vec::new() }
    }
}
