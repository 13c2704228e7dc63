//! Messages to every service in which one thing is wrong, or that are no messages: each is answered, or refused for what is wrong with it,
//! and no service fails.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use rand::RngExt as _;
use reverie::Failure;
use reverie_imaging::pictures::Rgb;
use reverie_integration_tests::mutation::{self, choose};
use reverie_integration_tests::processes::{Process, Processes};
use reverie_integration_tests::requests::{PATIENCE, neighbours, quick, steps};
use reverie_integration_tests::{Fallible, bases, creatures};
use reverie_proto::denoiser::v1::{DenoiseRequest, NeighbourCondition, PredictRequest};
use reverie_proto::diffusion::v1::Guidance;
use reverie_proto::encoder::v1::encoder_service_client::EncoderServiceClient;
use reverie_proto::encoder::v1::{EmbedImageRequest, EmbedTextRequest, EncodeTextRequest};
use reverie_proto::generation::v1::GenerateRequest;
use reverie_proto::knowledge::v1::filter::Condition;
use reverie_proto::knowledge::v1::metadata_value::Kind;
use reverie_proto::knowledge::v1::{
    BatchGetEntriesRequest, DeleteEntriesRequest, Entry, Filter, Filters, MetadataValue, OneOf, QueryVector,
    Range, Selection, UpsertEntriesRequest,
};
use reverie_proto::retrieval::v1::RetrieveRequest;
use reverie_proto::retrieval::v1::retrieve_request::Embed;
use reverie_proto::superresolution::v1::{CheckOptionsRequest, UpscaleRequest};
use reverie_proto::tensor::v1::{Image, ImageFormat, Size, TextTokens};
use reverie_proto::vector::v1::vector_service_client::VectorServiceClient;
use reverie_proto::vector::v1::{
    BatchSearchRequest, Collection, CompareRequest, ListCollectionsRequest, SearchRequest, Vector,
};
use reverie_service_kit::Context;
use reverie_service_kit::client::{Channel, Upstream};
use roaring::RoaringBitmap;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::runtime::Runtime;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The knowledge base that can be changed.
const BASE: &str = "mutants";
/// Some changed messages ask for much, such as a thousand steps.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A method, the service that has it, and a message that it takes.
struct Sound {
    channel: Channel,
    method: &'static str,
    message: Vec<u8>,
}

/// What messages are made of.
struct Facts {
    picture: Image,
    text: TextTokens,
    collection: Collection,
}

impl Facts {
    async fn ask(encoder: Channel, vector: Channel) -> Fallible<Self> {
        let context = || Context::with_timeout(PATIENCE);
        let texts = context().outgoing(texts());
        let encoded = EncoderServiceClient::new(encoder).encode_text(texts).await?.into_inner();
        let list = context().outgoing(ListCollectionsRequest {});
        let collections =
            VectorServiceClient::new(vector).list_collections(list).await?.into_inner().collections;
        Ok(Self {
            picture: Image { data: creatures::entries().await?[0].image.clone(), ..Image::default() },
            text: encoded.texts.into_iter().next().ok_or("no text")?,
            collection: collections.into_iter().find(|one| one.name == "creatures").ok_or("no creatures")?,
        })
    }

    fn vector(&self) -> Vec<f32> {
        vec![0.5; self.collection.dimension as usize]
    }

    fn of_encoder(&self) -> Vec<(&'static str, Vec<u8>)> {
        let space_digest = self.collection.space_digest.clone();
        let text = EmbedTextRequest { texts: vec!["a zunin".to_owned()], space_digest };
        let image = EmbedImageRequest { images: vec![self.picture.clone()], fit: 1 };
        vec![
            ("/reverie.encoder.v1.EncoderService/EncodeText", texts().encode_to_vec()),
            ("/reverie.encoder.v1.EncoderService/EmbedText", text.encode_to_vec()),
            ("/reverie.encoder.v1.EncoderService/EmbedImage", image.encode_to_vec()),
        ]
    }

    fn of_vector(&self) -> Fallible<Vec<(&'static str, Vec<u8>)>> {
        let Collection { name, space_digest, epoch, content_digest, .. } = self.collection.clone();
        let mut allowed = Vec::new();
        RoaringBitmap::from_iter([1, 5, 900]).serialize_into(&mut allowed)?;
        let search = SearchRequest {
            collection: name.clone(),
            vector: self.vector(),
            space_digest: space_digest.clone(),
            limit: 3,
            epoch: Some(epoch),
            content_digest: content_digest.clone(),
            allowed_keys: allowed.clone().into(),
            exact: false,
        };
        let batch = BatchSearchRequest {
            collection: name.clone(),
            vectors: vec![Vector { values: self.vector() }; 2],
            space_digest,
            limit: 3,
            epoch: Some(epoch),
            content_digest: content_digest.clone(),
            allowed_keys: allowed.into(),
            exact: true,
        };
        let keys = vec![1, 2, 900];
        let compare = CompareRequest { collection: name, keys, epoch: Some(epoch), content_digest };
        Ok(vec![
            ("/reverie.vector.v1.VectorService/Search", search.encode_to_vec()),
            ("/reverie.vector.v1.VectorService/BatchSearch", batch.encode_to_vec()),
            ("/reverie.vector.v1.VectorService/Compare", compare.encode_to_vec()),
        ])
    }

