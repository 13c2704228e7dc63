//! grpc-web: calls of pages in browsers, which know neither HTTP/2 trailers nor, without TLS, HTTP/2.

use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::{self, BoxFuture, FutureExt as _};
use http::header::ORIGIN;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;
use tonic::Status;
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use crate::Refusal;
use crate::settings::SettingsError;

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
    pub(crate) fn layers(&self) -> Option<(CorsLayer, OriginLayer, GrpcWebLayer)> {
        self.is_on()
            .then(|| (self.cors(), OriginLayer { allowed: self.origins.clone() }, GrpcWebLayer::new()))
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

fn is_origin(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority());
    let whole = authority.map(|authority| format!("{scheme}://{authority}"));
    matches!(scheme, "http" | "https") && whole.as_deref() == Some(text) && !text.contains('@')
}

/// Refuses pages of other origins, whatever their browsers make of the answer's headers (DNS rebinding).
#[derive(Debug, Clone)]
pub(crate) struct OriginLayer {
    allowed: Vec<String>,
}

impl<S> Layer<S> for OriginLayer {
    type Service = OriginService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        OriginService { inner, allowed: self.allowed.clone() }
    }
}

/// See [`OriginLayer`].
#[derive(Debug, Clone)]
pub(crate) struct OriginService<S> {
    inner: S,
    allowed: Vec<String>,
}

impl<S, B> Service<http::Request<B>> for OriginService<S>
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
        let origin = request.headers().get(ORIGIN);
        let is_allowed = |origin: &HeaderValue| {
            self.allowed.iter().any(|allowed| allowed == ALL || allowed.as_bytes() == origin.as_bytes())
        };
        match origin.filter(|origin| !is_allowed(origin)) {
            None => self.inner.call(request).boxed(),
            Some(origin) => {
                let why = format!(
                    "pages of {} may not call (server.web.origins)",
                    String::from_utf8_lossy(origin.as_bytes())
                );
                let mut response: http::Response<Body> =
                    Status::from(Refusal::permission_denied(why)).into_http();
                *response.status_mut() = StatusCode::FORBIDDEN;
                future::ready(Ok(response)).boxed()
            }
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
