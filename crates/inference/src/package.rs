//! A model package: a folder with `model.toml`, a graph and what belongs to it. Every file is read whole and verified
//! before ONNX Runtime sees it; what was verified is what is loaded, never the file again.

use std::collections::BTreeMap;

use bytes::Bytes;
use reverie_diffusion::{
    BetaSchedule, NoiseSchedule, PredictionType, SamplerKind, ScheduleError, ThresholdingKind,
    TimestepSpacing,
};
use reverie_storage::{FileDigest, Folder};
use serde::Deserialize;

use crate::ModelError;

const MANIFEST: &str = "model.toml";
const MAX_MANIFEST_BYTES: u64 = 1 << 20;
const SCHEMA: u32 = 1;

/// What a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Text to tokens for cross-attention.
    TextEncoder,
    /// Text to the joint text-image space.
    JointText,
    /// Picture to the joint text-image space.
    JointImage,
    /// Neighbour picture and caption to features for the denoiser.
    NeighbourEncoder,
    /// The base diffusion model.
    Denoiser,
    /// A super-resolution diffusion model.
    SuperResolution,
    /// Names what a picture shows, to judge what models draw.
    Judge,
}

/// `model.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format; 1.
    pub schema: u32,
    /// The package's name.
    pub name: String,
    /// The package's version.
    pub version: String,
    /// What the model is for.
    pub role: Role,
    /// One line for people.
    #[serde(default)]
    pub description: String,
    /// SPDX licence expression.
    pub license: String,
    /// Every file but this one.
    pub files: Vec<FileDigest>,
    /// The graph and its tensors.
    pub graph: Graph,
    /// For encoders of text.
    pub tokenizer: Option<TokenizerFacts>,
    /// For diffusion models.
    pub diffusion: Option<DiffusionFacts>,
    /// What a diffusion model is conditioned on.
    #[serde(default)]
    pub conditions: Conditions,
    /// What a request that says nothing gets.
    pub defaults: Option<Defaults>,
    /// What a judge names.
    pub judge: Option<JudgeFacts>,
    /// Where the model comes from; for people.
    #[serde(default)]
    pub provenance: toml::Table,
}

/// The graph and its tensors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Graph {
    /// The ONNX file.
    pub file: String,
    /// Our name of each input.
    pub inputs: BTreeMap<String, TensorFacts>,
    /// Our name of each output.
    pub outputs: BTreeMap<String, TensorFacts>,
}

/// One input or output.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorFacts {
    /// The graph's name of it.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents; a name is a dynamic axis.
    pub shape: Vec<Extent>,
}

/// Element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    /// 32-bit floating point.
    F32,
    /// 16-bit floating point.
    F16,
    /// 64-bit integer.
    I64,
}

/// One extent of a shape.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Extent {
    /// Always this.
    Fixed(usize),
    /// Chosen by each run.
    Dynamic(String),
}

/// How text becomes tokens.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerFacts {
    /// Hugging Face `tokenizer.json`.
    pub file: String,
    /// Length that texts are padded to.
    pub max_tokens: usize,
    /// Token that pads.
    pub pad_id: u32,
}

/// The diffusion process a model was trained on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionFacts {
    /// Side of the picture, pixels.
    pub image_size: usize,
    /// What the model predicts.
    pub prediction_type: PredictionType,
    /// Its noise schedule.
    pub beta_schedule: BetaSchedule,
    /// Length of the schedule.
    pub train_timesteps: u32,
    /// Whether the schedule ends in pure noise: zero terminal SNR.
    #[serde(default)]
    pub zero_terminal_snr: bool,
    /// For a latent consistency model: the timesteps that it was distilled on, usually 50.
    pub distilled_steps: Option<u32>,
    /// Super-resolution: side of the picture it starts from, pixels.
    pub low_resolution_size: Option<usize>,
}

impl DiffusionFacts {
    /// The schedule that the model was trained with.
    pub fn schedule(&self) -> Result<NoiseSchedule, ScheduleError> {
        let schedule = NoiseSchedule::new(self.beta_schedule, self.train_timesteps)?;
        Ok(if self.zero_terminal_snr { schedule.with_zero_terminal_snr() } else { schedule })
    }