    /// Of retrieval, which the public door has too.
    fn of_knowledge(&self) -> Vec<(&'static str, Vec<u8>)> {
        let space_digest = self.collection.space_digest.clone();
        let query = QueryVector { values: self.vector(), space_digest };
        let embeds = [None, Some(Embed::Image(self.picture.clone())), Some(Embed::Vector(query))];
        let retrieve = embeds.map(|embed| RetrieveRequest {
            knowledge_base: "creatures".to_owned(),
            text: "a small zunin".to_owned(),
            limit: 3,
            minimum_score: Some(0.01),
            selection: Some(selection()),
            embed,
            ..RetrieveRequest::default()
        });
        let entry = Entry {
            id: "mutant".to_owned(),
            caption: "a mutant".to_owned(),
            image: Some(self.picture.clone()),
            attribution: "nobody".to_owned(),
            metadata: [("year".to_owned(), said(Kind::Number(1.5)))].into(),
            ..Entry::default()
        };
        let upsert = UpsertEntriesRequest { knowledge_base: BASE.to_owned(), entries: vec![entry] };
        let ids = vec!["zunin-1".to_owned(), "zunin-2".to_owned()];
        let delete = DeleteEntriesRequest { knowledge_base: BASE.to_owned(), ids: ids.clone() };
        let get = BatchGetEntriesRequest { knowledge_base: "creatures".to_owned(), ids, images: 1 };
        let retrieve = retrieve
            .into_iter()
            .map(|request| ("/reverie.retrieval.v1.RetrievalService/Retrieve", request.encode_to_vec()));
        let others = [
            ("/reverie.knowledge.v1.KnowledgeService/UpsertEntries", upsert.encode_to_vec()),
            ("/reverie.knowledge.v1.KnowledgeService/DeleteEntries", delete.encode_to_vec()),
            ("/reverie.knowledge.v1.KnowledgeService/BatchGetEntries", get.encode_to_vec()),
        ];
        retrieve.chain(others).collect()
    }

    fn of_denoiser(&self) -> Vec<(&'static str, Vec<u8>)> {
        let (image, caption) = (Some(self.picture.clone()), Some(self.text.clone()));
        let guidance =
            Guidance { text_weight: Some(2.0), neighbour_weight: Some(1.5), ..Guidance::default() };
        let denoise = DenoiseRequest {
            seed: 5,
            text: Some(self.text.clone()),
            neighbours: vec![NeighbourCondition { image, caption, is_prepared: false }],
            guidance: Some(guidance),
            sampling: Some(steps(1)),
            size: Some(Size { width: 64, height: 64 }),
            ..DenoiseRequest::default()
        };
        let predict = PredictRequest {
            neighbours: 2,
            guidance: Some(guidance),
            sampling: Some(steps(4)),
            strength: Some(0.5),
            size: Some(Size { width: 64, height: 64 }),
            ..PredictRequest::default()
        };
        vec![
            ("/reverie.denoiser.v1.DenoiserService/Denoise", denoise.encode_to_vec()),
            ("/reverie.denoiser.v1.DenoiserService/Predict", predict.encode_to_vec()),
        ]
    }

    fn of_super_resolution(&self) -> Vec<(&'static str, Vec<u8>)> {
        let pixels = Rgb::from_fn(64, 64, |x, y| [x as u8 * 3, y as u8 * 3, 90].into());
        let format = ImageFormat::Rgb8.into();
        let upscale = UpscaleRequest {
            seed: 5,
            image: Some(Image { data: pixels.into_raw().into(), format, width: 64, height: 64 }),
            text: Some(self.text.clone()),
            noise_level: Some(0.1),
            sampling: Some(steps(1)),
            ..UpscaleRequest::default()
        };
        let check =
            CheckOptionsRequest { low_resolution_size: 64, sampling: Some(steps(2)), ..Default::default() };
        vec![
            ("/reverie.superresolution.v1.SuperResolutionService/Upscale", upscale.encode_to_vec()),
            ("/reverie.superresolution.v1.SuperResolutionService/CheckOptions", check.encode_to_vec()),
        ]
    }
}

fn texts() -> EncodeTextRequest {
    EncodeTextRequest { texts: vec!["a small zunin, snow".to_owned()], cut: true, ..Default::default() }
}

