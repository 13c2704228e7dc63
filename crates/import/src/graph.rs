//! The graph of a part, and how its tensors are named here.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use reverie_packages::onnx::{self, Description};
use reverie_packages::package::{DType, Extent, Graph, TensorFacts, joint_digest};

use crate::keys::Keys;
use crate::source::{ONNX, Source, is_plain};
use crate::{ImportError, bundle};

/// What exporters call a graph, and packages too.
const GRAPH: &str = "model.onnx";

/// Where the graph of a part is, and what it is called. Beside `unet/model.onnx` there are layouts that name the precision
/// (`unet/model_fp16.onnx`) or keep ONNX files apart (`unet/onnx/model.onnx`, `onnx/unet/model.onnx`).
fn find(source: &Source, folder: &str) -> Result<(String, String), ImportError> {
    for place in [folder.to_owned(), format!("{folder}/{ONNX}"), format!("{ONNX}/{folder}")] {
        let mut names = source.files(&place)?;
        names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "onnx"));
        if names.iter().any(|name| name == GRAPH) {
            return Ok((place, GRAPH.to_owned()));
        }
        if names.len() > 1 {
            let why = format!(
                "has {}, and which of them to import is not known: rename that one to {GRAPH}, or remove the others",
                names.join(", ")
            );
            return Err(ImportError::wrong(&source.root().join(place), why));
        }
        if let Some(only) = names.pop() {
            return Ok((place, only));
        }
    }
    Ok((folder.to_owned(), GRAPH.to_owned()))
}

/// A graph and its files.
#[derive(Debug)]
pub(crate) struct Part {
    path: PathBuf,
    description: Description,
    /// Files to copy, with their names in the package.
    pub(crate) files: Vec<(PathBuf, String)>,
    /// What was named so far.
    pub(crate) graph: Graph,
}

impl Part {
    /// Reads the graph of the part `folder`.
    pub(crate) fn read(source: &Source, folder: &str) -> Result<Self, ImportError> {
        let why = format!(
            "{folder} is a part of the pipeline, and only ONNX can be imported (optimum-cli export onnx)"
        );
        let (place, name) = find(source, folder)?;
        let relative = format!("{place}/{name}");
        let path = source.file(&relative, &why)?;
        let description = onnx::describe(&source.graph(&relative, &why)?);
        let description = description.map_err(|error| ImportError::wrong(&path, error))?;
        let mut files = vec![(path.clone(), GRAPH.to_owned())];
        let mut external_data = Vec::new();
        for named in &description.external_data {
            let plain = onnx::beside_the_graph(named);
            if !is_plain(plain) || plain == GRAPH {
                return Err(ImportError::Outside { path, named: named.clone() });
            }
            if external_data.iter().any(|known| known == plain) {
                continue;
            }
            let weights = source.file(&format!("{place}/{plain}"), "the graph has its weights there")?;
            files.push((weights, plain.to_owned()));
            external_data.push(plain.to_owned());
        }
        let graph = Graph { file: GRAPH.to_owned(), external_data, ..Graph::default() };
        Ok(Self { path, description, files, graph })
    }

    /// The identity that the graph would have in a package.
    pub(crate) fn digest(&self) -> Result<String, ImportError> {
        let mut digests = Vec::new();
        for (path, name) in &self.files {
            digests.push(bundle::read_through(path, name, |_| Ok(()))?.sha256);
        }
        Ok(joint_digest(digests.iter().map(String::as_str)))
    }

    /// Whether the graph takes `theirs`.
    pub(crate) fn takes(&self, theirs: &str) -> bool {
        self.description.inputs.iter().any(|input| input.name == theirs)
    }

    /// Whether the graph gives `theirs`.
    pub(crate) fn gives(&self, theirs: &str) -> bool {
        self.description.outputs.iter().any(|output| output.name == theirs)
    }

    /// Refuses a configuration whose `key` says another extent than the graph has, where it has a fixed one.
    pub(crate) fn agree(&self, keys: &Keys, key: &str, fixed: Option<usize>) -> Result<(), ImportError> {
        match (keys.get::<usize>(key)?, fixed) {
            (Some(said), Some(fixed)) if said != fixed => {
                Err(keys.wrong(key, format!("must be {fixed}, as {} has it", self.path.display())))
            }
            _ => Ok(()),
        }
    }

