//! Six processes on loopback: the same pictures as in one process, and clear words when one of them is gone.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use reverie_integration_tests::processes::{Process, Processes, command};
use reverie_integration_tests::requests::{dimensions, draw, quick};
use reverie_integration_tests::{Fallible, health, mesh};
use reverie_service_kit::Address;
use reverie_service_kit::client::Upstream;
use tonic::Code;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Health;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

#[tokio::test(flavor = "multi_thread")]
async fn six_processes_draw_the_same_bytes_as_one() -> Fallible<()> {
    let (one, six) = tokio::try_join!(mesh::start(), Processes::start(&[]))?;
    let pipeline = six.pipeline.address()?;
    for size in [64, 256, 1024] {
        let request = || quick("a small zunin on the left, snow", size, 23);
        let within = draw(one.pipeline(), request()).await?;
        let across = draw(&pipeline, request()).await?;
        assert_eq!(dimensions(&across)?, (size, size));
        assert_eq!(within.neighbours, across.neighbours);
        // Not assert_eq!: nobody wants to read a million bytes.
        assert!(within.image == across.image, "{size} px: the bytes differ");
        assert_eq!(within.completed.step_kinds, across.completed.step_kinds);
    }
    one.shutdown().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_process_tells_what_it_serves_and_ends_well() -> Fallible<()> {
    // Started means that all six have reported SERVING.
    let mut six = Processes::start(&[]).await?;
    for process in six.all() {
        let names = reflected(&process.address()?).await?;
        let own: &[&str] = match process.service() {
            // The public door searches and takes changes, too.
            "pipeline" => &[
                "reverie.generation.v1.GenerationService",
                "reverie.knowledge.v1.KnowledgeService",
                "reverie.retrieval.v1.RetrievalService",
            ],
            "encoder" => &["reverie.encoder.v1.EncoderService"],
            "retrieval" => {
                &["reverie.knowledge.v1.KnowledgeService", "reverie.retrieval.v1.RetrievalService"]
            }
            "vector" => &["reverie.vector.v1.VectorService"],
            "denoiser" => &["reverie.denoiser.v1.DenoiserService"],
            "super-resolution" => &["reverie.superresolution.v1.SuperResolutionService"],
            other => panic!("{other} is not known here"),
        };
        assert!(names.contains("grpc.health.v1.Health"), "{names:?}");
        let of_ours = names.iter().filter(|name| name.starts_with("reverie."));
        assert_eq!(of_ours.collect::<Vec<_>>(), own, "it lists what it serves");
    }
    let ended = try_join_all(six.all().map(async |process| {
        let status = process.terminate().await?;
        Ok::<_, reverie::Failure>((process.service(), status.code()))
    }));
    for (service, code) in ended.await? {
        assert_eq!(code, Some(0), "{service} after SIGTERM");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_its_health_does_not_keep_a_process_from_ending() -> Fallible<()> {
    // Cut off by the drain time, it would end long after this test has lost patience.
    let mut process = Process::start("vector", &["server.drain_seconds=3600".to_owned()]).await?;
    process.serving().await?;
    let mut client = HealthClient::new(Upstream::new("vector", &process.address()?).channel());
    let mut changes = client.watch(HealthCheckRequest::default()).await?.into_inner();
    let first = changes.message().await?.ok_or("it says nothing")?;
    assert_eq!(first.status(), Health::Serving);
    assert_eq!(process.terminate().await?.code(), Some(0));
    let mut last = first;
    while let Some(change) = changes.message().await? {
        last = change;
    }
    assert_eq!(last.status(), Health::NotServing);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_is_gone_is_named_and_taken_back() -> Fallible<()> {
    let mut six = Processes::start(&[]).await?;
    let pipeline = six.pipeline.address()?;
    let request = || quick("a small zunin on the left, snow", 256, 23);
    let before = draw(&pipeline, request()).await?;

    six.super_resolution.kill().await?;
    // A deadline that passed would be DEADLINE_EXCEEDED: this is an answer within it.
    let status = draw(&pipeline, request()).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("super-resolution"), "{status}");
    health::becomes(&pipeline, ServingStatus::NotServing).await?;

    let same_port = format!("server.listen={}", six.super_resolution.listens());
    six.super_resolution = Process::start("super-resolution", &[same_port]).await?;
    health::becomes(&pipeline, ServingStatus::Serving).await?;
    let after = draw(&pipeline, request()).await?;
    assert!(after.image == before.image, "the bytes differ");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_that_never_had_the_stage_says_so() -> Fallible<()> {
    // A port that was free a moment ago: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let stages = ["encoder", "retrieval", "denoiser"].map(|stage| format!("stages.{stage}=http://{nobody}"));
    let settings = [&stages[..], &[format!("stages.super_resolution=[\"http://{nobody}\"]")]].concat();
    let pipeline = Process::start("pipeline", &settings).await?;
    let address = pipeline.address()?;
    health::becomes(&address, ServingStatus::NotServing).await?;
    let status = draw(&address, quick("a zunin, cave", 64, 1)).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    // Those that say what the models draw are asked first, and side by side.
    let first = ["super-resolution", "denoiser"].iter().any(|stage| status.message().contains(stage));
    assert!(first, "{status}");
    assert!(status.message().contains(&nobody.to_string()), "{status}");
    Ok(())
}

/// The full names of the services that a process lists by reflection.
async fn reflected(address: &Address) -> Fallible<BTreeSet<String>> {
    let mut client = ServerReflectionClient::new(Upstream::new("service", address).channel());
    let list = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let mut answers = client.server_reflection_info(tokio_stream::once(list)).await?.into_inner();
    let answer = answers.message().await?.and_then(|answer| answer.message_response);
    match answer {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => Err(format!("{other:?}").into()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_tells_the_health_of_its_running_service() -> Fallible<()> {
    let mut vector = Process::start("vector", &[]).await?;
    vector.serving().await?;
    let check = async |service: &str, listens: &str| {
        let mut command = command(service, &[format!("server.listen={listens}")])?;
        Ok::<_, reverie::Failure>(command.arg("--check-health").output().await?)
    };
    let port = vector.listens().rsplit_once(':').ok_or("no port")?.1.to_owned();
    // As containers listen, too.
    for listens in [vector.listens().to_owned(), format!("0.0.0.0:{port}")] {
        assert_eq!(check("vector", &listens).await?.status.code(), Some(0), "{listens}");
    }

    let mut retrieval =
        Process::start("retrieval", &["stages.encoder=http://127.0.0.1:1".to_owned()]).await?;
    let waits = check("retrieval", retrieval.listens()).await?;
    assert_eq!(waits.status.code(), Some(1), "it lacks its encoder");
    assert!(String::from_utf8_lossy(&waits.stderr).contains("is not serving"), "{waits:?}");
    retrieval.kill().await?;
    let gone = check("retrieval", retrieval.listens()).await?;
    assert_eq!(gone.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&gone.stderr).contains("no answer from 127.0.0.1"), "{gone:?}");
    Ok(())
}
