//! A model package: a folder with `model.toml`, a graph and what belongs to it. Every file is read whole and verified
//! before ONNX Runtime sees it; what was verified is what is loaded, never the file again.

pub mod conditions;
pub mod defaults;
pub mod diffusion;
pub mod manifest;
mod numbers;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use reverie_storage::publish::Publication;
use reverie_storage::{FileDigest, Folder, LocalFile, StorageError, Verifying, sha256_hex};

pub use self::conditions::{
    Conditions, GuidanceCondition, LowResolutionCondition, NeighbourConditions, NoiseLevelCondition, Present,
    TextCondition, WithoutText,
};
pub use self::defaults::{Defaults, OtherSampler, Spacing, StrategyKind};
pub use self::diffusion::{DiffusionFacts, Flow, LatentFacts, LearnedVariance, OtherSizes};
pub use self::manifest::{
    DType, Extent, Factor, FactorKind, Graph, JudgeFacts, LatentScale, LeftOut, Manifest, PictureFacts, Role,
    TensorFacts, TextFacts, TokenizerFacts,
};
use crate::weights::{Flaw, Weights};
use crate::{PackageError, onnx};

/// The file that describes a package.
pub const MANIFEST: &str = "model.toml";
const MAX_MANIFEST_BYTES: u64 = 1 << 20;

/// A package whose files were verified.
#[derive(Debug, Clone)]
pub struct Package {
    /// What `model.toml` says.
    pub manifest: Manifest,
    /// Where it is.
    pub location: String,
    files: BTreeMap<String, Bytes>,
    /// The files of weights, by the names that the graph has for them, shared by all sessions.
    external_data: Vec<(String, Arc<[u8]>)>,
    /// Where graph and weights are, if they are not held here.
    on_disk: Option<Arc<OnDisk>>,
}

/// The files of a package that are not held.
#[derive(Debug)]
struct OnDisk {
    graph: LocalFile,
    outside: Vec<(FileDigest, LocalFile)>,
}

impl Package {
    /// Reads and verifies a package that must have `role`.
    pub async fn load(folder: &Folder, role: Role) -> Result<Self, PackageError> {
        let (location, manifest, _) = Self::manifest(folder, role).await?;
        let file_error = |source| PackageError::File { package: location.clone(), source };
        let (mut files, mut external_data) = (BTreeMap::new(), Vec::new());
        for file in &manifest.files {
            let bytes = folder.read_verified(file).await.map_err(file_error)?;
            if manifest.graph.external_data.contains(&file.path) {
                external_data.push((file.path.clone(), bytes[..].into()));
            } else {
                files.insert(file.path.clone(), bytes);
            }
        }
        let mut package = Self { manifest, location, files, external_data, on_disk: None };
        package.name_external_data()?;
        Ok(package)
    }

    /// Opens a package that must have `role`, without its graph and weights: [`Self::look_at_weights`] verifies these, and a model
    /// that is loaded reads them again. This is to try a package out, not to serve it.
    pub async fn on_disk(folder: &Folder, role: Role) -> Result<Self, PackageError> {
        let (location, manifest, _) = Self::manifest(folder, role).await?;
        let file_error = |source| PackageError::File { package: location.clone(), source };
        let (mut graph, mut files, mut outside) = (None, BTreeMap::new(), Vec::new());
        for file in &manifest.files {
            if file.path == manifest.graph.file {
                graph = Some(folder.local(file).await.map_err(file_error)?);
            } else if manifest.graph.external_data.contains(&file.path) {
                outside.push((file.clone(), folder.local(file).await.map_err(file_error)?));
            } else {
                files.insert(file.path.clone(), folder.read_verified(file).await.map_err(file_error)?);
            }
        }
        let graph = graph.ok_or_else(|| PackageError::Manifest {
            file: format!("{location}/{MANIFEST}"),
            why: format!("{} is not in its files", manifest.graph.file),
        })?;
        let on_disk = Some(Arc::new(OnDisk { graph, outside }));
        Ok(Self { manifest, location, files, external_data: Vec::new(), on_disk })
    }

    /// Verifies graph and weights of a package that was opened by [`Self::on_disk`], and gives the tensors that hold what is no
    /// number. Blocks, for about a second a gigabyte.
    pub fn look_at_weights(&self) -> Result<Vec<Flaw>, PackageError> {
        let Some(on_disk) = &self.on_disk else { return Ok(Vec::new()) };
        let OnDisk { graph, outside } = &**on_disk;
        let facts = &self.manifest.graph;
        let digest = self.manifest.files.iter().find(|file| file.path == facts.file);
        let digest = digest.ok_or_else(|| self.wrong(format!("{} is not in its files", facts.file)))?;
        let mut weights = self.read_verifying(digest, graph.path(), |reader| Weights::of_graph(reader))?;
        let is_listed =
            |named: &str| facts.external_data.iter().any(|path| path == onnx::beside_the_graph(named));
        if let Some(unknown) = weights.files.iter().find(|named| !is_listed(named)) {
            return Err(self.not_listed(unknown));
        }
        let named = weights.files.clone();
        for (file, path) in outside {
            let name = named.iter().find(|named| onnx::beside_the_graph(named) == file.path);
            let name = name.map_or(file.path.as_str(), String::as_str);
            self.read_verifying(file, path.path(), |reader| weights.look_at_file(name, reader))?;
        }
        Ok(weights.flaws)
    }

