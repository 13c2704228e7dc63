//! The mesh with TLS both ways between all services, and a public door that asks for API keys.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use reverie_integration_tests::authority::Authority;
use reverie_integration_tests::processes::{Process, binary, command};
use reverie_integration_tests::{Fallible, WORKSPACE};
use reverie_proto::generation::v1::GetCapabilitiesRequest;
use reverie_proto::generation::v1::generation_service_client::GenerationServiceClient;
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::retrieval::v1::{ListKnowledgeBasesRequest, RetrieveRequest};
use reverie_proto::vector::v1::ListCollectionsRequest;
use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_service_kit::client::credential;
use reverie_service_kit::tls::{self, ClientTls, ClientTlsSettings};
use reverie_service_kit::{Address, Context, client};
use tempfile::TempDir;
use tonic::Code;

const PATIENCE: Duration = Duration::from_secs(30);

/// Six services that speak TLS both ways. Stages take the calls of those whose certificates are named for it.
struct Mesh {
    authority: Authority,
    encoder: Process,
    retrieval: Process,
    vector: Process,
    pipeline: Process,
    _others: Vec<Process>,
    folder: TempDir,
    of_pipeline: Vec<String>,
    of_encoder: Vec<String>,
}

impl Mesh {
    async fn start() -> Fallible<Self> {
        let authority = Authority::new("a mesh's own")?;
        let folder = tempfile::tempdir()?;
        let https = |process: &Process| format!("https://{}", process.listens());
        let settings = |service: &str, callers: &str, more: &[String]| {
            let callers = format!("server.tls.callers={{{callers}}}");
            Ok::<_, reverie::Failure>([authority.settings(service)?, vec![callers], more.to_vec()].concat())
        };
        let start = async |service: &'static str, callers: &str, more: &[String]| {
            Process::spawn(service, command(service, &settings(service, callers, more)?)?).await
        };
        let pipeline_alone = "pipeline = [\"*\"]";
        let of_both = "pipeline = [\"*\"], retrieval = [\"reverie.encoder.v1.EncoderService/*\"]";
        let of_encoder = settings("encoder", of_both, &[])?;
        let encoder = Process::spawn("encoder", command("encoder", &of_encoder)?).await?;
        let vector = start("vector", "retrieval = [\"reverie.vector.v1.VectorService/*\"]", &[]).await?;
        let denoiser = start("denoiser", pipeline_alone, &[]).await?;
        let levels = start("super-resolution", pipeline_alone, &[]).await?;
        let stages =
            [format!("stages.encoder={}", https(&encoder)), format!("stages.vector={}", https(&vector))];
        let retrieval = start("retrieval", pipeline_alone, &stages).await?;
        let keys = folder.path().join("keys.toml");
        std::fs::write(&keys, "")?;
        let stages = [
            format!("stages.encoder={}", https(&encoder)),
            format!("stages.retrieval={}", https(&retrieval)),
            format!("stages.denoiser={}", https(&denoiser)),
            format!("stages.super_resolution=[\"{}\"]", https(&levels)),
            format!("access.keys={}", keys.display()),
            // Whoever has a key may call, with a certificate or without.
            "server.tls.client_authorities=".to_owned(),
            "server.tls.callers={}".to_owned(),
        ];
        let of_pipeline = settings("pipeline", "", &stages)?;
        let pipeline = Process::spawn("pipeline", command("pipeline", &of_pipeline)?).await?;
        let others = vec![denoiser, levels];
        Ok(Self {
            authority,
            encoder,
            retrieval,
            vector,
            pipeline,
            _others: others,
            folder,
            of_pipeline,
            of_encoder,
        })
    }

    fn door(&self) -> Fallible<Address> {
        Ok(format!("https://{}", self.pipeline.listens()).parse()?)
    }

    /// Makes a key as an operator does.
    async fn key(&self, name: &str, arguments: &[&str]) -> Fallible<String> {
        let made = tokio::process::Command::new(binary("reverie")?)
            .args(["keys", "new", name, "--file"])
            .arg(self.folder.path().join("keys.toml"))
            .args(arguments)
            .output()
            .await?;
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Ok(String::from_utf8(made.stdout)?.trim().to_owned())
    }

    /// Runs `reverie` against the door with this key.
    async fn reverie(&self, key: &str, arguments: &[&str]) -> Fallible<Output> {
        let mut command = tokio::process::Command::new(binary("reverie")?);
        command.current_dir(WORKSPACE).args(arguments).args(["--server", &self.door()?.to_string()]);
        command.arg("--tls-authorities").arg(self.authority.file()).env("REVERIE_API_KEY", key);
        Ok(tokio::time::timeout(PATIENCE * 4, command.output()).await??)
    }

    /// The same until the key, which is new, is known.
    async fn reverie_soon(&self, key: &str, arguments: &[&str]) -> Fallible<Output> {
        let begun = std::time::Instant::now();
        loop {
            let output = self.reverie(key, arguments).await?;
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            if output.status.success() {
                return Ok(output);
            }
            let may_come =
                told.contains("is not known") || told.contains("not serving") || told.contains("no mesh");
            if !may_come || begun.elapsed() > PATIENCE {
                return Err(format!("{told}\n{}", self.pipeline.log()).into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn told(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mesh_with_tls_draws_for_those_who_have_a_key() -> Fallible<()> {
    let mesh = Mesh::start().await?;
    let out = mesh.folder.path().join("zunin.png");
    let out = out.to_str().ok_or("no text")?;
    let draw = ["generate", "a small zunin, snow", "--size", "64", "--out", out];
    let studio = mesh.key("studio", &["--scope", "generate"]).await?;
    mesh.reverie_soon(&studio, &draw).await?;
    assert!(Path::new(out).is_file());

    // What the key does not open, and who has none.
    assert!(
        told(&mesh.reverie(&studio, &["knowledge", "search", "a zunin"]).await?)
            .contains("the scope retrieve")
    );
    assert!(told(&mesh.reverie("", &draw).await?).contains("who calls needs an API key"));
    assert!(told(&mesh.reverie("rvk_wrong", &draw).await?).contains("the API key is not known"));
    // Its digest is in the file, and the key is nowhere.
    let keys = std::fs::read_to_string(mesh.folder.path().join("keys.toml"))?;
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
    for (process, settings) in [(&mesh.pipeline, &mesh.of_pipeline), (&mesh.encoder, &mesh.of_encoder)] {
        let mut check = command(process.service(), settings)?;
        check.args(["--set", &format!("server.listen={}", process.listens()), "--check-health"]);
        let checked = check.output().await?;
        assert!(checked.status.success(), "{checked:?}");
    }
    Ok(())
}

/// What a caller may not see is not there for it, by whichever way it asks.
#[tokio::test(flavor = "multi_thread")]
async fn a_knowledge_base_of_others_is_not_there() -> Fallible<()> {
    let mesh = Mesh::start().await?;
    let key =
        mesh.key("shop", &["--scope", "generate", "--scope", "retrieve", "--knowledge-base", "mine"]).await?;
    let settings = ClientTlsSettings { authorities: mesh.authority.file(), ..ClientTlsSettings::default() };
    tls::install(ClientTls::start(&settings).await?);
    credential::show(&key)?;
    let address = mesh.door()?;
    let door = client::Upstream::new("pipeline", &address).channel();
    let context = || Context::with_timeout(PATIENCE);
    let begun = std::time::Instant::now();
    let known = loop {
        let request = context().outgoing(ListKnowledgeBasesRequest {});
        match RetrievalServiceClient::new(door.clone()).list_knowledge_bases(request).await {
            Ok(known) => break known.into_inner().knowledge_bases,
            Err(status) => assert!(begun.elapsed() < PATIENCE, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
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
