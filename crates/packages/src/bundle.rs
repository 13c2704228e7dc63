//! A bundle names the packages and knowledge bases that belong together.

use std::collections::BTreeMap;

use reverie_storage::publish::Publication;
use reverie_storage::{FileDigest, Folder, sha256_hex};
use serde::{Deserialize, Serialize};

use crate::PackageError;
use crate::package::{self, Package, Role};

/// The file that describes a bundle.
pub const MANIFEST: &str = "bundle.toml";
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
/// The version of the format that is known here.
pub const SCHEMA: u32 = 1;

/// A bundle's manifest and where its packages are.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What `bundle.toml` says.
    pub manifest: Manifest,
    /// `bundle.toml` itself.
    own: FileDigest,
    folder: Folder,
}

/// `bundle.toml`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format; 1.
    pub schema: u32,
    /// The bundle's name.
    pub name: String,
    /// The bundle's version.
    pub version: String,
    /// Folders of the packages, relative to the bundle.
    pub packages: Packages,
    /// Folders of the knowledge bases by name, relative to the bundle.
    #[serde(default)]
    pub knowledge_bases: BTreeMap<String, String>,
}

/// The packages of a bundle: an encoder of text and a denoiser, and what else they need.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Text to tokens; several that read the same prompt are a list.
    pub text_encoder: OneOrMore,
    /// Text to the joint space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_text: Option<String>,
    /// Pictures to the joint space.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joint_image: Option<String>,
    /// Neighbours to features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub neighbour_encoder: Option<String>,
    /// The base model.
    pub denoiser: String,
    /// Latents to pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_decoder: Option<String>,
    /// Pictures to latents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latent_encoder: Option<String>,
    /// The super-resolution levels, in cascade order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub super_resolution: Vec<String>,
}

impl Packages {
    /// The folder of each package and what it is for, in the order of a request.
    pub fn all(&self) -> Vec<(String, Role)> {
        let some = |folder: &Option<String>, role| {
            folder.iter().map(|folder| (folder.clone(), role)).collect::<Vec<_>>()
        };
        let each = |folders: &[String], role| {
            folders.iter().map(|folder| (folder.clone(), role)).collect::<Vec<_>>()
        };
        [
            each(self.text_encoder.all(), Role::TextEncoder),
            some(&self.joint_text, Role::JointText),
            some(&self.joint_image, Role::JointImage),
            some(&self.neighbour_encoder, Role::NeighbourEncoder),
            some(&self.latent_encoder, Role::LatentEncoder),
            vec![(self.denoiser.clone(), Role::Denoiser)],
            some(&self.latent_decoder, Role::LatentDecoder),
            each(&self.super_resolution, Role::SuperResolution),
        ]
        .concat()
    }
}

/// One folder or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMore {
    /// One.
    One(String),
    /// Several, in their order.
    More(Vec<String>),
}

impl OneOrMore {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(all) => all,
        }
    }
}

impl Bundle {
    /// Reads the bundle at `location`.
    pub async fn open(location: &str) -> Result<Self, PackageError> {
        let file_error = |source| PackageError::File { package: location.to_owned(), source };
        let wrong = |why: String| PackageError::Manifest { file: format!("{location}/{MANIFEST}"), why };
        let folder = Folder::open(location).map_err(file_error)?;
        let text = folder.read(MANIFEST, MAX_MANIFEST_BYTES).await.map_err(file_error)?;
        let text = std::str::from_utf8(&text).map_err(|error| wrong(error.to_string()))?;
        let manifest: Manifest = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(wrong(format!("schema {} is not known here, only {SCHEMA}", manifest.schema)));
        }
        if manifest.packages.text_encoder.all().is_empty() {
            return Err(wrong("packages.text_encoder is an empty list".to_owned()));
        }
        Ok(Self { manifest, own: FileDigest::of(MANIFEST, text.as_bytes()), folder })
    }

    /// The bundle's identity: lower-case hex SHA-256 of its manifest and of those of its packages, which name every file with its
    /// digest. "" if a package is not there, as in a service that was given its own packages only.
    pub async fn digest(&self) -> String {
        let mut digests = self.own.sha256.clone();
        for (path, _) in self.manifest.packages.all() {
            let Ok(folder) = self.package_folder(&path) else { return String::new() };
            let Ok(manifest) = folder.read(package::MANIFEST, MAX_MANIFEST_BYTES).await else {
                return String::new();
            };
            digests.push('\n');
            digests.push_str(&sha256_hex(&manifest));
        }
        sha256_hex(digests.as_bytes())
    }

    /// Reads and verifies the package in the folder `path`, which must have `role`.
    pub async fn package(&self, path: &str, role: Role) -> Result<Package, PackageError> {
        Package::load(&self.package_folder(path)?, role).await
    }

    /// What the package in the folder `path`, which must have `role`, says of itself. None of its files is read.
    pub async fn manifest_of(&self, path: &str, role: Role) -> Result<package::Manifest, PackageError> {
        let (_, manifest, _) = Package::manifest(&self.package_folder(path)?, role).await?;
        Ok(manifest)
    }

    /// Opens a package without its graph and weights, to try it out: [`Package::on_disk`].
    pub async fn package_on_disk(&self, path: &str, role: Role) -> Result<Package, PackageError> {
        Package::on_disk(&self.package_folder(path)?, role).await
    }

    /// What it takes to publish it: its packages, its knowledge bases, each by its folder, and then `bundle.toml`.
    pub async fn publication(
        &self,
        knowledge_bases: impl IntoIterator<Item = (String, Publication)>,
    ) -> Result<Publication, PackageError> {
        let mut all = Publication::default();
        for (path, role) in self.manifest.packages.all() {
            all.add(&path, Package::publication(&self.package_folder(&path)?, role).await?);
        }
        for (path, knowledge_base) in knowledge_bases {
            all.add(&path, knowledge_base);
        }
        all.manifests.push(self.own.clone().into());
        Ok(all)
    }

    /// Where it is.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    fn package_folder(&self, path: &str) -> Result<Folder, PackageError> {
        self.folder.join(path).map_err(|source| PackageError::File {
            package: format!("{}/{path}", self.folder.location()),
            source,
        })
    }
}
