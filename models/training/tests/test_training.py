"""Going on from a package, Muon's update, what the losses weigh, and what super-resolution starts from."""

import numpy as np
import pytest
import torch
from PIL import Image

from bestiary import graphs
from bestiary.onnx_graph import export
from bestiary.restore import fill, weights_of_package
from bestiary.captions import EVERY_BACKGROUND
from bestiary.render import draw_whole
from bestiary.scenes import draw_scene, scene_view, stack
from bestiary.super_resolution import Interpolation, SuperResolution, SuperResolutionSettings
from bestiary.train.base import near_creature
from bestiary.train.muon import Muon, orthogonalised, split
from bestiary.world import training_entities

SETTINGS = SuperResolutionSettings(image_size=64, low_resolution_size=16, unshuffle=4, channels=(16, 32, 64), embedding=32, text=True)


def random_model(seed: int) -> SuperResolution:
    torch.manual_seed(seed)
    model = SuperResolution(SETTINGS).eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.filterwarnings("ignore")
def test_a_package_gives_its_weights_back(tmp_path):
    trained, other = random_model(1), random_model(2)
    export(graphs.super_resolution(trained), tmp_path / "model.onnx")
    weights = weights_of_package(graphs.super_resolution(other), tmp_path / "model.onnx")
    assert set(weights) == {name for name, _ in trained.named_parameters()}
    fill(other, weights)
    for (name, expected), (_, actual) in zip(trained.named_parameters(), other.named_parameters()):
        # Stored as f16: eleven bits.
        assert torch.allclose(actual, expected, rtol=2**-10, atol=1e-6), name


@pytest.mark.parametrize("shape", [(40, 300), (300, 40), (64, 64)])
def test_the_update_has_singular_values_near_one(shape):
    torch.manual_seed(0)
    matrix = torch.randn(shape) @ torch.diag(torch.logspace(-1, 1, shape[1]))
    values = torch.linalg.svdvals(orthogonalised(matrix))
    assert values.max() < 1.3
    # The smallest ones of an ill-conditioned matrix take longer than five iterations.
    assert values.median() > 0.6


def test_muon_takes_the_inner_matrices_and_lowers_a_loss():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(48, 64), torch.nn.Tanh(), torch.nn.Linear(64, 48))
    matrices, others = split(model)
    assert [p.dim() for p in matrices] == [2, 2] and all(p.dim() == 1 for p in others)
    x = torch.randn(256, 48)
    y = x.roll(1, dims=1)
    optimiser = Muon(matrices, lr=0.02)
    losses = []
    for _ in range(60):
        loss = (model(x) - y).square().mean()
        model.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.3 * losses[0]


def test_what_two_creatures_differ_in_lies_near_them():
    entities = training_entities()
    shown = []
    for first in (0, 40):
        rng = np.random.default_rng(5)
        shown.append(stack([scene_view(entities[first + i], rng, draw_scene(rng, EVERY_BACKGROUND)) for i in range(40)]))
    shown[1].centre[:], shown[1].scale[:] = shown[0].centre, shown[0].scale
    one, other = (draw_whole(views, 64) for views in shown)
    differs = ((one - other).abs().amax(1, keepdim=True) > 0.1).float()
    near = near_creature(shown[0], 64)
    assert (differs * near).sum() > 0.98 * differs.sum()
    assert near.mean() < 0.6


def test_an_untrained_interpolation_is_bicubic():
    small = np.random.default_rng(3).random((24, 24), dtype=np.float32)
    enlarged = torch.nn.functional.interpolate(torch.from_numpy(small)[None, None].expand(1, 3, -1, -1), scale_factor=4.0, mode="bilinear")
    with torch.no_grad():
        large = Interpolation(4)(torch.nn.functional.avg_pool2d(enlarged, 4))
    # Catmull-Rom, a = -1/2.
    expected = np.asarray(Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC))
    inner = slice(24, 72)
    for channel in large[0]:
        assert np.abs(channel.numpy() - expected)[inner, inner].max() < 0.02
