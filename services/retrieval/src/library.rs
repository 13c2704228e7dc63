//! The knowledge bases of the service: those that are searched, and those of them that can be changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use reverie_knowledge::Live;
use reverie_service_kit::Refusal;

use crate::embedding::EmbeddingSearch;
use crate::knowledge_base::{KnowledgeBase, KnowledgeBases, Reader};
use crate::writing::Writer;

/// All knowledge bases.
pub(crate) struct Library {
    pub(crate) knowledge_bases: Arc<KnowledgeBases>,
    /// The name of the one that requests mean which name none.
    pub(crate) default: String,
    pub(crate) writers: BTreeMap<String, Writer>,
}

impl Library {
    /// The knowledge base of that name, or the default one.
    pub(crate) fn named(&self, name: &str) -> Result<&Arc<Live<Reader>>, Refusal> {
        let name = self.or_default(name);
        self.knowledge_bases.get(name).ok_or_else(|| {
            // Which there are is not for every caller to know.
            Refusal::not_found(format!(
                "there is no knowledge base {name:?}; ListKnowledgeBases tells which there are"
            ))
        })
    }

    /// The epoch of the knowledge base of that name that is searched.
    pub(crate) fn current(&self, name: &str) -> Result<Arc<KnowledgeBase>, Refusal> {
        let is_not_loaded =
            |why| Refusal::mismatch(format!("{:?} cannot be searched: {why}", self.or_default(name)));
        self.named(name)?.current().map_err(is_not_loaded)
    }

    /// The knowledge base of that name, and how it is changed, if it can be.
    pub(crate) fn writable(&self, name: &str) -> Result<(&Arc<Live<Reader>>, &Writer), Refusal> {
        let live = self.named(name)?;
        let name = self.or_default(name);
        let writer = self.writers.get(name).ok_or_else(|| {
            let why = "it is not among the `writable` ones in the settings of the retrieval service";
            Refusal::not_writable(format!("the knowledge base {name:?} cannot be changed here: {why}"))
        })?;
        Ok((live, writer))
    }

    /// Lets go of the epochs before the one that is searched, here and in the vector service.
    pub(crate) async fn drop_older(&self, live: &Live<Reader>, embedding: &EmbeddingSearch) {
        live.drop_older();
        let Ok(base) = live.current() else { return };
        if let Err(status) = embedding.drop_older(&base).await {
            let (name, why) = (&base.name, status.message());
            tracing::warn!(name, why, "the vector service may keep what was forgotten for half a minute");
        }
    }

    fn or_default<'a>(&'a self, name: &'a str) -> &'a str {
        if name.is_empty() { &self.default } else { name }
    }
}