fn selection() -> Selection {
    let is_flag = Condition::OneOf(OneOf {
        key: "is".to_owned(),
        values: vec![said(Kind::Flag(true)), said(Kind::Number(2.0))],
    });
    let conditions = vec![
        Condition::OneOf(OneOf { key: "kind".to_owned(), values: vec![said(Kind::Text("a".to_owned()))] }),
        Condition::Range(Range { key: "year".to_owned(), at_least: Some(1.0), at_most: None }),
        Condition::Not(Box::new(either(vec![is_flag]))),
    ];
    Selection {
        filter: Some(either(conditions)),
        exclude_ids: vec!["zunin-1".to_owned()],
        diversity: Some(0.3),
        ..Selection::default()
    }
}

/// Messages that are taken by all services, with most of their fields set.
async fn sound(six: &Processes) -> Fallible<Vec<Sound>> {
    let channel =
        |process: &Process| Ok::<_, Failure>(Upstream::new("service", &process.address()?).channel());
    let facts = Facts::ask(channel(&six.encoder)?, channel(&six.vector)?).await?;
    let generate = GenerateRequest { memory: Some(neighbours(2)), ..quick("a small zunin, snow", 64, 3) };
    let mut of_pipeline = facts.of_knowledge();
    of_pipeline.push(("/reverie.generation.v1.GenerationService/Generate", generate.encode_to_vec()));
    let all = [
        (&six.encoder, facts.of_encoder()),
        (&six.vector, facts.of_vector()?),
        (&six.retrieval, facts.of_knowledge()),
        (&six.denoiser, facts.of_denoiser()),
        (&six.super_resolution, facts.of_super_resolution()),
        (&six.pipeline, of_pipeline),
    ];
    let mut sound = Vec::new();
    for (process, messages) in all {
        let channel = channel(process)?;
        sound.extend(messages.into_iter().map(|(method, message)| Sound {
            channel: channel.clone(),
            method,
            message,
        }));
    }
    Ok(sound)
}

fn said(kind: Kind) -> MetadataValue {
    MetadataValue { kind: Some(kind) }
}

fn either(conditions: Vec<Condition>) -> Filter {
    let filters = conditions.into_iter().map(|condition| Filter { condition: Some(condition) }).collect();
    Filter { condition: Some(Condition::Any(Filters { filters })) }
}

/// Whether a refusal says what is wrong with a message, or that it asks for more than can be had.
fn is_told(method: &str, status: &Status) -> bool {
    let names_fields =
        || status.get_details_bad_request().is_some_and(|wrong| !wrong.field_violations.is_empty());
    let has_reason = || status.get_details_error_info().is_some_and(|info| !info.reason.is_empty());
    match status.code() {
        Code::InvalidArgument => names_fields() || has_reason(),
        Code::NotFound | Code::FailedPrecondition | Code::ResourceExhausted => has_reason(),
        // What takes steps, of which a changed message may ask for a thousand.
        Code::DeadlineExceeded => {
            ["Generate", "Denoise", "Upscale"].iter().any(|name| method.ends_with(name))
        }
        _ => false,
    }
}

#[test]
fn every_service_answers_or_says_what_is_wrong() -> Fallible<()> {
    let runtime = Runtime::new()?;
    let (folder, mut six) = runtime.block_on(start())?;
    let sound = runtime.block_on(sound(&six))?;
    let handle = runtime.handle().clone();
    let ask = move |sound: &Sound, message: Vec<u8>| {
        let context = Context::with_timeout(TIMEOUT);
        handle.block_on(mutation::call(sound.channel.clone(), sound.method, Bytes::from(message), context))
    };
    for sound in &sound {
        let answer = ask(sound, sound.message.clone());
        assert!(answer.is_ok(), "{} with a sound message: {answer:?}", sound.method);
    }
    mutation::cases(1500, move |random| {
        let sound = choose(random, &sound);
        let mut message = sound.message.clone();
        mutation::message(random, &mut message);
        if random.random_bool(0.05) {
            mutation::bytes(random, &mut message);
        }
        if let Err(status) = ask(sound, message.clone()) {
            let start = message[..message.len().min(300)].escape_ascii();
            assert!(is_told(sound.method, &status), "{}: {status}: {start}", sound.method);
        }
        Ok(())
    })?;
    runtime.block_on(async {
        for process in six.all() {
            assert!(!process.log().contains("panicked"), "{}: {}", process.service(), process.log());
            mutation::check_peak_memory(&process.id()?.to_string())?;
            process.serving().await?;
        }
        Ok::<_, Failure>(())
    })?;
    drop(folder);
    Ok(())
}

/// The services, and the folder of a knowledge base that can be changed.
async fn start() -> Fallible<(TempDir, Processes)> {
    let folder = tempfile::tempdir()?;
    let location = folder.path().display().to_string();
    bases::create(folder.path(), BASE).await?;
    let prepare = |mut command: Command| {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        if program.ends_with("retrieval") || program.ends_with("vector") {
            command.args(["--set", &format!("knowledge_bases.{BASE}={location}")]);
        }
        if program.ends_with("retrieval") {
            command.args(["--set", &format!("writable=[\"{BASE}\"]")]);
        }
        Ok(command)
    };
    Ok((folder, Processes::start_as(&[], prepare).await?))
}
