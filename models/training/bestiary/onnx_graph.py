"""A module to an ONNX file with f16-stored weights, and its comparison with PyTorch in ONNX Runtime."""

import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from .graphs import Graph

OPSET = 17
SMALLEST_WEIGHT = 64  # elements; shorter initialisers (shapes, scalars, small tables) stay as they are
KEEP_F32 = ("abar",)  # f16 would spoil the noise schedule


def export_graph(graph: Graph, path: Path) -> None:
    """Writes the graph as PyTorch exports it, f32."""
    torch.onnx.export(
        graph.module, tuple(graph.inputs.values()), str(path), input_names=list(graph.inputs), output_names=graph.outputs,
        dynamic_axes=graph.dynamic, opset_version=OPSET, dynamo=False, do_constant_folding=True,
    )


def export(graph: Graph, path: Path) -> None:
    """Writes the graph; initialisers f32 -> f16 followed by a Cast that ONNX Runtime folds at load."""
    export_graph(graph, path)
    model = onnx.load(str(path))
    _store_as_f16(model.graph)
    model.doc_string = ""
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def _store_as_f16(graph) -> None:
    casts = []
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        if tensor.data_type != TensorProto.FLOAT or values.size < SMALLEST_WEIGHT or any(k in tensor.name for k in KEEP_F32):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name + "_f16"))
        casts.append(helper.make_node("Cast", [name + "_f16"], [name], name=name + "_cast", to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)


def session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def largest_error(graph: Graph, path: Path) -> tuple[float, float]:
    """Largest absolute difference to PyTorch over all outputs, and the largest absolute output."""
    with torch.no_grad():
        expected = graph.module(*graph.inputs.values())
    expected = expected if isinstance(expected, tuple) else (expected,)
    got = session(path, 1).run(graph.outputs, {k: v.numpy() for k, v in graph.inputs.items()})
    return (
        max(float(np.abs(e.numpy() - g).max()) for e, g in zip(expected, got)),
        max(float(e.abs().max()) for e in expected),
    )


def milliseconds_a_row(graph: Graph, path: Path, threads: int, repeats: int = 7) -> float:
    """Median time of one row."""
    run = session(path, threads)
    feed = {k: v[:1].numpy() for k, v in graph.inputs.items()}
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run.run(graph.outputs, feed)
        times.append(time.perf_counter() - start)
    return 1000 * sorted(times)[repeats // 2]
