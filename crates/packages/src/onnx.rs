//! What an ONNX file says of itself, read without ONNX Runtime: the tensors it takes and gives, and the files of weights
//! that it names. Only the fields that are asked for are declared; weights are skipped, not copied.
//!
//! Fields and numbers are those of onnx.proto (ONNX 1.17, IR version 10).

use std::collections::BTreeSet;

use prost::Message;

use crate::package::{DType, Extent, TensorFacts};

/// A graph's tensors and the files that hold its weights.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What it takes.
    pub inputs: Vec<TensorFacts>,
    /// What it gives.
    pub outputs: Vec<TensorFacts>,
    /// The files of weights, as it names them: not to be trusted.
    pub external_data: Vec<String>,
}

/// Why a file is no graph that can be served.
#[derive(Debug, thiserror::Error)]
pub enum OnnxError {
    /// It cannot be read.
    #[error("it is no ONNX file: {0}")]
    Unreadable(#[from] prost::DecodeError),
    /// It has no graph.
    #[error("it is no ONNX file: it has no graph")]
    NoGraph,
    /// A tensor of a type that is not known here.
    #[error(
        "its {kind} {name:?} is of a type that is not known here ({type_number} in onnx.proto; 16 is bfloat16): export it in \
         float32 or float16"
    )]
    Type {
        /// Input or output.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The type, as ONNX numbers it.
        type_number: i32,
    },
}

/// Reads what `bytes` say.
pub fn describe(bytes: &[u8]) -> Result<Description, OnnxError> {
    let model = ModelProto::decode(bytes)?;
    let mut external = BTreeSet::new();
    model.note_external_data(&mut external);
    let graph = model.graph.ok_or(OnnxError::NoGraph)?;
    // Old exporters list weights among the inputs.
    let weights: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let taken = graph.input.iter().filter(|input| !weights.contains(input.name.as_str()));
    Ok(Description {
        inputs: taken.map(|input| input.facts("input")).collect::<Result<_, _>>()?,
        // Outputs of other types are none that anyone reads.
        outputs: graph.output.iter().filter_map(|output| output.facts("output").ok()).collect(),
        external_data: external.into_iter().collect(),
    })
}

/// The name of a file of weights as a package lists it. Some exporters write `./` before the name of a file beside the graph.
pub fn beside_the_graph(named: &str) -> &str {
    named.strip_prefix("./").unwrap_or(named)
}

/// The files of weights that `bytes` name.
pub(crate) fn external_data(bytes: &[u8]) -> Result<BTreeSet<String>, OnnxError> {
    let model = ModelProto::decode(bytes)?;
    if model.graph.is_none() {
        return Err(OnnxError::NoGraph);
    }
    let mut external = BTreeSet::new();
    model.note_external_data(&mut external);
    Ok(external)
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "20")]
    training_info: Vec<TrainingInfoProto>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<FunctionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TrainingInfoProto {
    #[prost(message, optional, tag = "1")]
    initialization: Option<GraphProto>,
    #[prost(message, optional, tag = "2")]
    algorithm: Option<GraphProto>,
}

#[derive(Clone, PartialEq, Message)]
struct FunctionProto {
    #[prost(message, repeated, tag = "7")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "11")]
    attribute_proto: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(message, optional, tag = "5")]
    t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    g: Option<GraphProto>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<GraphProto>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<SparseTensorProto>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
struct SparseTensorProto {
    #[prost(message, optional, tag = "1")]
    values: Option<TensorProto>,
    #[prost(message, optional, tag = "2")]
    indices: Option<TensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    dim_param: Option<String>,
}

impl ModelProto {
    /// Wherever a tensor can stand: in the graph, in functions, and in what trains it.
    fn note_external_data(&self, files: &mut BTreeSet<String>) {
        let training = self.training_info.iter();
        let training = training.flat_map(|info| info.initialization.iter().chain(&info.algorithm));
        self.graph.iter().chain(training).for_each(|graph| graph.note_external_data(files));
        for function in &self.functions {
            let attributes = function.node.iter().flat_map(|node| &node.attribute);
            for attribute in attributes.chain(&function.attribute_proto) {
                attribute.note_external_data(files);
            }
        }
    }
}

impl GraphProto {
    fn note_external_data(&self, files: &mut BTreeSet<String>) {
        for attribute in self.node.iter().flat_map(|node| &node.attribute) {
            attribute.note_external_data(files);
        }
        self.initializer.iter().for_each(|tensor| tensor.note_external_data(files));
        self.sparse_initializer.iter().for_each(|tensor| tensor.note_external_data(files));
    }
}

impl AttributeProto {
    fn note_external_data(&self, files: &mut BTreeSet<String>) {
        self.g.iter().chain(&self.graphs).for_each(|graph| graph.note_external_data(files));
        self.t.iter().chain(&self.tensors).for_each(|tensor| tensor.note_external_data(files));
        let sparse = self.sparse_tensor.iter().chain(&self.sparse_tensors);
        sparse.for_each(|tensor| tensor.note_external_data(files));
    }
}

impl SparseTensorProto {
    fn note_external_data(&self, files: &mut BTreeSet<String>) {
        self.values.iter().chain(&self.indices).for_each(|tensor| tensor.note_external_data(files));
    }
}

