//! One loaded model: a session whose graph was found to be what `model.toml` says.

use std::collections::BTreeMap;

use ort::session::{Session, SessionInputValue};
use ort::value::TensorElementType;
use ort::value::{TensorRef, ValueType};

use crate::ModelError;
use crate::execution::InferenceSettings;
use crate::package::{DType, Extent, Package, TensorFacts};
use crate::runtime;

/// Elements of an input, borrowed for a run.
#[derive(Debug, Clone, Copy)]
pub enum Values<'a> {
    /// 32-bit floating point.
    F32(&'a [f32]),
    /// 64-bit integers.
    I64(&'a [i64]),
}

/// One input of a run.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Our name of it.
    pub name: &'a str,
    /// Its extents.
    pub shape: &'a [usize],
    /// Its elements, row-major.
    pub values: Values<'a>,
}

/// A loaded model. A run needs it exclusively: give it a thread, or a place in a [`crate::SessionPool`].
#[derive(Debug)]
pub struct Model {
    session: Session,
    package: String,
    inputs: BTreeMap<String, TensorFacts>,
    outputs: BTreeMap<String, TensorFacts>,
}

impl Model {
    /// Loads the graph of a verified package and checks it against `model.toml`.
    pub fn load(package: &Package, settings: &InferenceSettings) -> Result<Self, ModelError> {
        let name = package.manifest.name.clone();
        let environment = runtime::environment(&settings.onnxruntime_library)?;
        let refused = |why: String| ModelError::Load { package: name.clone(), why };

        let builder = Session::builder(environment).map_err(|error| refused(error.to_string()))?;
        let builder = builder
            .with_intra_threads(settings.thread_count())
            .and_then(|builder| builder.with_inter_threads(1))
            // Batches vary, and sessions share cores: no memory plan for one shape, no spinning threads.
            .and_then(|builder| builder.with_memory_pattern(false))
            .and_then(|builder| builder.with_config_entry("session.intra_op.allow_spinning", "0"))
            .map_err(|error| refused(error.to_string()))?;
        let mut builder =
            builder.with_execution_providers(settings.providers()).map_err(|error| ModelError::Provider {
                package: name.clone(),
                provider: settings.provider_name(),
                why: error.to_string(),
            })?;
        let graph = package.file(&package.manifest.graph.file)?;
        let session = builder.commit_from_memory(graph).map_err(|error| refused(error.to_string()))?;

        let facts = &package.manifest.graph;
        let mismatch = |why: String| ModelError::Graph { package: name.clone(), why };
        check("input", &facts.inputs, session.inputs()).map_err(mismatch)?;
        check("output", &facts.outputs, session.outputs()).map_err(mismatch)?;
        Ok(Self { session, inputs: facts.inputs.clone(), outputs: facts.outputs.clone(), package: name })
    }

    /// Whether the graph has an input of this name.
    pub fn takes(&self, input: &str) -> bool {
        self.inputs.contains_key(input)
    }

    /// Runs the graph and copies each output named in `outputs` to its place, which must have exactly its length.
    pub fn run(
        &mut self,
        inputs: &[Input<'_>],
        outputs: &mut [(&str, &mut [f32])],
    ) -> Result<(), ModelError> {
        let package = self.package.clone();
        let failed = |why: String| ModelError::Run { package: package.clone(), why };
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(inputs.len());
        for input in inputs {
            let facts = self
                .inputs
                .get(input.name)
                .ok_or_else(|| failed(format!("it has no input {}", input.name)))?;
            let shape = input.shape.to_vec();
            let value: SessionInputValue<'_> = match input.values {
                Values::F32(data) => TensorRef::from_array_view((shape, data)).map(Into::into),
                Values::I64(data) => TensorRef::from_array_view((shape, data)).map(Into::into),
            }
            .map_err(|error| failed(format!("input {}: {error}", input.name)))?;
            values.push((facts.name.as_str(), value));
        }
        let results = self.session.run(values).map_err(|error| failed(error.to_string()))?;
        for (name, place) in outputs {
            let facts = self.outputs.get(*name).ok_or_else(|| failed(format!("it has no output {name}")))?;
            let value =
                results.get(&facts.name).ok_or_else(|| failed(format!("it gave no output {name}")))?;
            let (_, data) = value
                .try_extract_tensor::<f32>()
                .map_err(|error| failed(format!("output {name}: {error}")))?;
            if data.len() != place.len() {
                return Err(failed(format!(
                    "output {name} has {} elements, not {}",
                    data.len(),
                    place.len()
                )));
            }
            place.copy_from_slice(data);
        }
        Ok(())
    }
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
            _ => None,
        };
        if dtype != Some(fact.dtype) {
            return Err(format!("{kind} {name} is {:?} in model.toml, {ty:?} in the graph", fact.dtype));
        }
        let fits = shape.len() == fact.shape.len()
            && shape.iter().zip(&fact.shape).all(|(&extent, fact)| match fact {
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
