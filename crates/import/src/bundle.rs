//! The bundle that is being written: packages in a folder beside its place, moved there when all is done.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use reverie_packages::bundle::{self, OneOrMore, Packages};
use reverie_packages::package::{self, Graph, Manifest, Role};
use reverie_storage::FileDigest;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::ImportError;
use crate::graph::Part;
use crate::source::Source;

/// A bundle without a licence that is known.
const NO_LICENSE: &str = "LicenseRef-unknown";

/// A bundle that is being written.
pub(crate) struct Draft {
    out: PathBuf,
    folder: TempDir,
    name: String,
    license: String,
    pipeline: String,
    pub(crate) packages: Packages,
    folders: BTreeSet<String>,
    pub(crate) notes: Vec<String>,
}

/// A package that is being written: what goes in besides its graph.
pub(crate) struct Content {
    pub(crate) role: Role,
    pub(crate) description: String,
    /// The configuration that the facts come from; what is wrong with them is said of it.
    pub(crate) of: String,
    /// Further files: their names and their bytes.
    pub(crate) texts: Vec<(String, String)>,
    /// The rest of `model.toml`.
    pub(crate) facts: Box<dyn FnOnce(&mut Manifest)>,
}

impl Draft {
    pub(crate) fn new(
        out: &Path,
        name: &str,
        license: Option<&str>,
        pipeline: &str,
    ) -> Result<Self, ImportError> {
        if fs::symlink_metadata(out).is_ok() {
            return Err(ImportError::Exists { path: out.to_owned() });
        }
        let absolute = std::path::absolute(out).map_err(ImportError::access(out))?;
        let parent = absolute.parent().unwrap_or(&absolute);
        fs::create_dir_all(parent).map_err(ImportError::access(parent))?;
        let folder = tempfile::Builder::new().prefix(".import-").tempdir_in(parent);
        let mut notes = Vec::new();
        if license.is_none() {
            notes.push(format!("no licence is known: model.toml says {NO_LICENSE} (--license)"));
        }
        Ok(Self {
            folder: folder.map_err(ImportError::access(parent))?,
            out: absolute,
            name: name.to_owned(),
            license: license.unwrap_or(NO_LICENSE).to_owned(),
            pipeline: pipeline.to_owned(),
            packages: Packages {
                text_encoder: OneOrMore::More(Vec::new()),
                joint_text: None,
                joint_image: None,
                neighbour_encoder: None,
                denoiser: String::new(),
                latent_decoder: None,
                latent_encoder: None,
                super_resolution: Vec::new(),
            },
            folders: BTreeSet::new(),
            notes,
        })
    }

    /// Writes a package into `folder` and gives its identity.
    pub(crate) fn package(
        &mut self,
        source: &Source,
        folder: &str,
        part: &Part,
        content: Content,
    ) -> Result<String, ImportError> {
        let Content { role, description, of, texts, facts } = content;
        let place = self.folder.path().join(folder);
        let written = |name: &str| self.out.join(folder).join(name);
        fs::create_dir(&place).map_err(ImportError::access(&written("")))?;
        self.folders.insert(folder.to_owned());
        let mut files = Vec::new();
        for (from, name) in &part.files {
            files.push(copy(from, &place.join(name), name, &written(name))?);
        }
        for (name, text) in &texts {
            write(&place.join(name), text.as_bytes()).map_err(ImportError::access(&written(name)))?;
            files.push(FileDigest::of(name.clone(), text.as_bytes()));
        }
        let mut provenance = toml::Table::new();
        let mut tell = |key: &str, value: &str| provenance.insert(key.to_owned(), value.into());
        tell("imported_from", "diffusers");
        tell("pipeline", &self.pipeline);
        let mut manifest = Manifest {
            schema: package::manifest::SCHEMA,
            name: format!("{}-{folder}", self.name),
            version: "1.0.0".to_owned(),
            role,
            description,
            license: self.license.clone(),
            files,
            graph: Graph { ..part.graph.clone() },
            tokenizer: None,
            text: None,
            picture: None,
            diffusion: None,
            latent: None,
            conditions: package::Conditions::default(),
            defaults: None,
            judge: None,
            provenance,
        };
        facts(&mut manifest);
        let of = source.root().join(of);
        let refused = |why: String| ImportError::wrong(&of, format!("no package can be made of it: {why}"));
        manifest.validate(role).map_err(refused)?;
        let text = toml::to_string(&manifest).map_err(|error| refused(error.to_string()))?;
        let name = package::MANIFEST;
        write(&place.join(name), text.as_bytes()).map_err(ImportError::access(&written(name)))?;
        Ok(manifest.digest())
    }

    /// Writes `bundle.toml` and moves the bundle to its place. Gives the folders of the packages.
    pub(crate) fn finish(self) -> Result<Vec<String>, ImportError> {
        let manifest = bundle::Manifest {
            schema: bundle::SCHEMA,
            name: self.name,
            version: "1.0.0".to_owned(),
            packages: self.packages,
            knowledge_bases: std::collections::BTreeMap::new(),
        };
        let written = self.out.join(bundle::MANIFEST);
        let text = toml::to_string(&manifest).map_err(|error| ImportError::wrong(&written, error))?;
        let path = self.folder.path().join(bundle::MANIFEST);
        write(&path, text.as_bytes()).map_err(ImportError::access(&written))?;
        // Rename does not replace a folder that has something in it.
        fs::rename(self.folder.path(), &self.out).map_err(ImportError::access(&self.out))?;
        let _ = self.folder.keep();
        Ok(self.folders.into_iter().collect())
    }
}

/// Copies a file and says what it is. `written` is its place for people: where it will be when all is done.
fn copy(from: &Path, to: &Path, name: &str, written: &Path) -> Result<FileDigest, ImportError> {
    let mut target = File::create_new(to).map_err(ImportError::access(written))?;
    let digest =
        read_through(from, name, |part| target.write_all(part).map_err(ImportError::access(written)))?;
    target.sync_all().map_err(ImportError::access(written))?;
    Ok(digest)
}

/// Hands a file over part by part and says what it is.
pub(crate) fn read_through(
    from: &Path,
    name: &str,
    mut take: impl FnMut(&[u8]) -> Result<(), ImportError>,
) -> Result<FileDigest, ImportError> {
    let mut source = File::open(from).map_err(ImportError::access(from))?;
    let (mut hash, mut size_bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = source.read(&mut buffer).map_err(ImportError::access(from))?;
        if read == 0 {
            return Ok(FileDigest {
                path: name.to_owned(),
                sha256: hex::encode(hash.finalize()),
                size_bytes,
            });
        }
        hash.update(&buffer[..read]);
        take(&buffer[..read])?;
        size_bytes += read as u64;
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes).and_then(|()| file.sync_all())
}
