//! JSON Web Tokens at the door.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, Signature,
};
use serde_json::{Value, json};

use super::*;

/// Signs as an issuer of tokens does.
enum Signer {
    Ed(Ed25519KeyPair),
    Ec(EcdsaKeyPair),
}

impl Signer {
    fn ed() -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
    }

    fn ec() -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let key = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(algorithm, key.as_ref(), &random).unwrap())
    }

    fn jwk(&self, kid: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "x": text(key.public_key().as_ref())})
            }
            Self::Ec(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256", "x": text(x), "y": text(y)})
            }
        }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", text(header), text(claims));
        let signature: Signature = match self {
            Self::Ed(key) => key.sign(message.as_bytes()),
            Self::Ec(key) => key.sign(&SystemRandom::new(), message.as_bytes()).unwrap(),
        };
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn seconds_from_now(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

fn claims(change: impl FnOnce(&mut BTreeMap<&'static str, Value>)) -> Value {
    let mut claims: BTreeMap<&'static str, Value> = BTreeMap::from([
        ("sub", json!("anna")),
        ("iss", json!("https://id.example")),
        ("aud", json!(["other", "reverie"])),
        ("exp", json!(seconds_from_now(60))),
        ("scope", json!("openid generate write")),
    ]);
    change(&mut claims);
    json!(claims)
}

#[tokio::test]
async fn tokens_are_checked_in_all_that_they_claim() {
    let (ed, ec, stranger) = (Signer::ed(), Signer::ec(), Signer::ed());
    let files = Files::new();
    // A key of a kind that is not known, and one for encryption, stand beside those that count.
    let other = json!({"kty": "OKP", "crv": "X448", "kid": "other", "x": "AA"});
    let mut for_encryption = ed.jwk("encrypts");
    for_encryption["use"] = json!("enc");
    let set = json!({"keys": [other, for_encryption, ed.jwk("ed"), ec.jwk("ec")]});
    let file = files.write("jwks.json", &set.to_string());
    let access = Access::start(&settings(PathBuf::new(), file.to_str().unwrap()), 64).await.unwrap().unwrap();
    let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "JWT"});

    for token in [
        ed.sign(&header("EdDSA", "ed"), &claims(|_| ())),
        ec.sign(&header("ES256", "ec"), &claims(|_| ())),
        // Any key of the set may be meant.
        ed.sign(&json!({"alg": "EdDSA"}), &claims(|_| ())),
        ed.sign(
            &header("EdDSA", "ed"),
            &claims(|claims| drop(claims.insert("exp", json!(seconds_from_now(-20))))),
        ),
        ed.sign(
            &header("EdDSA", "ed"),
            &claims(|claims| drop(claims.insert("nbf", json!(seconds_from_now(20))))),
        ),
    ] {
        let (visitor, _call) = access.admit(&bearing(&token), Some(Scope::Generate)).unwrap();
        assert_eq!(visitor.name(), "anna (token)");
        access.admit(&bearing(&token), Some(Scope::Write)).unwrap();
        assert_eq!(refused(&access, &bearing(&token), Some(Scope::Retrieve)).code(), Code::PermissionDenied);
    }

    let with = |name: &'static str, value: Value| claims(|claims| drop(claims.insert(name, value)));
    let without = |name: &str| claims(|claims| drop(claims.remove(name)));
    let of_ed = |claims: &Value| ed.sign(&header("EdDSA", "ed"), claims);
    let unsigned = |alg: &str| {
        let text = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", text(&header(alg, "ed")), text(&claims(|_| ())))
    };
    let valid = of_ed(&claims(|_| ()));
    let (head, rest) = valid.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let altered =
        format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(with("sub", json!("ben")).to_string()));
    for (token, why) in [
        (of_ed(&with("exp", json!(seconds_from_now(-40)))), "it has expired"),
        (of_ed(&with("nbf", json!(seconds_from_now(40)))), "it is not valid yet"),
        (of_ed(&with("iss", json!("https://id.example.evil"))), "it is from another issuer"),
        (of_ed(&with("aud", json!("other"))), "it is for another audience"),
        (of_ed(&without("exp")), "it needs exp"),
        (of_ed(&without("iss")), "it needs exp"),
        (of_ed(&without("aud")), "it needs exp"),
        (of_ed(&without("sub")), "its claims cannot be read"),
        (of_ed(&with("sub", json!(""))), "its subject"),
        (of_ed(&with("sub", json!("a\nb"))), "its subject"),
        (of_ed(&with("sub", json!("a".repeat(201)))), "its subject"),
        // Times as texts are no times.
        (of_ed(&with("exp", json!("4102444800"))), "it needs exp"),
        (stranger.sign(&header("EdDSA", "ed"), &claims(|_| ())), "its signature is wrong"),
        (stranger.sign(&header("EdDSA", "stranger"), &claims(|_| ())), "a key that is not known"),
        (ed.sign(&header("EdDSA", "encrypts"), &claims(|_| ())), "a key that is not known"),
        (ec.sign(&header("ES256", "ed"), &claims(|_| ())), "its signature is wrong"),
        (ed.sign(&header("HS256", "ed"), &claims(|_| ())), "its algorithm is not taken"),
        (ed.sign(&header("ES384", "ed"), &claims(|_| ())), "its algorithm is not taken"),
        (altered, "its signature is wrong"),
        (
            ed.sign(&json!({"alg": "EdDSA", "kid": "ed", "crit": ["b64"], "b64": true}), &claims(|_| ())),
            "of another kind",
        ),
        (
            ed.sign(&json!({"alg": "EdDSA", "kid": "ed", "typ": "logout+jwt"}), &claims(|_| ())),
            "of another kind",
        ),
        (unsigned("none"), "it is no JSON Web Token"),
        (unsigned("EdDSA"), "its signature is wrong"),
        ("a.b.c".to_owned(), "it is no JSON Web Token"),
        ("x".repeat(9000), "longer than 8 KiB"),
    ] {
        let status = refused(&access, &bearing(&token), None);
        assert_eq!(status.code(), Code::Unauthenticated, "{why}");
        assert!(status.message().contains(why), "{why}: {status}");
    }
    // A key is not asked for where there are none.
    assert!(refused(&access, &bearing("rvk_a"), None).message().contains("a JSON Web Token"));
}

