//! The mesh with TLS both ways between all services, and a public door that asks for API keys.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use reverie_integration_tests::locked::LockedMesh;
use reverie_integration_tests::processes::{Process, binary};
use reverie_integration_tests::{Fallible, WORKSPACE};
use reverie_proto::generation::v1::GetCapabilitiesRequest;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::retrieval::v1::{ListKnowledgeBasesRequest, RetrieveRequest};
use reverie_proto::vector::v1::ListCollectionsRequest;
use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_service_kit::{Address, Context, client};
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);

async fn locked_mesh() -> Fallible<LockedMesh> {
    let mut mesh = LockedMesh::start(|_, _| (), |_, listens| Ok(listens.to_owned())).await?;
    mesh.serving().await?;
    Ok(mesh)
}

/// Runs `reverie` against the door with this key.
async fn reverie(mesh: &LockedMesh, key: &str, arguments: &[&str]) -> Fallible<Output> {
    let mut command = tokio::process::Command::new(binary("reverie")?);
    command.current_dir(WORKSPACE).args(arguments).args(["--server", &mesh.door()?.to_string()]);
    command.arg("--tls-authorities").arg(mesh.authority.file()).env("REVERIE_API_KEY", key);
    Ok(tokio::time::timeout(PATIENCE * 4, command.output()).await??)
}

/// The same until the key, which is new, is known.
async fn reverie_soon(mesh: &LockedMesh, key: &str, arguments: &[&str]) -> Fallible<Output> {
    let begun = std::time::Instant::now();
    loop {
        let output = reverie(mesh, key, arguments).await?;
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            return Ok(output);
        }
        if !told.contains("is not known") || begun.elapsed() > PATIENCE {
            return Err(format!("{told}\n{}", mesh.pipeline.log()).into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn told(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_with_tls_draws_for_those_who_have_a_key() -> Fallible<()> {
    let mesh = locked_mesh().await?;
    let folder = tempfile::tempdir()?;
    let out = folder.path().join("zunin.png");
    let out = out.to_str().ok_or("no text")?;
    let draw = ["generate", "a small zunin, snow", "--size", "64", "--out", out];
    let studio = mesh.key("studio", &["--scope", "generate"]).await?;
    reverie_soon(&mesh, &studio, &draw).await?;
    assert!(Path::new(out).is_file());

    // What the key does not open, and who has none.
    assert!(
        told(&reverie(&mesh, &studio, &["knowledge", "search", "a zunin"]).await?)
            .contains("the scope retrieve")
    );
    assert!(told(&reverie(&mesh, "", &draw).await?).contains("who calls needs an API key"));
    assert!(told(&reverie(&mesh, "rvk_wrong", &draw).await?).contains("the API key is not known"));
    // Its digest is in the file, and the key is nowhere.
    let keys = std::fs::read_to_string(mesh.keys())?;
    assert!(keys.contains("studio") && !keys.contains(&studio));
    assert!(!mesh.pipeline.log().contains("rvk_"), "{}", mesh.pipeline.log());

    // Who does not know the mesh's authority, and who speaks no TLS.
    let strict = tokio::process::Command::new(binary("reverie")?)
        .args(["capabilities", "--server", &mesh.door()?.to_string()])
        .output()
        .await?;
    let why = told(&strict);
    assert!(
        why.contains("nobody who is believed has signed it") || why.contains("has no authorities"),
        "{why}"
    );
    let plain = tokio::process::Command::new(binary("reverie")?)
        .args(["capabilities", "--server", &format!("http://{}", mesh.pipeline.listens())])
        .output()
        .await?;
    assert!(!plain.status.success());

    // The programs of services ask them for their health, whatever their certificates are called.
    for process in [&mesh.pipeline, &mesh.encoder] {
        let checked = process.check_health().await?;
        assert!(checked.status.success(), "{checked:?}");
    }
    Ok(())
}

/// What a caller may not see is not there for it, by whichever way it asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_knowledge_base_of_others_is_not_there() -> Fallible<()> {
    let mesh = locked_mesh().await?;
    let key =
        mesh.key("shop", &["--scope", "generate", "--scope", "retrieve", "--knowledge-base", "mine"]).await?;
    mesh.let_in(&key).await?;
    let address = mesh.door()?;
    let door = client::Upstream::new("pipeline", &address).channel();
    let context = || Context::with_timeout(PATIENCE);
    let request = context().outgoing(ListKnowledgeBasesRequest {});
    let known = RetrievalServiceClient::new(door.clone()).list_knowledge_bases(request).await?;
    let known = known.into_inner().knowledge_bases;
    assert!(known.is_empty(), "creatures is another's: {known:?}");
    let mut generation = GenerationServiceClient::new(door.clone());
    let capabilities = generation.get_capabilities(context().outgoing(GetCapabilitiesRequest {})).await?;
    assert!(capabilities.into_inner().knowledge_bases.is_empty());
    let retrieve = async |knowledge_base: &str| {
        let request = RetrieveRequest {
            knowledge_base: knowledge_base.to_owned(),
            text: "a zunin".to_owned(),
            limit: 1,
            ..Default::default()
        };
        let status = RetrievalServiceClient::new(door.clone())
            .retrieve(context().outgoing(request))
            .await
            .map(drop)
            .unwrap_err();
        (status.code(), status.message().replace(knowledge_base, "NAME"))
    };
    let [hidden, missing] = [retrieve("creatures").await, retrieve("nothing-of-the-kind").await];
    assert_eq!(hidden, (Code::NotFound, "there is no knowledge base \"NAME\"; there is mine".to_owned()));
    assert_eq!(hidden, missing);
    let drawn = reverie::client::ask(
        &address,
        reverie_integration_tests::requests::quick("a zunin", 64, 1),
        PATIENCE,
        |_| (),
    )
    .await;
    // Its own default, which does not exist here, and not that of the mesh.
    assert_eq!(drawn.map(drop).unwrap_err().code(), Code::NotFound);

    // Stages are closed to it: it has no certificate, and the mesh's own certificates open only what they are for.
    let stage = async |process: &Process| {
        let address: Address = format!("https://{}", process.listens()).parse()?;
        let channel = client::Upstream::new("vector", &address).channel();
        let answer = VectorServiceClient::new(channel)
            .list_collections(context().outgoing(ListCollectionsRequest {}))
            .await;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer.map(drop).unwrap_err())
    };
    for process in [&mesh.vector, &mesh.retrieval, &mesh.encoder] {
        let status = stage(process).await?;
        assert_eq!(status.code(), Code::Unavailable, "{status}");
    }
    Ok(())
}