    /// Element type of an input.
    pub(crate) fn input_dtype(&self, theirs: &str) -> Option<DType> {
        self.description.inputs.iter().find(|input| input.name == theirs).map(|input| input.dtype)
    }

    /// One extent of an input, if it is fixed.
    pub(crate) fn input_extent(&self, theirs: &str, axis: usize) -> Option<usize> {
        extent(&self.description.inputs, theirs, axis)
    }

    /// One extent of an output, if it is fixed.
    pub(crate) fn output_extent(&self, theirs: &str, axis: usize) -> Option<usize> {
        extent(&self.description.outputs, theirs, axis)
    }

    /// Names the input `theirs` as `ours`. `shape`, if there is one, says what extents it is always given.
    pub(crate) fn input(
        &mut self,
        ours: &str,
        theirs: &str,
        shape: Option<Vec<Extent>>,
    ) -> Result<(), ImportError> {
        let facts = self.find(&self.description.inputs, theirs, shape)?;
        self.graph.inputs.insert(ours.to_owned(), facts);
        Ok(())
    }

    /// Names the output `theirs` as `ours`.
    pub(crate) fn output(
        &mut self,
        ours: &str,
        theirs: &str,
        shape: Option<Vec<Extent>>,
    ) -> Result<(), ImportError> {
        let facts = self.find(&self.description.outputs, theirs, shape)?;
        self.graph.outputs.insert(ours.to_owned(), facts);
        Ok(())
    }

    /// The same for an output whose last extent is a vector of unit length.
    pub(crate) fn unit_output(
        &mut self,
        ours: &str,
        theirs: &str,
        shape: Vec<Extent>,
    ) -> Result<(), ImportError> {
        let facts = self.find(&self.description.outputs, theirs, Some(shape))?;
        self.graph.outputs.insert(ours.to_owned(), TensorFacts { unit_length: true, ..facts });
        Ok(())
    }

    fn find(
        &self,
        tensors: &[TensorFacts],
        theirs: &str,
        shape: Option<Vec<Extent>>,
    ) -> Result<TensorFacts, ImportError> {
        let found = tensors.iter().find(|tensor| tensor.name == theirs).cloned();
        let found = found.ok_or_else(|| {
            let names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
            ImportError::wrong(&self.path, format!("it has no tensor {theirs:?}, only {}", names.join(", ")))
        })?;
        // A number stays a number.
        let shape = shape.filter(|_| !found.shape.is_empty()).unwrap_or_else(|| found.shape.clone());
        self.check_fixed(&found, &shape)?;
        Ok(TensorFacts { shape: keep_fixed(&found, shape), ..found })
    }

    /// Exporters may have fixed what others leave open.
    fn check_fixed(&self, found: &TensorFacts, shape: &[Extent]) -> Result<(), ImportError> {
        let name = &found.name;
        // An extent of 1 after the batch may be missing: the one token of a vector.
        let is_one = |(axis, extent): &(usize, &Extent)| *axis > 0 && **extent == Extent::Fixed(1);
        let needed = shape.iter().enumerate().filter(|axis| !is_one(axis)).count();
        if found.shape.len() != shape.len() && found.shape.len() != needed {
            let (has, needed) = (found.shape.len(), shape.len());
            return Err(self.wrong(format!("{name:?} has {has} axes, and {needed} are needed")));
        }
        if let Some(Extent::Fixed(batch)) = found.shape.first()
            && *batch > 1
            && matches!(shape.first(), Some(Extent::Dynamic(_)))
        {
            return Err(self.wrong(format!(
                "it was exported for batches of {batch} ({name:?}): export it with a batch that is open, or of 1"
            )));
        }
        let axes = found.shape.iter().zip(shape).filter(|_| found.shape.len() == shape.len());
        let mut differing = axes.filter_map(|axis| match axis {
            (Extent::Fixed(theirs), Extent::Fixed(ours)) if theirs != ours => Some((theirs, ours)),
            _ => None,
        });
        match differing.next() {
            None => Ok(()),
            Some((theirs, ours)) => Err(self.wrong(format!(
                "{name:?} has an extent that was fixed to {theirs} when it was exported, and {ours} is needed: import it at the \
                 size that it was exported for (--size), or export it with axes that are open"
            ))),
        }
    }

