//! Who may call which method of the public door, and which knowledge bases are there for whom.

use std::any::Any;

use http::header::AUTHORIZATION;
use http::{Extensions, HeaderMap};
use reverie_access::{Access, Scope, Visitor};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, Retrieval};
use reverie_proto::retrieval::v1::KnowledgeBase;
use reverie_service_kit::Refusal;
use reverie_service_kit::doorkeeper::Doorkeeper;
use tonic::Request;

/// Lets in whose credential has the scope of the method.
#[derive(Debug)]
pub(crate) struct Porter(pub(crate) Access);

impl Doorkeeper for Porter {
    fn admit(
        &self,
        method: &str,
        headers: &mut HeaderMap,
        extensions: &mut Extensions,
    ) -> Result<Box<dyn Any + Send>, Refusal> {
        let (visitor, in_flight) = self.0.admit(headers, scope(method))?;
        // Nobody after this needs it.
        headers.remove(AUTHORIZATION);
        extensions.insert(visitor);
        Ok(Box::new(in_flight))
    }
}

/// The scope that a method needs; none if any valid credential will do. What is not listed is for administrators.
fn scope(method: &str) -> Option<Scope> {
    if method.starts_with("grpc.reflection.") {
        return None;
    }
    let (service, method) = method.split_once('/').unwrap_or_default();
    match (service, method) {
        ("reverie.generation.v1.GenerationService", "GetCapabilities") => None,
        ("reverie.generation.v1.GenerationService", "Generate") => Some(Scope::Generate),
        ("reverie.retrieval.v1.RetrievalService", "Retrieve" | "ListKnowledgeBases")
        | ("reverie.knowledge.v1.KnowledgeService", "BatchGetEntries" | "GetKnowledgeBase") => {
            Some(Scope::Retrieve)
        }
        (
            "reverie.knowledge.v1.KnowledgeService",
            "UpsertEntries" | "DeleteEntries" | "ForgetEntries" | "CreateSnapshot",
        ) => Some(Scope::Write),
        _ => Some(Scope::Administer),
    }
}

/// Who called; none where nobody has to say who they are, or within a process.
pub(crate) fn visitor<T>(request: &Request<T>) -> Option<Visitor> {
    request.extensions().get().cloned()
}

/// Those that are there for `visitor`.
pub(crate) fn visible(visitor: Option<&Visitor>, mut known: Vec<KnowledgeBase>) -> Vec<KnowledgeBase> {
    if let Some(visitor) = visitor {
        known.retain(|knowledge_base| visitor.may_see(&knowledge_base.name));
    }
    known
}

/// Puts the knowledge base that `visitor` means in the place of the one that it `named`.
pub(crate) fn resolve(visitor: Option<&Visitor>, named: &mut String) -> Result<(), Refusal> {
    if let Some(visitor) = visitor {
        *named = visitor.knowledge_base(named)?;
    }
    Ok(())
}

/// The same for an image, which is drawn with the default knowledge base if it does not say otherwise.
pub(crate) fn resolve_memory(
    visitor: Option<&Visitor>,
    request: &mut GenerateRequest,
) -> Result<(), Refusal> {
    let Some(visitor) = visitor.filter(|visitor| visitor.is_restricted()) else { return Ok(()) };
    let searches = |retrieval: &mut Retrieval| resolve(Some(visitor), &mut retrieval.knowledge_base);
    match &mut request.memory {
        Some(Memory::Retrieval(retrieval)) => searches(retrieval),
        Some(Memory::References(_) | Memory::None(_)) => Ok(()),
        None => {
            let mut retrieval = Retrieval::default();
            searches(&mut retrieval)?;
            request.memory = Some(Memory::Retrieval(retrieval));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message as _;
    use reverie_proto::FILE_DESCRIPTOR_SET;

    use super::*;

    #[test]
    fn every_method_of_the_door_has_its_scope() {
        let all = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap();
        let mut scopes: BTreeMap<String, Option<Scope>> = BTreeMap::new();
        for file in &all.file {
            for service in &file.service {
                let service_name = format!("{}.{}", file.package(), service.name());
                if !["GenerationService", "RetrievalService", "KnowledgeService"].contains(&service.name()) {
                    continue;
                }
                for method in &service.method {
                    let path = format!("{service_name}/{}", method.name());
                    scopes.insert(method.name().to_owned(), scope(&path));
                }
            }
        }
        let expected = [
            ("BatchGetEntries", Some(Scope::Retrieve)),
            ("CreateSnapshot", Some(Scope::Write)),
            ("DeleteEntries", Some(Scope::Write)),
            ("DeleteSnapshot", Some(Scope::Administer)),
            ("ForgetEntries", Some(Scope::Write)),
            ("Generate", Some(Scope::Generate)),
            ("GetCapabilities", None),
            ("GetKnowledgeBase", Some(Scope::Retrieve)),
            ("ListKnowledgeBases", Some(Scope::Retrieve)),
            ("Prepare", Some(Scope::Administer)),
            ("RestoreSnapshot", Some(Scope::Administer)),
            ("Retrieve", Some(Scope::Retrieve)),
            ("UpsertEntries", Some(Scope::Write)),
        ];
        let expected = expected.map(|(method, scope)| (method.to_owned(), scope));
        assert_eq!(scopes.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(scope("reverie.other.v1.OtherService/Call"), Some(Scope::Administer));
        assert_eq!(scope(""), Some(Scope::Administer));
    }
}
