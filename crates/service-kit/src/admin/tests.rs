use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::telemetry::{LogFormat, Telemetry, TelemetrySettings};

async fn ask(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn admin(service: &'static str, settings: Option<&str>) -> Admin {
    let here = AdminSettings { listen: "localhost:0".to_owned() };
    start(service, &here, settings.map(str::to_owned)).await.unwrap().unwrap()
}

#[tokio::test]
async fn the_pages_tell_of_the_service() {
    let admin = admin("easel", Some("[server]\n")).await;
    let get = async |path| ask(admin.address(), "GET", path).await;
    assert_eq!(get("/livez").await.0, 200);
    assert_eq!(get("/readyz").await, (503, "loading models\n".to_owned()));
    readiness::set("easel", Ok(()));
    assert_eq!(get("/readyz").await, (200, "ready\n".to_owned()));
    readiness::set("easel", Err("a stage is gone".to_owned()));
    assert_eq!(get("/readyz").await, (503, "a stage is gone\n".to_owned()));
    assert_eq!(get("/livez").await.0, 200, "it depends on no other service");
    assert_eq!(get("/settings").await, (200, "[server]\n".to_owned()));
    let (status, version) = get("/version").await;
    assert_eq!(status, 200);
    assert!(version.contains("\"name\":\"reverie-easel\""), "{version}");
    assert_eq!(get("/metric").await.0, 404);
    assert_eq!(ask(admin.address(), "POST", "/livez").await.0, 405);
}

#[tokio::test]
async fn metrics_are_named_as_they_are_listed() {
    let settings = TelemetrySettings {
        log_format: LogFormat::Text,
        log_filter: "off".to_owned(),
        otlp_endpoint: String::new(),
        metrics_interval_seconds: 60,
        record_prompts: false,
    };
    let _telemetry = Telemetry::install("test", &settings).unwrap();
    readiness::set("palette", Ok(()));
    let admin = admin("palette", None).await;
    let (status, text) = ask(admin.address(), "GET", "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        "reverie_serving{service=\"palette\"} 1",
        "reverie_build_info{commit=",
        "process_cpu_time_seconds_total{cpu_mode=\"user\"}",
        "process_memory_usage_bytes ",
        "process_open_file_descriptor_count ",
        "process_thread_count ",
        "process_uptime_seconds ",
    ] {
        assert!(text.lines().any(|found| found.starts_with(line)), "{line} is missing:\n{text}");
    }
}

#[tokio::test]
async fn an_address_in_use_is_named_with_its_setting() {
    assert!(start("easel", &AdminSettings { listen: String::new() }, None).await.unwrap().is_none());
    let taken = admin("easel", None).await;
    let listen = taken.address().to_string();
    let said = start("easel", &AdminSettings { listen: listen.clone() }, None).await.unwrap_err().to_string();
    assert!(said.contains("admin.listen") && said.contains(&listen), "{said}");
    let bare = AdminSettings { listen: "9090".to_owned() };
    let said = start("easel", &bare, None).await.unwrap_err().to_string();
    assert!(said.contains("admin.listen") && said.contains("HOST:PORT"), "{said}");
}
