//! A bundle names the packages and knowledge bases that belong together.

use std::collections::BTreeMap;

use reverie_storage::Folder;
use serde::Deserialize;

use crate::ModelError;
use crate::package::{Package, Role};

const MANIFEST: &str = "bundle.toml";
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
const SCHEMA: u32 = 1;

/// A bundle's manifest and where its packages are.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// What `bundle.toml` says.
    pub manifest: Manifest,
    folder: Folder,
}

/// `bundle.toml`.
#[derive(Debug, Clone, Deserialize)]
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

/// The packages of a bundle.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// Text to tokens.
    pub text_encoder: String,
    /// Text to the joint space.
    pub joint_text: String,
    /// Pictures to the joint space.
    pub joint_image: String,
    /// Neighbours to features.
    pub neighbour_encoder: String,
    /// The base model.
    pub denoiser: String,
    /// The super-resolution levels, in cascade order.
    pub super_resolution: Vec<String>,
}

impl Bundle {
    /// Reads the bundle at `location`.
    pub async fn open(location: &str) -> Result<Self, ModelError> {
        let file_error = |source| ModelError::File { package: location.to_owned(), source };
        let wrong = |why: String| ModelError::Manifest { file: format!("{location}/{MANIFEST}"), why };
        let folder = Folder::open(location).map_err(file_error)?;
        let text = folder.read(MANIFEST, MAX_MANIFEST_BYTES).await.map_err(file_error)?;
        let text = std::str::from_utf8(&text).map_err(|error| wrong(error.to_string()))?;
        let manifest: Manifest = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        if manifest.schema != SCHEMA {
            return Err(wrong(format!("schema {} is not known here, only {SCHEMA}", manifest.schema)));
        }
        Ok(Self { manifest, folder })
    }

    /// Reads and verifies the package in the folder `path`, which must have `role`.
    pub async fn package(&self, path: &str, role: Role) -> Result<Package, ModelError> {
        let folder = self.folder.join(path).map_err(|source| ModelError::File {
            package: format!("{}/{path}", self.folder.location()),
            source,
        })?;
        Package::load(&folder, role).await
    }
}
