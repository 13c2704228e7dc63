//! Credentials of all kinds at the same door.

mod tokens;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tonic::{Code, Status};

use super::*;

/// A folder with a file of keys and a set of token keys.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let file = self.0.path().join(name);
        fs::write(&file, content).unwrap();
        file
    }
}

fn settings(keys: PathBuf, jwks: &str) -> AccessSettings {
    let tokens = TokenSettings {
        jwks: jwks.to_owned(),
        issuer: "https://id.example".to_owned(),
        audience: "reverie".to_owned(),
        algorithms: ["EdDSA", "ES256", "RS256"].map(|name| name.parse().unwrap()).to_vec(),
        leeway_seconds: 30,
        limits: LimitSettings::default(),
    };
    AccessSettings { keys, tokens }
}

fn entry(name: &str, key: &str, rest: &str) -> String {
    format!("[[keys]]\nname = '{name}'\nsha256 = '{}'\n{rest}\n", keys::digest(key))
}

fn bearing(credential: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, format!("Bearer {credential}").parse().unwrap())])
}

fn refused(access: &Access, headers: &HeaderMap, scope: Option<Scope>) -> Status {
    access.admit(headers, scope).map(|_| ()).unwrap_err().into()
}

#[tokio::test]
async fn without_keys_and_tokens_everyone_may_call() {
    assert!(Access::start(&settings(PathBuf::new(), ""), 64).await.unwrap().is_none());
}

#[tokio::test]
async fn a_key_opens_what_its_scopes_say_until_it_expires() {
    let files = Files::new();
    let text =
        entry("studio", "rvk_a", "scopes = ['generate', 'retrieve']\nexpires = '2999-01-01T00:00:00Z'")
            + &entry("shop", "rvk_b", "scopes = ['generate']\nexpires = '2020-01-01T00:00:00Z'");
    let access = Access::start(&settings(files.write("keys.toml", &text), ""), 64).await.unwrap().unwrap();
    let (visitor, _in_flight) = access.admit(&bearing("rvk_a"), Some(Scope::Retrieve)).unwrap();
    assert_eq!(visitor.name(), "studio");
    access.admit(&bearing("rvk_a"), None).unwrap();
    let status = refused(&access, &bearing("rvk_a"), Some(Scope::Write));
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("studio") && status.message().contains("write"), "{status}");
    let late = refused(&access, &bearing("rvk_b"), None);
    assert_eq!((late.code(), late.message()), (Code::Unauthenticated, "the API key has expired"));

    let header = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
    let mut twice = bearing("rvk_a");
    twice.append(AUTHORIZATION, "Bearer rvk_b".parse().unwrap());
    for wrong in [
        HeaderMap::new(),
        bearing("rvk_c"),
        bearing("rvk_"),
        bearing(""),
        bearing("a.b.c"),
        header("rvk_a"),
        header("Basic rvk_a"),
        twice,
        // Nobody gets in with what the file has.
        bearing(&keys::digest("rvk_a")),
    ] {
        let status = refused(&access, &wrong, None);
        assert_eq!(status.code(), Code::Unauthenticated, "{wrong:?}");
        assert!(!status.message().contains("rvk_c"), "a credential is not told: {status}");
    }
}

