//! A pipeline that ends its stream before the picture is complete: an error for the command, whatever status the call has.

use std::error::Error;
use std::fs;
use std::process::{Command, Output};

use futures::stream::{self, BoxStream, StreamExt as _};
use reverie_proto::generation::v1::generate_response::Event;
use reverie_proto::generation::v1::generation_service_server::{GenerationService, GenerationServiceServer};
use reverie_proto::generation::v1::{
    Completed, GenerateRequest, GenerateResponse, GeneratedImage, GetCapabilitiesRequest,
    GetCapabilitiesResponse, Progress, Stage, Started,
};
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::Refusal;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Tells these events of each call, and ends it with this status, or with OK.
struct Ends(Vec<Event>, Option<Status>);

#[tonic::async_trait]
impl GenerationService for Ends {
    type GenerateStream = BoxStream<'static, Result<GenerateResponse, Status>>;

    async fn generate(&self, _: Request<GenerateRequest>) -> Result<Response<Self::GenerateStream>, Status> {
        let events = self.0.clone().into_iter().map(|event| Ok(GenerateResponse { event: Some(event) }));
        Ok(Response::new(stream::iter(events.chain(self.1.clone().map(Err)).collect::<Vec<_>>()).boxed()))
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
    generate_from(Ends(events, None), &[]).await
}

/// The same of this pipeline, with more arguments.
async fn generate_from(pipeline: Ends, more: &[&str]) -> Result<(Output, Vec<String>), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = format!("http://{}", listener.local_addr()?);
    let service = GenerationServiceServer::new(pipeline);
    let serving = tonic::transport::Server::builder().add_service(service);
    let serving = tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_reverie"));
    command.args(["generate", "a zunin", "--server", &server, "--out"]).arg(folder.path().join("out.png"));
    command.args(more);
    let ended = tokio::task::spawn_blocking(move || command.output()).await??;
    serving.abort();
    let mut left = fs::read_dir(folder.path())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>, std::io::Error>>()?;
    left.sort();
    Ok((ended, left))
}

fn image(data: &'static [u8]) -> Event {
    image_at(0, data)
}

fn image_at(index: u32, data: &'static [u8]) -> Event {
    let image = Image { data: data.into(), ..Image::default() };
    Event::Image(GeneratedImage { image: Some(image), index, ..GeneratedImage::default() })
}

#[tokio::test]
async fn the_images_that_came_before_another_failed_are_written() -> Result<(), Box<dyn Error>> {
    let started = || Event::Started(Started { seeds: vec![7, 8, 9], ..Started::default() });
    let events = || vec![started(), image_at(2, b"the third"), image_at(0, b"the first")];
    let failure = Refusal::internal("image at index 1 (seed 8): it is broken").into();
    let (ended, left) = generate_from(Ends(events(), Some(failure)), &["--count", "3"]).await?;
    let told = String::from_utf8(ended.stderr)?;
    assert_eq!(ended.status.code(), Some(1), "{told}");
    assert!(told.contains("image at index 1 (seed 8): it is broken"), "{told}");
    assert!(told.contains("written: ") && told.contains("out-1.png, "), "{told}");
    assert_eq!(left, ["out-1.png", "out-3.png"]);

    let missing = [events(), vec![Event::Completed(Completed::default())]].concat();
    let (ended, _) = generate_from(Ends(missing, None), &["--count", "3"]).await?;
    let told = String::from_utf8(ended.stderr)?;
    assert!(told.contains("the pipeline ended with 2 of 3 pictures"), "{told}");
    Ok(())
}

#[tokio::test]
async fn a_smaller_image_is_told_as_such() -> Result<(), Box<dyn Error>> {
    let level = Stage::SuperResolution.into();
    let stages = vec![Stage::Base.into(), level, level];
    let started = Event::Started(Started { seeds: vec![7], stages, ..Started::default() });
    let image = Image { data: b"a picture".as_slice().into(), width: 256, height: 256, ..Image::default() };
    let image = GeneratedImage { image: Some(image), degraded: true, level: 1, ..GeneratedImage::default() };
    let completed = Event::Completed(Completed { seed: 7, degraded: true, ..Completed::default() });
    let (ended, _) = generate(vec![started, Event::Image(image), completed]).await?;
    let told = String::from_utf8(ended.stdout)?;
    let expected = "out.png (256 x 256), seed 7, degraded: level 1 of 2, there was no time for more";
    assert!(told.contains(expected), "{told}");
    Ok(())
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
