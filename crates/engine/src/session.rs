//! ONNX Runtime sessions of a package: load its graph, check it against `model.toml`, run it.

use std::collections::BTreeMap;
use std::sync::Arc;

use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ort::session::SessionInputValue;
use ort::value::TensorElementType;
use ort::value::{DynValue, Tensor, TensorRef, ValueType};
use reverie_packages::package::{DType, Extent, TensorFacts};
use reverie_packages::{Package, PackageError};

use crate::ModelError;
use crate::execution::InferenceSettings;
use crate::runtime;
use crate::shared_session::SharedSession;

/// Elements of an input that [`Session::try_out`] makes at most.
const MAX_TRIED: usize = 1 << 28;

/// Elements of an input, borrowed for a run.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// 32-bit floating point.
    F32(&'a [f32]),
    /// 64-bit integers.
    I64(&'a [i64]),
}

/// One input of a run. Values of another type than the graph's are converted: 32-bit floating point to 16-bit, and numbers to
/// whole numbers, cut off.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Our name of it.
    pub name: &'a str,
    /// Its extents.
    pub shape: &'a [usize],
    /// Its elements, row-major.
    pub values: Values<'a>,
}

/// A loaded model that one thread runs. The threads of a [`Lane`](crate::Lane) have one each; on a CPU these share one copy of the
/// weights.
#[derive(Debug)]
pub struct Session {
    shared: SharedSession,
    package: Arc<str>,
    inputs: Arc<BTreeMap<String, TensorFacts>>,
    outputs: Arc<BTreeMap<String, TensorFacts>>,
}

impl Session {
    /// As many sessions of a package as `settings` say. On a CPU the graph is loaded once, and the sessions share its weights; on a GPU
    /// each session has its own.
    pub fn open_all(package: &Package, settings: &InferenceSettings) -> Result<Vec<Self>, ModelError> {
        let count = settings.session_count();
        if settings.shares_weights() {
            let first = Self::open(package, settings)?;
            let others: Vec<Self> = (1..count).map(|_| first.another()).collect();
            Ok(std::iter::once(first).chain(others).collect())
        } else {
            (0..count).map(|_| Self::open(package, settings)).collect()
        }
    }

    /// Loads the graph of a verified package and checks it against `model.toml`.
    pub fn open(package: &Package, settings: &InferenceSettings) -> Result<Self, ModelError> {
        let name = package.manifest.name.clone();
        let environment = runtime::environment(&settings.onnxruntime_library)?;
        let refused = |why: String| ModelError::Load { package: name.clone(), why };

        let builder =
            ort::session::Session::builder(environment).map_err(|error| refused(error.to_string()))?;
        let builder = builder
            .with_intra_threads(settings.thread_count())
            .and_then(|builder| builder.with_inter_threads(1))
            // Sessions share the cores: no thread spins while it waits. Shapes vary: no memory plan for one of them.
            .and_then(|builder| builder.with_memory_pattern(false))
            .and_then(|builder| builder.with_config_entry("session.intra_op.allow_spinning", "0"))
            .map_err(|error| refused(error.to_string()))?;
        let mut builder =
            builder.with_execution_providers(settings.providers()).map_err(|error| ModelError::Provider {
                package: name.clone(),
                provider: settings.provider_name(),
                why: error.to_string(),
            })?;
        for (path, bytes) in package.external_data() {
            builder = builder
                .with_external_initializer_file_in_memory(path, Arc::clone(bytes))
                .map_err(|error| refused(error.to_string()))?;
        }
        let session = match package.graph_on_disk() {
            Some(path) => builder.commit_from_file(path),
            None => builder.commit_from_memory(package.file(&package.manifest.graph.file)?),
        };
        let session = session.map_err(|error| refused(error.to_string()))?;

        let facts = &package.manifest.graph;
        let mismatch = |why: String| PackageError::Graph { package: name.clone(), why };
        check("input", &facts.inputs, session.inputs()).map_err(mismatch)?;
        check("output", &facts.outputs, session.outputs()).map_err(mismatch)?;
        Ok(Self {
            shared: SharedSession::new(session),
            inputs: Arc::new(facts.inputs.clone()),
            outputs: Arc::new(facts.outputs.clone()),
            package: name.into(),
        })
    }

