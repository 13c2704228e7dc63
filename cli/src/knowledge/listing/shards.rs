//! Tar files as `WebDataset` writes them: members whose paths are equal up to the first dot of the name are one item. Its image ends in
//! `.jpg`, `.jpeg`, `.png` or `.webp`; its caption is in `.txt`, or in `.json` with other columns ([`super::columns`]).

use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};

use reverie_knowledge::epoch::{Label, Metadata};
use serde_json::{Map, Value as Json};

use super::{Columns, Item, Listing, Place, Problem, columns as table};
use crate::knowledge::picture_files::{PictureFile, PictureFolder, Span, as_text};
use crate::picture_file::format_of_ending;

/// Most bytes of a member that says something of an image.
const MAX_TEXT_BYTES: u64 = 1 << 20;

/// The members of one item.
#[derive(Default)]
struct Sample {
    /// Number of the tar file.
    shard: usize,
    key: String,
    image: Option<PictureFile>,
    text: Option<Vec<u8>>,
    json: Option<Vec<u8>>,
    /// What is wrong with it, if it is.
    why: Option<String>,
}

/// The items of some tar files, in order.
pub(super) fn read(folder: &Path, shards: Vec<PathBuf>, columns: &Columns) -> Result<Listing, String> {
    let mut samples = Vec::new();
    for (number, path) in shards.iter().enumerate() {
        read_shard(path, number, &mut samples).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let (mut items, mut problems) = (Vec::new(), Vec::new());
    for (number, sample) in (1..).zip(samples) {
        let (place, id) = (Place::Number(number), sample.key.clone());
        let file = sample.image.as_ref().map(|image| image.name.clone()).unwrap_or_default();
        match item(place, sample, columns) {
            Ok(item) => items.push(item),
            Err(why) => problems.push(Problem { id, file, ..Problem::at(place, why) }),
        }
    }
    let name = match shards.as_slice() {
        [shard] => shard.display().to_string(),
        _ => format!("{} tar files in {}", shards.len(), folder.display()),
    };
    Ok(Listing { name, files: PictureFolder::open(folder)?.with_shards(shards), items, problems })
}

fn read_shard(path: &Path, number: usize, samples: &mut Vec<Sample>) -> std::io::Result<()> {
    let shard = path.file_name().unwrap_or_default().to_string_lossy();
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 20, File::open(path)?));
    let length = path.metadata()?.len();
    for member in archive.entries_with_seek()? {
        let mut member = member?;
        if member.raw_file_position().saturating_add(member.size()) > length {
            return Err(std::io::Error::other("it is cut off"));
        }
        if !member.header().entry_type().is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&member.path_bytes()).into_owned();
        let name = path.rfind('/').map_or(0, |slash| slash + 1);
        let Some(dot) = path[name..].find('.').filter(|dot| *dot > 0).map(|dot| name + dot) else { continue };
        let (key, ending) = (&path[..dot], &path[dot + 1..]);
        if samples.last().is_none_or(|last| (last.shard, last.key.as_str()) != (number, key)) {
            samples.push(Sample { shard: number, key: key.to_owned(), ..Sample::default() });
        }
        let Some(sample) = samples.last_mut() else { continue };
        let last = ending.rsplit('.').next().unwrap_or(ending);
        if format_of_ending(last).is_some() {
            let span = Span { shard: number, offset: member.raw_file_position(), bytes: member.size() };
            let image = PictureFile { name: format!("{shard}/{path}"), span: Some(span) };
            if sample.image.replace(image).is_some() {
                sample.why = Some("it has more than one image".to_owned());
            }
        } else if ending.eq_ignore_ascii_case("txt") || ending.eq_ignore_ascii_case("json") {
            if member.size() > MAX_TEXT_BYTES {
                sample.why =
                    Some(format!("{path} has {} bytes, at most {MAX_TEXT_BYTES} are taken", member.size()));
                continue;
            }
            let mut bytes = Vec::new();
            member.read_to_end(&mut bytes)?;
            let is_text = ending.eq_ignore_ascii_case("txt");
            *(if is_text { &mut sample.text } else { &mut sample.json }) = Some(bytes);
        }
    }
    Ok(())
}

fn item(place: Place, sample: Sample, columns: &Columns) -> Result<Item, String> {
    let Sample { key, image, text, json, why, .. } = sample;
    if let Some(why) = why {
        return Err(why);
    }
    let file = image.ok_or("it has no image (.jpg, .jpeg, .png or .webp)")?;
    let text = text.map(as_text).transpose()?;
    let row: Option<Map<String, Json>> = match json {
        Some(json) => Some(serde_json::from_slice(&json).map_err(|error| format!("its .json: {error}"))?),
        None => None,
    };
    let label = match (row, text) {
        (None, None) => return Err("it has no caption (.txt or .json)".to_owned()),
        (None, Some(caption)) => {
            Label { id: key, caption, attribution: String::new(), metadata: Metadata::new() }
        }
        (Some(mut row), text) => {
            if let (Some(text), None) = (text, &columns.caption) {
                row.insert("text".to_owned(), text.into());
            }
            table::label(row, &key, columns)?
        }
    };
    Ok(Item { place, label, file })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard(path: &Path, members: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(File::create(path).unwrap());
        for (name, bytes) in members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.finish().unwrap();
    }

    #[tokio::test]
    async fn members_of_one_name_are_an_item() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::new(5, 3).write_to(&mut png, image::ImageFormat::Png).unwrap();
        let png = png.into_inner();
        let long = "x".repeat(150);
        let long_name = format!("deep/{long}.png");
        shard(
            &path,
            &[
                ("a/000.png", &png),
                ("a/000.txt", b"a fox\n"),
                ("a/001.json", br#"{"caption": "a hen", "year": 1999}"#),
                ("a/001.cond.png", &png),
                ("a/002.png", b"none"),
                ("a/003.txt", b"no image"),
                ("a/004.png", b""),
                ("a/004.jpg", b""),
                (&long_name, &png),
                (&format!("deep/{long}.txt"), b"an owl"),
                ("a/005.png", b""),
                ("a/005.json", b"[]"),
            ],
        );
        let listing = read(folder.path(), vec![path], &Columns::default()).unwrap();
        let items: Vec<_> =
            listing.items.iter().map(|item| (item.label.id.as_str(), item.label.caption.as_str())).collect();
        let long = format!("deep/{long}");
        assert_eq!(items, [("a/000", "a fox"), ("a/001", "a hen"), (&long, "an owl")]);
        for item in &listing.items {
            let picture = listing.files.picture(&item.file).await.unwrap();
            assert_eq!((picture.bytes, picture.pixels), (png.len(), 15));
        }
        let told: Vec<_> = listing.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 4, "{told:?}");
        for (told, expected) in told.iter().zip([
            r#"item 3, "a/002", "0.tar/a/002.png": it has no caption"#,
            r#"item 4, "a/003": it has no image"#,
            r#"item 5, "a/004", "0.tar/a/004.jpg": it has more than one image"#,
            r#"item 7, "a/005", "0.tar/a/005.png": its .json: invalid type"#,
        ]) {
            assert!(told.starts_with(expected), "{told}");
        }
    }

    #[test]
    fn a_torn_shard_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torn.tar");
        shard(&path, &[("0.png", &[7; 4000]), ("0.txt", b"a fox")]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..2000]).unwrap();
        let why = read(folder.path(), vec![path], &Columns::default()).unwrap_err();
        assert!(why.contains("torn.tar: it is cut off"), "{why}");
    }
}
