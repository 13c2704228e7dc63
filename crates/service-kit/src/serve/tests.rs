//! A service over TCP and its callers: who is let in, and how it ends.

use std::sync::Arc;

use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_proto::vector::v1::vector_service_server::{VectorService, VectorServiceServer};
use reverie_proto::vector::v1::{
    BatchSearchRequest, BatchSearchResponse, CompareRequest, CompareResponse, ListCollectionsRequest,
    ListCollectionsResponse, MeasureRecallRequest, MeasureRecallResponse, PrepareRequest, PrepareResponse,
    SearchRequest, SearchResponse,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Health;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::*;
use crate::client::{Channel, Upstream};
use crate::{Address, Permit, Refusal};

/// How long anything may take that should come at once.
const SOON: Duration = Duration::from_secs(20);

/// Searches wait for a turn; the collection "panic" panics.
struct Slow {
    turns: Arc<Semaphore>,
    begun: Arc<Semaphore>,
}

#[tonic::async_trait]
impl VectorService for Slow {
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let _permit = Permit::of(&request);
        assert_ne!(request.get_ref().collection, "panic", "as asked for");
        self.begun.add_permits(1);
        self.turns.acquire().await.map_err(|error| Status::from(Refusal::internal(error)))?.forget();
        Ok(Response::new(SearchResponse::default()))
    }

    async fn compare(&self, _: Request<CompareRequest>) -> Result<Response<CompareResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn batch_search(
        &self,
        _: Request<BatchSearchRequest>,
    ) -> Result<Response<BatchSearchResponse>, Status> {
        Ok(Response::new(BatchSearchResponse::default()))
    }

    async fn measure_recall(
        &self,
        _: Request<MeasureRecallRequest>,
    ) -> Result<Response<MeasureRecallResponse>, Status> {
        Ok(Response::new(MeasureRecallResponse::default()))
    }

    async fn prepare(&self, _: Request<PrepareRequest>) -> Result<Response<PrepareResponse>, Status> {
        Ok(Response::new(PrepareResponse::default()))
    }

    async fn list_collections(
        &self,
        _: Request<ListCollectionsRequest>,
    ) -> Result<Response<ListCollectionsResponse>, Status> {
        Ok(Response::new(ListCollectionsResponse::default()))
    }
}

pub(crate) fn settings() -> ServerSettings {
    ServerSettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        max_connections: 16,
        max_concurrent_streams: 128,
        handshake_seconds: 3600,
        receive_seconds: 3600,
        send_seconds: 3600,
        max_buffered_mib: 1,
        max_connection_age_seconds: 0,
        max_connection_age_grace_seconds: 0,
        lame_duck_seconds: 0,
        drain_seconds: 3600,
        tls: ServerTlsSettings::default(),
        web: WebSettings::default(),
    }
}

struct Running {
    address: String,
    turns: Arc<Semaphore>,
    begun: Arc<Semaphore>,
    shutdown: Shutdown,
    unfit: Shutdown,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    async fn start(standing: Standing, settings: ServerSettings) -> Self {
        let listener = Listener::bind(&settings.listen).await.unwrap();
        let address = listener.describe();
        let (turns, begun) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (shutdown, unfit) = (Shutdown::new(), Shutdown::new());
        let mut server = Server::new("slow", &[], standing, &settings, 2).await;
        let slow = Slow { turns: Arc::clone(&turns), begun: Arc::clone(&begun) };
        server.routes().add_service(VectorServiceServer::new(slow).max_decoding_message_size(8 << 20));
        let is_unfit = unfit.clone();
        let check = move || {
            let is_unfit = is_unfit.is_cancelled();
            async move { if is_unfit { Err(Unfit::ForGood("its worker died".to_owned())) } else { Ok(()) } }
        };
        let task = tokio::spawn(server.serve(listener, shutdown.clone(), check));
        Self { address, turns, begun, shutdown, unfit, task }
    }

    fn channel(&self) -> Channel {
        let address: Address = format!("http://{}", self.address).parse().unwrap();
        Upstream::new("slow", &address).channel()
    }

