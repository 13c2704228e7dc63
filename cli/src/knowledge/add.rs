//! `reverie knowledge add`: images with captions become entries of a knowledge base that a mesh serves.
//!
//! 1. Everything that can be wrong with them is looked for first, as when one is built.
//! 2. The mesh is asked which of them it has already, as they are. An interrupted run resumes so, and one that is repeated sends what
//!    has changed.
//! 3. The others are sent in batches. Each is stored when its answer comes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use reverie_knowledge::epoch::{Label, Value};
use reverie_proto::knowledge::v1::knowledge_service_client::KnowledgeServiceClient;
use reverie_proto::knowledge::v1::metadata_value::Kind;
use reverie_proto::knowledge::v1::{
    BatchGetEntriesRequest, Entry, ImageDetail, MetadataValue, UpsertEntriesRequest,
};
use reverie_proto::tensor::v1::Image;
use reverie_service_kit::{Address, say};

use super::build::check;
use super::change::{self, Base};
use super::embedding::Batch;
use super::listing::Columns;
use super::source::{self, Candidate, Source};
use crate::Failure;
use crate::client::call;
use crate::progress::counting_bar;

/// The most of a call, unless one picture alone has more.
const BATCH: Batch = Batch { pictures: 32, bytes: 3 << 20, pixels: 32 << 20 };
/// Ids that are asked for at a time.
const ASKED: usize = 100;

/// Reads what `build` reads. What the mesh has already, as it is, is not sent again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The images with their captions: a folder, a .jsonl, .csv, .parquet or .tar file, or the URL of one of the last two (https://,
    /// s3://, gs://, az://).
    #[arg(value_name = "FOLDER|FILE|URL", value_parser = source::place)]
    pictures: PathBuf,
    #[command(flatten)]
    columns: Columns,
    /// Leaves bad entries out, and lists them, instead of adding nothing.
    #[arg(long)]
    skip_bad: bool,
    #[command(flatten)]
    base: Base,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let source = source::read(&arguments.pictures, &arguments.columns).await?;
    check(&source, arguments.skip_bad)?;
    let (base, mesh) = (&arguments.base, arguments.base.mesh());
    let ask = async |address: &Address| add(&base.name, address, mesh.timeout(), &source).await;
    mesh.with_pipeline(ask).await
}

/// Adds to the knowledge base of this name.
async fn add(name: &str, address: &Address, timeout: Duration, source: &Source) -> Result<(), Failure> {
    let mut pending: Vec<&Candidate> = Vec::new();
    for candidates in source.candidates.chunks(ASKED) {
        let known = known(name, address, timeout, candidates).await?;
        pending.extend(candidates.iter().filter(|candidate| !is_known(&known, candidate)));
    }
    let unchanged = source.candidates.len() - pending.len();
    let bar = counting_bar("add", pending.len());
    let (mut inserted, mut replaced, mut size) = (0, 0, None);
    let mut rest = &pending[..];
    while let Some((batch, later)) = BATCH.next(rest) {
        rest = later;
        let mut entries = Vec::with_capacity(batch.len());
        for candidate in batch {
            let image = Image { data: source.image(candidate).await?, ..Image::default() };
            entries.push(entry(&candidate.label, image));
        }
        let request = UpsertEntriesRequest { knowledge_base: name.to_owned(), entries };
        let stored = call(address, timeout, async |channel, context| {
            KnowledgeServiceClient::new(channel).upsert_entries(context.outgoing(request)).await
        });
        let stored = stored.await.map_err(|status| {
            let (first, last) = (batch[0].place, batch[batch.len() - 1].place);
            let done = bar.position();
            format!(
                "{first} to {last}: {}; {done} entries were stored before, and are not sent again",
                status.message()
            )
        })?;
        inserted += stored.inserted;
        replaced += stored.replaced;
        size = stored.epoch.map(|epoch| epoch.size);
        bar.inc(batch.len() as u64);
    }
    bar.finish_and_clear();
    let size = size.map_or(String::new(), |size| format!("; {size} entries in all"));
    say!("{}: {inserted} added, {replaced} replaced, {unchanged} unchanged{size}", change::told(name))?;
    Ok(())
}

/// What the mesh has of these: by id, what is said of it and the digest of its picture.
async fn known(
    name: &str,
    address: &Address,
    timeout: Duration,
    candidates: &[Candidate],
) -> Result<HashMap<String, Entry>, Failure> {
    let ids = candidates.iter().map(|candidate| candidate.label.id.clone()).collect();
    let request =
        BatchGetEntriesRequest { knowledge_base: name.to_owned(), ids, images: ImageDetail::None.into() };
    let found = call(address, timeout, async |channel, context| {
        KnowledgeServiceClient::new(channel).batch_get_entries(context.outgoing(request)).await
    });
    let found = found.await.map_err(|status| status.message().to_owned())?;
    Ok(found.entries.into_iter().map(|entry| (entry.id.clone(), entry)).collect())
}

fn is_known(known: &HashMap<String, Entry>, candidate: &Candidate) -> bool {
    known.get(&candidate.label.id).is_some_and(|found| {
        let sha256 = &candidate.picture.digest;
        let as_it_is = Entry { image_sha256: sha256.clone(), ..entry(&candidate.label, Image::default()) };
        *found == Entry { image: None, ..as_it_is }
    })
}

fn entry(label: &Label, image: Image) -> Entry {
    let Label { id, caption, attribution, metadata } = label.clone();
    Entry {
        id,
        caption,
        image: Some(image),
        attribution,
        metadata: metadata.into_iter().map(|(key, value)| (key, message(value))).collect(),
        vector: None,
        image_sha256: String::new(),
    }
}

fn message(value: Value) -> MetadataValue {
    let kind = match value {
        Value::Text(text) => Kind::Text(text),
        Value::Number(number) => Kind::Number(number),
        Value::Flag(flag) => Kind::Flag(flag),
    };
    MetadataValue { kind: Some(kind) }
}