#[tokio::test]
async fn keys_come_and_go_while_the_door_is_open() {
    let files = Files::new();
    let file = files.write("keys.toml", &entry("studio", "rvk_a", "scopes = ['generate']"));
    let access = Access::start(&settings(file, ""), 64).await.unwrap().unwrap();
    access.admit(&bearing("rvk_a"), None).unwrap();
    let becomes = async |content: &str, key: &str, is_let_in: bool| {
        files.write("keys.toml", content);
        let begun = Instant::now();
        while access.admit(&bearing(key), None).is_ok() != is_let_in {
            assert!(begun.elapsed() < Duration::from_secs(20), "{content}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    becomes(&entry("studio", "rvk_b", "scopes = ['generate']"), "rvk_b", true).await;
    assert!(access.admit(&bearing("rvk_a"), None).is_err());
    // What cannot be read changes nothing.
    files.write("keys.toml", "keys = 7");
    tokio::time::sleep(Duration::from_secs(3)).await;
    access.admit(&bearing("rvk_b"), None).unwrap();
    becomes("", "rvk_b", false).await;
}

#[tokio::test]
async fn a_caller_sees_its_own_knowledge_bases_alone() {
    let files = Files::new();
    let text = entry("studio", "rvk_a", "scopes = ['retrieve']\nknowledge_bases = ['birds', 'fish']")
        + &entry("nobody", "rvk_b", "scopes = ['retrieve']\nknowledge_bases = []")
        + &entry("all", "rvk_c", "scopes = ['retrieve']");
    let access = Access::start(&settings(files.write("keys.toml", &text), ""), 64).await.unwrap().unwrap();
    let visitor = |key: &str| access.admit(&bearing(key), None).unwrap().0;
    let studio = visitor("rvk_a");
    assert_eq!(studio.knowledge_base("fish").unwrap(), "fish");
    assert_eq!(studio.knowledge_base("").unwrap(), "birds", "its first is its default");
    assert!(studio.may_see("fish") && !studio.may_see("secret"));
    // One that is there for others and one that is not there at all are told alike.
    let [hidden, missing] = ["secret", "absent"].map(|name| {
        let status = Status::from(studio.knowledge_base(name).unwrap_err());
        assert_eq!(status.code(), Code::NotFound);
        status.message().replace(name, "NAME")
    });
    assert_eq!(hidden, missing);
    assert_eq!(hidden, "there is no knowledge base \"NAME\"; there is birds, fish");
    for name in ["", "birds"] {
        assert!(visitor("rvk_b").knowledge_base(name).is_err());
        assert_eq!(visitor("rvk_c").knowledge_base(name).unwrap(), name);
    }
}

#[tokio::test]
async fn each_limit_holds_for_its_caller_and_says_when_to_come_again() {
    let files = Files::new();
    let limited = |name: &str, key: &str, limit: &str| {
        entry(name, key, &format!("scopes = ['generate']\nlimits = {{ {limit} }}"))
    };
    let text = limited("calls", "rvk_a", "in_flight = 2")
        + &limited("rate", "rvk_b", "requests_per_minute = 3")
        + &limited("pixels", "rvk_c", "megapixels_per_minute = 2")
        + &limited("seconds", "rvk_d", "model_seconds_per_minute = 10")
        + &limited("both", "rvk_f", "megapixels_per_minute = 1, model_seconds_per_minute = 10")
        + &entry("free", "rvk_e", "scopes = ['generate']");
    let access = Access::start(&settings(files.write("keys.toml", &text), ""), 64).await.unwrap().unwrap();
    let again = |status: &Status| tonic_types::StatusExt::get_details_retry_info(status).is_some();

    let first = access.admit(&bearing("rvk_a"), None).unwrap();
    let _second = access.admit(&bearing("rvk_a"), None).unwrap();
    let third = refused(&access, &bearing("rvk_a"), None);
    assert_eq!(third.code(), Code::ResourceExhausted);
    assert!(third.message().contains("in_flight") && again(&third), "{third}");
    drop(first);
    access.admit(&bearing("rvk_a"), None).unwrap();

    for _ in 0..3 {
        access.admit(&bearing("rvk_b"), None).unwrap();
    }
    let fourth = refused(&access, &bearing("rvk_b"), None);
    assert!(fourth.message().contains("requests_per_minute") && again(&fourth), "{fourth}");

    let (pixels, _call) = access.admit(&bearing("rvk_c"), None).unwrap();
    let charged = |visitor: &Visitor, pixels, seconds| visitor.charge(pixels, seconds).map_err(Status::from);
    charged(&pixels, 1 << 20, 0.5).unwrap();
    let more = charged(&pixels, 1 << 20, 0.5).unwrap_err();
    assert!(more.message().contains("megapixels_per_minute") && again(&more), "{more}");
    let never = charged(&pixels, 4 << 20, 0.5).unwrap_err();
    assert!(never.message().contains("4.19 megapixels") && !again(&never), "{never}");

    // What is refused for one thing uses nothing of the others.
    let (both, _call) = access.admit(&bearing("rvk_f"), None).unwrap();
    assert!(charged(&both, 1_000_000, 11.0).is_err() && charged(&both, 1_000_000, 11.0).is_err());
    charged(&both, 1_000_000, 9.0).unwrap();

    // Images count like calls; who has no limit of its own has half of the places.
    let (many, call) = access.admit(&bearing("rvk_e"), None).unwrap();
    let held = many.hold(31).unwrap();
    assert_eq!(refused(&access, &bearing("rvk_e"), None).code(), Code::ResourceExhausted);
    drop((held, call));

    let (seconds, _call) = access.admit(&bearing("rvk_d"), None).unwrap();
    charged(&seconds, 1 << 20, 9.0).unwrap();
    let late = charged(&seconds, 1 << 20, 9.0).unwrap_err();
    assert_eq!(late.code(), Code::ResourceExhausted);
    assert!(late.message().contains("model_seconds_per_minute") && again(&late), "{late}");

    // Another one is not held up by them.
    for _ in 0..50 {
        let (free, _call) = access.admit(&bearing("rvk_e"), None).unwrap();
        charged(&free, 100 << 20, 100.0).unwrap();
    }
}
