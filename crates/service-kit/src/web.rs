//! grpc-web: calls of pages in browsers, which know neither HTTP/2 trailers nor, without TLS, HTTP/2.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{self, BoxFuture, FutureExt as _};
use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::Refusal;
use crate::settings::SettingsError;
use crate::transport::MAX_HEADER_LIST_BYTES;

/// For so long a browser need not ask again whether it may call.
const PREFLIGHT_AGE: Duration = Duration::from_hours(1);
/// Every page, wherever it is from.
const ALL: &str = "*";
/// Of an answer without a message, whose status is in the headers.
const EXPOSED: [HeaderName; 3] = [
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// The `[server.web]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebSettings {
    /// Origins of the pages that may call; `*` for all. Without any there is no grpc-web.
    pub origins: Vec<String>,
}

impl WebSettings {
    /// Whether grpc-web is spoken.
    pub(crate) fn is_on(&self) -> bool {
        !self.origins.is_empty()
    }

    /// Refuses what is no origin: a page of `https://example.com/draw` has the origin `https://example.com`.
    pub(crate) fn validate(&self) -> Result<(), SettingsError> {
        match self.origins.iter().find(|origin| *origin != ALL && !is_origin(origin)) {
            Some(wrong) => {
                let why = format!(
                    "must be like https://example.com or http://localhost:8080, or * (got {wrong:?})"
                );
                Err(SettingsError::value("server.web.origins", why))
            }
            None => Ok(()),
        }
    }

    /// What makes calls of pages into calls of gRPC, where it is on.
    pub(crate) fn layers(&self) -> Option<(CorsLayer, PageLayer, GrpcWebLayer)> {
        self.is_on().then(|| {
            (self.cors(), PageLayer { allowed: self.origins.as_slice().into() }, GrpcWebLayer::new())
        })
    }

    fn cors(&self) -> CorsLayer {
        let origins = if self.origins.iter().any(|origin| origin == ALL) {
            AllowOrigin::any()
        } else {
            AllowOrigin::list(self.origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
        };
        // Credentials are headers that a page sets itself, never cookies.
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods([Method::POST])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(EXPOSED)
            .max_age(PREFLIGHT_AGE)
    }
}

/// Whether it is written as browsers send it: in lower case, without the port that the scheme has anyway.
fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return false };
    let usual_port = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return false,
    };
    format!("{scheme}://{authority}") == text
        && authority.port_u16() != Some(usual_port)
        && !text.bytes().any(|byte| byte.is_ascii_uppercase() || matches!(byte, b'@' | b'*'))
}

/// Refuses pages of other origins, whatever their browsers make of the answer's headers (DNS rebinding), and headers that HTTP/2 would not
/// take: HTTP/1.1 takes 400 KiB.
#[derive(Debug, Clone)]
pub(crate) struct PageLayer {
    allowed: Arc<[String]>,
}

impl<S> Layer<S> for PageLayer {
    type Service = PageService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        PageService { inner, allowed: Arc::clone(&self.allowed) }
    }
}

/// See [`PageLayer`].
#[derive(Debug, Clone)]
pub(crate) struct PageService<S> {
    inner: S,
    allowed: Arc<[String]>,
}

impl<S> PageService<S> {
    fn check(&self, headers: &HeaderMap) -> Result<(), (StatusCode, Refusal)> {
        // As HTTP/2 counts them (RFC 9113, section 6.5.2).
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
        if bytes > MAX_HEADER_LIST_BYTES as usize {
            let why = format!("headers must have at most {MAX_HEADER_LIST_BYTES} bytes (got {bytes})");
            return Err((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Refusal::too_large(why)));
        }
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        if self.allowed.iter().any(|allowed| allowed == ALL || allowed.as_bytes() == origin.as_bytes()) {
            return Ok(());
        }
        let origin = String::from_utf8_lossy(origin.as_bytes());
        tracing::debug!(%origin, "a page of another origin is refused");
        let why = format!("pages of {origin} may not call (server.web.origins)");
        Err((StatusCode::FORBIDDEN, Refusal::permission_denied(why)))
    }
}

impl<S, B> Service<http::Request<B>> for PageService<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Response: 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match self.check(request.headers()) {
            Ok(()) => self.inner.call(request).boxed(),
            Err((http_status, refusal)) => future::ready(Ok(refusal.into_http(http_status))).boxed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_a_scheme_and_a_host_and_nothing_after_them() {
        for right in ["https://example.com", "http://localhost:8080", "http://[::1]:3000", "*"] {
            WebSettings { origins: vec![right.to_owned()] }.validate().unwrap();
        }
        for wrong in [
            "example.com",
            "https://example.com/",
            "https://example.com/draw",
            "ftp://example.com",
            "https://",
            "https://*.example.com",
            "https://App.example.com",
            "https://example.com:443",
            "http://example.com:80",
            "https://me@example.com",
            "",
        ] {
            let settings = WebSettings { origins: vec!["*".to_owned(), wrong.to_owned()] };
            let told = settings.validate().unwrap_err().to_string();
            assert!(
                told.contains("server.web.origins") && told.contains(&format!("(got {wrong:?})")),
                "{told}"
            );
        }
    }
}
