//! A pipeline that ends its stream before the picture is complete: an error for the command, whatever status the call has.

use std::error::Error;
use std::fs;
use std::process::{Command, Output};

use futures::stream::{self, BoxStream, StreamExt as _};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::generation_service_server::{GenerationService, GenerationServiceServer};
use reverie_proto::generation::v1::{
    Completed, GenerateRequest, GenerateResponse, GeneratedImage, GetCapabilitiesRequest,
    GetCapabilitiesResponse, Progress, Started,
};
use reverie_proto::tensor::v1::Image;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Tells these events of each call, and ends it with OK.
struct Ends(Vec<Event>);

#[tonic::async_trait]
impl GenerationService for Ends {
    type GenerateStream = BoxStream<'static, Result<GenerateResponse, Status>>;

    async fn generate(&self, _: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let events = self.0.clone().into_iter().map(|event| Ok(GenerateResponse { event: Some(event) }));
        Ok(Response::new(stream::iter(events).boxed()))
    }

    async fn get_capabilities(
        &self,
        _: Request<GetCapabilitiesRequest>,
    ) -> Result<Response<GetCapabilitiesResponse>, Status> {
        Err(Status::unimplemented("it only draws"))
    }
}

/// What `reverie generate` makes of a pipeline that tells `events`, and the files that it leaves.
async fn generate(events: Vec<Event>) -> Result<(Output, Vec<String>), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    let service = GenerationServiceServer::new(Ends(events));
    let serving = tonic::transport::Server::builder().add_service(service);
    let serving = tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
    command.args(["generate", "a zunin", "--server", &server, "--out"]).arg(folder.path().join("out.png"));
    let ended = tokio::task::spawn_blocking(move || command.output()).await??;
    serving.abort();
    let left = fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_, std::io::Error>>()?;
    Ok((ended, left))
}

fn image(data: &'static [u8]) -> Event {
    let image = Image { data: data.into(), ..Image::default() };
    Event::Image(GeneratedImage { image: Some(image) })
}

#[tokio::test]
async fn a_stream_that_ends_early_is_an_error_and_leaves_no_file() -> Result<(), Box<dyn Error>> {
    let started = || Event::Started(Started::default());
    let completed = || Event::Completed(Completed::default());
    for (what, events) in [
        ("nothing", vec![]),
        ("a beginning", vec![started(), Event::Progress(Progress::default())]),
        ("no end", vec![started(), image(b"a picture")]),
        ("no picture", vec![started(), completed()]),
        ("an empty picture", vec![started(), image(b""), completed()]),
    ] {
        let (ended, left) = generate(events).await?;
        let told = String::from_utf8(ended.stderr)?;
        assert_eq!(ended.status.code(), Some(1), "{what}: {told}");
        assert!(told.contains("the pipeline ended without a picture"), "{what}: {told}");
        assert!(ended.stdout.is_empty() && left.is_empty(), "{what}: {left:?}");
    }
    let (ended, left) = generate(vec![started(), image(b"a picture"), completed()]).await?;
    assert!(ended.status.success(), "{}", String::from_utf8(ended.stderr)?);
    assert_eq!(left, ["out.png"]);
    Ok(())
}