/// Signed by another implementation: `PyJWT`.
#[tokio::test]
async fn rsa_signatures_of_others_are_understood() {
    let fixture: Value = serde_json::from_str(include_str!("../../fixtures/rsa.json")).unwrap();
    let files = Files::new();
    let file = files.write("jwks.json", &fixture["jwks"].to_string());
    let mut settings = settings(PathBuf::new(), file.to_str().unwrap());
    let access = Access::start(&settings, 64).await.unwrap().unwrap();
    access.admit(&bearing(fixture["RS256"].as_str().unwrap()), Some(Scope::Generate)).unwrap();
    // The key says that it is for RS256.
    settings.tokens.algorithms = vec!["PS256".parse().unwrap()];
    let access = Access::start(&settings, 64).await.unwrap().unwrap();
    let status = refused(&access, &bearing(fixture["PS256"].as_str().unwrap()), None);
    assert!(status.message().contains("its signature is wrong"), "{status}");
    let mut any = fixture["jwks"].clone();
    any["keys"][0].as_object_mut().unwrap().remove("alg");
    files.write("jwks.json", &any.to_string());
    let access = Access::start(&settings, 64).await.unwrap().unwrap();
    access.admit(&bearing(fixture["PS256"].as_str().unwrap()), None).unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_key_set_is_told_at_the_start() {
    let files = Files::new();
    for (content, why) in [
        ("", "no JSON Web Key Set"),
        ("{}", "no JSON Web Key Set"),
        (r#"{"keys": []}"#, "no public key"),
        // A shared secret is no public key.
        (r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}"#, "no public key"),
    ] {
        let file = files.write("jwks.json", content);
        let told = Access::start(&settings(PathBuf::new(), file.to_str().unwrap()), 64)
            .await
            .unwrap_err()
            .to_string();
        assert!(told.contains("jwks.json") && told.contains(why), "{content}: {told}");
        assert!(!told.contains("c2VjcmV0"));
    }
}

/// Whoever an issuer's server sends on to may be anybody.
#[tokio::test]
async fn keys_that_lie_elsewhere_are_not_fetched() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let signer = Signer::ed();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let body = json!({"keys": [signer.jwk("evil")]}).to_string();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&asked);
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap_or_default();
            let line =
                String::from_utf8_lossy(&request[..read]).lines().next().unwrap_or_default().to_owned();
            let is_evil = line.contains("/evil");
            seen.lock().unwrap().push(line);
            let answer = if is_evil {
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
            } else {
                "HTTP/1.1 302 Found\r\nlocation: /evil\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                    .to_owned()
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let settings = settings(PathBuf::new(), &format!("http://{address}/jwks"));
    let access = Access::start(&settings, 64).await.unwrap().unwrap();
    let begun = Instant::now();
    while asked.lock().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let token = signer.sign(&json!({"alg": "EdDSA", "kid": "evil"}), &claims(|_| ()));
    assert_eq!(refused(&access, &bearing(&token), None).code(), Code::Unavailable);
    assert!(asked.lock().unwrap().iter().all(|line| line.contains("/jwks")));
    server.abort();
}

/// A new key of the issuer is fetched when a token names it.
#[tokio::test]
async fn keys_are_fetched_from_a_url_and_again_for_a_new_one() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (first, second) = (Signer::ed(), Signer::ed());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let set = |keys: Value| std::sync::Arc::new(std::sync::Mutex::new(json!({"keys": keys}).to_string()));
    let served = set(json!([first.jwk("first")]));
    let body = std::sync::Arc::clone(&served);
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let body = body.lock().unwrap().clone();
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    let access = Access::start(&settings(PathBuf::new(), &format!("http://{address}/jwks")), 64)
        .await
        .unwrap()
        .unwrap();
    let lets_in = async |signer: &Signer, kid: &str| {
        let token = signer.sign(&json!({"alg": "EdDSA", "kid": kid}), &claims(|_| ()));
        let begun = Instant::now();
        while let Err(refusal) = access.admit(&bearing(&token), None) {
            let status = Status::from(refusal);
            assert!(matches!(status.code(), Code::Unavailable | Code::Unauthenticated), "{status}");
            assert!(begun.elapsed() < Duration::from_secs(30), "{status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    lets_in(&first, "first").await;
    *served.lock().unwrap() = json!({"keys": [first.jwk("first"), second.jwk("second")]}).to_string();
    lets_in(&second, "second").await;
    server.abort();
}