impl TensorProto {
    fn note_external_data(&self, files: &mut BTreeSet<String>) {
        let locations = self.external_data.iter().filter(|entry| entry.key == "location");
        files.extend(locations.map(|entry| entry.value.clone()));
    }
}

impl ValueInfoProto {
    fn facts(&self, kind: &'static str) -> Result<TensorFacts, OnnxError> {
        let tensor = self.r#type.as_ref().and_then(|of| of.tensor_type.as_ref());
        let type_number = tensor.map_or(0, |tensor| tensor.elem_type);
        // TensorProto.DataType
        let dtype = match type_number {
            1 => DType::F32,
            6 => DType::I32,
            7 => DType::I64,
            10 => DType::F16,
            _ => return Err(OnnxError::Type { kind, name: self.name.clone(), type_number }),
        };
        let extent = |(axis, dimension): (usize, &DimensionProto)| match dimension.dim_value {
            Some(extent) if extent > 0 => Extent::Fixed(extent as usize),
            _ => Extent::Dynamic(dimension.dim_param.clone().unwrap_or_else(|| format!("axis_{axis}"))),
        };
        let shape = tensor.and_then(|tensor| tensor.shape.as_ref());
        let shape = shape.iter().flat_map(|shape| &shape.dim).enumerate().map(extent).collect();
        Ok(TensorFacts { name: self.name.clone(), dtype, shape, unit_length: false })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tensor(name: &str, elem_type: i32, dims: &[(i64, &str)]) -> ValueInfoProto {
        let dim = dims.iter().map(|(value, name)| DimensionProto {
            dim_value: (*value > 0).then_some(*value),
            dim_param: (!name.is_empty()).then(|| (*name).to_owned()),
        });
        let shape = Some(TensorShapeProto { dim: dim.collect() });
        let tensor_type = Some(TensorTypeProto { elem_type, shape });
        ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type }) }
    }

    fn weights(name: &str, location: &str) -> TensorProto {
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        TensorProto {
            name: name.to_owned(),
            external_data: vec![entry("location", location), entry("offset", "0")],
        }
    }

    fn model(graph: GraphProto) -> Vec<u8> {
        ModelProto { graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
    }

    #[test]
    fn a_graph_says_what_it_takes_and_where_its_weights_are() {
        let inner = GraphProto { initializer: vec![weights("b", "inner.data")], ..GraphProto::default() };
        let attribute = AttributeProto { g: Some(inner), ..AttributeProto::default() };
        let bytes = model(GraphProto {
            node: vec![NodeProto { attribute: vec![attribute] }],
            initializer: vec![weights("w", "../outside.data")],
            input: vec![tensor("x", 10, &[(0, "batch"), (4, ""), (0, "")]), tensor("w", 1, &[])],
            output: vec![tensor("y", 1, &[])],
            ..GraphProto::default()
        });
        let description = describe(&bytes).unwrap();
        let shape =
            vec![Extent::Dynamic("batch".to_owned()), Extent::Fixed(4), Extent::Dynamic("axis_2".to_owned())];
        assert_eq!(
            description.inputs,
            [TensorFacts { name: "x".to_owned(), dtype: DType::F16, shape, unit_length: false }],
            "w is a weight"
        );
        assert_eq!(description.outputs.len(), 1);
        assert_eq!(description.external_data, ["../outside.data", "inner.data"]);
    }

    #[test]
    fn weights_are_found_wherever_a_tensor_can_stand() {
        let graph = |location: &str| GraphProto {
            initializer: vec![weights("w", location)],
            ..GraphProto::default()
        };
        let constant = |location: &str| AttributeProto {
            t: Some(weights("value", location)),
            ..AttributeProto::default()
        };
        let sparse =
            |location: &str| SparseTensorProto { values: Some(weights("v", location)), indices: None };
        let node = |attribute| NodeProto { attribute: vec![attribute] };
        let model = ModelProto {
            graph: Some(GraphProto { sparse_initializer: vec![sparse("sparse")], ..GraphProto::default() }),
            training_info: vec![TrainingInfoProto {
                initialization: Some(graph("initialization")),
                algorithm: Some(graph("algorithm")),
            }],
            functions: vec![FunctionProto {
                node: vec![
                    node(constant("node")),
                    node(AttributeProto { graphs: vec![graph("branch")], ..AttributeProto::default() }),
                ],
                attribute_proto: vec![AttributeProto {
                    sparse_tensors: vec![sparse("default")],
                    ..AttributeProto::default()
                }],
            }],
        };
        let bytes = model.encode_to_vec();
        let all = ["algorithm", "branch", "default", "initialization", "node", "sparse"].map(str::to_owned);
        assert_eq!(external_data(&bytes).unwrap(), BTreeSet::from(all.clone()));
        assert_eq!(describe(&bytes).unwrap().external_data, all);
    }

    #[test]
    fn what_is_no_graph_is_refused() {
        assert!(matches!(describe(b"graph"), Err(OnnxError::Unreadable(_))));
        assert!(matches!(describe(b""), Err(OnnxError::NoGraph)));
        let text = model(GraphProto { input: vec![tensor("x", 8, &[])], ..GraphProto::default() });
        assert!(matches!(describe(&text), Err(OnnxError::Type { type_number: 8, .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = describe(&bytes);
        }
    }
}
