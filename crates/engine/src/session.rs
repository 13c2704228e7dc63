//! ONNX Runtime sessions of a package: load its graph, check it against `model.toml`, run it.

mod bound;
mod stack;
mod tensors;

use std::collections::BTreeMap;
use std::sync::Arc;

use ort::session::SessionInputValue;
use ort::session::builder::SessionBuilder;
use ort::value::{TensorElementType, ValueType};
use reverie_packages::package::{DType, Extent, TensorFacts};
use reverie_packages::{Package, PackageError};

use self::bound::Bound;
pub use self::bound::Identity;
use self::stack::{can_batch, stack};
use crate::ModelError;
use crate::execution::{Device, InferenceSettings, Provider};
use crate::shared_session::SharedSession;
use crate::{gpus, runtime};

/// Elements of an input that [`Session::try_out`] makes at most.
const MAX_TRIED: usize = 1 << 28;

/// Elements of an input, borrowed for a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Values<'a> {
    /// 32-bit floating point.
    F32(&'a [f32]),
    /// 64-bit integers.
    I64(&'a [i64]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::I64(values) => values.len(),
        }
    }
}

/// One input of a row. Values of another type than the graph's are converted: 32-bit floating point to 16-bit, and numbers to
/// whole numbers, cut off.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Our name of it.
    pub name: &'a str,
    /// Its extents, with a batch of one.
    pub shape: &'a [usize],
    /// Its elements, row-major.
    pub values: Values<'a>,
    /// Of values that last over many runs. They are uploaded to the device once and stay there for a while.
    pub identity: Option<Identity>,
}

/// What one row of a forward pass reads and writes.
#[derive(Debug)]
pub struct RowData<'a> {
    /// Its inputs, in the same order for all rows of a pass.
    pub inputs: Vec<Input<'a>>,
    /// The outputs that are wanted, by name, and where they go: exactly as many elements as the row's part of the output has. The same
    /// outputs for all rows of a pass.
    pub outputs: Vec<(&'a str, &'a mut [f32])>,
}

/// An output of a graph that was tried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Our name of it.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Its elements, row-major; none of whole numbers.
    pub numbers: Vec<f32>,
}

/// A loaded model that one thread runs. The threads of a [`Lane`](crate::Lane) have one each; of those that ONNX Runtime runs on a CPU
/// with its own kernels all share one copy of the weights.
#[derive(Debug)]
pub struct Session {
    bound: Bound,
    shared: SharedSession,
    package: Arc<str>,
    inputs: Arc<BTreeMap<String, TensorFacts>>,
    outputs: Arc<BTreeMap<String, TensorFacts>>,
    batch: usize,
    /// What the batch axis of the graph was set to, if it was.
    rows: Option<usize>,
    device: Option<Device>,
}