    fn validate(&self) -> Result<(), String> {
        let zero = self.image_size == 0 || self.low_resolution_size == Some(0);
        if zero || !(1..=100_000).contains(&self.train_timesteps) {
            return Err("[diffusion] has a size or train_timesteps out of range".to_owned());
        }
        if self.distilled_steps.is_some_and(|steps| !(1..=self.train_timesteps).contains(&steps)) {
            return Err("diffusion.distilled_steps must be 1 to diffusion.train_timesteps".to_owned());
        }
        match self.prediction_type {
            PredictionType::FlowPrediction => {
                Err("models trained by flow matching (flow_prediction) are not served yet".to_owned())
            }
            PredictionType::Epsilon if self.zero_terminal_snr => {
                Err("a model that predicts epsilon cannot start from zero_terminal_snr".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// What a diffusion model is conditioned on; what is missing it does not take.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Conditions {
    /// Text tokens.
    pub text: Option<TextCondition>,
    /// Neighbour features.
    pub neighbours: Option<NeighbourConditions>,
    /// Conditioning augmentation level.
    pub noise_level: Option<Present>,
    /// The smaller picture.
    pub low_resolution: Option<Present>,
}

/// A condition without facts of its own.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Present {}

/// Text tokens as a condition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextCondition {
    /// Width of a token.
    pub dim: usize,
    /// Tokens of a text, padding included.
    pub max_tokens: usize,
    /// SHA-256 of the graph of the text encoder it was trained with.
    pub encoder: String,
}

/// Neighbours as a condition.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighbourConditions {
    /// How many it takes at most.
    pub max: usize,
    /// Side of a neighbour's picture, pixels.
    pub image_size: usize,
    /// Outputs of the neighbour encoder that are inputs of this model, with one more axis.
    pub features: Vec<String>,
    /// SHA-256 of the graph of the neighbour encoder it was trained with.
    pub encoder: String,
}

/// What a request that says nothing gets.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// The sampler.
    pub sampler: SamplerKind,
    /// Steps.
    pub steps: u32,
    /// Which timesteps the steps visit.
    pub timestep_spacing: TimestepSpacing,
    /// How the predicted picture is kept in range.
    pub thresholding: ThresholdingKind,
    /// Dynamic thresholding's quantile.
    pub threshold_quantile: f32,
    /// Denoiser: `w_p`.
    pub text_weight: Option<f32>,
    /// Denoiser: `w_n`.
    pub neighbour_weight: Option<f32>,
    /// Denoiser: share of text-enhanced steps.
    pub interleave_ratio: Option<f32>,
    /// Super-resolution: guidance weight.
    pub guidance_weight: Option<f32>,
    /// Super-resolution: conditioning augmentation level, 0 to 1.
    pub noise_level: Option<f32>,
}

/// What a judge names in a picture.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JudgeFacts {
    /// Side of the pictures it takes, pixels.
    pub image_size: u32,
    /// The factors, in the order of its logits.
    pub factors: Vec<Factor>,
}

/// Something that pictures differ in.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factor {
    /// Its name.
    pub name: String,
    /// What decides it.
    pub kind: FactorKind,
    /// What it may be; one logit each.
    pub values: Vec<String>,
}

/// What decides a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FactorKind {
    /// What the creature is; a prompt that only names it does not say.
    Genome,
    /// What the prompt says of the scene.
    Scene,
}

/// A package whose files were verified.
#[derive(Debug, Clone)]
pub struct Package {
    /// What `model.toml` says.
    pub manifest: Manifest,
    /// Where it is.
    pub location: String,
    files: BTreeMap<String, Bytes>,
}

impl Package {
    /// Reads and verifies a package that must have `role`.
    pub async fn load(folder: &Folder, role: Role) -> Result<Self, ModelError> {
        let location = folder.location().to_owned();
        let file_error = |source| ModelError::File { package: location.clone(), source };
        let wrong = |why: String| ModelError::Manifest { file: format!("{location}/{MANIFEST}"), why };

        let text = folder.read(MANIFEST, MAX_MANIFEST_BYTES).await.map_err(file_error)?;
        let text = std::str::from_utf8(&text).map_err(|error| wrong(error.to_string()))?;
        let manifest: Manifest = toml::from_str(text).map_err(|error| wrong(error.to_string()))?;
        manifest.validate(role).map_err(wrong)?;

        let mut files = BTreeMap::new();
        for file in &manifest.files {
            files.insert(file.path.clone(), folder.read_verified(file).await.map_err(file_error)?);
        }
        Ok(Self { manifest, location, files })
    }

    /// The bytes of a verified file.
    pub fn file(&self, path: &str) -> Result<&Bytes, ModelError> {
        self.files
            .get(path)
            .ok_or_else(|| self.wrong(format!("it names the file {path}, which is not in its files")))
    }

