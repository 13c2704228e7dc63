//! What a folder or file holds, in whichever way data sets are written: an item for each image, and what is wrong with the others.
//!
//! | What is given | How it is read |
//! | --- | --- |
//! | `entries.jsonl` | an object a line: `id`, `caption`, `image` and, if wanted, `attribution` and `metadata` ([`jsonl`]) |
//! | `metadata.jsonl`, `metadata.csv`, or another such file | the columns of Hugging Face's `ImageFolder`: `file_name` and `text` ([`columns`]) |
//! | `*.tar` | WebDataset: files of one name belong together ([`shards`]) |
//! | `*.parquet` | Hugging Face's datasets: images in a column of their own ([`parquet_files`]) |
//! | images with `.txt` files of the same name | captions ([`captions`]) |

mod captions;
mod columns;
mod jsonl;
mod parquet_files;
mod shards;

use std::fmt;
use std::path::{Path, PathBuf};

use reverie_knowledge::epoch::Label;

use super::picture_files::{PictureFile, PictureFolder};

const OWN_LIST: &str = "entries.jsonl";
const LISTS: [&str; 2] = ["metadata.jsonl", "metadata.csv"];

/// The items of a data set.
#[derive(Debug)]
pub(super) struct Listing {
    /// What the items are listed in, for people.
    pub(super) name: String,
    pub(super) files: PictureFolder,
    /// In order.
    pub(super) items: Vec<Item>,
    pub(super) problems: Vec<Problem>,
}

/// An image and what is said of it, not checked yet.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    /// Where it is listed.
    pub(super) place: Place,
    pub(super) label: Label,
    pub(super) file: PictureFile,
}

/// Where an item is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Place {
    /// A line of a file, from 1.
    Line(usize),
    /// Among files, from 1, in the order of their names.
    Number(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(formatter, "line {line}"),
            Self::Number(number) => write!(formatter, "item {number}"),
        }
    }
}

/// What is wrong with an item.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) place: Place,
    pub(super) id: String,
    pub(super) file: String,
    pub(super) why: String,
}

impl Problem {
    /// Of an item of which nothing is known.
    fn at(place: Place, why: String) -> Self {
        Self { place, id: String::new(), file: String::new(), why }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.place)?;
        if !self.id.is_empty() {
            write!(formatter, ", {:?}", self.id)?;
        }
        if !self.file.is_empty() {
            write!(formatter, ", {:?}", self.file)?;
        }
        write!(formatter, ": {}", self.why)
    }
}

/// The columns that a list of other makers may have.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Columns {
    /// The column of captions in a list that has it under another name than `text` or `caption`.
    #[arg(long = "caption-column", value_name = "COLUMN")]
    pub(super) caption: Option<String>,
    /// The columns to keep as metadata, separated by commas; `--metadata ""` keeps none. Default: all but those of the image.
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    pub(super) metadata: Option<Vec<String>>,
}

/// Reads what `path` holds. Fails only if nothing could be read. Blocks.
pub(super) fn read(path: &Path, columns: &Columns) -> Result<Listing, String> {
    let told = |why: String| format!("{}: {why}", path.display());
    let extension = |path: &Path| path.extension().map(|part| part.to_string_lossy().to_lowercase());
    if path.is_file() {
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        return match extension(path).as_deref() {
            Some("tar") => shards::read(folder, vec![path.to_owned()], columns),
            Some("parquet") => parquet_files::read(folder, &[path.to_owned()], columns),
            Some("jsonl" | "csv") => read_list(folder, path, columns),
            _ => Err(told("it is neither a folder nor a .jsonl, .csv, .parquet or .tar file".to_owned())),
        };
    }
    let files = PictureFolder::open(path)?;
    for list in [OWN_LIST].into_iter().chain(LISTS) {
        if path.join(list).exists() {
            return read_list(path, &path.join(list), columns);
        }
    }
    let mut there: Vec<PathBuf> = std::fs::read_dir(path)
        .map_err(|error| told(error.to_string()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    there.sort();
    let all = |kind| -> Vec<PathBuf> {
        there.iter().filter(|path| extension(path).as_deref() == Some(kind)).cloned().collect()
    };
    let (tars, tables) = (all("tar"), all("parquet"));
    if !tars.is_empty() {
        return shards::read(path, tars, columns);
    }
    if !tables.is_empty() {
        return parquet_files::read(path, &tables, columns);
    }
    captions::read(path, files)
}

fn read_list(folder: &Path, list: &Path, columns: &Columns) -> Result<Listing, String> {
    let name = list.display().to_string();
    let told = |why: String| format!("{name}: {why}");
    let files = PictureFolder::open(folder)?;
    let file = list.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let bytes = files.list(&file).map_err(told)?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(told("it is UTF-16; save it as UTF-8".to_owned()));
    }
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    let (items, problems) = if file == OWN_LIST {
        jsonl::own(bytes)
    } else if file.to_lowercase().ends_with(".csv") {
        columns::csv(bytes, columns).map_err(told)?
    } else {
        columns::jsonl(bytes, columns)
    };
    Ok(Listing { name, files, items, problems })
}

/// Items, and what is wrong with the others.
type Read = (Vec<Item>, Vec<Problem>);