    /// Another session on the same weights. Only for providers that [share](InferenceSettings::shares_weights) them.
    fn another(&self) -> Self {
        Self {
            shared: self.shared.another(),
            package: Arc::clone(&self.package),
            inputs: Arc::clone(&self.inputs),
            outputs: Arc::clone(&self.outputs),
        }
    }

    /// Whether the graph has an input of this name.
    pub fn takes(&self, input: &str) -> bool {
        self.inputs.contains_key(input)
    }

    /// Channels of an output `[batch, channels, …]`, if `model.toml` says.
    pub fn output_channels(&self, output: &str) -> Option<usize> {
        match self.outputs.get(output)?.shape.get(1)? {
            Extent::Fixed(channels) => Some(*channels),
            Extent::Dynamic(_) => None,
        }
    }

    /// Runs the graph once with zeros. `extent` chooses the axes that are open, by name. Gives our name and the extents of each
    /// output.
    pub fn try_out(
        &mut self,
        extent: impl Fn(&str) -> usize,
    ) -> Result<Vec<(String, Vec<usize>)>, ModelError> {
        let package = Arc::clone(&self.package);
        let failed = |why: String| ModelError::Run { package: package.to_string(), why };
        let mut zeros = Vec::with_capacity(self.inputs.len());
        for (name, facts) in self.inputs.iter() {
            let shape: Vec<usize> = facts
                .shape
                .iter()
                .map(|axis| match axis {
                    Extent::Fixed(fixed) => *fixed,
                    Extent::Dynamic(name) => extent(name),
                })
                .collect();
            let elements = shape.iter().try_fold(1_usize, |product, extent| product.checked_mul(*extent));
            let elements = elements.filter(|elements| *elements <= MAX_TRIED).ok_or_else(|| {
                failed(format!("its input {name} would have more elements than are tried out: {shape:?}"))
            })?;
            zeros.push((name, facts, shape, vec![0.0_f32; elements]));
        }
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(zeros.len());
        for (name, facts, shape, zeros) in &zeros {
            let input = Input { name, shape, values: Values::F32(zeros) };
            let value = tensor(&input, facts).map_err(|error| failed(format!("input {name}: {error}")))?;
            values.push((facts.name.as_str(), value));
        }
        let results = self.shared.get().run(values).map_err(|error| failed(error.to_string()))?;
        let shape = |(name, facts): (&String, &TensorFacts)| {
            let shape =
                results.get(&facts.name).map(|value| value.shape().iter().map(|&e| e as usize).collect());
            (name.clone(), shape.unwrap_or_default())
        };
        Ok(self.outputs.iter().map(shape).collect())
    }

    /// Runs the graph and copies each output named in `outputs` to its place, which must have exactly its length.
    pub fn run(
        &mut self,
        inputs: &[Input<'_>],
        outputs: &mut [(&str, &mut [f32])],
    ) -> Result<(), ModelError> {
        let package = Arc::clone(&self.package);
        let failed = |why: String| ModelError::Run { package: package.to_string(), why };
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for input in inputs {
            let facts = self
                .inputs
                .get(input.name)
                .ok_or_else(|| failed(format!("it has no input {}", input.name)))?;
            let value =
                tensor(input, facts).map_err(|error| failed(format!("input {}: {error}", input.name)))?;
            values.push((facts.name.as_str(), value));
        }
        let results = self.shared.get().run(values).map_err(|error| failed(error.to_string()))?;
        for (name, place) in outputs {
            let facts = self.outputs.get(*name).ok_or_else(|| failed(format!("it has no output {name}")))?;
            let value =
                results.get(&facts.name).ok_or_else(|| failed(format!("it gave no output {name}")))?;
            copy(value, facts.dtype, place).map_err(|why| failed(format!("output {name}: {why}")))?;
            if let (true, Some(Extent::Fixed(width))) = (facts.unit_length, facts.shape.last()) {
                place.chunks_exact_mut(*width).for_each(to_unit_length);
            }
        }
        Ok(())
    }
}

/// The input as the graph takes it.
fn tensor<'a>(input: &Input<'a>, facts: &TensorFacts) -> ort::Result<SessionInputValue<'a>> {
    // A graph that takes a number has no use for a batch of one.
    let shape = if facts.shape.is_empty() { Vec::new() } else { input.shape.to_vec() };
    Ok(match (input.values, facts.dtype) {
        (Values::F32(data), DType::F32) => TensorRef::from_array_view((shape, data))?.into(),
        (Values::I64(data), DType::I64) => TensorRef::from_array_view((shape, data))?.into(),
        (Values::F32(data), DType::F16) => {
            let mut halves = vec![f16::ZERO; data.len()];
            halves.convert_from_f32_slice(data);
            Tensor::from_array((shape, halves))?.into()
        }
        (Values::F32(data), DType::I64) => converted(shape, data, |value| value as i64)?,
        (Values::F32(data), DType::I32) => converted(shape, data, |value| value as i32)?,
        (Values::I64(data), DType::I32) => converted(shape, data, |value| value as i32)?,
        (Values::I64(data), DType::F32) => converted(shape, data, |value| value as f32)?,
        (Values::I64(data), DType::F16) => converted(shape, data, |value| f16::from_f32(value as f32))?,
    })
}

