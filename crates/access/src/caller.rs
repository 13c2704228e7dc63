//! Who calls.

use std::collections::BTreeSet;
use std::sync::Arc;

use reverie_service_kit::Refusal;

use crate::accounts::{Account, InFlight, refused};
use crate::{LimitSettings, Scope};

/// A caller as its credential describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub(crate) name: String,
    pub(crate) scopes: BTreeSet<Scope>,
    /// The first is its default.
    pub(crate) knowledge_bases: Option<Vec<String>>,
    pub(crate) is_batch: bool,
    pub(crate) limits: LimitSettings,
    /// Whether it is one of the few that an API key names, whose names metrics may have.
    pub(crate) is_listed: bool,
}

impl Caller {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may make calls of this kind.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Counts a call of it that was refused for a limit.
    pub(crate) fn is_over_a_limit(&self) {
        refused(self.label(), "limit");
    }

    /// What metrics call it: there may be any number of subjects of tokens.
    pub(crate) fn label(&self) -> &str {
        if self.is_listed { &self.name } else { "" }
    }
}

/// A caller whose call was let in; cheap to clone.
#[derive(Debug, Clone)]
pub struct Visitor {
    pub(crate) caller: Arc<Caller>,
    pub(crate) account: Arc<Account>,
}

impl Visitor {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.caller.name
    }

    /// Whether all its requests are batch, whatever they say.
    pub fn is_batch(&self) -> bool {
        self.caller.is_batch
    }

    /// Whether there are knowledge bases that it does not see.
    pub fn is_restricted(&self) -> bool {
        self.caller.knowledge_bases.is_some()
    }

    /// Whether this knowledge base is there for it.
    pub fn may_see(&self, knowledge_base: &str) -> bool {
        self.caller.knowledge_bases.as_ref().is_none_or(|seen| seen.iter().any(|seen| seen == knowledge_base))
    }

    /// The knowledge base that a request means which names `named`, "" for none: of a caller that does not see all, the first that it
    /// sees.
    ///
    /// # Errors
    /// `NOT_FOUND` for one that it does not see, as for one that is not there.
    pub fn knowledge_base(&self, named: &str) -> Result<String, Refusal> {
        let Some(seen) = &self.caller.knowledge_bases else { return Ok(named.to_owned()) };
        match seen.first() {
            Some(first) if named.is_empty() => Ok(first.clone()),
            Some(_) if self.may_see(named) => Ok(named.to_owned()),
            _ => {
                let there = if seen.is_empty() {
                    "there is none".to_owned()
                } else {
                    format!("there is {}", seen.join(", "))
                };
                Err(Refusal::not_found(format!("there is no knowledge base {named:?}; {there}")))
            }
        }
    }

    /// Counts `images` that a call draws beside its first as in flight, until what it gives is dropped.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` above the caller's limit.
    pub fn hold(&self, images: u32) -> Result<InFlight, Refusal> {
        self.account.hold(images).inspect_err(|_| self.caller.is_over_a_limit())
    }

    /// Charges what an image takes before it is drawn.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED`, with when to try again, or without where no waiting helps.
    pub fn charge(&self, pixels: u64, model_seconds: f64) -> Result<(), Refusal> {
        self.account
            .charge(&self.caller, pixels, model_seconds)
            .inspect_err(|_| self.caller.is_over_a_limit())
    }
}
