//! Images with captions in text files beside them: `fox.png` and `fox.txt`, in a folder and those in it. The id of an image is its path
//! without the ending.

use std::collections::BTreeMap;
use std::path::Path;

use reverie_knowledge::epoch::{Label, Metadata};
use walkdir::WalkDir;

use super::{Item, Listing, Place, Problem};
use crate::knowledge::picture_files::{PictureFile, PictureFolder};
use crate::picture_file::format_of_ending;

/// Most bytes of a file with a caption: more than a caption may have.
const MAX_CAPTION_BYTES: u64 = 64 << 10;

/// The files of one stem.
#[derive(Default)]
struct Group {
    images: Vec<String>,
    text: Option<String>,
}

/// The images of a folder.
pub(super) fn read(folder: &Path, files: PictureFolder) -> Result<Listing, String> {
    let name = folder.display().to_string();
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for entry in WalkDir::new(folder).min_depth(1).sort_by_file_name() {
        let entry = entry.map_err(|error| error.to_string())?;
        let Ok(relative) = entry.path().strip_prefix(folder) else { continue };
        if entry.file_type().is_dir() {
            continue;
        }
        let Some(path) = relative.to_str() else {
            return Err(format!("{}: its name is not UTF-8", entry.path().display()));
        };
        let Some((stem, ending)) = path.rsplit_once('.') else { continue };
        if format_of_ending(ending).is_some() {
            groups.entry(stem.to_owned()).or_default().images.push(path.to_owned());
        } else if ending.eq_ignore_ascii_case("txt") {
            groups.entry(stem.to_owned()).or_default().text = Some(path.to_owned());
        }
    }
    if groups.values().all(|group| group.images.is_empty()) {
        return Err(format!(
            "{name} holds no images, no entries.jsonl, metadata.jsonl or metadata.csv, and no .tar or .parquet files"
        ));
    }
    let (mut items, mut problems) = (Vec::new(), Vec::new());
    for (number, (id, group)) in (1..).zip(groups) {
        let place = Place::Number(number);
        match item(place, id.clone(), group, &files) {
            Ok(item) => items.push(item),
            Err((file, why)) => problems.push(Problem { id, file, ..Problem::at(place, why) }),
        }
    }
    Ok(Listing { name, files, items, problems })
}

fn item(place: Place, id: String, group: Group, files: &PictureFolder) -> Result<Item, (String, String)> {
    let mut images = group.images.into_iter();
    let (image, text) = match (images.next(), group.text) {
        (Some(image), Some(text)) => (image, text),
        (Some(image), None) => return Err((image, format!("there is no caption in {id}.txt"))),
        (None, text) => {
            return Err((text.unwrap_or_default(), "there is no image of that name beside it".to_owned()));
        }
    };
    if let Some(other) = images.next() {
        return Err((other, format!("{image} has the same name, and there is one caption")));
    }
    let caption = files.text(&text, MAX_CAPTION_BYTES).map_err(|why| (text, why))?;
    let label = Label { id, caption, attribution: String::new(), metadata: Metadata::new() };
    Ok(Item { place, label, file: PictureFile::named(image) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_captions_of_one_name_belong_together() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
        std::fs::create_dir(folder.path().join("deep")).unwrap();
        for (name, bytes) in [
            ("b.PNG", &b""[..]),
            ("b.txt", b"\xef\xbb\xbfa fox\r\n"),
            ("deep/a.jpg", b""),
            ("deep/a.txt", "ein Käfer".as_bytes()),
            ("alone.webp", b""),
            ("c.txt", b"a hen"),
            ("d.txt", b"\xff"),
            ("d.png", b""),
            ("e.jpg", b""),
            ("e.png", b""),
            ("e.txt", b"two"),
            ("readme.md", b"not an item"),
        ] {
            write(name, bytes);
        }
        let files = PictureFolder::open(folder.path()).unwrap();
        let listing = read(folder.path(), files).unwrap();
        let items: Vec<_> = listing
            .items
            .iter()
            .map(|item| (item.label.id.as_str(), item.label.caption.as_str(), item.file.name.as_str()))
            .collect();
        assert_eq!(items, [("b", "a fox", "b.PNG"), ("deep/a", "ein Käfer", "deep/a.jpg")]);
        let told: Vec<_> = listing.problems.iter().map(ToString::to_string).collect();
        for (told, expected) in told.iter().zip([
            r#"item 1, "alone", "alone.webp": there is no caption in alone.txt"#,
            r#"item 3, "c", "c.txt": there is no image of that name beside it"#,
            r#"item 4, "d", "d.txt": it is not UTF-8"#,
            r#"item 6, "e", "e.png": e.jpg has the same name, and there is one caption"#,
        ]) {
            assert_eq!(told, expected);
        }
        assert_eq!(told.len(), 4, "{told:?}");
    }
}