    /// SHA-256 of the graph, lower-case hex: the model's identity.
    pub fn digest(&self) -> &str {
        let graph = &self.manifest.graph.file;
        self.manifest.files.iter().find(|file| file.path == *graph).map_or("", |file| file.sha256.as_str())
    }

    /// The diffusion facts.
    pub fn diffusion(&self) -> Result<&DiffusionFacts, ModelError> {
        self.manifest.diffusion.as_ref().ok_or_else(|| self.wrong("[diffusion] is missing".to_owned()))
    }

    /// The defaults.
    pub fn defaults(&self) -> Result<&Defaults, ModelError> {
        self.manifest.defaults.as_ref().ok_or_else(|| self.wrong("[defaults] is missing".to_owned()))
    }

    /// What a judge names.
    pub fn judge(&self) -> Result<&JudgeFacts, ModelError> {
        self.manifest.judge.as_ref().ok_or_else(|| self.wrong("[judge] is missing".to_owned()))
    }

    /// The extents of an output `[batch, …]` for one sample, without the batch.
    pub fn sample_shape(&self, output: &str) -> Result<Vec<usize>, ModelError> {
        let wrong = |why: &str| ModelError::Graph {
            package: self.manifest.name.clone(),
            why: format!("the output {output} {why}"),
        };
        let facts =
            self.manifest.graph.outputs.get(output).ok_or_else(|| wrong("is missing in model.toml"))?;
        let extents = facts.shape.iter().skip(1).map(|extent| match extent {
            Extent::Fixed(extent) => Ok(*extent),
            Extent::Dynamic(_) => Err(wrong("must have fixed extents but for the batch")),
        });
        extents.collect()
    }

    fn wrong(&self, why: String) -> ModelError {
        ModelError::Manifest { file: format!("{}/{MANIFEST}", self.location), why }
    }
}

impl Manifest {
    fn validate(&self, role: Role) -> Result<(), String> {
        if self.schema != SCHEMA {
            return Err(format!("schema {} is not known here, only {SCHEMA}", self.schema));
        }
        if self.role != role {
            return Err(format!("its role is {:?}, {role:?} is needed here", self.role));
        }
        for file in [Some(&self.graph.file), self.tokenizer.as_ref().map(|tokenizer| &tokenizer.file)]
            .into_iter()
            .flatten()
        {
            if !self.files.iter().any(|listed| listed.path == *file) {
                return Err(format!("{file} is used but not listed in [[files]] with its checksum"));
            }
        }
        if let Some(diffusion) = &self.diffusion {
            diffusion.validate()?;
            if self.defaults.as_ref().is_some_and(|defaults| defaults.sampler == SamplerKind::Lcm)
                && diffusion.distilled_steps.is_none()
            {
                return Err("the sampler lcm is for models that have diffusion.distilled_steps".to_owned());
            }
        }
        if let Some(defaults) = &self.defaults
            && (defaults.steps == 0
                || self.diffusion.as_ref().is_some_and(|d| defaults.steps > d.train_timesteps))
        {
            return Err("defaults.steps must be 1 to diffusion.train_timesteps".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT_ENCODER: &str = r#"
        schema = 1
        name = "t"
        version = "0.1.0"
        role = "text-encoder"
        license = "Apache-2.0"
        [[files]]
        path = "model.onnx"
        sha256 = "SHA"
        size_bytes = 5
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
        std::fs::write(place.path().join("model.onnx"), b"graph").unwrap();
        let folder = Folder::open(place.path().to_str().unwrap()).unwrap();
        (place, folder)
    }

    fn good() -> String {
        TEXT_ENCODER.replace("SHA", &reverie_storage::sha256_hex(b"graph"))
    }

    #[tokio::test]
    async fn a_verified_package_has_its_files_and_its_identity() {
        let (_place, folder) = folder(&good());
        let package = Package::load(&folder, Role::TextEncoder).await.unwrap();
        assert_eq!(&package.file("model.onnx").unwrap()[..], b"graph");
        assert_eq!(package.digest(), reverie_storage::sha256_hex(b"graph"));
        assert_eq!(package.manifest.graph.inputs["token_ids"].shape[1], Extent::Fixed(32));
    }

    #[tokio::test]
    async fn an_altered_file_is_refused() {
        let (place, folder) = folder(&good());
        std::fs::write(place.path().join("model.onnx"), b"gralh").unwrap();
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