    fn client(&self) -> VectorServiceClient<Channel> {
        VectorServiceClient::new(self.channel())
    }

    /// A search that has begun and waits for its turn.
    async fn searching(&self) -> JoinHandle<Result<Response<SearchResponse>, Status>> {
        let mut client = self.client();
        let search = tokio::spawn(async move { client.search(SearchRequest::default()).await });
        self.begun.acquire().await.unwrap().forget();
        search
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(&self.address).await.unwrap()
    }

    async fn ended(self) -> Result<(), RunError> {
        tokio::time::timeout(SOON, self.task).await.expect("it runs on").unwrap()
    }
}

/// Waits until the other end closes the connection.
async fn closed(stream: &mut TcpStream) {
    let mut bytes = Vec::new();
    // An error is an end too.
    let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("it stays open");
}

fn big(bytes: usize) -> SearchRequest {
    SearchRequest { vector: vec![0.5; bytes / 4], ..SearchRequest::default() }
}

#[test]
fn times_that_no_clock_reaches_are_refused() {
    assert!(ServerSettings { drain_seconds: 86_400, ..settings() }.validate().is_ok());
    let forever = 1_000_000_000_000_000_000;
    for (key, wrong) in [
        ("drain_seconds", ServerSettings { drain_seconds: forever, ..settings() }),
        ("receive_seconds", ServerSettings { receive_seconds: forever, ..settings() }),
        ("handshake_seconds", ServerSettings { handshake_seconds: 86_401, ..settings() }),
    ] {
        let refusal = wrong.validate().unwrap_err().to_string();
        assert!(refusal.contains(key) && refusal.contains("at most 86400"), "{refusal}");
    }
}

#[tokio::test]
async fn a_call_too_many_is_refused_before_its_message() {
    let running = Running::start(Standing::Stage, settings()).await;
    let searches = [running.searching().await, running.searching().await];
    // More than the service takes in a message, or has memory for: neither is looked at.
    let refused = running.client().search(big(64 << 20)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("all 2 places"), "{refused}");
    assert!(refused.get_details_retry_info().is_some());
    running.client().list_collections(ListCollectionsRequest {}).await.unwrap();
    running.turns.add_permits(2);
    for search in searches {
        search.await.unwrap().unwrap();
    }
    running.turns.add_permits(1);
    running.client().search(SearchRequest::default()).await.unwrap();
}

#[tokio::test]
async fn messages_have_so_much_memory_together() {
    let running = Running::start(Standing::Stage, settings()).await;
    running.turns.add_permits(9);
    running.client().search(big(900 << 10)).await.unwrap();
    let refused = running.client().search(big(1100 << 10)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("1 MiB"), "{refused}");
    assert!(refused.get_details_retry_info().is_some());
    // What was refused gave back what it had taken.
    running.client().search(big(900 << 10)).await.unwrap();
}

#[tokio::test]
async fn a_message_that_does_not_come_gives_its_place_back() {
    let running = Running::start(Standing::Stage, ServerSettings { receive_seconds: 1, ..settings() }).await;
    let mut client = tonic::client::Grpc::new(running.channel());
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<SearchRequest, SearchResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/reverie.vector.v1.VectorService/Search");
    let never = Request::new(futures::stream::pending());
    let late = client.client_streaming(never, path, codec).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late}");
    assert!(late.message().contains("within 1 s"), "{late}");
}

/// A frame of HTTP/2 (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Two calls whose caller has no room for an answer, not even for its first byte.
async fn call_and_do_not_read(running: &Running) -> TcpStream {
    let (data, headers, settings) = (0, 1, 4);
    let field = |(name, value): (&str, &str)| {
        [&[0, name.len() as u8], name.as_bytes(), &[value.len() as u8], value.as_bytes()].concat()
    };
    let path = "/reverie.vector.v1.VectorService/Search";
    let fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")];
    let fields: Vec<u8> = fields
        .into_iter()
        .chain([("content-type", "application/grpc"), ("te", "trailers")])
        .flat_map(field)
        .collect();
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let no_window = frame(settings, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &no_window[..]].concat();
    for stream in [1, 3] {
        bytes.extend(frame(headers, 4, stream, &fields));
        bytes.extend(frame(data, 1, stream, &[0; 5]));
    }
    let mut connection = running.connect().await;
    connection.write_all(&bytes).await.unwrap();
    connection
}

