//! `reverie knowledge search`: what a search finds, without drawing.

use std::fmt::Write as _;
use std::path::PathBuf;

use reverie_imaging::pictures::{self, Rgb};
use reverie_proto::knowledge::v1::metadata_value::Kind;
use reverie_proto::knowledge::v1::{ImageDetail, MetadataValue, Neighbour};
use reverie_proto::retrieval::v1::retrieval_service_client::RetrievalServiceClient;
use reverie_proto::retrieval::v1::retrieve_request::Embed;
use reverie_proto::retrieval::v1::{RetrieveRequest, RetrieveResponse};
use reverie_service_kit::client::MAX_INTERNAL_MESSAGE;
use reverie_service_kit::output::print;
use reverie_service_kit::say;
use serde_json::{Map, Value, json};

use crate::mesh::AskArguments;
use crate::report::{misspelt, misspelt_json, neighbour_json, neighbour_line};
use crate::selection::SearchArguments;
use crate::{Failure, picture_file, sheet};

/// Images beside each other on a contact sheet.
const COLUMNS: usize = 8;
/// Side of a cell of it, pixels.
const CELL: u32 = 128;

/// Searches a knowledge base for a text, an image, or both.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to search for; may be left out with --query-image.
    #[arg(required_unless_present = "query_image")]
    text: Option<String>,
    /// How many entries to find, 1 to 100.
    #[arg(long, short = 'k', value_name = "K", default_value_t = 10, allow_negative_numbers = true)]
    limit: u32,
    /// Finds the nearest entries if none matches.
    #[arg(long)]
    nearest: bool,
    /// Compares with the vector of every image, so that none of the nearest is missed.
    #[arg(long)]
    exact: bool,
    /// Also writes a contact sheet of the images found, eight in a row.
    #[arg(long, value_name = "FILE")]
    sheet: Option<PathBuf>,
    /// Writes one object of JSON instead of text.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    search: SearchArguments,
    #[command(flatten)]
    mesh: AskArguments,
}

pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    if let Some(file) = &arguments.sheet {
        picture_file::check(file).await?;
    }
    let images = if arguments.sheet.is_some() { ImageDetail::Thumbnail } else { ImageDetail::None };
    let embed = match &arguments.search.query_image {
        Some(file) => Some(Embed::Image(picture_file::read(file).await?)),
        None => None,
    };
    let request = RetrieveRequest {
        knowledge_base: arguments.search.knowledge_base.clone().unwrap_or_default(),
        text: arguments.text.unwrap_or_default(),
        limit: arguments.limit,
        strategy: arguments.search.retrieval.unwrap_or_default().into(),
        minimum_score: arguments.search.minimum_score,
        nearest: arguments.nearest,
        embed,
        selection: arguments.search.selection(),
        images: images.into(),
        exact: arguments.exact,
    };
    let searched = arguments.mesh.call(async |channel, context| {
        let mut client = RetrievalServiceClient::new(channel).max_decoding_message_size(MAX_INTERNAL_MESSAGE);
        client.retrieve(context.outgoing(request)).await
    });
    let found = searched.await?;
    if let Some(file) = arguments.sheet.as_deref().filter(|_| !found.neighbours.is_empty()) {
        let images = found.neighbours.iter().filter_map(|neighbour| neighbour.image.as_ref());
        let images = images.map(pictures::decode).collect::<Result<Vec<_>, _>>()?;
        let row = |images: &[Rgb]| sheet::lay_out(&[images.iter().map(Some).collect()], CELL);
        let rows: Vec<Rgb> = images.chunks(COLUMNS).map(row).collect();
        picture_file::write(file, &sheet::stack(&rows, picture_file::format_of(file)?)?).await?;
    }
    if arguments.json {
        say!("{}", as_json(&found))?;
    } else {
        print(format_args!("{}", as_text(&found)))?;
    }
    Ok(())
}

fn as_text(found: &RetrieveResponse) -> String {
    let mut text = String::new();
    if !found.unmatched_words.is_empty() {
        let _ = writeln!(text, "no caption names {}", found.unmatched_words.join(", "));
    }
    for word in &found.misspelt_words {
        let _ = writeln!(text, "{}", misspelt(word));
    }
    if found.nothing_matched {
        let rest = if found.neighbours.is_empty() { "" } else { "; these are the nearest" };
        let _ = writeln!(text, "nothing in {} (epoch {}) matches{rest}", found.knowledge_base, found.epoch);
    }
    for neighbour in &found.neighbours {
        let _ = writeln!(text, "{}", neighbour_line(neighbour));
    }
    text
}

fn as_json(found: &RetrieveResponse) -> Value {
    let neighbour = |one: &Neighbour| {
        let metadata: Map<String, Value> =
            one.metadata.iter().map(|(key, value)| (key.clone(), in_json(value))).collect();
        let mut told = neighbour_json(one);
        told["metadata"] = metadata.into();
        told
    };
    json!({
        "knowledge_base": found.knowledge_base,
        "epoch": found.epoch,
        "nothing_matched": found.nothing_matched,
        "unmatched_words": found.unmatched_words,
        "misspelt_words": misspelt_json(&found.misspelt_words),
        "neighbours": found.neighbours.iter().map(neighbour).collect::<Vec<_>>(),
    })
}

fn in_json(value: &MetadataValue) -> Value {
    match &value.kind {
        Some(Kind::Text(text)) => text.as_str().into(),
        Some(Kind::Number(number)) => (*number).into(),
        Some(Kind::Flag(flag)) => (*flag).into(),
        None => Value::Null,
    }
}
