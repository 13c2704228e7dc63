//! Several replicas of a stage over TCP, some of which are dead, slow, silent, refusing or draining: what their caller notices of it.
#![expect(clippy::unwrap_used, reason = "a failure ends the test")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_proto::vector::v1::vector_service_server::{VectorService, VectorServiceServer};
use reverie_proto::vector::v1::{
    BatchSearchRequest, BatchSearchResponse, CompareRequest, CompareResponse, ListCollectionsRequest,
    ListCollectionsResponse, MeasureRecallRequest, MeasureRecallResponse, PrepareRequest, PrepareResponse,
    SearchRequest, SearchResponse,
};
use reverie_service_kit::client::{Addresses, Channel, Upstream};
use reverie_service_kit::serve::ServerSettings;
use reverie_service_kit::{Context, Listener, Refusal, RunError, Server, Shutdown, Standing, Unfit};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::{Code, Request, Response, Status};

/// Callers at a time.
const CALLERS: usize = 8;
/// By then the caller knows its replicas.
const LEARNED: Duration = Duration::from_secs(5);
/// How long it is looked at then.
const LOOKED_AT: Duration = Duration::from_secs(3);
/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// What a replica does with its calls.
#[derive(Debug, Clone, Copy)]
enum Manner {
    Answers,
    /// After so long.
    Slow(Duration),
    /// UNAVAILABLE, though it says that it serves.
    Refuses,
    /// Has other models than the call is for.
    Differs,
}

struct Searching {
    manner: Manner,
    calls: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl VectorService for Searching {
    async fn search(&self, _: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.manner {
            Manner::Answers => {}
            Manner::Slow(time) => tokio::time::sleep(time).await,
            Manner::Differs => return Err(Refusal::model_changed("another bundle").into()),
            Manner::Refuses => return Err(Refusal::unavailable("not now").into()),
        }
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

/// A replica that runs.
struct Replica {
    address: String,
    calls: Arc<AtomicUsize>,
    is_unfit: Arc<AtomicBool>,
    shutdown: Shutdown,
    task: JoinHandle<Result<(), RunError>>,
}

impl Replica {
    async fn start(manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0", manner).await
    }

    async fn start_at(address: &str, manner: Manner) -> Self {
        let settings = ServerSettings {
            listen: address.parse().unwrap(),
            max_connections: 64,
            max_concurrent_streams: 128,
            handshake_seconds: 10,
            receive_seconds: 10,
            max_buffered_mib: 16,
            lame_duck_seconds: 1,
            drain_seconds: 3600,
            ..common::settings()
        };
        let server = Server::new("replica", &[], Standing::Stage, &settings, 1024).await;
        let (calls, is_unfit, shutdown) = (Arc::default(), Arc::<AtomicBool>::default(), Shutdown::new());
        let service = Searching { manner, calls: Arc::clone(&calls) };
        let mut server = server;
        server.routes().add_service(VectorServiceServer::new(service));
        let listener = Listener::bind(&settings.listen).await.unwrap();
        let address = listener.describe();
        let unfit = Arc::clone(&is_unfit);
        let check = move || {
            let unfit = unfit.load(Ordering::Relaxed);
            async move { if unfit { Err(Unfit::ForNow("as asked for".to_owned())) } else { Ok(()) } }
        };
        let task = tokio::spawn(server.serve(listener, shutdown.clone(), check));
        Self { address, calls, is_unfit, shutdown, task }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// Ends it, and waits until it has ended.
    async fn end(self) {
        self.shutdown.cancel();
        // An error means that it waits for its callers.
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }
}

/// An address at which nobody listens.
async fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string()
}

/// Takes connections, and then does nothing with them, or closes them at once.
async fn silent(closes: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            if !closes {
                open.push(connection);
            }
        }
    });
    address
}

fn upstream(replicas: &[&str]) -> Upstream {
    let urls: Vec<_> = replicas.iter().map(|address| format!("http://{address}")).collect();
    Upstream::new("vector", urls.join(",").parse::<Addresses>().unwrap())
}

async fn search(mut client: VectorServiceClient<Channel>, timeout: Duration) -> Result<(), Status> {
    let request = Context::with_timeout(timeout).outgoing(SearchRequest::default());
    client.search(request).await.map(drop)
}

