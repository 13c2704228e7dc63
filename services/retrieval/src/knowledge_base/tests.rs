//! A knowledge base that is written and loaded.

use bytes::Bytes;
use reverie_knowledge::epoch::{Metadata, NewEpoch, Value, VectorKind, Vectors, write_epoch};
use reverie_proto::tensor::v1::ImageFormat;
use reverie_service_kit::client::Addresses;

use super::*;
use crate::settings::Stages;

pub(crate) const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// Writes a knowledge base "creatures" with these captions; an entry's id is its position.
/// Gives its identity.
pub(crate) async fn write(location: &str, captions: &[String], picture: &'static [u8]) -> String {
    let entries = captions
        .iter()
        .enumerate()
        .map(|(position, caption)| Entry {
            id: position.to_string(),
            caption: caption.clone(),
            attribution: "drawn by nobody".to_owned(),
            metadata: Metadata::from([("position".to_owned(), Value::Number(position as f64))]),
            image: Bytes::from_static(picture),
        })
        .collect();
    let epoch = NewEpoch {
        name: "creatures".to_owned(),
        description: "made-up creatures".to_owned(),
        epoch: 3,
        dimension: 4,
        kind: VectorKind::F32,
        space_digest: "a".repeat(64),
        entries,
        vectors: Vectors { index: Bytes::from_static(b"not looked at here"), keys: None },
    };
    write_epoch(&Folder::open(location).unwrap(), epoch).await.unwrap().content_digest()
}

/// Reads knowledge bases of that name, beside stages that are not there.
pub(crate) fn reader(name: &str) -> Reader {
    let nobody = Addresses::from(reverie_service_kit::Listener::memory().1);
    let stages = Stages { encoder: nobody.clone(), vector: nobody };
    Reader { name: name.to_owned(), embedding: EmbeddingSearch::new(&stages), thumbnails: Thumbnails::new() }
}

async fn open_with(picture: &'static [u8], name: &str) -> Result<KnowledgeBase, KnowledgeError> {
    let directory = tempfile::tempdir().unwrap();
    let location = directory.path().to_str().unwrap();
    write(location, &["a dribago".to_owned()], picture).await;
    let folder = Folder::open(location).unwrap();
    let manifest = Manifest::read(&folder).await.unwrap();
    reader(name).read(&folder, manifest, None).await
}

#[tokio::test]
async fn what_is_written_is_loaded() {
    let loaded = open_with(PNG, "creatures").await.unwrap();
    assert_eq!((loaded.epoch, loaded.dimension, loaded.entries.count()), (3, 4, 1));
    assert_eq!(format::of(&loaded.entries.get(0).unwrap().image), Some(ImageFormat::Png));
    assert_eq!((loaded.key("0"), loaded.key("1")), (Some(0), None));
}

#[tokio::test]
async fn what_is_no_picture_or_another_knowledge_base_is_refused() {
    let error = open_with(b"GIF89a", "creatures").await.err().unwrap().to_string();
    assert!(error.contains("entry \"0\""), "{error}");
    let error = open_with(PNG, "birds").await.err().unwrap().to_string();
    assert!(error.contains("creatures"), "{error}");
}
