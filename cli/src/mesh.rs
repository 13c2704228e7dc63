//! The whole mesh in one process.

use std::time::Duration;

use reverie_packages::{Bundle, PackageError};
use reverie_pipeline::{StageAddresses, check_fit};
use reverie_service_kit::client::{Channel, Upstream};
use reverie_service_kit::settings::{self, SERVICES, ServiceSettings, Sources};
use reverie_service_kit::{Address, Context, Listener, RunError, Shutdown};
use reverie_storage::StorageError;
use tokio::task::JoinSet;
use tonic::{Code, Response, Status};

use crate::credentials::Credentials;
use crate::{Failure, client};

/// How long the services get to download and load their models, which may have many gigabytes. One that fails ends the wait.
const START_TIMEOUT: Duration = Duration::from_hours(2);
/// How long stages get to end once the pipeline, which calls them, has ended: one that still loads its models does not hear of it.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long the services get to say which models they run; those that are still loading theirs say nothing.
const FIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the mesh takes its models and settings from.
#[derive(Debug, Clone, clap::Args)]
pub struct MeshArguments {
    /// The model bundle: a folder, or a URL of s3://, gs://, az:// or https://.
    #[arg(long, value_name = "FOLDER", default_value = "models/bestiary", env = "REVERIE_BUNDLE")]
    pub bundle: String,
    /// Another knowledge base that requests may name, in a folder or at a URL; may be repeated.
    #[arg(long = "with-knowledge-base", value_name = "NAME=LOCATION", value_parser = name_and_folder)]
    pub knowledge_bases: Vec<(String, String)>,
    /// Overrides one setting of one service; may be repeated: --set denoiser.inference.provider=cuda
    #[arg(long = "set", value_name = "SERVICE.KEY=VALUE", value_parser = service_override)]
    pub overrides: Vec<(String, String, String)>,
    /// Whether the knowledge bases can be changed.
    #[arg(skip)]
    pub writable: bool,
}

impl Default for MeshArguments {
    fn default() -> Self {
        Self {
            bundle: "models/bestiary".to_owned(),
            knowledge_bases: Vec::new(),
            overrides: Vec::new(),
            writable: false,
        }
    }
}

/// Which mesh a command asks, and how long it waits.
#[derive(Debug, Clone, clap::Args)]
pub struct AskArguments {
    /// Seconds to wait for an image.
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    pub timeout: u64,
    /// Asks a running mesh instead of starting one, such as <http://127.0.0.1:7100>, or https:// where it speaks TLS.
    #[arg(long, value_name = "URL")]
    pub server: Option<Address>,
    /// Of the running mesh.
    #[command(flatten)]
    pub credentials: Credentials,
    /// Of the mesh that is started.
    #[command(flatten)]
    pub mesh: MeshArguments,
}

impl AskArguments {
    /// Gives `ask` the address of the pipeline: a running one, or that of a mesh which is started for it.
    pub async fn with_pipeline<T>(
        &self,
        ask: impl AsyncFnOnce(&Address) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if let Some(running) = &self.server {
            self.credentials.use_for(running).await?;
            return ask(running).await;
        }
        Mesh::during(&self.mesh, async |mesh| ask(mesh.pipeline()).await).await
    }

    /// Makes one call to the pipeline: a running one, or that of a mesh which is started for it.
    pub(crate) async fn call<T>(
        &self,
        call: impl AsyncFnOnce(Channel, Context) -> Result<Response<T>, Status>,
    ) -> Result<T, Failure> {
        let called = async |address: &Address| {
            let answer = client::call(address, self.timeout(), call).await;
            Ok(answer.map_err(|status| status.message().to_owned())?)
        };
        self.with_pipeline(called).await
    }

    /// How long to wait for an image.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// The settings of the services that a bundle needs, made to fit one process.
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// Of the pipeline.
    pub pipeline: reverie_pipeline::Settings,
    /// Of the encoder.
    pub encoder: reverie_encoder::Settings,
    /// Of retrieval and the vector service, where there are knowledge bases.
    pub memory: Option<(reverie_retrieval::Settings, reverie_vector::Settings)>,
    /// Of the denoiser.
    pub denoiser: reverie_denoiser::Settings,
    /// Of the autoencoder, where the base model works on latents.
    pub autoencoder: Option<reverie_autoencoder::Settings>,
    /// Of super-resolution, where there are levels.
    pub super_resolution: Option<reverie_super_resolution::Settings>,
}

