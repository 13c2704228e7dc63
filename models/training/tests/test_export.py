"""Packages: ONNX against PyTorch with random weights, contexts that are hidden, and model.toml."""

import tomllib

import numpy as np
import onnx
import pytest
import torch

from bestiary import graphs
from bestiary.joint import JointImage, JointText
from bestiary.judge import Judge
from bestiary.onnx_graph import export, largest_error, session
from bestiary.package import Package, sha256, to_toml, write_package
from bestiary.super_resolution import SuperResolution, SuperResolutionSettings
from bestiary.unet import UNet, UNetSettings

VOCABULARY = 200


def lively(module: torch.nn.Module) -> torch.nn.Module:
    """Random weights where initialisation has zeros, so that nothing is left out of the comparison."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return module.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def unet():
    return lively(UNet(UNetSettings(channels=(16, 32, 64), embedding=64)))


def super_resolution(text: bool) -> SuperResolution:
    settings = SuperResolutionSettings(image_size=64, low_resolution_size=16, unshuffle=4, channels=(16, 32, 64), embedding=32, text=text)
    return lively(SuperResolution(settings))


GRAPHS = {
    "neighbour-encoder": lambda unet: graphs.neighbour_encoder(unet),
    "denoiser": lambda unet: graphs.denoiser(unet),
    "joint-text": lambda unet: graphs.joint_text(lively(JointText(VOCABULARY))),
    "joint-image": lambda unet: graphs.joint_image(lively(JointImage())),
    "judge": lambda unet: graphs.judge(lively(Judge())),
    "super-resolution-with-text": lambda unet: graphs.super_resolution(super_resolution(True)),
    "super-resolution": lambda unet: graphs.super_resolution(super_resolution(False)),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", GRAPHS)
def test_onnx_agrees_with_pytorch(name, unet, tmp_path):
    graph = GRAPHS[name](unet)
    export(graph, tmp_path / "model.onnx")
    error, largest = largest_error(graph, tmp_path / "model.onnx")
    assert largest > 0.01
    assert error < 5e-3 * max(1.0, largest), "f16-stored weights may cost a little, not more"
    stored = {t.data_type for t in onnx.load(tmp_path / "model.onnx").graph.initializer}
    assert onnx.TensorProto.FLOAT16 in stored


@pytest.mark.filterwarnings("ignore")
def test_hidden_neighbours_change_nothing_and_seen_ones_do(unet, tmp_path):
    graph = graphs.denoiser(unet)
    export(graph, tmp_path / "model.onnx")
    run = session(tmp_path / "model.onnx", 1)
    # The other axes are dynamic: one row, five neighbours.
    feed = {k: v[:1].numpy() for k, v in graph.inputs.items()}
    rng = np.random.default_rng(0)
    for name in ("neighbour_mask", *unet_features(feed)):
        feed[name] = rng.standard_normal((1, 5, *feed[name].shape[2:])).astype(np.float32)

    def predict(mask, scale=1.0):
        changed = {k: feed[k] * np.float32(scale) for k in unet_features(feed)}
        return run.run(None, feed | changed | {"neighbour_mask": np.array([mask], dtype=np.float32)})[0]

    none = predict([0] * 5)
    assert np.isfinite(none).all()
    assert np.array_equal(none, predict([0] * 5, scale=3.0))
    assert np.abs(none - predict([1, 0, 0, 0, 0])).max() > 1e-3
    assert np.abs(none - predict([1] * 5)).max() > 1e-3


def unet_features(feed: dict) -> list[str]:
    return [name for name in feed if name.startswith("neighbour_") and name != "neighbour_mask"]


def test_no_augmentation_leaves_the_small_picture_whole():
    model = super_resolution(False)
    flat = torch.full((1, 3, 64, 64), 0.4)
    guess, _ = model.base_guess(flat, torch.zeros(1))
    assert torch.allclose(guess, flat, atol=1e-6)
    shrunk, _ = model.base_guess(flat, torch.full((1,), 0.9))
    assert shrunk.abs().max() < 0.1, "under heavy noise the guess falls back to the mean"


def test_model_toml_names_every_file_with_its_digest(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"graph")
    graph = graphs.Graph(torch.nn.Identity(), {"image": torch.zeros(2, 3, 64, 64)}, ["embedding"])
    tables = {"conditions": {"noise_level": {}}, "defaults": {"steps": 8, "noise_level": 0.1}}
    write_package(tmp_path, Package("bestiary-x", "joint-image", 'says "hello"', graph, {"embedding": (2, 128)}, {"steps": 3}, tables))
    read = tomllib.loads((tmp_path / "model.toml").read_text())
    assert read["files"] == [{"path": "model.onnx", "sha256": sha256(tmp_path / "model.onnx"), "size_bytes": 5}]
    assert read["graph"]["inputs"]["image"] == {"name": "image", "dtype": "f32", "shape": ["batch", 3, 64, 64]}
    assert read["graph"]["outputs"]["embedding"]["shape"] == ["batch", 128]
    assert read["conditions"] == {"noise_level": {}} and read["defaults"] == {"steps": 8, "noise_level": 0.1}
    assert read["description"] == 'says "hello"'


def test_toml_goes_there_and_back():
    tables = {"a": 1, "b": [1, "x"], "c": {"d": {"e": 2.5}, "f": {}}, "rows": [{"p": 1}, {"p": 2}]}
    assert tomllib.loads(to_toml(tables)) == tables