    /// Refuses a graph that takes what no one gives it.
    pub(crate) fn check_inputs(&self) -> Result<(), ImportError> {
        let named: BTreeMap<&str, &str> =
            self.graph.inputs.iter().map(|(ours, facts)| (facts.name.as_str(), ours.as_str())).collect();
        match self.description.inputs.iter().find(|input| !named.contains_key(input.name.as_str())) {
            None => Ok(()),
            Some(input) => Err(ImportError::wrong(
                &self.path,
                format!("it takes {:?}, and nothing is known here to give it", input.name),
            )),
        }
    }

    /// An error of this graph.
    pub(crate) fn wrong(&self, why: impl Display) -> ImportError {
        ImportError::wrong(&self.path, why)
    }
}

/// What was fixed when the graph was exported stays fixed, where it is open here.
fn keep_fixed(found: &TensorFacts, mut shape: Vec<Extent>) -> Vec<Extent> {
    let axes = if found.shape.len() == shape.len() { shape.len() } else { 1 };
    for (theirs, ours) in found.shape.iter().zip(&mut shape).take(axes) {
        if matches!((theirs, &ours), (Extent::Fixed(_), Extent::Dynamic(_))) {
            ours.clone_from(theirs);
        }
    }
    shape
}

fn extent(tensors: &[TensorFacts], theirs: &str, axis: usize) -> Option<usize> {
    match tensors.iter().find(|tensor| tensor.name == theirs)?.shape.get(axis)? {
        Extent::Fixed(extent) => Some(*extent),
        Extent::Dynamic(_) => None,
    }
}

/// `[batch, extents…]`
pub(crate) fn batch_of(extents: &[usize]) -> Vec<Extent> {
    let batch = [Extent::Dynamic("batch".to_owned())];
    batch.into_iter().chain(extents.iter().map(|extent| Extent::Fixed(*extent))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(shape: Vec<Extent>) -> Part {
        let tensor = TensorFacts { name: "sample".to_owned(), dtype: DType::F32, shape, unit_length: false };
        let description =
            Description { inputs: vec![tensor], outputs: Vec::new(), external_data: Vec::new() };
        Part { path: "model.onnx".into(), description, files: Vec::new(), graph: Graph::default() }
    }

    fn named(shape: &[usize], wanted: Vec<Extent>) -> Result<Vec<Extent>, String> {
        let open = |extent: &usize| match extent {
            0 => Extent::Dynamic("open".to_owned()),
            extent => Extent::Fixed(*extent),
        };
        let mut part = part(shape.iter().map(open).collect());
        part.input("x", "sample", Some(wanted)).map_err(|error| error.to_string())?;
        Ok(part.graph.inputs["x"].shape.clone())
    }

    #[test]
    fn what_an_exporter_fixed_stays_fixed_or_is_refused() {
        assert_eq!(named(&[0, 4, 0, 0], batch_of(&[4, 8, 8])).unwrap(), batch_of(&[4, 8, 8]));
        // One row is what a run has.
        let of_one = [vec![Extent::Fixed(1)], batch_of(&[4, 8, 8])[1..].to_vec()].concat();
        assert_eq!(named(&[1, 4, 8, 8], batch_of(&[4, 8, 8])).unwrap(), of_one);
        assert!(named(&[2, 4, 0, 0], batch_of(&[4, 8, 8])).unwrap_err().contains("batches of 2"));
        assert!(named(&[0, 4, 64, 64], batch_of(&[4, 8, 8])).unwrap_err().contains("fixed to 64"));
        let open = [batch_of(&[4]), vec![Extent::Dynamic("height".to_owned())]].concat();
        assert_eq!(named(&[0, 4, 64], open).unwrap(), batch_of(&[4, 64]));
        assert!(
            named(&[0, 4, 0], batch_of(&[4, 8, 8])).unwrap_err().contains("has 3 axes, and 4 are needed")
        );
        assert!(named(&[0, 4], batch_of(&[1, 4])).is_ok(), "a vector is one token");
        // A number has no extents, whatever is wanted.
        assert_eq!(named(&[], batch_of(&[])).unwrap(), []);
    }
}