impl MeshSettings {
    /// Defaults < environment < flags, with the bundle's models and knowledge bases.
    pub async fn load(arguments: &MeshArguments) -> Result<Self, Failure> {
        let bundle = Bundle::open(&arguments.bundle).await.map_err(|error| match error {
            PackageError::File { source: StorageError::NotFound { file }, .. } => Failure::from(format!(
                "there is no model bundle: {file} does not exist; run from the root of the repository, or name another one \
                 (--bundle)"
            )),
            other => other.into(),
        })?;
        let within = |folder: &String| format!("{}/{folder}", arguments.bundle.trim_end_matches('/'));
        let mut knowledge_bases = bundle.manifest.knowledge_bases.clone();
        for folder in knowledge_bases.values_mut() {
            *folder = within(folder);
        }
        for (name, folder) in &arguments.knowledge_bases {
            knowledge_bases.insert(name.clone(), folder.clone());
        }
        let packages = &bundle.manifest.packages;
        let works_on_latents = packages.latent_decoder.is_some();
        let mut settings = Self {
            pipeline: service(arguments)?,
            encoder: service(arguments)?,
            memory: None,
            denoiser: service(arguments)?,
            autoencoder: if works_on_latents { Some(service(arguments)?) } else { None },
            super_resolution: if packages.super_resolution.is_empty() {
                None
            } else {
                Some(service(arguments)?)
            },
        };
        if !knowledge_bases.is_empty() {
            let mut retrieval: reverie_retrieval::Settings = service(arguments)?;
            let mut vector: reverie_vector::Settings = service(arguments)?;
            if let Some(first) = knowledge_bases.keys().next()
                && !knowledge_bases.contains_key(&retrieval.default_knowledge_base)
            {
                retrieval.default_knowledge_base.clone_from(first);
            }
            if arguments.writable {
                retrieval.writable = knowledge_bases.keys().cloned().collect();
            }
            retrieval.knowledge_bases.clone_from(&knowledge_bases);
            vector.knowledge_bases = knowledge_bases;
            settings.memory = Some((retrieval, vector));
        }
        let of_some = settings.autoencoder.iter_mut().map(|settings| &mut settings.inference);
        let of_levels = settings.super_resolution.iter_mut().map(|settings| &mut settings.inference);
        let of_all = [&mut settings.encoder.inference, &mut settings.denoiser.inference];
        for inference in of_all.into_iter().chain(of_some).chain(of_levels) {
            inference.bundle.clone_from(&arguments.bundle);
        }
        Ok(settings)
    }
}

/// The settings of one service, with the overrides that name it.
pub fn service<S: ServiceSettings>(arguments: &MeshArguments) -> Result<S, Failure> {
    let of_this = arguments.overrides.iter().filter(|(service, ..)| service == S::SERVICE);
    let overrides = of_this.map(|(_, key, value)| (key.clone(), value.clone())).collect();
    Ok(settings::load(&Sources { config: None, overrides })?)
}

/// A running mesh. Dropping it ends the services; [`Mesh::shutdown`] drains them.
#[derive(Debug)]
pub struct Mesh {
    pipeline: Address,
    addresses: StageAddresses,
    encoder: Address,
    denoiser: Address,
    autoencoder: Option<Address>,
    super_resolution: Option<Address>,
    shutdown: Shutdown,
    running: Running,
}

/// The services, each in a task of its own.
#[derive(Debug, Default)]
struct Running {
    pipelines: JoinSet<Ended>,
    stages: JoinSet<Ended>,
}

impl Running {
    /// Waits until one ends.
    async fn next_ended(&mut self) -> Option<Joined> {
        tokio::select! {
            ended = self.pipelines.join_next() => ended,
            ended = self.stages.join_next() => ended,
        }
    }
}

impl Mesh {
    /// Starts the services and waits until all of them serve.
    pub async fn start(settings: MeshSettings) -> Result<Self, Failure> {
        let mut mesh = Self::launch(settings, None);
        match mesh.ready().await {
            Ok(()) => Ok(mesh),
            Err(why) => {
                // Threads that still load or measure models must not outlive the process's last words: ONNX Runtime crashes then.
                mesh.shutdown().await;
                Err(why)
            }
        }
    }

    /// Starts the services. `public` is where the pipeline listens besides memory: it may draw before [`Mesh::ready`] says so.
    pub fn launch(settings: MeshSettings, public: Option<Listener>) -> Self {
        let MeshSettings { mut pipeline, encoder, memory, denoiser, autoencoder, super_resolution } =
            settings;
        let shutdown = Shutdown::new();
        let mut running = Running::default();
        macro_rules! start {
            ($services:ident, $name:literal, $run:path, $settings:expr) => {{
                let (listener, address) = Listener::memory();
                let service = $run($settings, listener, shutdown.clone());
                running.$services.spawn(async move { ($name, service.await) });
                address
            }};
        }
        let encoder = start!(stages, "encoder", reverie_encoder::run, encoder);
        pipeline.stages.encoder = (&encoder).into();
        pipeline.stages.retrieval = memory.map(|(mut retrieval, vector)| {
            retrieval.stages.encoder = (&encoder).into();
            retrieval.stages.vector = start!(stages, "vector", reverie_vector::run, vector).into();
            start!(stages, "retrieval", reverie_retrieval::run, retrieval).into()
        });
        let denoiser = start!(stages, "denoiser", reverie_denoiser::run, denoiser);
        pipeline.stages.denoiser = (&denoiser).into();
        let autoencoder =
            autoencoder.map(|settings| start!(stages, "autoencoder", reverie_autoencoder::run, settings));
        pipeline.stages.autoencoder = autoencoder.as_ref().map(Into::into);
        let super_resolution = super_resolution
            .map(|settings| start!(stages, "super-resolution", reverie_super_resolution::run, settings));
        pipeline.stages.super_resolution = super_resolution.iter().map(Into::into).collect();
        if let Some(listener) = public {
            let service = reverie_pipeline::run(pipeline.clone(), listener, shutdown.clone());
            running.pipelines.spawn(async move { ("pipeline", service.await) });
        }
        let addresses = pipeline.stages.clone();
        let pipeline = start!(pipelines, "pipeline", reverie_pipeline::run, pipeline);
        Self { pipeline, addresses, encoder, denoiser, autoencoder, super_resolution, shutdown, running }
    }

