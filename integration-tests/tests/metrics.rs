//! Every service tells of itself on its admin port, and the metrics are those of docs/metrics.md.

use std::collections::BTreeMap;
use std::time::Duration;

use reverie_integration_tests::admin::{self, page};
use reverie_integration_tests::authority::Authority;
use reverie_integration_tests::processes::{Process, Processes};
use reverie_integration_tests::requests::{draw, quick};
use reverie_integration_tests::{Fallible, WORKSPACE};
use reverie_service_kit::client::credential;
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::Code;

/// Of the requests below; it is in no answer of an admin server.
const SECRET: &str = "a small zunin on the left, volcano";

/// The names in the first column of the table in docs/metrics.md, with their types.
fn documented() -> Fallible<BTreeMap<String, String>> {
    let page = std::fs::read_to_string(format!("{WORKSPACE}/docs/metrics.md"))?;
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let named = rows.filter_map(|row| row.split_once("` | "));
    Ok(named
        .map(|(name, rest)| (name.to_owned(), rest.split(' ').next().unwrap_or_default().to_owned()))
        .collect())
}

/// The names and types of a page of metrics.
fn exported(metrics: &str) -> BTreeMap<String, String> {
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn services_export_what_the_page_lists_and_no_prompt() -> Fallible<()> {
    let keys = tempfile::NamedTempFile::new()?;
    let digest = reverie_access::keys::digest("rvk_test");
    std::fs::write(
        keys.path(),
        format!("[[keys]]\nname = 'test'\nsha256 = '{digest}'\nscopes = ['generate']"),
    )?;
    let with_keys = |mut command: Command| {
        let is_pipeline = command.as_std().get_program().to_string_lossy().ends_with("reverie-pipeline");
        if is_pipeline {
            command.args(["--set", &format!("access.keys={}", keys.path().display())]);
        }
        Ok(command)
    };
    let authority = Authority::new("nobody's")?;
    let (certificate, private_key) = authority.signs("tests")?;
    let settings = [
        "admin.listen=127.0.0.1:0".to_owned(),
        format!("client.tls.certificate={}", certificate.display()),
        format!("client.tls.private_key={}", private_key.display()),
    ];
    let mut six = Processes::start_as(&settings, with_keys).await?;
    let nobody = draw(&six.pipeline.address()?, quick(SECRET, 256, 1)).await.map(drop).unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated, "{nobody}");
    credential::show("rvk_test")?;
    draw(&six.pipeline.address()?, quick(SECRET, 256, 1)).await?;
    let wrong = draw(&six.pipeline.address()?, quick(SECRET, 100, 1)).await;
    assert!(wrong.is_err(), "no image has 100 px");

    let mut all = BTreeMap::new();
    for process in six.all() {
        let address = admin::address(process)?;
        let service = process.service();
        for (path, expected) in
            [("/livez", "alive"), ("/readyz", "ready"), ("/version", service), ("/settings", "[server]")]
        {
            let (status, body) = page(&address, path).await?;
            assert!(status == 200 && body.contains(expected), "{service} {path}: {status} {body}");
            assert!(!body.contains("zunin"), "{service} {path}");
        }
        let (_, metrics) = page(&address, "/metrics").await?;
        assert!(!metrics.contains("zunin") && !metrics.contains("volcano"), "{metrics}");
        assert!(metrics.contains("reverie_serving{service=\"") && metrics.contains("} 1"), "{metrics}");
        assert!(!process.log().contains("zunin"), "{}", process.log());
        if service == "pipeline" {
            for line in [
                "reverie_requests_total{outcome=\"drawn\"} 1",
                "reverie_access_calls_total{caller=\"test\"} 2",
                "reverie_access_refused_total{caller=\"\",reason=\"credential\"} 1",
                "reverie_access_pixels_total{caller=\"test\"} 65536",
                "reverie_requests_total{outcome=\"refused\"} 1",
                "rpc_client_call_duration_seconds_count{rpc_method=\"reverie.denoiser.v1.DenoiserService/Denoise\",rpc_response_status_code=\"OK\",rpc_system_name=\"grpc\"} 1",
            ] {
                assert!(metrics.contains(line), "{line} is not in\n{metrics}");
            }
        }
        all.append(&mut exported(&metrics));
    }
    let documented = documented()?;
    assert_eq!(all, documented, "exported, and listed in docs/metrics.md");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_is_alive_and_not_ready_while_its_stages_are_away() -> Fallible<()> {
    let settings = ["admin.listen=127.0.0.1:0", "stages.encoder=http://127.0.0.1:9"].map(str::to_owned);
    let pipeline = Process::start("pipeline", &settings).await?;
    pipeline.says("not serving yet").await?;
    let address = admin::address(&pipeline)?;
    let (status, why) = page(&address, "/readyz").await?;
    // None of its stages is there; whichever it asks first is named.
    assert!(status == 503 && why.contains("stage "), "{status} {why}");
    assert_eq!(page(&address, "/livez").await?.0, 200);
    let codes = [("/", 404), ("/metrics/x", 404)];
    for (path, code) in codes {
        assert_eq!(page(&address, path).await?.0, code, "{path}");
    }
    // One that says nothing does not keep others away.
    let _silent = TcpStream::connect(&address).await?;
    tokio::time::timeout(Duration::from_secs(5), page(&address, "/livez")).await??;
    let (_, metrics) = page(&address, "/metrics").await?;
    assert!(metrics.contains("reverie_serving{service=\"pipeline\"} 0"), "{metrics}");
    Ok(())
}
