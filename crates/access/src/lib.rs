//! Who may call the public door, and how much: API keys and JSON Web Tokens, scopes, the knowledge bases of a caller, and its limits.
//!
//! A credential comes as `authorization: Bearer CREDENTIAL`. One that begins with `rvk_` is an API key ([`keys`]), any other a JSON Web
//! Token ([`tokens`]). Either names a [`Caller`]; a call that is let in has a [`Visitor`] among its extensions.

mod accounts;
mod caller;
pub mod keys;
mod scope;
mod settings;
#[cfg(test)]
mod tests;
pub mod tokens;

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use reverie_service_kit::Refusal;
use reverie_service_kit::watched::FileError;

use accounts::Accounts;
pub use accounts::InFlight;
pub use caller::{Caller, Visitor};
pub use scope::Scope;
pub use settings::{AccessSettings, LimitSettings, TokenSettings};

/// Knows the callers of the public door.
#[derive(Debug)]
pub struct Access {
    keys: Option<keys::Keys>,
    tokens: Option<tokens::Tokens>,
    accounts: Accounts,
}

impl Access {
    /// Reads the keys that `settings` name; none if they name none, so that everyone may call. The server has `places` for calls that work.
    ///
    /// # Errors
    /// If a file cannot be read, or does not hold what it should.
    pub async fn start(settings: &AccessSettings, places: usize) -> Result<Option<Self>, FileError> {
        if !settings.is_on() {
            return Ok(None);
        }
        let keys = match &settings.keys {
            file if file.as_os_str().is_empty() => None,
            file => Some(keys::Keys::start(file).await?),
        };
        let tokens =
            if settings.tokens.is_on() { Some(tokens::Tokens::start(&settings.tokens).await?) } else { None };
        Ok(Some(Self { keys, tokens, accounts: Accounts::new(places) }))
    }

    /// Lets in a call with these headers that needs `scope`, or any scope if there is none. The call counts as in flight until the
    /// second of the two is dropped.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` without a valid credential, `PERMISSION_DENIED` without the scope, `RESOURCE_EXHAUSTED` above a limit.
    pub fn admit(&self, headers: &HeaderMap, scope: Option<Scope>) -> Result<(Visitor, InFlight), Refusal> {
        let caller = self.identify(headers).inspect_err(|_| accounts::refused("", "credential"))?;
        if let Some(scope) = scope
            && !caller.has(scope)
        {
            accounts::refused(caller.label(), "scope");
            let name = caller.name();
            return Err(Refusal::permission_denied(format!(
                "{name} may not do that: it needs the scope {scope}"
            )));
        }
        self.accounts.begin(caller)
    }

    /// The caller whose credential is in the headers.
    fn identify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let told = || {
            let kinds = match (&self.keys, &self.tokens) {
                (Some(_), Some(_)) => "an API key or a JSON Web Token",
                (None, Some(_)) => "a JSON Web Token",
                _ => "an API key",
            };
            Refusal::unauthenticated(format!("who calls needs {kinds}: authorization: Bearer CREDENTIAL"))
        };
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let (Some(value), None) = (sent.next(), sent.next()) else { return Err(told()) };
        let text = value.to_str().map_err(|_| told())?;
        let (scheme, credential) = text.split_once(' ').ok_or_else(told)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(told());
        }
        let (credential, now) = (credential.trim(), SystemTime::now());
        match (&self.keys, &self.tokens) {
            (Some(keys), _) if credential.starts_with(keys::PREFIX) => keys.find(credential, now),
            (_, Some(tokens)) if !credential.starts_with(keys::PREFIX) => tokens.check(credential),
            _ => Err(told()),
        }
    }
}
