//! The settings of access.

use std::path::PathBuf;

use jsonwebtoken::Algorithm;
use reverie_service_kit::Address;
use reverie_service_kit::settings::SettingsError;
use serde::Deserialize;

/// The longest leeway, seconds.
const MAX_LEEWAY: u64 = 600;

/// The `[access]` table. Without keys and tokens everyone may call.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessSettings {
    /// The file of API keys; an empty path for none.
    pub keys: PathBuf,
    /// JSON Web Tokens.
    pub tokens: TokenSettings,
}

/// The `[access.tokens]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// The keys that tokens are signed with: a file or URL of a JSON Web Key Set; "" to take no tokens.
    pub jwks: String,
    /// Who must have issued them (`iss`).
    pub issuer: String,
    /// Whom they must be for (`aud`).
    pub audience: String,
    /// The algorithms that are taken, all of them asymmetric.
    pub algorithms: Vec<Algorithm>,
    /// Seconds by which clocks may differ.
    pub leeway_seconds: u64,
    /// The limits of each subject.
    pub limits: LimitSettings,
}

/// What one caller may use; 0 for no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Calls at a time, each image of a call counted; 0 for half of the server's places.
    pub in_flight: u32,
    /// Calls in a minute.
    pub requests_per_minute: u32,
    /// Millions of pixels drawn in a minute.
    pub megapixels_per_minute: u32,
    /// Seconds that models work for it in a minute, as predicted before.
    pub model_seconds_per_minute: u32,
}

impl AccessSettings {
    /// Whether callers have to say who they are.
    pub fn is_on(&self) -> bool {
        !self.keys.as_os_str().is_empty() || self.tokens.is_on()
    }

    /// Says which key is wrong and why, if one is.
    ///
    /// # Errors
    /// That one.
    pub fn validate(&self) -> Result<(), SettingsError> {
        let TokenSettings { jwks, issuer, audience, algorithms, leeway_seconds, .. } = &self.tokens;
        let wrong = |key: &str, why: String| Err(SettingsError::value(format!("access.tokens.{key}"), why));
        if *leeway_seconds > MAX_LEEWAY {
            return wrong("leeway_seconds", format!("must be at most {MAX_LEEWAY} (got {leeway_seconds})"));
        }
        if let Some(algorithm) = algorithms.iter().find(|algorithm| !is_asymmetric(**algorithm)) {
            let why = format!("{algorithm:?} is not taken: whoever can check such a token can make one");
            return wrong("algorithms", why);
        }
        if !self.tokens.is_on() {
            return Ok(());
        }
        if !is_file_or_safe_url(jwks) {
            return wrong("jwks", format!("must be a file or an https:// URL (got {jwks:?})"));
        }
        if issuer.is_empty() {
            return wrong(
                "issuer",
                "must be the issuer's name (iss): another's tokens would be taken".to_owned(),
            );
        }
        if audience.is_empty() {
            return wrong(
                "audience",
                "must be this mesh's name (aud): tokens for others would be taken".to_owned(),
            );
        }
        if algorithms.is_empty() {
            return wrong("algorithms", "must name one at least, such as \"EdDSA\"".to_owned());
        }
        Ok(())
    }
}

impl TokenSettings {
    pub(crate) fn is_on(&self) -> bool {
        !self.jwks.is_empty()
    }
}

fn is_asymmetric(algorithm: Algorithm) -> bool {
    !matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512)
}

/// Whoever can change what comes by http:// can make tokens; this machine may speak to itself.
fn is_file_or_safe_url(jwks: &str) -> bool {
    !jwks.contains("://")
        || jwks.parse::<Address>().is_ok_and(|address| address.is_secure() || address.is_local())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tokens: &str) -> AccessSettings {
        let all = "jwks = 'keys.json'\nissuer = 'https://id.example'\naudience = 'reverie'\nalgorithms = ['EdDSA']\nleeway_seconds = 30\n[tokens.limits]";
        let mut table: toml::Table = toml::from_str(&format!("keys = ''\n[tokens]\n{all}")).unwrap();
        let change: toml::Table = toml::from_str(tokens).unwrap();
        table["tokens"].as_table_mut().unwrap().extend(change);
        table.try_into().unwrap()
    }

    #[test]
    fn what_would_take_foreign_tokens_is_refused() {
        assert!(read("").validate().is_ok());
        for fine in [
            "jwks = 'https://id.example/keys'",
            "jwks = 'http://127.0.0.1:80/keys'",
            "algorithms = ['RS256', 'ES256']",
        ] {
            assert!(read(fine).validate().is_ok(), "{fine}");
        }
        for wrong in [
            "issuer = ''",
            "audience = ''",
            "algorithms = []",
            "algorithms = ['EdDSA', 'HS256']",
            "jwks = 'http://id.example/keys'",
            "jwks = 'http://127.0.0.1.example/keys'",
            "jwks = 'http://127.0.0.1:80@id.example/keys'",
            "jwks = 'ftp://id.example/keys'",
            "leeway_seconds = 601",
        ] {
            let key = wrong.split(' ').next().unwrap();
            let refused = read(wrong).validate().unwrap_err().to_string();
            assert!(refused.contains(&format!("access.tokens.{key}")), "{wrong}: {refused}");
        }
    }
}