/// Calls that callers made, and how they ended.
#[derive(Debug, Default)]
struct Seen {
    answered: usize,
    failures: Vec<Status>,
}

/// Calls side by side until `over`; what began before `from` is not counted.
async fn load(upstream: &Upstream, from: Instant, over: impl Fn() -> bool) -> Seen {
    let caller = async || {
        let mut seen = Seen::default();
        while !over() {
            let begun = Instant::now();
            let outcome = search(VectorServiceClient::new(upstream.channel()), PATIENCE).await;
            match outcome {
                _ if begun < from => {}
                Ok(()) => seen.answered += 1,
                Err(status) => seen.failures.push(status),
            }
            // Replicas that answer at once would otherwise be called as fast as the machine can.
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        seen
    };
    let all = futures::future::join_all((0..CALLERS).map(|_| caller())).await;
    all.into_iter().fold(Seen::default(), |mut sum, seen| {
        sum.answered += seen.answered;
        sum.failures.extend(seen.failures);
        sum
    })
}

/// Under 1 % of the calls fail once the replicas are known.
async fn assert_few_fail(upstream: &Upstream) -> Seen {
    let from = Instant::now() + LEARNED;
    let seen = load(upstream, from, || from.elapsed() >= LOOKED_AT).await;
    let count = seen.answered + seen.failures.len();
    assert!(count > 100, "{count} calls are too few to tell");
    assert!(
        100 * seen.failures.len() < count,
        "{} of {count} failed: {:?}",
        seen.failures.len(),
        seen.failures
    );
    seen
}

#[tokio::test]
async fn one_of_three_is_dead_one_slow_and_one_refuses() {
    let (slow, refusing) = (
        Replica::start(Manner::Slow(Duration::from_millis(100))).await,
        Replica::start(Manner::Refuses).await,
    );
    assert_few_fail(&upstream(&[&nobody().await, &slow.address, &refusing.address])).await;
    // It was left out: the few calls that it got were those that probe it, and those before.
    assert!(refusing.calls() < slow.calls() / 5, "{} of {}", refusing.calls(), slow.calls());
}

#[tokio::test]
async fn one_is_silent_one_resets_one_is_unfit_and_one_works() {
    let (well, unfit) = (Replica::start(Manner::Answers).await, Replica::start(Manner::Answers).await);
    unfit.is_unfit.store(true, Ordering::Relaxed);
    let replicas = [&silent(false).await, &silent(true).await, &unfit.address, &well.address];
    let upstream = upstream(&replicas.map(String::as_str));
    assert_few_fail(&upstream).await;
    let before = unfit.calls();
    // Once it is well again, it is called again.
    unfit.is_unfit.store(false, Ordering::Relaxed);
    let seen = load(&upstream, Instant::now(), || unfit.calls() > before + 10).await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
}

#[tokio::test]
async fn faster_replicas_get_more_calls() {
    let replicas = [
        Replica::start(Manner::Slow(Duration::from_millis(200))).await,
        Replica::start(Manner::Answers).await,
        Replica::start(Manner::Answers).await,
    ];
    let [slow, one, other] = &replicas;
    let seen = assert_few_fail(&upstream(&[&slow.address, &one.address, &other.address])).await;
    assert!(seen.failures.is_empty(), "{:?}", seen.failures);
    let (slow, one, other) = (slow.calls(), one.calls(), other.calls());
    assert!(slow > 0 && 3 * slow < one && 3 * slow < other, "{slow} {one} {other}");
}

#[tokio::test]
async fn a_replica_comes_up_while_another_drains() {
    let old = Replica::start(Manner::Answers).await;
    let place = nobody().await;
    let upstream = upstream(&[&old.address, &place]);
    let over = AtomicBool::new(false);
    let rolls = async {
        while old.calls() < 20 {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        let new = Replica::start_at(&place, Manner::Answers).await;
        while new.calls() < 20 {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        // It waits for its callers, for an hour if need be.
        old.end().await;
        let before = new.calls();
        while new.calls() < before + 20 {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    let (seen, ()) = tokio::join!(load(&upstream, Instant::now(), || over.load(Ordering::Relaxed)), rolls);
    assert!(seen.failures.is_empty(), "{} of {}: {:?}", seen.failures.len(), seen.answered, seen.failures);
}

#[tokio::test]
async fn a_single_replica_is_called_again_as_soon_as_it_is_back() {
    for host in ["127.0.0.1", "localhost"] {
        let old = Replica::start(Manner::Answers).await;
        let address = old.address.clone();
        let port = address.rsplit_once(':').unwrap().1;
        let upstream = upstream(&[&format!("{host}:{port}")]);
        let call = || search(VectorServiceClient::new(upstream.channel()), PATIENCE);
        call().await.unwrap();
        // Its only caller stays, so that it has to be ended.
        old.task.abort();
        assert!(old.task.await.is_err_and(|error| error.is_cancelled()));
        let refused = loop {
            match call().await {
                Ok(()) => tokio::time::sleep(POLL_INTERVAL).await,
                Err(status) => break status,
            }
        };
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        let _new = Replica::start_at(&address, Manner::Answers).await;
        call().await.unwrap();
    }
}

#[tokio::test]
async fn attempts_have_the_deadline_of_the_call_together() {
    let refusing = Replica::start(Manner::Refuses).await;
    let upstream = upstream(&[&refusing.address]);
    let begun = Instant::now();
    let status =
        search(VectorServiceClient::new(upstream.channel()), Duration::from_millis(400)).await.unwrap_err();
    // The replica asks for a second before the next attempt.
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    assert_eq!((status.code(), status.message()), (Code::Unavailable, "not now"));
    let silent = silent(false).await;
    let upstream = self::upstream(&[&silent]);
    let begun = Instant::now();
    search(VectorServiceClient::new(upstream.channel()), Duration::from_millis(400)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn where_all_refuse_retries_do_not_multiply_the_calls() {
    let replicas = [Replica::start(Manner::Refuses).await, Replica::start(Manner::Refuses).await];
    let upstream = upstream(&replicas.each_ref().map(|replica| replica.address.as_str()));
    let calls = 300;
    let call = || async {
        let status = search(VectorServiceClient::new(upstream.channel()), PATIENCE).await.unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unavailable, "not now"));
    };
    futures::future::join_all((0..calls).map(|_| call())).await;
    let got: usize = replicas.iter().map(Replica::calls).sum();
    assert!((calls..=calls + calls / 5 + 10).contains(&got), "{got}");
}

#[tokio::test]
async fn a_name_whose_replica_drains_has_some_seconds_to_give_another() {
    let draining = Replica::start(Manner::Answers).await;
    let port = draining.address.rsplit_once(':').unwrap().1;
    let (named, fixed) = (upstream(&[&format!("localhost:{port}")]), upstream(&[&draining.address]));
    while named.check_health(PATIENCE).await.is_err() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    fixed.check_health(PATIENCE).await.unwrap();
    draining.is_unfit.store(true, Ordering::Relaxed);
    while fixed.check_health(PATIENCE).await.is_ok() {
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    named.check_health(PATIENCE).await.unwrap();
    search(VectorServiceClient::new(named.channel()), PATIENCE).await.unwrap();
    let begun = Instant::now();
    while named.check_health(PATIENCE).await.is_ok() {
        assert!(begun.elapsed() < 2 * PATIENCE, "it counts as serving for ever");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

#[tokio::test]
async fn replicas_with_other_models_are_asked_once_each() {
    let others = [Replica::start(Manner::Differs).await, Replica::start(Manner::Differs).await];
    let right = Replica::start(Manner::Answers).await;
    let known = async |replicas: &[&str]| {
        let upstream = upstream(replicas);
        while upstream.replicas().len() < replicas.len() {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        upstream
    };
    let [one, other] = &others;
    let all = known(&[&one.address, &other.address, &right.address]).await;
    // More than there are retries for.
    for _ in 0..100 {
        search(VectorServiceClient::new(all.channel()), PATIENCE).await.unwrap();
    }
    let wrong = known(&[&one.address, &other.address]).await;
    let before = (one.calls(), other.calls());
    let status = search(VectorServiceClient::new(wrong.channel()), PATIENCE).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!((one.calls(), other.calls()), (before.0 + 1, before.1 + 1));
}
