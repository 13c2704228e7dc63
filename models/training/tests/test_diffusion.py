"""The noise schedule and the identities that prediction types rest on."""

import torch

from bestiary.diffusion import TRAIN_TIMESTEPS, diffuse, snr_weight_v, squaredcos_cap_v2, velocity
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


def test_the_weight_of_x0_is_the_snr_between_its_bounds():
    # SNR 1e-4, 0.25, 3 and 99; on v it is divided by SNR + 1.
    for abar, weight in ((1e-4, 1.0), (0.2, 1.0), (0.75, 3.0), (0.99, 5.0)):
        assert torch.isclose(snr_weight_v(torch.tensor(abar)) / (1 - abar), torch.tensor(weight), rtol=1e-4)


def test_trailing_starts_at_the_end():
    assert trailing_timesteps(4) == [999, 749, 499, 249]


def test_ddim_with_a_perfect_model_returns_its_picture():
    picture = torch.rand(2, 3, 8, 8) * 2 - 1
    out = ddim(lambda x, t, i: picture, torch.randn(2, 3, 8, 8), 7)
    assert torch.allclose(out, picture, atol=1e-4)
