//! Who may call which method of the public door, and which knowledge bases are there for whom.

use std::any::Any;

use http::header::AUTHORIZATION;
use reverie_access::{Access, Scope, Visitor};
use reverie_proto::generation::v1::generate_request::Memory;
use reverie_proto::generation::v1::{GenerateRequest, NoMemory, Retrieval};
use reverie_proto::retrieval::v1::KnowledgeBase;
use reverie_service_kit::Refusal;
use reverie_service_kit::doorkeeper::Doorkeeper;
use tonic::Request;
use tonic::body::Body;

/// Lets in whose credential has the scope of the method.
#[derive(Debug)]
pub(crate) struct Porter(pub(crate) Access);

impl Doorkeeper for Porter {
    fn admit(&self, request: &mut http::Request<Body>) -> Result<Box<dyn Any + Send>, Refusal> {
        let scope = scope(request.uri().path().trim_start_matches('/'));
        let (visitor, in_flight) = self.0.admit(request.headers(), scope)?;
        // Nobody after this needs it.
        request.headers_mut().remove(AUTHORIZATION);
        request.extensions_mut().insert(visitor);
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

/// Those that are there for who called.
pub(crate) fn visible<T>(request: &Request<T>, mut known: Vec<KnowledgeBase>) -> Vec<KnowledgeBase> {
    if let Some(visitor) = visitor(request) {
        known.retain(|knowledge_base| visitor.may_see(&knowledge_base.name));
    }
    known
}

/// The message of a request, in which the knowledge base that its caller means is in the place of the one that it `named`.
pub(crate) fn resolved<T>(
    request: Request<T>,
    named: impl FnOnce(&mut T) -> &mut String,
) -> Result<T, Refusal> {
    let visitor = visitor(&request);
    let mut message = request.into_inner();
    if let Some(visitor) = visitor {
        let named = named(&mut message);
        *named = visitor.knowledge_base(named)?;
    }
    Ok(message)
}

/// The same for an image, whose caller is `visitor`. One that says nothing is drawn with the first knowledge base that `visitor` sees, if the mesh `can_search`, and
/// from the text alone if it sees none.
pub(crate) fn resolve_memory(
    visitor: Option<&Visitor>,
    can_search: bool,
    request: &mut GenerateRequest,
) -> Result<(), Refusal> {
    let Some(visitor) = visitor else { return Ok(()) };
    match &mut request.memory {
        Some(Memory::Retrieval(retrieval)) => {
            retrieval.knowledge_base = visitor.knowledge_base(&retrieval.knowledge_base)?;
        }
        Some(Memory::References(_) | Memory::None(_)) => {}
        None if !can_search || !visitor.is_restricted() => {}
        None => {
            let retrieval = |knowledge_base| Retrieval { knowledge_base, ..Retrieval::default() };
            let first = visitor.knowledge_base("").map(retrieval).map(Memory::Retrieval);
            request.memory = Some(first.unwrap_or(Memory::None(NoMemory {})));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message as _;
    use reverie_proto::FILE_DESCRIPTOR_SET;

    use reverie_access::{AccessSettings, keys};
    use reverie_proto::generation::v1::References;

    use super::*;

    #[tokio::test]
    async fn a_request_that_says_nothing_means_the_first_knowledge_base_that_its_caller_sees() {
        let entry = |key: &str, seen: &str| {
            format!("[[keys]]\nname = '{key}'\nsha256 = '{}'\nscopes = []\n{seen}\n", keys::digest(key))
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = entry("rvk_two", "knowledge_bases = ['birds', 'fish']")
            + &entry("rvk_none", "knowledge_bases = []")
            + &entry("rvk_all", "");
        std::fs::write(file.path(), text).unwrap();
        let settings = AccessSettings { keys: file.path().to_owned(), ..AccessSettings::default() };
        let porter = Porter(Access::start(&settings, 64).await.unwrap().unwrap());
        let visitor = |key: &str| {
            let mut request = http::Request::builder()
                .uri("/reverie.generation.v1.GenerationService/GetCapabilities")
                .header(AUTHORIZATION, format!("Bearer {key}"))
                .body(Body::empty())
                .unwrap();
            porter.admit(&mut request).unwrap();
            assert!(request.headers().is_empty(), "nobody else needs the credential");
            request.extensions_mut().remove::<Visitor>().unwrap()
        };
        let searches = |name: &str| {
            Some(Memory::Retrieval(Retrieval { knowledge_base: name.to_owned(), ..Retrieval::default() }))
        };
        let own = || Some(Memory::References(References::default()));
        let none = || Some(Memory::None(NoMemory {}));
        for (key, can_search, asked, means) in [
            ("rvk_two", true, None, Some(searches("birds"))),
            ("rvk_two", true, searches(""), Some(searches("birds"))),
            ("rvk_two", true, searches("fish"), Some(searches("fish"))),
            ("rvk_two", true, searches("creatures"), None),
            ("rvk_two", true, own(), Some(own())),
            ("rvk_two", false, None, Some(None)),
            ("rvk_none", true, None, Some(none())),
            ("rvk_none", true, searches(""), None),
            ("rvk_all", true, None, Some(None)),
            ("rvk_all", true, searches("creatures"), Some(searches("creatures"))),
        ] {
            let mut request = GenerateRequest { memory: asked.clone(), ..GenerateRequest::default() };
            let resolved = resolve_memory(Some(&visitor(key)), can_search, &mut request);
            assert_eq!(resolved.ok().map(|()| request.memory), means, "{key} {asked:?}");
        }
    }

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
