//! The images of a data set and what is said of them: read, checked, and everything that is wrong with them. Images are not kept: they
//! are read again when they are needed.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::StreamExt as _;
use reverie_knowledge::epoch::{Label, check_attribution, check_caption, check_id, check_metadata};
use reverie_storage::{Folder, local_path};
use tempfile::TempDir;

use super::listing::{self, Columns, Item, Listing, Place, Problem};
use super::picture_files::{Picture, PictureFile, PictureFolder};
use crate::Failure;
use crate::progress::counting_bar;

/// What a data set holds.
#[derive(Debug)]
pub(super) struct Source {
    /// What it is listed in, for people.
    pub(super) list: String,
    files: PictureFolder,
    /// The good entries, in order.
    pub(super) candidates: Vec<Candidate>,
    /// What is wrong with the others, in order.
    pub(super) problems: Vec<Problem>,
    /// What `files` read from.
    _downloaded: Option<Downloaded>,
}

/// An entry that can be embedded.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) label: Label,
    pub(super) file: PictureFile,
    /// Where it is listed.
    pub(super) place: Place,
    pub(super) picture: Picture,
}

impl Source {
    /// Reads the picture of a candidate.
    pub(super) async fn image(&self, candidate: &Candidate) -> Result<Bytes, Failure> {
        let Candidate { label, file, place, picture } = candidate;
        let problem =
            |why| Problem { place: *place, id: label.id.clone(), file: file.name.clone(), why }.to_string();
        Ok(self.files.again(file, &picture.digest).await.map_err(problem)?)
    }
}

/// A path of this machine, or a URL, from an argument.
pub(super) fn place(text: &str) -> Result<PathBuf, String> {
    let is_elsewhere = text.contains("://") && !text.starts_with("file://");
    if is_elsewhere { Ok(text.into()) } else { local_path(text).map_err(|error| error.to_string()) }
}

/// Reads all of a folder, a file, or a file at a URL. Fails only if nothing could be read.
pub(super) async fn read(path: &Path, columns: &Columns) -> Result<Source, Failure> {
    let (downloaded, columns) = (Downloaded::of(path).await?, columns.clone());
    let path = downloaded.as_ref().map_or(path, |it| it.path.as_path()).to_owned();
    let listing = tokio::task::spawn_blocking(move || listing::read(&path, &columns)).await??;
    let Listing { name, files, items, mut problems } = listing;
    let list = downloaded.as_ref().map_or(name, |it| it.url.clone());
    problems.extend(check_items(&items));

    let bar = counting_bar("check", items.len());
    let pictures = futures::stream::iter(items.iter().map(|item| {
        let (files, file) = (files.clone(), item.file.clone());
        async move { files.picture(&file).await }
    }));
    // As many files at a time as there are processors.
    let at_a_time = std::thread::available_parallelism().map_or(1, usize::from);
    let pictures: Vec<_> = pictures.buffered(at_a_time).inspect(|_| bar.inc(1)).collect().await;
    bar.finish_and_clear();

    let mut candidates = Vec::new();
    for (Item { place, label, file }, picture) in items.into_iter().zip(pictures) {
        match picture {
            Ok(picture) => candidates.push(Candidate { label, file, place, picture }),
            Err(why) => problems.push(Problem { place, id: label.id, file: file.name, why }),
        }
    }
    let bad: HashSet<Place> = problems.iter().map(|problem| problem.place).collect();
    candidates.retain(|candidate| !bad.contains(&candidate.place));
    problems.sort_by_key(|problem| problem.place);
    Ok(Source { list, files, candidates, problems, _downloaded: downloaded })
}

/// A data set in one file that lay elsewhere, in a temporary folder.
#[derive(Debug)]
struct Downloaded {
    url: String,
    path: PathBuf,
    _folder: TempDir,
}

impl Downloaded {
    /// That of a URL; none if it is a path of this machine.
    async fn of(path: &Path) -> Result<Option<Self>, Failure> {
        let Some(url) = path.to_str().filter(|path| path.contains("://")) else { return Ok(None) };
        let (place, name) = url.rsplit_once('/').unwrap_or_default();
        let ending = Path::new(name).extension().unwrap_or_default().to_ascii_lowercase();
        if ending != "tar" && ending != "parquet" {
            return Err(format!(
                "{url}: of a URL, a .tar or .parquet file is read, which has its images in it; download anything else first"
            )
            .into());
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join(name);
        Folder::open(place)?.copy_to(name, &path).await?;
        Ok(Some(Self { url: url.to_owned(), path, _folder: folder }))
    }
}

/// What is wrong with ids, captions, attributions and metadata.
fn check_items(items: &[Item]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut firsts: HashMap<&str, Place> = HashMap::new();
    for Item { place, label, .. } in items {
        let first = *firsts.entry(&label.id).or_insert(*place);
        let unique = if first == *place { Ok(()) } else { Err(format!("{first} has the same id already")) };
        let checked = [
            check_id(&label.id),
            unique,
            check_caption(&label.caption),
            check_attribution(&label.attribution),
            check_metadata(&label.metadata),
        ];
        problems.extend(checked.into_iter().filter_map(Result::err).map(|why| Problem {
            place: *place,
            id: label.id.clone(),
            file: String::new(),
            why,
        }));
    }
    problems
}

#[cfg(test)]
mod tests {
    use reverie_knowledge::epoch::Metadata;

    use super::*;

    #[test]
    fn texts_are_checked_and_twins_named() {
        let item = |line, id: &str, caption: &str| Item {
            place: Place::Line(line),
            label: Label {
                id: id.to_owned(),
                caption: caption.to_owned(),
                attribution: String::new(),
                metadata: Metadata::new(),
            },
            file: PictureFile::named(String::new()),
        };
        let items = [item(1, "a", "a fox"), item(2, "b", " "), item(5, "a", "a\u{0}hen")];
        let told: Vec<String> = check_items(&items).iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("line 2, \"b\": caption must not be empty"), "{told:?}");
        assert_eq!(told[1], "line 5, \"a\": line 1 has the same id already");
        assert!(told[2].contains("control character"), "{told:?}");
    }
}
