//! Parquet files as Hugging Face's datasets have them: a row for each image, which is in the column `image`, or in the first other one with
//! bytes: as bytes, or as a structure of `bytes` and `path`. The other columns are those of a table ([`super::columns`]).

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use parquet::errors::ParquetError;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use reverie_imaging::pictures::MAX_ENCODED_BYTES;
use serde_json::{Map, Value as Json};
use tempfile::NamedTempFile;

use super::{Columns, Item, Listing, Place, Problem, columns as table};
use crate::knowledge::picture_files::{PictureFile, PictureFolder, Span};

const IMAGE: &str = "image";
const BYTES: &str = "bytes";
const PATH: &str = "path";
/// Rows that are in memory at a time.
const BATCH: usize = 16;

/// The items of some Parquet files, in order. Their images, which are compressed in the files, are unpacked into a temporary one.
pub(super) fn read(folder: &Path, files: &[PathBuf], columns: &Columns) -> Result<Listing, String> {
    let told = |path: &Path, why: String| format!("{}: {why}", path.display());
    let temporary =
        |error: std::io::Error| format!("images cannot be unpacked into a temporary file: {error}");
    let mut unpacked = Unpacked { file: NamedTempFile::new().map_err(temporary)?, bytes: 0 };
    let (mut items, mut problems, mut number) = (Vec::new(), Vec::new(), 0);
    for path in files {
        let rows = rows(path).map_err(|error| told(path, error.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        for (row, read) in (1..).zip(rows) {
            number += 1;
            let place = Place::Number(number);
            let read = read.map_err(|error| told(path, format!("row {row}: {error}")))?;
            match item(place, &format!("{name}/{row}"), read, columns, &mut unpacked) {
                Ok(item) => items.push(item),
                Err(Wrong::Row(why)) => problems.push(Problem::at(place, why)),
                Err(Wrong::Temporary(error)) => return Err(temporary(error)),
            }
        }
    }
    let name = match files {
        [file] => file.display().to_string(),
        _ => format!("{} Parquet files in {}", files.len(), folder.display()),
    };
    let files = PictureFolder::open(folder)?.with_unpacked(unpacked.file.into_temp_path());
    Ok(Listing { name, files, items, problems })
}

fn rows(path: &Path) -> Result<RowIter<'static>, ParquetError> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    Ok(RowIter::from_file_into(Box::new(reader)).with_batch_size(BATCH))
}

/// Images, back to back.
struct Unpacked {
    file: NamedTempFile,
    bytes: u64,
}

impl Unpacked {
    fn add(&mut self, image: &[u8]) -> std::io::Result<Span> {
        self.file.write_all(image)?;
        let span = Span { shard: 0, offset: self.bytes, bytes: image.len() as u64 };
        self.bytes += span.bytes;
        Ok(span)
    }
}

enum Wrong {
    Row(String),
    Temporary(std::io::Error),
}

impl From<String> for Wrong {
    fn from(why: String) -> Self {
        Self::Row(why)
    }
}

/// An image, and its name if it has one.
struct Image {
    bytes: parquet::data_type::ByteArray,
    name: Option<String>,
}

impl Image {
    /// That of a cell; none if it is something else.
    fn of(field: &Field) -> Result<Option<Self>, String> {
        let group = match field {
            Field::Bytes(bytes) => return Ok(Some(Self { bytes: bytes.clone(), name: None })),
            Field::Group(group) => group,
            _ => return Ok(None),
        };
        let part = |wanted: &str| group.get_column_iter().find(|(name, _)| *name == wanted).map(|it| it.1);
        let name = match part(PATH) {
            Some(Field::Str(path)) if !path.is_empty() => Some(path.clone()),
            _ => None,
        };
        match part(BYTES) {
            Some(Field::Bytes(bytes)) => Ok(Some(Self { bytes: bytes.clone(), name })),
            Some(Field::Null) => {
                let where_it_is = name.map(|name| format!(", it is in {name:?}")).unwrap_or_default();
                Err(format!("its image is not in the file{where_it_is}"))
            }
            _ => Ok(None),
        }
    }
}

fn item(
    place: Place,
    name: &str,
    row: Row,
    columns: &Columns,
    unpacked: &mut Unpacked,
) -> Result<Item, Wrong> {
    let (mut others, mut images) = (Map::new(), Vec::new());
    for (column, field) in row.into_columns() {
        match Image::of(&field)? {
            Some(image) => images.push((column, image)),
            None => {
                others.insert(column.clone(), value(&column, field)?);
            }
        }
    }
    let first = images.iter().position(|(column, _)| column == IMAGE).unwrap_or(0);
    let Some((_, image)) = images.into_iter().nth(first) else {
        return Err("it has no column with the bytes of an image".to_owned().into());
    };
    let bytes = image.bytes.data();
    if bytes.len() > MAX_ENCODED_BYTES {
        let (size, most) = (bytes.len(), MAX_ENCODED_BYTES);
        return Err(format!("its image has {size} bytes, at most {most} are taken").into());
    }
    let name = image.name.as_deref().unwrap_or(name);
    let label = table::label(others, name, columns)?;
    let span = unpacked.add(bytes).map_err(Wrong::Temporary)?;
    Ok(Item { place, label, file: PictureFile { name: name.to_owned(), span: Some(span) } })
}

/// What a cell says.
fn value(column: &str, field: Field) -> Result<Json, String> {
    Ok(match field {
        Field::Null => Json::Null,
        Field::Bool(flag) => flag.into(),
        Field::Byte(number) => number.into(),
        Field::Short(number) => number.into(),
        Field::Int(number) => number.into(),
        Field::Long(number) => number.into(),
        Field::UByte(number) => number.into(),
        Field::UShort(number) => number.into(),
        Field::UInt(number) => number.into(),
        Field::ULong(number) => number.into(),
        Field::Float16(number) => number.to_f64().into(),
        Field::Float(number) => number.into(),
        Field::Double(number) => number.into(),
        Field::Str(text) => text.into(),
        Field::Date(_) | Field::TimestampMillis(_) | Field::TimestampMicros(_) | Field::Decimal(_) => {
            field.to_string().into()
        }
        _ => {
            return Err(format!(
                "the column {column} is a list, an object or bytes; metadata are texts, numbers, and true or false"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use reverie_knowledge::epoch::Value;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
    }

    #[tokio::test]
    async fn files_of_other_makers_are_read() {
        let files = [fixture("hugging-face.parquet"), fixture("plain.parquet")];
        let listing = read(Path::new("."), &files, &Columns::default()).unwrap();
        let told: Vec<String> = listing.problems.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("item 4: its image is not in the file, it is in \"3.png\""), "{told:?}");
        assert!(told[1].starts_with("item 5: the column embedding is a list"), "{told:?}");
        let texts: Vec<(&str, &str)> =
            listing.items.iter().map(|item| (&*item.label.id, &*item.label.caption)).collect();
        let third = "hugging-face/3";
        assert_eq!(
            texts,
            [("0.png", "a red fox"), ("1.png", "a hen, snow"), (third, "ein Käfer"), ("8", "two")]
        );
        let metadata = &listing.items[0].label.metadata;
        let told: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let train = Value::Text("train".to_owned());
        let (weight, year) = (Value::Number(0.5), Value::Number(1999.0));
        assert_eq!(
            told,
            [("split", &train), ("weight", &weight), ("wild", &Value::Flag(true)), ("year", &year)]
        );
        let mut digests = Vec::new();
        for item in &listing.items {
            let picture = listing.files.picture(&item.file).await.unwrap();
            assert_eq!(picture.pixels, 24 * 16);
            digests.push(picture.digest);
        }
        digests.dedup();
        assert_eq!(digests.len(), 4);
        let unpacked = listing.files.shards()[0].clone();
        assert!(unpacked.exists());
        drop(listing);
        assert!(!unpacked.exists());
    }

    #[test]
    fn what_is_torn_or_none_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let bytes = fs::read(fixture("hugging-face.parquet")).unwrap();
        for cut in [0, 3, 20, bytes.len() / 2, bytes.len() - 9, bytes.len() - 1] {
            let path = folder.path().join("torn.parquet");
            fs::write(&path, &bytes[..cut]).unwrap();
            let error = read(folder.path(), &[path], &Columns::default()).unwrap_err();
            assert!(error.contains("torn.parquet: "), "{error}");
        }
    }
}