    /// Starts a mesh for `work`, and drains it afterwards, whatever came of it.
    pub async fn during<T>(
        arguments: &MeshArguments,
        work: impl AsyncFnOnce(&Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mesh = Self::start(MeshSettings::load(arguments).await?).await?;
        let outcome = work(&mesh).await;
        mesh.shutdown().await;
        outcome
    }

    /// How its pipeline is reached.
    pub fn pipeline(&self) -> &Address {
        &self.pipeline
    }

    /// How its encoder is reached.
    pub fn encoder(&self) -> &Address {
        &self.encoder
    }

    /// How its denoiser is reached.
    pub fn denoiser(&self) -> &Address {
        &self.denoiser
    }

    /// How its autoencoder is reached, if it has one.
    pub fn autoencoder(&self) -> Option<&Address> {
        self.autoencoder.as_ref()
    }

    /// How its super-resolution service is reached, if it has one.
    pub fn super_resolution(&self) -> Option<&Address> {
        self.super_resolution.as_ref()
    }

    /// Waits until the pipeline says that all services serve, or one ends and says why, or their models do not belong together.
    pub async fn ready(&mut self) -> Result<(), Failure> {
        let pipeline = Upstream::new("pipeline", &self.pipeline);
        let poll = async {
            while pipeline.check_health(START_TIMEOUT).await.is_err() {
                // No waiting helps against that.
                match Box::pin(check_fit(&self.addresses, FIT_TIMEOUT)).await {
                    Err(status) if status.code() == Code::FailedPrecondition => {
                        return Err(status.message().to_owned());
                    }
                    _ => tokio::time::sleep(POLL_INTERVAL).await,
                }
            }
            Ok(())
        };
        tokio::select! {
            ready = poll => Ok(ready?),
            () = tokio::time::sleep(START_TIMEOUT) => {
                let why = pipeline.check_health(POLL_INTERVAL).await.err().unwrap_or_default();
                Err(format!("the mesh was not ready after {} s: {why}", START_TIMEOUT.as_secs()).into())
            }
            ended = self.running.next_ended() => Err(explain(ended)),
        }
    }

    /// Waits until a service ends of itself, and says why.
    pub async fn ended(&mut self) -> Failure {
        explain(self.running.next_ended().await)
    }

    /// Drains and ends the services. The calls from outside are the pipeline's, so the stages end after it, or are left.
    pub async fn shutdown(mut self) {
        self.shutdown.cancel();
        while self.running.pipelines.join_next().await.is_some() {}
        let ended = async { while self.running.stages.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(LEAVE_TIMEOUT, ended).await;
    }
}

/// A service that has ended, by name.
type Ended = (&'static str, Result<(), RunError>);
type Joined = Result<Ended, tokio::task::JoinError>;

fn explain(ended: Option<Joined>) -> Failure {
    match ended {
        Some(Ok((name, Err(error)))) => format!("the {name} service: {error}").into(),
        Some(Ok((name, Ok(())))) => format!("the {name} service ended").into(),
        Some(Err(error)) => error.into(),
        None => "no service is running".into(),
    }
}

fn name_and_folder(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && !folder.is_empty() => {
            Ok((name.to_owned(), folder.to_owned()))
        }
        _ => Err("write NAME=LOCATION".to_owned()),
    }
}

fn service_override(text: &str) -> Result<(String, String, String), String> {
    let parts = text.split_once('=').and_then(|(path, value)| Some((path.split_once('.')?, value)));
    match parts {
        Some(((service, key), value)) if SERVICES.contains(&service) => {
            Ok((service.to_owned(), key.to_owned(), value.to_owned()))
        }
        _ => Err(format!("write SERVICE.KEY=VALUE with a service of {}", SERVICES.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_are_those_whose_settings_there_are() {
        let all = [
            reverie_pipeline::Settings::SERVICE,
            reverie_encoder::Settings::SERVICE,
            reverie_retrieval::Settings::SERVICE,
            reverie_vector::Settings::SERVICE,
            reverie_denoiser::Settings::SERVICE,
            reverie_autoencoder::Settings::SERVICE,
            reverie_super_resolution::Settings::SERVICE,
        ];
        assert_eq!(all, SERVICES);
    }
}
