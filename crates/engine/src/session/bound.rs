//! The tensors that a session's runs read and write, bound to it by an IO binding of ONNX Runtime.
//!
//! Inputs that change from run to run are written to tensors that are kept. Inputs that last, such as the text of a trajectory, are
//! uploaded to the device once for each set of rows that shares a pass, and the latest few stay there. Outputs go to memory that is
//! allocated once for each set of shapes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, Session};
use ort::value::{DynTensor, DynValue};
use reverie_packages::package::TensorFacts;

use super::{Values, tensors};
use crate::execution::Device;

/// Sets of lasting values that stay on the device, for each input. A guided step has up to three rows, which take turns where a pass
/// holds one.
const RESIDENT: usize = 4;

/// Whose values an input has: where identities are equal, so are the values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    owner: u64,
    variant: u8,
}

impl Identity {
    /// One that this process has not had.
    pub fn unique() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { owner: NEXT.fetch_add(1, Ordering::Relaxed), variant: 0 }
    }

    /// That of other values of the same owner.
    #[must_use]
    pub fn variant(self, variant: u8) -> Self {
        Self { variant, ..self }
    }
}

/// One input, over all rows of a pass.
#[derive(Debug)]
pub(super) struct Stacked<'a> {
    pub(super) name: &'a str,
    pub(super) shape: Vec<usize>,
    /// Of each row.
    pub(super) values: Vec<Values<'a>>,
    /// Of each row, if the values of all of them last.
    pub(super) identity: Option<Vec<Identity>>,
}

/// A tensor that lasting values were uploaded to.
#[derive(Debug)]
struct Resident {
    identity: Vec<Identity>,
    shape: Vec<usize>,
    tensor: DynTensor,
}

/// The shapes of the inputs and the outputs that are wanted: where they are equal, outputs have equal shapes.
type Signature = (Vec<Vec<usize>>, Vec<String>);

#[derive(Debug)]
pub(super) struct Bound {
    binding: IoBinding,
    /// Inputs that change, by our names.
    changing: BTreeMap<String, (Vec<usize>, DynTensor)>,
    /// Inputs that last, by our names, the latest last.
    resident: BTreeMap<String, VecDeque<Resident>>,
    /// What `outputs` are for.
    signature: Option<Signature>,
    /// Where outputs go, by the graph's names.
    outputs: Vec<DynTensor>,
    /// Tensors of lasting values that were uploaded.
    pub(super) uploads: u64,
}

impl Bound {
    pub(super) fn new(session: &Session) -> ort::Result<Self> {
        Ok(Self {
            binding: session.create_binding()?,
            changing: BTreeMap::new(),
            resident: BTreeMap::new(),
            signature: None,
            outputs: Vec::new(),
            uploads: 0,
        })
    }

    /// Forgets everything, after a run that failed.
    pub(super) fn clear(&mut self) {
        self.binding.clear();
        self.changing.clear();
        self.resident.clear();
        self.signature = None;
        self.outputs.clear();
    }

    /// Binds an input of the next run.
    pub(super) fn feed(
        &mut self,
        facts: &TensorFacts,
        input: &Stacked<'_>,
        device: Option<&Device>,
    ) -> Result<(), String> {
        let fed = match &input.identity {
            Some(identity) => self.feed_lasting(facts, input, identity, device),
            None => self.feed_changing(facts, input),
        };
        fed.map_err(|error| error.to_string())
    }

    fn feed_changing(
        &mut self,
        facts: &TensorFacts,
        Stacked { name, shape, values, .. }: &Stacked<'_>,
    ) -> ort::Result<()> {
        let kept = self.changing.remove(*name).filter(|(kept, _)| kept == shape);
        let mut tensor = match kept {
            Some((_, tensor)) => tensor,
            None => tensors::new(facts.dtype, shape)?,
        };
        tensors::write(&mut tensor, facts.dtype, values)?;
        // Again each time: a device other than the CPU copies it when it is bound.
        self.binding.bind_input(&facts.name, &tensor)?;
        self.changing.insert((*name).to_owned(), (shape.clone(), tensor));
        Ok(())
    }

    fn feed_lasting(
        &mut self,
        facts: &TensorFacts,
        Stacked { name, shape, values, .. }: &Stacked<'_>,
        identity: &[Identity],
        device: Option<&Device>,
    ) -> ort::Result<()> {
        let resident = self.resident.entry((*name).to_owned()).or_default();
        let known = resident.iter().position(|known| known.identity == identity && known.shape == *shape);
        let known = if let Some(known) = known.and_then(|place| resident.remove(place)) {
            known
        } else {
            if resident.len() == RESIDENT {
                resident.pop_front();
            }
            let tensor = tensors::of(facts.dtype, shape, values)?;
            let tensor = match device {
                Some(Device { device, id }) => tensor.to(device.clone(), *id)?,
                None => tensor,
            };
            self.uploads += 1;
            Resident { identity: identity.to_vec(), shape: shape.clone(), tensor }
        };
        self.binding.bind_input(&facts.name, &known.tensor)?;
        resident.push_back(known);
        Ok(())
    }

    /// Runs `session` over the inputs that were bound, of the given shapes, and has `read` read each output that is wanted, told by its
    /// place.
    pub(super) fn run(
        &mut self,
        session: &mut Session,
        shapes: Vec<Vec<usize>>,
        wanted: &[(&String, &TensorFacts)],
        mut read: impl FnMut(usize, &TensorFacts, &DynValue) -> Result<(), String>,
    ) -> Result<(), String> {
        let broken = |error: ort::Error| error.to_string();
        let signature = (shapes, wanted.iter().map(|(name, _)| (*name).clone()).collect());
        let is_known = self.signature.as_ref() == Some(&signature);
        if !is_known {
            self.signature = None;
            self.outputs.clear();
            self.binding.clear_outputs();
            let memory =
                MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::CPUOutput);
            let memory = memory.map_err(broken)?;
            for (_, facts) in wanted {
                self.binding.bind_output_to_device(&facts.name, &memory).map_err(broken)?;
            }
        }
        let results = session.run_binding(&self.binding).map_err(broken)?;
        let mut outputs = Vec::with_capacity(wanted.len());
        for (place, (name, facts)) in wanted.iter().enumerate() {
            let value = results.get(&facts.name).ok_or_else(|| format!("it gave no output {name}"))?;
            read(place, facts, value).map_err(|why| format!("output {name}: {why}"))?;
            if !is_known {
                let shape: Vec<usize> = value.shape().iter().map(|extent| *extent as usize).collect();
                outputs.push(tensors::new(facts.dtype, &shape).map_err(broken)?);
            }
        }
        drop(results);
        if !is_known {
            for ((_, facts), tensor) in wanted.iter().zip(&mut outputs) {
                self.binding.bind_output(&facts.name, tensor).map_err(broken)?;
            }
            (self.outputs, self.signature) = (outputs, Some(signature));
        }
        Ok(())
    }
}