    /// Hands a file over, which is verified as it is read.
    fn read_verifying<T>(
        &self,
        file: &FileDigest,
        path: &Path,
        read: impl FnOnce(&mut BufReader<Verifying<File>>) -> io::Result<T>,
    ) -> Result<T, PackageError> {
        let name = format!("{}/{}", self.location, file.path);
        let file_error = |source| PackageError::File { package: self.location.clone(), source };
        let access = |source: io::Error| match source.kind() {
            io::ErrorKind::InvalidData => {
                StorageError::Content { file: name.clone(), why: source.to_string() }
            }
            _ => StorageError::Access { file: name.clone(), source: Box::new(source) },
        };
        let opened = File::open(path).map_err(access).map_err(file_error)?;
        let mut reader = BufReader::with_capacity(1 << 20, Verifying::new(opened));
        let outcome = read(&mut reader);
        // A file that is another one is damaged, whatever could be read of it.
        io::copy(&mut reader, &mut io::sink()).map_err(access).map_err(file_error)?;
        reader.into_inner().check(file, &name).map_err(file_error)?;
        outcome.map_err(access).map_err(file_error)
    }

    /// What it takes to publish the package in `folder`, which must have `role`: every file that `model.toml` lists, then that one.
    pub async fn publication(folder: &Folder, role: Role) -> Result<Publication, PackageError> {
        let (_, manifest, own) = Self::manifest(folder, role).await?;
        Ok(Publication { files: manifest.files, manifests: vec![own.into()] })
    }

    /// Where the package is, what it is, and the file that says so.
    pub(crate) async fn manifest(
        folder: &Folder,
        role: Role,
    ) -> Result<(String, Manifest, FileDigest), PackageError> {
        let location = folder.location().to_owned();
        let wrong = |why: String| PackageError::Manifest { file: format!("{location}/{MANIFEST}"), why };
        let text = folder.read(MANIFEST, MAX_MANIFEST_BYTES).await;
        let text = text.map_err(|source| PackageError::File { package: location.clone(), source })?;
        let own = FileDigest::of(MANIFEST, &text);
        let text = std::str::from_utf8(&text).map_err(|error| wrong(error.to_string()))?;
        let manifest: Manifest = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        manifest.validate(role).map_err(wrong)?;
        Ok((location, manifest, own))
    }

    /// Where the graph is, if it is not held here.
    pub fn graph_on_disk(&self) -> Option<&Path> {
        self.on_disk.as_ref().map(|files| files.graph.path())
    }

    fn not_listed(&self, named: &str) -> PackageError {
        let graph = &self.manifest.graph.file;
        self.wrong(format!(
            "{graph} names the file of weights {named:?}, which is not in graph.external_data"
        ))
    }