impl Session {
    /// As many sessions of a package as `settings` say. Where they [can](InferenceSettings::shares_weights), the graph is loaded once and
    /// they share its weights; elsewhere each session has its own.
    pub fn open_all(package: &Package, settings: &InferenceSettings) -> Result<Vec<Self>, ModelError> {
        let count = settings.session_count();
        if settings.shares_weights() {
            let first = Self::open(package, settings)?;
            let others = (1..count).map(|_| first.another()).collect::<Result<Vec<_>, _>>()?;
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
        let unfit = |why: String| ModelError::Provider {
            package: name.clone(),
            provider: settings.provider_name(),
            why,
        };
        settings.check().map_err(&unfit)?;
        let mut builder = builder
            .with_execution_providers(settings.providers())
            .map_err(|error| unfit(error.to_string()))?;
        if settings.provider == Provider::Openvino {
            builder =
                of_one_shape(builder, settings.batch.get()).map_err(|error| unfit(error.to_string()))?;
        }
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
        if matches!(settings.provider, Provider::Cuda | Provider::Tensorrt) {
            gpus::observe_memory();
        }

        let facts = &package.manifest.graph;
        let mismatch = |why: String| PackageError::Graph { package: name.clone(), why };
        let batch = settings.batch.get();
        let rows = (settings.provider == Provider::Openvino).then_some(batch);
        check("input", &facts.inputs, session.inputs(), rows).map_err(mismatch)?;
        check("output", &facts.outputs, session.outputs(), rows).map_err(mismatch)?;
        if batch > 1 {
            can_batch(facts).map_err(|why| ModelError::Batch { package: name.clone(), batch, why })?;
        }
        let mut shared = SharedSession::new(session);
        Ok(Self {
            bound: Bound::new(shared.get()).map_err(|error| refused(error.to_string()))?,
            shared,
            inputs: Arc::new(facts.inputs.clone()),
            outputs: Arc::new(facts.outputs.clone()),
            package: name.into(),
            batch,
            rows,
            device: settings.device(),
        })
    }

    /// Another session on the same weights. Only for providers that [share](InferenceSettings::shares_weights) them.
    fn another(&self) -> Result<Self, ModelError> {
        let mut shared = self.shared.another();
        let refused = |error: ort::Error| ModelError::Load {
            package: self.package.to_string(),
            why: error.to_string(),
        };
        Ok(Self {
            bound: Bound::new(shared.get()).map_err(refused)?,
            shared,
            package: Arc::clone(&self.package),
            inputs: Arc::clone(&self.inputs),
            outputs: Arc::clone(&self.outputs),
            batch: self.batch,
            rows: self.rows,
            device: self.device.clone(),
        })
    }

    /// Rows that one forward pass has room for.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Inputs whose lasting values were uploaded, counted once for each set of rows that shared a pass.
    pub fn uploads(&self) -> u64 {
        self.bound.uploads
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

    /// Runs the graph once and gives its outputs. `extent` chooses the axes that are open, by name, and `fill` the numbers of an input,
    /// by our name, facts and elements.
    pub fn try_out(
        &mut self,
        extent: impl Fn(&str) -> usize,
        fill: impl Fn(&str, &TensorFacts, usize) -> Vec<f32>,
    ) -> Result<Vec<Tried>, ModelError> {
        let package = Arc::clone(&self.package);
        let failed = |why: String| ModelError::Run { package: package.to_string(), why };
        let mut values: Vec<(&str, SessionInputValue<'_>)> = Vec::with_capacity(self.inputs.len());
        for (name, facts) in self.inputs.iter() {
            let shape: Vec<usize> = facts
                .shape
                .iter()
                .map(|axis| match axis {
                    Extent::Fixed(fixed) => *fixed,
                    Extent::Dynamic(name) => {
                        self.rows.filter(|_| name == "batch").unwrap_or_else(|| extent(name))
                    }
                })
                .collect();
            let elements = shape.iter().try_fold(1_usize, |product, extent| product.checked_mul(*extent));
            let elements = elements.filter(|elements| *elements <= MAX_TRIED).ok_or_else(|| {
                failed(format!("its input {name} would have more elements than are tried out: {shape:?}"))
            })?;
            let value = tensors::of(facts.dtype, &shape, &[Values::F32(&fill(name, facts, elements))])
                .map_err(|error| failed(format!("input {name}: {error}")))?;
            values.push((facts.name.as_str(), value.into()));
        }
        let results = self.shared.get().run(values).map_err(|error| failed(error.to_string()))?;
        let tried = |(name, facts): (&String, &TensorFacts)| {
            let value = results.get(&facts.name).ok_or_else(|| failed(format!("it gave no {name}")))?;
            let shape: Vec<usize> = value.shape().iter().map(|&extent| extent as usize).collect();
            let mut numbers = Vec::new();
            if matches!(facts.dtype, DType::F32 | DType::F16) {
                numbers.resize(shape.iter().product(), 0.0);
                tensors::read(value, facts.dtype, (0, 1), &mut numbers)
                    .map_err(|why| failed(format!("output {name}: {why}")))?;
            }
            Ok(Tried { name: name.clone(), shape, numbers })
        };
        self.outputs.iter().map(tried).collect()
    }

    /// Runs the graph once over `rows`, 1 to [`Self::batch`] of them in any order, and writes their outputs. The rest of the batch
    /// repeats one of them.
    ///
    /// # Errors
    /// No output is of use if rows differ in shape, or if one of them is wrong.
    pub fn run(&mut self, rows: &mut [RowData<'_>]) -> Result<(), ModelError> {
        // The same rows come in another order at the next step, and are then the ones that are on the device already.
        rows.sort_by_key(|row| row.inputs.iter().find_map(|input| input.identity));
        let outcome = self.run_in_order(rows);
        if outcome.is_err() {
            self.bound.clear();
        }
        outcome.map_err(|why| ModelError::Run { package: self.package.to_string(), why })
    }

    fn run_in_order(&mut self, rows: &mut [RowData<'_>]) -> Result<(), String> {
        let Self { bound, shared, inputs, outputs, batch, device, .. } = self;
        let (Some(first), true) = (rows.first(), rows.len() <= *batch) else {
            return Err(format!("a pass takes 1 to {batch} rows (got {})", rows.len()));
        };
        let mut shapes = Vec::with_capacity(first.inputs.len());
        for (place, Input { name, .. }) in first.inputs.iter().enumerate() {
            let facts = inputs.get(*name).ok_or_else(|| format!("it has no input {name}"))?;
            let failed = |why: String| format!("input {name}: {why}");
            let stacked = stack(rows, place, facts, *batch).map_err(failed)?;
            bound.feed(facts, &stacked, device.as_ref()).map_err(failed)?;
            shapes.push(stacked.shape);
        }
        let wanted = first
            .outputs
            .iter()
            .map(|(name, _)| outputs.get_key_value(*name).ok_or_else(|| format!("it has no output {name}")));
        let wanted = wanted.collect::<Result<Vec<_>, _>>()?;
        bound.run(shared.get(), shapes, &wanted, |place, facts, value| {
            for (row, data) in rows.iter_mut().enumerate() {
                let (_, out) = data.outputs.get_mut(place).ok_or("is wanted by some rows only")?;
                tensors::read(value, facts.dtype, (row, *batch), out)?;
                if let (true, Some(Extent::Fixed(width))) = (facts.unit_length, facts.shape.last()) {
                    out.chunks_exact_mut(*width).for_each(to_unit_length);
                }
            }
            Ok(())
        })
    }
}

/// Passes of OpenVINO have one number of rows: with open extents it is half as fast, and in bfloat16 can give what is no number. What
/// it cannot compute is an error, and not left to other kernels silently.
fn of_one_shape(builder: SessionBuilder, batch: usize) -> Result<SessionBuilder, ort::Error<SessionBuilder>> {
    let batch = i64::try_from(batch).unwrap_or(i64::MAX);
    // As we and optimum name it.
    builder
        .with_dimension_override("batch", batch)?
        .with_dimension_override("batch_size", batch)?
        .with_disable_cpu_fallback()
}

fn to_unit_length(vector: &mut [f32]) {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if length > 0.0 {
        for value in vector {
            *value /= length;
        }
    }
}

/// Compares what `model.toml` says with what the graph says, whose batch axis may have been set to `rows`.
fn check(
    kind: &str,
    facts: &BTreeMap<String, TensorFacts>,
    graph: &[ort::value::Outlet],
    rows: Option<usize>,
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
                // What is not set in the inputs would stay open all through the graph.
                Extent::Dynamic(axis) => match rows.filter(|_| axis == "batch") {
                    Some(rows) if usize::try_from(extent) == Ok(rows) => true,
                    Some(_) if kind == "input" => false,
                    _ => extent == -1,
                },
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
