//! TLS over real sockets, with certificates made here.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use tempfile::TempDir;
use tonic::transport::Endpoint;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::{ClientTls, ClientTlsSettings, ServerTlsSettings, connector};
use crate::serve::{ServerSettings, Standing};
use crate::{Listener, RunError, Server, Shutdown};

/// An authority, and a folder for what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// Authorities of one name are told apart by their keys.
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("authority.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("authority.pem")
    }

    /// Signs a certificate for `names`, DNS names or URIs; gives its file and that of its key.
    fn signs(
        &self,
        file: &str,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> (PathBuf, PathBuf) {
        let mut params = CertificateParams::new([]).unwrap();
        let name = |name: &&str| {
            if name.contains("://") {
                SanType::URI((*name).try_into().unwrap())
            } else {
                SanType::DnsName((*name).try_into().unwrap())
            }
        };
        params.subject_alt_names = names.iter().map(name).collect();
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let paths = ["crt", "key"].map(|ending| self.folder.path().join(format!("{file}.{ending}")));
        fs::write(&paths[0], certificate.pem()).unwrap();
        fs::write(&paths[1], key.serialize_pem()).unwrap();
        paths.into()
    }
}

/// A server that has health and reflection.
struct Running {
    address: SocketAddr,
    shutdown: Shutdown,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn start(tls: ServerTlsSettings) -> Result<Running, RunError> {
    let mut settings = crate::serve::tests::settings();
    settings.tls = tls;
    serve(settings).await
}

async fn serve(settings: ServerSettings) -> Result<Running, RunError> {
    let listener = Listener::bind(&"127.0.0.1:0".parse().unwrap()).await.unwrap();
    let Listener::Tcp(sockets) = &listener else { panic!("it is no memory") };
    let address = sockets[0].local_addr().unwrap();
    let shutdown = Shutdown::new();
    let server = Server::new("test", &[], Standing::Stage, &settings, 4).await;
    let serving = tokio::spawn(server.serve(listener, shutdown.clone(), async || Ok(())));
    // It ends at once if it cannot serve.
    match tokio::time::timeout(Duration::from_millis(100), serving).await {
        Ok(ended) => Err(ended.unwrap().unwrap_err()),
        Err(_) => Ok(Running { address, shutdown }),
    }
}

fn of_server(
    authority: &Authority,
    (certificate, private_key): (PathBuf, PathBuf),
    asks: bool,
) -> ServerTlsSettings {
    let client_authorities = if asks { authority.file() } else { PathBuf::new() };
    ServerTlsSettings { certificate, private_key, client_authorities, ..ServerTlsSettings::default() }
}

fn of_client(authorities: &Path, own: Option<(PathBuf, PathBuf)>) -> ClientTlsSettings {
    let (certificate, private_key) = own.unwrap_or_default();
    ClientTlsSettings { authorities: authorities.to_owned(), certificate, private_key }
}

/// Asks the server, by the name `name`, for its health and then for its services.
async fn ask(server: &Running, name: &'static str, settings: ClientTlsSettings) -> [Result<(), Status>; 2] {
    let tls = ClientTls::start(&settings).await.unwrap();
    ask_with(server.address, name, tls).await
}

async fn ask_with(server: SocketAddr, name: &'static str, tls: ClientTls) -> [Result<(), Status>; 2] {
    let connector = connector(Some(tls), name.to_owned(), server.to_string());
    let channel = Endpoint::from_static("http://test").connect_with_connector_lazy(connector);
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await.map(|_| ());
    let list = MessageRequest::ListServices(String::new());
    let question = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut reflection = ServerReflectionClient::new(channel);
    let answers = reflection.server_reflection_info(tokio_stream_of(question)).await;
    let services = match answers {
        Ok(answers) => answers.into_inner().message().await.map(|_| ()),
        Err(status) => Err(status),
    };
    [health, services]
}

fn tokio_stream_of(
    question: ServerReflectionRequest,
) -> impl futures::Stream<Item = ServerReflectionRequest> {
    futures::stream::once(std::future::ready(question))
}

/// Why a call came to nothing, with all causes.
fn told(outcome: &Result<(), Status>) -> String {
    let status = outcome.as_ref().unwrap_err();
    crate::causes::causes(status).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[tokio::test]
async fn a_caller_believes_whom_its_authority_signed_for_the_name_that_it_called() {
    let (authority, other, same) = (Authority::new("one"), Authority::new("other"), Authority::new("one"));
    let server = start(of_server(&authority, authority.signs("server", &["draws.example"], |_| ()), false))
        .await
        .unwrap();
    let [health, services] = ask(&server, "draws.example", of_client(&authority.file(), None)).await;
    health.unwrap();
    services.unwrap();
    for (name, believed, why) in [
        ("other.example", &authority, "it is for another name"),
        ("draws.example", &other, "nobody who is believed has signed it"),
        ("draws.example", &same, "nobody who is believed has signed it"),
    ] {
        let [health, _] = ask(&server, name, of_client(&believed.file(), None)).await;
        assert!(told(&health).contains(why), "{}", told(&health));
    }
}

#[tokio::test]
async fn an_expired_certificate_is_told() {
    let authority = Authority::new("one");
    let expired = authority.signs("server", &["draws.example"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    let server = start(of_server(&authority, expired, false)).await.unwrap();
    let [health, _] = ask(&server, "draws.example", of_client(&authority.file(), None)).await;
    assert!(told(&health).contains("has expired"), "{}", told(&health));
}

#[tokio::test]
async fn plain_and_secure_do_not_meet_and_say_so() {
    let authority = Authority::new("one");
    let plain = start(ServerTlsSettings::default()).await.unwrap();
    let [health, _] = ask(&plain, "draws.example", of_client(&authority.file(), None)).await;
    assert!(told(&health).contains("does not speak TLS"), "{}", told(&health));

    let secure = start(of_server(&authority, authority.signs("server", &["draws.example"], |_| ()), false))
        .await
        .unwrap();
    let channel = Endpoint::from_shared(format!("http://{}", secure.address)).unwrap().connect_lazy();
    let plainly = HealthClient::new(channel).check(HealthCheckRequest::default()).await;
    assert!(plainly.is_err());
}

#[tokio::test]
async fn mutual_tls_lets_in_whom_its_authorities_signed() {
    let (authority, other) = (Authority::new("one"), Authority::new("other"));
    let server = start(of_server(&authority, authority.signs("server", &["draws.example"], |_| ()), true))
        .await
        .unwrap();
    let own = authority.signs("pipeline", &["pipeline"], |_| ());
    let [health, services] = ask(&server, "draws.example", of_client(&authority.file(), Some(own))).await;
    health.unwrap();
    services.unwrap();
    let stranger = other.signs("stranger", &["pipeline"], |_| ());
    let expired = authority.signs("old", &["pipeline"], |params| {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2021, 1, 1);
    });
    for (own, why) in
        [(None, "CertificateRequired"), (Some(stranger), "UnknownCA"), (Some(expired), "CertificateExpired")]
    {
        let [health, services] = ask(&server, "draws.example", of_client(&authority.file(), own)).await;
        assert!(told(&health).contains(why), "{}", told(&health));
        assert!(services.is_err());
    }
}

#[tokio::test]
async fn each_caller_may_call_what_is_open_to_its_name() {
    let authority = Authority::new("one");
    let mut settings = of_server(&authority, authority.signs("server", &["draws.example"], |_| ()), true);
    let pattern = "grpc.reflection.v1.ServerReflection/*".to_owned();
    settings.callers = [
        ("spiffe://mesh/pipeline".to_owned(), vec![pattern]),
        ("retrieval".to_owned(), vec!["reverie.encoder.v1.EncoderService/EmbedText".to_owned()]),
    ]
    .into();
    let server = start(settings).await.unwrap();
    for (names, may) in [
        (&["other", "spiffe://mesh/pipeline"][..], true),
        (&["retrieval"], false),
        (&["pipeline"], false),
        (&["spiffe://mesh/pipeline/other"], false),
        (&[], false),
    ] {
        let own = authority.signs("caller", names, |_| ());
        let [health, services] = ask(&server, "draws.example", of_client(&authority.file(), Some(own))).await;
        health.unwrap();
        match services {
            Ok(()) => assert!(may, "{names:?}"),
            Err(status) => {
                assert_eq!((status.code(), may), (Code::PermissionDenied, false), "{names:?}: {status}");
                assert!(names.iter().all(|name| status.message().contains(name)), "{status}");
            }
        }
    }
}

/// A session that is resumed has the certificates of its first connection, however old they are by then.
#[tokio::test]
async fn certificates_are_checked_for_every_connection() {
    use rustls::pki_types::pem::PemObject as _;
    use tokio::io::AsyncReadExt as _;
    let authority = Authority::new("one");
    let server = start(of_server(&authority, authority.signs("server", &["draws.example"], |_| ()), false))
        .await
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    // It would resume whatever it may.
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![super::HTTP_2.to_vec()];
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    for _ in 0..3 {
        let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
        let mut stream = connector.connect("draws.example".try_into().unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
        // What the server says first; tickets would come before it.
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
    }
}

/// Server, caller and the authority's file take up what is new, while the others go on.
#[tokio::test]
async fn renewed_certificates_are_taken_up_without_a_restart() {
    let (before, after) = (Authority::new("one"), Authority::new("one"));
    let settings = of_server(&before, before.signs("server", &["draws.example"], |_| ()), true);
    let server = start(settings.clone()).await.unwrap();
    let own = before.signs("pipeline", &["pipeline"], |_| ());
    let caller = ClientTls::start(&of_client(&before.file(), Some(own.clone()))).await.unwrap();
    ask_with(server.address, "draws.example", caller.clone()).await[0].as_ref().unwrap();

    // A half of a pair is not taken up.
    let (certificate, key) = after.signs("server", &["draws.example"], |_| ());
    fs::copy(&certificate, &settings.certificate).unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    ask_with(server.address, "draws.example", caller.clone()).await[0].as_ref().unwrap();

    fs::copy(&key, &settings.private_key).unwrap();
    fs::copy(after.file(), &settings.client_authorities).unwrap();
    let renewed = after.signs("pipeline", &["pipeline"], |_| ());
    fs::copy(renewed.0, own.0).unwrap();
    fs::copy(renewed.1, own.1).unwrap();
    // One that knows the new authority alone, and the one from before, which has taken it up.
    let fresh = of_client(&after.file(), Some(after.signs("fresh", &["pipeline"], |_| ())));
    for caller in [ClientTls::start(&fresh).await.unwrap(), caller] {
        let begun = std::time::Instant::now();
        while let [Err(status), _] = ask_with(server.address, "draws.example", caller.clone()).await {
            assert!(begun.elapsed() < Duration::from_secs(20), "{status}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    // Those of before are no longer believed.
    let late = of_client(&after.file(), Some(before.signs("late", &["pipeline"], |_| ())));
    assert!(ask(&server, "draws.example", late).await[0].is_err());
}

#[tokio::test]
async fn files_that_are_no_certificates_are_told_at_the_start() {
    let authority = Authority::new("one");
    let (certificate, key) = authority.signs("server", &["draws.example"], |_| ());
    let (other, other_key) = authority.signs("other", &["draws.example"], |_| ());
    let missing = authority.folder.path().join("missing.pem");
    let pair = |certificate: &Path, key: &Path| {
        of_server(&authority, (certificate.to_owned(), key.to_owned()), false)
    };
    let wrong_authorities = ServerTlsSettings { client_authorities: key.clone(), ..pair(&certificate, &key) };
    for (settings, file, why) in [
        (pair(&missing, &key), &missing, "No such file"),
        (pair(&key, &key), &key, "no certificate in PEM"),
        (pair(&certificate, &certificate), &certificate, "no private key in PEM"),
        (pair(&certificate, &other_key), &other_key, "the key is not that of"),
        (pair(&other, &key), &key, "the key is not that of"),
        (wrong_authorities, &key, "no certificate in PEM"),
    ] {
        let error = start(settings).await.err().unwrap().to_string();
        assert!(error.contains("server.tls") && error.contains(why), "{error}");
        assert!(error.contains(&file.display().to_string()), "{error}");
    }
}

/// Whoever connects and says nothing is sent away, as without TLS.
#[tokio::test]
async fn a_handshake_has_its_time() {
    use tokio::io::AsyncReadExt as _;
    let authority = Authority::new("one");
    let mut settings = crate::serve::tests::settings();
    settings.tls = of_server(&authority, authority.signs("server", &["draws.example"], |_| ()), false);
    settings.handshake_seconds = 1;
    let server = serve(settings).await.unwrap();
    let mut silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(5), silent.read(&mut [0; 64])).await;
    assert!(matches!(ended.expect("it is kept for ever"), Ok(0) | Err(_)));
}

#[test]
fn the_lifetime_of_a_certificate_is_read() {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(2026, 4, 1);
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(super::files::validity(certificate.der()), Some((1_767_225_600, 1_775_001_600)));
    assert_eq!(super::files::validity(&vec![1, 2, 3].into()), None);
}