#[tokio::test]
async fn a_caller_that_does_not_read_gives_its_places_back() {
    let running = Running::start(Standing::Stage, ServerSettings { send_seconds: 1, ..settings() }).await;
    let _connection = call_and_do_not_read(&running).await;
    running.begun.acquire_many(2).await.unwrap().forget();
    running.turns.add_permits(3);
    let refused = running.client().search(SearchRequest::default()).await.unwrap_err();
    assert!(refused.message().contains("all 2 places"), "{refused}");
    let taken = async {
        while running.client().search(SearchRequest::default()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, taken).await.expect("the places are held");
}

#[tokio::test]
async fn a_call_that_waits_for_its_answer_is_not_given_up() {
    let running = Running::start(Standing::Stage, ServerSettings { send_seconds: 1, ..settings() }).await;
    let search = running.searching().await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    running.turns.add_permits(1);
    search.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_panic_is_an_internal_error_and_the_service_goes_on() {
    let running = Running::start(Standing::Stage, settings()).await;
    let request = SearchRequest { collection: "panic".to_owned(), ..SearchRequest::default() };
    let status = running.client().search(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status}");
    running.turns.add_permits(1);
    running.client().search(SearchRequest::default()).await.unwrap();
}

#[tokio::test]
async fn connections_are_limited_and_have_to_speak() {
    let limits = ServerSettings { max_connections: 2, handshake_seconds: 1, ..settings() };
    let running = Running::start(Standing::Stage, limits).await;
    let mut idle = [running.connect().await, running.connect().await];
    let mut third = running.connect().await;
    closed(&mut third).await;
    // The idle ones are closed in time, and their places taken again.
    for idle in &mut idle {
        closed(idle).await;
    }
    running.client().list_collections(ListCollectionsRequest {}).await.unwrap();
}

#[tokio::test]
async fn the_door_takes_nothing_new_and_finishes_what_it_has() {
    let running = Running::start(Standing::Door, settings()).await;
    let search = running.searching().await;
    let mut client = running.client();
    client.list_collections(ListCollectionsRequest {}).await.unwrap();
    running.shutdown.cancel();
    while client.list_collections(ListCollectionsRequest {}).await.is_ok() {}
    let refused = client.list_collections(ListCollectionsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    running.turns.add_permits(1);
    search.await.unwrap().unwrap();
    running.ended().await.unwrap();
}

#[tokio::test]
async fn a_stage_serves_until_its_callers_are_gone() {
    let running = Running::start(Standing::Stage, settings()).await;
    let (mut early, mut other) = (running.client(), running.client());
    early.list_collections(ListCollectionsRequest {}).await.unwrap();
    // One that has only asked for its health, as services do of those that they call.
    let address: Address = format!("http://{}", running.address).parse().unwrap();
    let stage = Upstream::new("slow", &address);
    while stage.check_health(SOON).await.is_err() {}
    running.shutdown.cancel();
    while stage.check_health(SOON).await.is_ok() {}
    // New calls, on new connections too.
    early.list_collections(ListCollectionsRequest {}).await.unwrap();
    other.list_collections(ListCollectionsRequest {}).await.unwrap();
    drop((early, other));
    let mut last = VectorServiceClient::new(stage.channel());
    last.list_collections(ListCollectionsRequest {}).await.unwrap();
    drop((last, stage));
    running.ended().await.unwrap();
}

#[tokio::test]
async fn idle_connections_and_watches_keep_nobody_waiting() {
    for standing in [Standing::Door, Standing::Stage] {
        let running = Running::start(standing, settings()).await;
        let mut silent = running.connect().await;
        let mut spoke = running.connect().await;
        spoke.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        let mut health = HealthClient::new(running.channel());
        let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        watch.message().await.unwrap();
        running.shutdown.cancel();
        running.ended().await.unwrap();
        closed(&mut silent).await;
        closed(&mut spoke).await;
    }
}

#[tokio::test]
async fn what_is_not_done_in_time_is_told_so() {
    for standing in [Standing::Door, Standing::Stage] {
        let running = Running::start(standing, ServerSettings { drain_seconds: 1, ..settings() }).await;
        let search = running.searching().await;
        let begun = Instant::now();
        running.shutdown.cancel();
        let status = search.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        assert!(status.message().contains("drain time"), "{status}");
        assert!(status.get_details_retry_info().is_some());
        running.ended().await.unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_service_that_cannot_go_on_finishes_what_it_has_and_fails() {
    let running = Running::start(Standing::Stage, settings()).await;
    let search = running.searching().await;
    let mut caller = running.client();
    caller.list_collections(ListCollectionsRequest {}).await.unwrap();
    running.unfit.cancel();
    while caller.list_collections(ListCollectionsRequest {}).await.is_ok() {}
    running.turns.add_permits(1);
    search.await.unwrap().unwrap();
    let error = running.ended().await.unwrap_err();
    assert!(error.to_string().contains("its worker died"), "{error}");
}

#[tokio::test]
async fn a_lame_duck_says_that_it_ends_and_takes_calls() {
    for standing in [Standing::Door, Standing::Stage] {
        let lame_duck = Duration::from_secs(3);
        let settings = ServerSettings { lame_duck_seconds: lame_duck.as_secs(), ..settings() };
        let running = Running::start(standing, settings).await;
        let mut watch = HealthClient::new(running.channel())
            .watch(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner();
        while watch.message().await.unwrap().unwrap().status() != Health::Serving {}
        let begun = Instant::now();
        running.shutdown.cancel();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), Health::NotServing);
        // On a connection of its own.
        running.client().list_collections(ListCollectionsRequest {}).await.unwrap();
        assert!(begun.elapsed() < lame_duck, "too slow to tell");
        let address = running.address.clone();
        running.ended().await.unwrap();
        assert!(begun.elapsed() >= lame_duck);
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn a_caller_that_stays_leaves_its_calls_the_rest_of_the_drain_time() {
    let running = Running::start(Standing::Stage, ServerSettings { drain_seconds: 8, ..settings() }).await;
    let search = running.searching().await;
    running.shutdown.cancel();
    // It takes connections until GOAWAY.
    let begun = Instant::now();
    while TcpStream::connect(&running.address).await.is_ok() {}
    assert!(begun.elapsed() >= Duration::from_secs(6), "{:?}", begun.elapsed());
    running.turns.add_permits(1);
    search.await.unwrap().unwrap();
    running.ended().await.unwrap();
}

#[tokio::test]
async fn an_old_connection_ends_and_its_calls_do_not() {
    let ages =
        ServerSettings { max_connection_age_seconds: 1, max_connection_age_grace_seconds: 1, ..settings() };
    let running = Running::start(Standing::Stage, ages).await;
    let begun = Instant::now();
    let search = running.searching().await;
    let calls = async {
        let mut client = running.client();
        loop {
            // A request that meets GOAWAY on its way is never sent, which tonic leaves to the caller.
            if let Err(status) = client.list_collections(ListCollectionsRequest {}).await {
                assert!(status.code() == Code::Cancelled && status.source().is_some(), "{status:?}");
                client.list_collections(ListCollectionsRequest {}).await.unwrap();
            }
        }
    };
    let watched = async {
        // Not one that answers pings, so it is closed after its grace. The second is older than the search's would be.
        for _ in 0..2 {
            let mut spoke = running.connect().await;
            spoke.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
            closed(&mut spoke).await;
        }
    };
    tokio::select! {
        () = calls => {}
        () = watched => {}
    }
    assert!(begun.elapsed() >= Duration::from_millis(3800), "{:?}", begun.elapsed());
    running.turns.add_permits(1);
    search.await.unwrap().unwrap();
}
