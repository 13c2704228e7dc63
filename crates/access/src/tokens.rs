//! JSON Web Tokens (RFC 7519), signed with keys of a JSON Web Key Set (RFC 7517): a file, or a URL that is asked every few minutes.
//!
//! Claims that count: `sub` names the caller; `iss`, `aud`, `exp` and `nbf` are checked; `scope` has the scopes, with spaces between
//! them (RFC 8693, section 4.2); `knowledge_bases` is a list of those that the caller sees, all of them if it is not there.

mod fetch;
mod provider;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyOperations, PublicKeyUse};
use jsonwebtoken::{DecodingKey, Validation};
use reverie_service_kit::Refusal;
use reverie_service_kit::watched::{Build, FileError, Watched};
use serde::Deserialize;

use crate::{Caller, LimitSettings, TokenSettings};
use fetch::Fetched;

/// The longest token, bytes. The headers of a call have 16 KiB at most.
const MAX_TOKEN: usize = 8 << 10;
/// The longest subject, bytes.
const MAX_SUBJECT: usize = 200;

/// Checks tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    source: Source,
    validation: Validation,
    limits: LimitSettings,
}

/// Where the keys come from.
#[derive(Debug)]
enum Source {
    File(Watched<JwkSet>),
    Url(Fetched),
}

#[derive(Debug, Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    scope: String,
    knowledge_bases: Option<Vec<String>>,
}

impl Tokens {
    pub(crate) async fn start(settings: &TokenSettings) -> Result<Self, FileError> {
        provider::install();
        let source = if settings.jwks.contains("://") {
            Source::Url(Fetched::start(settings.jwks.clone()))
        } else {
            Source::File(Watched::start(File(settings.jwks.clone().into())).await?)
        };
        // The list of algorithms is the operator's, never the token's.
        let mut validation = Validation::new(settings.algorithms.first().copied().unwrap_or_default());
        validation.algorithms.clone_from(&settings.algorithms);
        validation.leeway = settings.leeway_seconds;
        validation.validate_nbf = true;
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Ok(Self { source, validation, limits: settings.limits })
    }

    /// The caller whose token this is.
    pub(crate) fn check(&self, token: &str) -> Result<Arc<Caller>, Refusal> {
        let refused = |why: &str| Refusal::unauthenticated(format!("the token is refused: {why}"));
        if token.len() > MAX_TOKEN {
            return Err(refused("it is longer than 8 KiB"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| refused("it is no JSON Web Token"))?;
        if !self.validation.algorithms.contains(&header.alg) {
            return Err(refused("its algorithm is not taken"));
        }
        // What a token says is critical has to be understood (RFC 7515, section 4.1.11), and tokens of other kinds are no credentials
        // (RFC 8725, section 3.11).
        let is_ours = |kind: &String| ["jwt", "at+jwt"].iter().any(|ours| kind.eq_ignore_ascii_case(ours));
        if header.crit.is_some() || !header.typ.as_ref().is_none_or(is_ours) {
            return Err(refused("it is of another kind"));
        }
        let keys = match &self.source {
            Source::File(watched) => watched.current(),
            Source::Url(fetched) => fetched.current().ok_or_else(|| {
                Refusal::unavailable("the keys that tokens are signed with could not be fetched yet")
            })?,
        };
        let fitting = |key: &&Jwk| header.kid.is_none() || key.common.key_id == header.kid;
        let mut candidates = keys.keys.iter().filter(fitting).peekable();
        if candidates.peek().is_none() {
            if let Source::Url(fetched) = &self.source {
                fetched.look_again();
            }
            return Err(refused("it is signed with a key that is not known"));
        }
        // Those that are not for this algorithm cannot check it.
        let mut validation = self.validation.clone();
        validation.algorithms = vec![header.alg];
        for key in candidates {
            let names = key.common.key_algorithm.map(|named| named.to_string());
            if names.is_some_and(|named| named != format!("{:?}", header.alg)) {
                continue;
            }
            let Ok(key) = DecodingKey::from_jwk(key) else { continue };
            match jsonwebtoken::decode::<Claims>(token, &key, &validation) {
                Ok(decoded) => return self.caller(decoded.claims).map_err(refused),
                Err(error) => {
                    // Without one, another key may be that of the signature.
                    if let Some(why) = claim_at_fault(error.kind()) {
                        return Err(refused(why));
                    }
                }
            }
        }
        Err(refused("its signature is wrong"))
    }

    fn caller(&self, claims: Claims) -> Result<Arc<Caller>, &'static str> {
        let Claims { sub, scope, knowledge_bases } = claims;
        if sub.is_empty() || sub.len() > MAX_SUBJECT || sub.chars().any(char::is_control) {
            return Err("its subject must have 1 to 200 bytes and no control characters");
        }
        // Those of others may stand beside ours.
        let scopes: BTreeSet<_> = scope.split_whitespace().filter_map(|scope| scope.parse().ok()).collect();
        let (is_batch, limits) = (false, self.limits);
        // A subject is not the holder of the API key of the same name.
        let name = format!("{sub} (token)");
        Ok(Arc::new(Caller { name, scopes, knowledge_bases, is_batch, limits, is_listed: false }))
    }
}

struct File(PathBuf);

impl Build for File {
    type Built = JwkSet;

    fn files(&self) -> Vec<PathBuf> {
        vec![self.0.clone()]
    }

    fn build(&self, contents: &[Vec<u8>]) -> Result<JwkSet, FileError> {
        read(&contents[0]).map_err(|why| FileError::content(&self.0, why))
    }
}

/// What is wrong with a token whose signature is right; none if the signature is not.
fn claim_at_fault(kind: &ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm | ErrorKind::InvalidKeyFormat => None,
        ErrorKind::ExpiredSignature => Some("it has expired"),
        ErrorKind::ImmatureSignature => Some("it is not valid yet"),
        ErrorKind::InvalidIssuer => Some("it is from another issuer"),
        ErrorKind::InvalidAudience => Some("it is for another audience"),
        ErrorKind::MissingRequiredClaim(_) => Some("it needs exp, iss, aud and sub"),
        _ => Some("its claims cannot be read"),
    }
}

/// The keys of a set that sign; one at least. Keys of kinds that are not known are passed over (RFC 7517, section 5).
fn read(json: &[u8]) -> Result<JwkSet, String> {
    #[derive(Deserialize)]
    struct Any {
        keys: Vec<serde_json::Value>,
    }
    let any: Any =
        serde_json::from_slice(json).map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
    let known = any.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    let signs = |key: &Jwk| {
        let for_signatures = matches!(key.common.public_key_use, None | Some(PublicKeyUse::Signature));
        let may_verify = key
            .common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        let is_public = !matches!(key.algorithm, jsonwebtoken::jwk::AlgorithmParameters::OctetKey(_));
        for_signatures && may_verify && is_public
    };
    let keys: Vec<_> = known.filter(signs).collect();
    if keys.is_empty() {
        Err("there is no public key for signatures in it".to_owned())
    } else {
        Ok(JwkSet { keys })
    }
}

/// What was fetched last.
type Current = Arc<Mutex<Option<Arc<JwkSet>>>>;

fn lock(current: &Current) -> std::sync::MutexGuard<'_, Option<Arc<JwkSet>>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}
