"""`python -m bestiary.restore`: checkpoints from the bundled packages, so that training goes on from what is shipped.

A package holds the averaged weights, in f16 and under the exporter's names. Which initialiser is which parameter is found
out by exporting the same module once more with every parameter filled with a number of its own. The optimiser's state is
not in a package: `--resume` starts a new one.
"""

import argparse
import tempfile
import tomllib
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from . import checkpoint, graphs
from .joint import JointImage, JointText
from .judge import Judge
from .onnx_graph import export_graph, largest_error
from .paths import training_dir
from .super_resolution import SuperResolution, SuperResolutionSettings
from .text_encoder import TextTransformer
from .trained import settings_from
from .train.loop import read_config
from .unet import UNet, UNetSettings
from .vocabulary import build_tokenizer

BUNDLE = Path(__file__).parents[2] / "bestiary"
CONFIGS = Path(__file__).parents[1] / "configs"


def weights_of_package(graph: graphs.Graph, path: Path) -> dict[str, torch.Tensor]:
    """The parameters of `graph.module` as the ONNX file of the same module holds them."""
    tagged = {i + 1.0: (name, p) for i, (name, p) in enumerate(graph.module.named_parameters())}
    with torch.no_grad():
        for tag, (_, parameter) in tagged.items():
            parameter.fill_(tag)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_graph(graph, Path(folder) / "tagged.onnx")
        template = onnx.load(Path(folder) / "tagged.onnx").graph
    package = onnx.load(path).graph
    if len(template.initializer) != len(package.initializer):
        raise SystemExit(f"{path}: {len(package.initializer)} initialisers, this module exports {len(template.initializer)}")
    transposed = {name for node in template.node if node.op_type == "MatMul" for name in node.input}
    weights = {}
    for tag_tensor, tensor in zip(template.initializer, package.initializer):
        tags = np.unique(numpy_helper.to_array(tag_tensor))
        if len(tags) != 1 or float(tags[0]) not in tagged or list(tag_tensor.dims) != list(tensor.dims):
            continue
        name, parameter = tagged[float(tags[0])]
        value = torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        if value.numel() == parameter.numel():
            weights[name] = (value.T if tag_tensor.name in transposed else value).reshape(parameter.shape).clone()
    return weights


def fill(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name in weights:
                parameter.copy_(weights[name])


def restore(name: str, prefixed: dict[str, torch.Tensor], folder: str, meta: dict) -> None:
    """Writes `<name>.pt` with the step and seconds that the package's provenance tells."""
    said = tomllib.loads((BUNDLE / folder / "model.toml").read_text())["provenance"]
    path = training_dir() / f"{name}.pt"
    checkpoint.save(path, dict(weights=prefixed, average=prefixed, step=said["steps"], images=said["images"], seconds=said["seconds"],
                               loss=said["loss"], meta=meta))
    print(f"{path}: step {said['steps']}, {len(prefixed)} tensors")


def check(graph: graphs.Graph, path: Path, weights: dict) -> None:
    missing = [n for n, _ in graph.module.named_parameters() if n not in weights]
    error, largest = largest_error(graph, path)
    print(f"{path.parent.name}: max |onnx - torch| {error:.2g} of {largest:.2g}, not in the graph: {missing}")
    if error > 1e-3 * max(1.0, largest):
        raise SystemExit(f"{path}: the restored module differs from the package")


def one_graph(module: torch.nn.Module, graph_of, folder: str) -> dict[str, torch.Tensor]:
    module.eval()
    path = BUNDLE / folder / "model.onnx"
    weights = weights_of_package(graph_of(module), path)
    fill(module, weights)
    check(graph_of(module), path, weights)
    return weights


def base() -> None:
    """Denoiser and neighbour encoder are one module, exported twice."""
    config = read_config(CONFIGS / "base.toml")
    unet = UNet(settings_from(UNetSettings, config["model"])).eval()
    strip = lambda found: {k.removeprefix("unet."): v for k, v in found.items()}  # noqa: E731
    paths = {f: BUNDLE / f / "model.onnx" for f in ("neighbour-encoder", "base-64")}
    graph_of = {"neighbour-encoder": graphs.neighbour_encoder, "base-64": graphs.denoiser}
    weights = {}
    for folder, path in paths.items():
        weights |= strip(weights_of_package(graph_of[folder](unet), path))
    fill(unet, weights)
    for folder, path in paths.items():
        check(graph_of[folder](unet), path, {f"unet.{k}": v for k, v in weights.items()})
    restore("base-64", {f"unet.{k}": v for k, v in weights.items()}, "base-64", {"kind": "base-64", **config["model"]})


def text() -> None:
    config = read_config(CONFIGS / "text.toml")
    encoder = TextTransformer(build_tokenizer().get_vocab_size(), **config["model"])
    weights = one_graph(encoder, graphs.text_encoder, "text-encoder")
    restore("text-encoder", {f"encoder.{k}": v for k, v in weights.items()}, "text-encoder", {"kind": "text-encoder", **config["model"]})


def joint() -> None:
    sides = {"text": one_graph(JointText(build_tokenizer().get_vocab_size()), graphs.joint_text, "joint-text"),
             "image": one_graph(JointImage(), graphs.joint_image, "joint-image")}
    restore("joint", {f"{side}.{k}": v for side, found in sides.items() for k, v in found.items()}, "joint-text", {"kind": "joint"})


def judge() -> None:
    restore("judge", one_graph(Judge(), graphs.judge, "benchmark/judge"), "benchmark/judge", {"kind": "judge"})


def super_resolution(name: str) -> None:
    config = read_config(CONFIGS / f"{name}.toml")
    model = SuperResolution(settings_from(SuperResolutionSettings, config["model"]))
    restore(name, one_graph(model, graphs.super_resolution, name), name, {"kind": name, **config["model"]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", help="names of checkpoints to restore")
    a = parser.parse_args()
    every = {"text-encoder": text, "joint": joint, "judge": judge, "base-64": base,
             **{name: (lambda name=name: super_resolution(name)) for name in ("super-resolution-256", "super-resolution-1024")}}
    for name, run in every.items():
        if a.only is None or name in a.only:
            run()


if __name__ == "__main__":
    main()