    /// A graph may name files of weights. ONNX Runtime would look for those that it is not handed by the very name, wherever
    /// they are.
    fn name_external_data(&mut self) -> Result<(), PackageError> {
        let graph = &self.manifest.graph;
        let named = onnx::external_data(self.file(&graph.file)?)
            .map_err(|error| self.wrong(format!("{}: {error}", graph.file)))?;
        let bytes_of = |named: String| {
            let listed = self.external_data.iter().find(|(path, _)| path == onnx::beside_the_graph(&named));
            let Some((_, bytes)) = listed else {
                return Err(self.not_listed(&named));
            };
            Ok((named, Arc::clone(bytes)))
        };
        self.external_data = named.into_iter().map(bytes_of).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// The bytes of a verified file.
    pub fn file(&self, path: &str) -> Result<&Bytes, PackageError> {
        self.files
            .get(path)
            .ok_or_else(|| self.wrong(format!("it names the file {path}, which is not in its files")))
    }

    /// The files of weights that the graph names.
    pub fn external_data(&self) -> &[(String, Arc<[u8]>)] {
        &self.external_data
    }

    /// The model's identity: [`Manifest::digest`].
    pub fn digest(&self) -> String {
        self.manifest.digest()
    }

    /// The diffusion facts.
    pub fn diffusion(&self) -> Result<&DiffusionFacts, PackageError> {
        self.manifest.diffusion.as_ref().ok_or_else(|| self.wrong("[diffusion] is missing".to_owned()))
    }

    /// The defaults.
    pub fn defaults(&self) -> Result<&Defaults, PackageError> {
        self.manifest.defaults.as_ref().ok_or_else(|| self.wrong("[defaults] is missing".to_owned()))
    }

    /// The scale of the latents that it makes or reads.
    pub fn latent(&self) -> Result<LatentScale, PackageError> {
        self.manifest.latent.ok_or_else(|| self.wrong("[latent] is missing".to_owned()))
    }

    /// What a judge names.
    pub fn judge(&self) -> Result<&JudgeFacts, PackageError> {
        self.manifest.judge.as_ref().ok_or_else(|| self.wrong("[judge] is missing".to_owned()))
    }

    /// The extents of an output `[batch, …]` for one sample, without the batch.
    pub fn sample_shape(&self, output: &str) -> Result<Vec<usize>, PackageError> {
        let wrong = |why: &str| PackageError::Graph {
            package: self.manifest.name.clone(),
            why: format!("the output {output} {why}"),
        };
        let facts =
            self.manifest.graph.outputs.get(output).ok_or_else(|| wrong("is missing in model.toml"))?;
        Graph::sample_extents(facts).ok_or_else(|| wrong("must have fixed extents but for the batch"))
    }

    /// An error that says what is wrong with its `model.toml`.
    pub fn wrong(&self, why: String) -> PackageError {
        PackageError::Manifest { file: format!("{}/{MANIFEST}", self.location), why }
    }
}

/// The identity of models that work as one: the digest of the one, or of several the SHA-256 of their digests, each on a
/// line, in their order.
pub fn joint_digest<'a>(digests: impl IntoIterator<Item = &'a str>) -> String {
    let digests: Vec<&str> = digests.into_iter().collect();
    match digests[..] {
        [only] => only.to_owned(),
        _ => sha256_hex(digests.iter().flat_map(|digest| [digest, "\n"]).collect::<String>().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reverie_diffusion::SamplerKind;

    const TEXT_ENCODER: &str = r#"
        schema = 1
        name = "t"
        version = "0.1.0"
        role = "text-encoder"
        license = "Apache-2.0"
        [[files]]
        path = "model.onnx"
        sha256 = "SHA"
        size_bytes = 2
        [graph]
        file = "model.onnx"
        [graph.inputs.token_ids]
        name = "token_ids"
        dtype = "i64"
        shape = ["batch", 32]
        [graph.outputs]
    "#;

    fn folder(manifest: &str) -> (tempfile::TempDir, Folder) {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("model.toml"), manifest).unwrap();
        std::fs::write(place.path().join("model.onnx"), b"\x3a\x00").unwrap();
        let folder = Folder::open(place.path().to_str().unwrap()).unwrap();
        (place, folder)
    }

    fn good() -> String {
        TEXT_ENCODER.replace("SHA", &reverie_storage::sha256_hex(b"\x3a\x00"))
    }

    #[tokio::test]
    async fn a_verified_package_has_its_files_and_its_identity() {
        let (_place, folder) = folder(&good());
        let package = Package::load(&folder, Role::TextEncoder).await.unwrap();
        assert_eq!(&package.file("model.onnx").unwrap()[..], b"\x3a\x00");
        assert_eq!(package.digest(), reverie_storage::sha256_hex(b"\x3a\x00"));
        assert_eq!(package.manifest.graph.inputs["token_ids"].shape[1], Extent::Fixed(32));
    }

    #[tokio::test]
    async fn an_altered_file_is_refused() {
        let (place, folder) = folder(&good());
        std::fs::write(place.path().join("model.onnx"), b"\x3a\x01").unwrap();
        let error = Package::load(&folder, Role::TextEncoder).await.unwrap_err();
        assert!(error.to_string().contains("model.onnx"), "{error}");
    }

    #[tokio::test]
    async fn a_wrong_manifest_is_refused_and_named() {
        for (from, to, told) in [
            ("schema = 1", "schema = 2", "schema 2"),
            ("text-encoder", "denoiser", "role"),
            ("file = \"model.onnx\"", "file = \"other.onnx\"", "other.onnx"),
            ("version =", "wersion =", "wersion"),
            ("\"model.onnx\"", "\"../model.onnx\"", ".."),
        ] {
            let (_place, folder) = folder(&good().replace(from, to));
            let error = Package::load(&folder, Role::TextEncoder).await.unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[tokio::test]
    async fn a_diffusion_process_that_cannot_be_sampled_is_refused() {
        let diffusion = r#"
            [diffusion]
            image_size = 64
            prediction_type = "v_prediction"
            beta_schedule = "squaredcos_cap_v2"
            train_timesteps = 1000
            zero_terminal_snr = true
            [defaults]
            sampler = "unipc"
            timestep_spacing = "trailing"
            thresholding = "none"
            threshold_quantile = 0.995
            steps = 20
        "#;
        let manifest = good().replace("text-encoder", "denoiser") + diffusion;
        let load = async |manifest: &str| {
            let (_place, folder) = folder(manifest);
            Package::load(&folder, Role::Denoiser).await
        };
        let package = load(&manifest).await.unwrap();
        assert!(package.diffusion().unwrap().schedule().unwrap().abar(999) < f64::MIN_POSITIVE);
        assert_eq!(package.defaults().unwrap().sampler, SamplerKind::UniPc);
        for (from, to, told) in [
            ("v_prediction", "epsilon", "zero_terminal_snr"),
            ("v_prediction", "flow_prediction", "flow"),
            ("unipc", "lcm", "distilled_steps"),
            ("train_timesteps = 1000", "train_timesteps = 1000\ndistilled_steps = 1001", "distilled_steps"),
        ] {
            let error = load(&manifest.replace(from, to)).await.unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