fn converted<'a, T: Copy, U: ort::value::PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static>(
    shape: Vec<usize>,
    data: &[T],
    convert: impl Fn(T) -> U,
) -> ort::Result<SessionInputValue<'a>> {
    Ok(Tensor::from_array((shape, data.iter().copied().map(convert).collect::<Vec<U>>()))?.into())
}

fn to_unit_length(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value /= length;
        }
    }
}

/// Copies an output of floating point to its place.
fn copy(value: &DynValue, dtype: DType, place: &mut [f32]) -> Result<(), String> {
    let length = |found: usize| format!("has {found} elements, not {}", place.len());
    let broken = |error: ort::Error| error.to_string();
    match dtype {
        DType::F32 => {
            let (_, data) = value.try_extract_tensor::<f32>().map_err(broken)?;
            if data.len() != place.len() {
                return Err(length(data.len()));
            }
            place.copy_from_slice(data);
        }
        DType::F16 => {
            let (_, data) = value.try_extract_tensor::<f16>().map_err(broken)?;
            if data.len() != place.len() {
                return Err(length(data.len()));
            }
            data.convert_to_f32_slice(place);
        }
        DType::I64 | DType::I32 => return Err("holds whole numbers, which no caller reads".to_owned()),
    }
    Ok(())
}

/// Compares what `model.toml` says with what the graph says.
fn check(
    kind: &str,
    facts: &BTreeMap<String, TensorFacts>,
    graph: &[ort::value::Outlet],
) -> Result<(), String> {
    for (name, fact) in facts {
        let outlet = graph
            .iter()
            .find(|outlet| outlet.name() == fact.name)
            .ok_or_else(|| format!("the graph has no {kind} named {:?} (for {name})", fact.name))?;
        let ValueType::Tensor { ty, shape, .. } = outlet.dtype() else {
            return Err(format!("{kind} {name} is no tensor in the graph"));
        };
        let dtype = match ty {
            TensorElementType::Float32 => Some(DType::F32),
            TensorElementType::Float16 => Some(DType::F16),
            TensorElementType::Int64 => Some(DType::I64),
            TensorElementType::Int32 => Some(DType::I32),
            _ => None,
        };
        if dtype != Some(fact.dtype) {
            return Err(format!("{kind} {name} is {:?} in model.toml, {ty:?} in the graph", fact.dtype));
        }
        let is_one = |(axis, extent): &(usize, &Extent)| *axis > 0 && **extent == Extent::Fixed(1);
        let may_lack_ones = fact.shape.len() != shape.len();
        let axes = fact.shape.iter().enumerate().filter(|axis| !(may_lack_ones && is_one(axis)));
        let ours: Vec<&Extent> = axes.map(|(_, extent)| extent).collect();
        let fits = shape.len() == ours.len()
            && shape.iter().zip(ours).all(|(&extent, fact)| match fact {
                // Exporters may leave an extent open that is always the same.
                Extent::Fixed(fixed) => extent == -1 || usize::try_from(extent) == Ok(*fixed),
                Extent::Dynamic(_) => extent == -1,
            });
        if !fits {
            return Err(format!("{kind} {name} is {:?} in model.toml, {shape:?} in the graph", fact.shape));
        }
    }
    for outlet in graph {
        if kind == "input" && !facts.values().any(|fact| fact.name == outlet.name()) {
            return Err(format!(
                "the graph takes an input {:?} that model.toml does not name",
                outlet.name()
            ));
        }
    }
    Ok(())
}
