//! The admin server: probes, metrics, version and settings over plain HTTP/1.1, on a port of its own. It starts before the models
//! load, and one process has one, however many services run in it.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::task::AbortOnDropHandle;

use crate::connections::{Trouble, accept_tcp};
use crate::listener::{ListenAddress, ListenAddressError};
use crate::readiness;
use crate::settings::SettingsError;
use crate::telemetry::metrics;

/// Connections open at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take to send a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may stay open.
const CONNECTION_TIMEOUT: Duration = Duration::from_mins(5);
/// The least buffer that hyper allows: no request here is long.
const MAX_HEADER_BYTES: usize = 8192;
const TEXT: &str = "text/plain; charset=utf-8";

/// The `[admin]` table of every service's settings.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminSettings {
    /// Address and port, such as `0.0.0.0:9090`, or a host name and a port; empty for no admin server.
    pub listen: String,
}

/// A running admin server; it ends when this is dropped.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    _server: AbortOnDropHandle<()>,
}

impl Admin {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What the pages need.
struct Pages {
    service: &'static str,
    settings: Option<String>,
}

/// Starts the admin server of this process, if the settings name an address. `/readyz` tells of `service`; `/settings` shows
/// `effective`, the settings as TOML.
///
/// # Errors
/// That the address cannot be bound, naming the setting.
pub async fn start(
    service: &'static str,
    settings: &AdminSettings,
    effective: Option<String>,
) -> Result<Option<Admin>, SettingsError> {
    if settings.listen.is_empty() {
        return Ok(None);
    }
    let listen: ListenAddress = settings
        .listen
        .parse()
        .map_err(|error: ListenAddressError| SettingsError::value("admin.listen", error.to_string()))?;
    let wrong = |error: io::Error| {
        SettingsError::value("admin.listen", format!("cannot listen on {listen}: {error}"))
    };
    let listeners = listen.bind().await.map_err(wrong)?;
    // All have the same port.
    let first = listeners.first().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable));
    let address = first.and_then(TcpListener::local_addr).map_err(wrong)?;
    tracing::info!(%address, "admin server listening");
    let pages = Arc::new(Pages { service, settings: effective });
    let server = AbortOnDropHandle::new(tokio::spawn(accept(listeners, pages)));
    Ok(Some(Admin { address, _server: server }))
}

async fn accept(listeners: Vec<TcpListener>, pages: Arc<Pages>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut trouble = Trouble::default();
    // Connections end with the server.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        // Never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = accept_tcp(&listeners, &mut trouble).await;
        while connections.try_join_next().is_some() {}
        let pages = Arc::clone(&pages);
        connections.spawn(async move {
            let _place = place;
            let answer = service_fn(move |request: Request<Incoming>| {
                let page = pages.answer(request.method(), request.uri().path());
                std::future::ready(Ok::<_, Infallible>(page))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .max_buf_size(MAX_HEADER_BYTES)
                .serve_connection(TokioIo::new(stream), answer);
            // A client that breaks off or is slow has only itself to answer for.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
        });
    }
}

impl Pages {
    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        if method != Method::GET {
            let mut response = page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET only\n".to_owned());
            response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET"));
            return response;
        }
        match path {
            "/livez" => page(StatusCode::OK, TEXT, "alive\n".to_owned()),
            "/readyz" => match readiness::of(self.service) {
                Ok(()) => page(StatusCode::OK, TEXT, "ready\n".to_owned()),
                Err(why) => page(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
            },
            "/metrics" => match metrics::text() {
                Ok(text) => page(StatusCode::OK, prometheus::TEXT_FORMAT, text),
                Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
            },
            "/version" => page(StatusCode::OK, "application/json", self.version()),
            "/settings" => match &self.settings {
                Some(settings) => page(StatusCode::OK, "application/toml", settings.clone()),
                None => {
                    page(StatusCode::NOT_FOUND, TEXT, "a mesh in one process shows no settings\n".to_owned())
                }
            },
            _ => {
                let known = "there are /livez, /readyz, /metrics, /version and /settings\n";
                page(StatusCode::NOT_FOUND, TEXT, known.to_owned())
            }
        }
    }

    /// As JSON; nothing in it needs escaping.
    fn version(&self) -> String {
        let (name, version) = (self.service, env!("CARGO_PKG_VERSION"));
        let commit = &*metrics::COMMIT;
        format!("{{\"name\":\"reverie-{name}\",\"version\":\"{version}\",\"commit\":\"{commit}\"}}\n")
    }
}

fn page(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests;
