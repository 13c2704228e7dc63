//! An OpenTelemetry collector that keeps what it is sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::Fallible;

/// One span.
#[derive(Debug, Clone)]
pub struct Span {
    /// `service.name` of the process that sent it.
    pub service: String,
    /// Its name.
    pub name: String,
    /// The trace it belongs to.
    pub trace: Vec<u8>,
    /// Its own identifier.
    pub id: Vec<u8>,
    /// The span that caused it; empty for the first of a trace.
    pub parent: Vec<u8>,
    /// `rpc.response.status_code`, of spans of calls.
    pub status: Option<String>,
    /// All attributes that are texts or whole numbers, and those of its events.
    pub attributes: BTreeMap<String, String>,
}

/// The collector; it ends with the runtime it was started in.
#[derive(Debug)]
pub struct Collector {
    endpoint: String,
    receiver: Receiver,
}

impl Collector {
    /// Starts it on a free port.
    pub async fn start() -> Fallible<Self> {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await?)
    }

    /// Starts it where `listener` listens.
    pub fn start_on(listener: TcpListener) -> Fallible<Self> {
        let endpoint = format!("http://{}", listener.local_addr()?);
        let receiver = Receiver::default();
        let server = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(receiver.clone()))
            .add_service(MetricsServiceServer::new(receiver.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Ok(Self { endpoint, receiver })
    }

    /// Where it listens, for `telemetry.otlp_endpoint`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// All spans that have come so far.
    pub fn spans(&self) -> Vec<Span> {
        self.receiver.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes all spans that have come so far away.
    pub fn take_spans(&self) -> Vec<Span> {
        std::mem::take(&mut self.receiver.spans.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The names of all metrics that have come so far.
    pub fn metrics(&self) -> BTreeSet<String> {
        self.receiver.metrics.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug, Clone, Default)]
struct Receiver {
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<BTreeSet<String>>>,
}

#[tonic::async_trait]
impl MetricsService for Receiver {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let scopes = request.into_inner().resource_metrics.into_iter().flat_map(|sent| sent.scope_metrics);
        let names = scopes.flat_map(|scope| scope.metrics).map(|metric| metric.name);
        self.metrics.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for sent in request.into_inner().resource_spans {
            let service = sent.resource.as_ref().and_then(service_name).unwrap_or_default();
            spans.extend(sent.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| {
                Span {
                    service: service.clone(),
                    name: span.name,
                    trace: span.trace_id,
                    id: span.span_id,
                    parent: span.parent_span_id,
                    status: span.attributes.iter().find_map(status),
                    attributes: span
                        .events
                        .iter()
                        .flat_map(|event| &event.attributes)
                        .chain(&span.attributes)
                        .filter_map(attribute)
                        .collect(),
                }
            }));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn status(attribute: &KeyValue) -> Option<String> {
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(code) if attribute.key == "rpc.response.status_code" => Some(code.clone()),
        _ => None,
    }
}

fn attribute(attribute: &KeyValue) -> Option<(String, String)> {
    let value = match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        _ => return None,
    };
    Some((attribute.key.clone(), value))
}

fn service_name(resource: &Resource) -> Option<String> {
    let attribute = resource.attributes.iter().find(|attribute| attribute.key == "service.name")?;
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(name) => Some(name.clone()),
        _ => None,
    }
}
