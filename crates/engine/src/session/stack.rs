//! The rows of a pass as one input: stacked along the batch axis.

use reverie_packages::package::{Extent, Graph, TensorFacts};

use super::bound::Stacked;
use super::{Input, RowData};

/// The values of one input over all rows of a pass, repeating the last row to the full batch.
pub(super) fn stack<'a>(
    rows: &[RowData<'a>],
    place: usize,
    facts: &TensorFacts,
    batch: usize,
) -> Result<Stacked<'a>, String> {
    let of_row = |row: &RowData<'a>| row.inputs.get(place).copied().ok_or("is missing in a row of the pass");
    let all = rows.iter().map(of_row).collect::<Result<Vec<Input<'a>>, _>>()?;
    let [first, others @ ..] = &all[..] else { return Err("has no rows".to_owned()) };
    let elements: usize = first.shape.iter().product();
    for input in &all {
        if (input.name, input.shape) != (first.name, first.shape) {
            return Err(format!("{:?} and {:?} do not fit into one pass", first.shape, input.shape));
        }
        if input.values.len() != elements {
            return Err(format!("{} elements do not make {:?}", input.values.len(), input.shape));
        }
    }
    let mut shape = first.shape.to_vec();
    // A graph that takes a number has no use for a batch of one.
    shape.truncate(if facts.shape.is_empty() { 0 } else { shape.len() });
    let (mut values, mut identities): (Vec<_>, Vec<_>) =
        all.iter().map(|input| (input.values, input.identity)).unzip();
    if is_batched(facts) {
        shape[0] = batch;
        for _ in all.len()..batch {
            values.extend(values.last().copied());
            identities.extend(identities.last().copied());
        }
    } else if others.iter().all(|input| input.values == first.values) {
        values.truncate(1);
        identities.truncate(1);
    } else {
        return Err("has no batch axis, and the rows of the pass differ in it".to_owned());
    }
    Ok(Stacked { name: first.name, shape, values, identity: identities.into_iter().collect() })
}

/// Whether the first axis of a tensor is that of the rows of a pass.
pub(super) fn is_batched(facts: &TensorFacts) -> bool {
    matches!(facts.shape.first(), Some(Extent::Dynamic(name)) if name == "batch")
}

/// Why a graph cannot compute several rows in one pass, if it cannot.
pub(super) fn can_batch(graph: &Graph) -> Result<(), String> {
    if let Some((name, _)) = graph.outputs.iter().find(|(_, facts)| !is_batched(facts)) {
        return Err(format!("its output {name} has no batch axis"));
    }
    for (name, TensorFacts { shape, .. }) in &graph.inputs {
        match shape.first() {
            None => return Err(format!("its input {name} is a single number for all rows")),
            Some(Extent::Fixed(1)) => {
                return Err(format!("its input {name} has a batch axis of fixed length 1"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use reverie_packages::package::DType;

    use super::*;

    fn graph(input: &[Extent], output: &[Extent]) -> Graph {
        let facts = |shape: &[Extent]| TensorFacts {
            name: "t".into(),
            dtype: DType::F32,
            shape: shape.to_vec(),
            unit_length: false,
        };
        Graph {
            inputs: BTreeMap::from([("x".to_owned(), facts(input))]),
            outputs: BTreeMap::from([("prediction".to_owned(), facts(output))]),
            ..Graph::default()
        }
    }

    #[test]
    fn a_graph_of_one_row_is_told_from_one_of_a_batch() {
        let open = || Extent::Dynamic("batch".to_owned());
        let (one, four) = (|| Extent::Fixed(1), || Extent::Fixed(4));
        assert_eq!(can_batch(&graph(&[open(), four()], &[open(), four()])), Ok(()));
        // Such as the places of tokens, which are the same for all rows.
        assert_eq!(can_batch(&graph(&[four(), one()], &[open(), four()])), Ok(()));
        let refused: [(&[Extent], &[Extent], &str); 3] = [
            (&[one(), four()], &[open(), four()], "input x has a batch axis of fixed length 1"),
            (&[], &[open(), four()], "input x is a single number"),
            (&[open(), four()], &[one(), four()], "output prediction has no batch axis"),
        ];
        for (input, output, told) in refused {
            let why = can_batch(&graph(input, output)).unwrap_err();
            assert!(why.contains(told), "{why}");
        }
    }
}
