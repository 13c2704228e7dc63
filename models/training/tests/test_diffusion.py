"""The noise schedule and the identities that prediction types rest on."""

import torch

from bestiary.diffusion import TRAIN_TIMESTEPS, diffuse, min_snr_weight_v, squaredcos_cap_v2, velocity
from bestiary.sampling import ddim, trailing_timesteps


def test_abar_falls_from_one_to_nothing():
    abar = squaredcos_cap_v2()
    assert len(abar) == TRAIN_TIMESTEPS
    assert (abar.diff() < 0).all() and abar[0] > 0.999 and abar[-1] < 1e-6


def test_velocity_gives_back_picture_and_noise():
    abar = squaredcos_cap_v2()[torch.tensor([0, 500, 999])]
    x0, noise = torch.randn(3, 3, 4, 4), torch.randn(3, 3, 4, 4)
    x, v, a = diffuse(x0, noise, abar), velocity(x0, noise, abar), abar.view(-1, 1, 1, 1)
    assert torch.allclose(a.sqrt() * x - (1 - a).sqrt() * v, x0, atol=1e-5)
    assert torch.allclose((1 - a).sqrt() * x + a.sqrt() * v, noise, atol=1e-5)


def test_min_snr_weight_is_capped():
    # Below SNR 5 the weight is SNR / (SNR + 1) = abar.
    assert torch.isclose(min_snr_weight_v(torch.tensor(0.5)), torch.tensor(0.5))
    assert torch.isclose(min_snr_weight_v(torch.tensor(0.99)), torch.tensor(5 / 100.0), atol=1e-4)


def test_trailing_starts_at_the_end():
    assert trailing_timesteps(4) == [999, 749, 499, 249]


def test_ddim_with_a_perfect_model_returns_its_picture():
    picture = torch.rand(2, 3, 8, 8) * 2 - 1
    out = ddim(lambda x, t, i: picture, torch.randn(2, 3, 8, 8), 7)
    assert torch.allclose(out, picture, atol=1e-4)
