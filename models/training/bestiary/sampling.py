"""DDIM with Re-Imagen's interleaved guidance, in PyTorch: for looking at checkpoints (serving is Rust's work)."""

import torch

from .diffusion import TRAIN_TIMESTEPS, squaredcos_cap_v2

THRESHOLD_QUANTILE = 0.995


def trailing_timesteps(steps: int) -> list[int]:
    """round(arange(T, 0, -T / steps)) - 1."""
    return [round(TRAIN_TIMESTEPS - i * TRAIN_TIMESTEPS / steps) - 1 for i in range(steps)]


def dynamic_threshold(x0, quantile=THRESHOLD_QUANTILE):
    """Imagen's dynamic thresholding, per picture."""
    s = torch.quantile(x0.abs().flatten(1), quantile, dim=1).clamp_min(1).view(-1, 1, 1, 1)
    return x0.clamp(-s, s) / s


def ddim(predict_x0, x, steps: int, threshold=True):
    """predict_x0(x, t, i) -> x0; deterministic DDIM from noise x."""
    abar = squaredcos_cap_v2().to(x.device)
    times = trailing_timesteps(steps)
    for i, t in enumerate(times):
        x0 = predict_x0(x, t, i)
        x0 = dynamic_threshold(x0) if threshold else x0.clamp(-1, 1)
        a = abar[t]
        # The next point of the list; from the last one to the picture itself.
        a_next = abar[times[i + 1]] if i + 1 < len(times) else torch.ones(())
        noise = (x - a.sqrt() * x0) / (1 - a).sqrt()
        x = a_next.sqrt() * x0 + (1 - a_next).sqrt() * noise
    return x


@torch.no_grad()
def sample_base(unet, noise, tokens, text_mask, features, neighbour_mask, steps=50, text_weight=2.0, neighbour_weight=2.0,
                interleave_ratio=0.5):
    """features: [N, K, ...] each. Every step guides by the text or by the neighbours (low-discrepancy plan)."""
    abar = squaredcos_cap_v2().to(noise.device)
    n = noise.shape[0]
    twice = lambda v: torch.cat([v, v])  # noqa: E731
    has_neighbours = bool(neighbour_mask.any())

    def predict_x0(x, t, i):
        by_text = not has_neighbours or int((i + 1) * interleave_ratio) > int(i * interleave_ratio)
        weight = text_weight if by_text else neighbour_weight
        masks = (torch.cat([text_mask, text_mask * (0 if by_text else 1)]), torch.cat([neighbour_mask, neighbour_mask * (1 if by_text else 0)]))
        time = torch.full((2 * n,), float(t), device=x.device)
        v = unet(twice(x), time, twice(tokens), masks[0], *(twice(f) for f in features), masks[1]).float()
        v = weight * v[:n] + (1 - weight) * v[n:]
        return abar[t].sqrt() * x - (1 - abar[t]).sqrt() * v

    return ddim(predict_x0, noise, steps)


@torch.no_grad()
def enlarge(model, picture, noise, steps, noise_level, tokens=None, text_mask=None):
    """One super-resolution level: picture [N, 3, s, s], noise [N, 3, S, S] -> [N, 3, S, S]."""
    n, side = len(picture), model.settings.image_size
    low = torch.nn.functional.interpolate(picture, size=(side, side), mode="bilinear", align_corners=False)
    level = torch.full((n,), float(noise_level))
    if noise_level > 0:
        a = squaredcos_cap_v2()[round(noise_level * (TRAIN_TIMESTEPS - 1))]
        low = a.sqrt() * low + (1 - a).sqrt() * torch.randn(low.shape, generator=torch.Generator().manual_seed(1))
    text = (tokens, text_mask) if model.settings.text else ()

    def predict_x0(x, t, i):
        return model(x, low, torch.full((n,), float(t)), level, *text)

    return ddim(predict_x0, noise, steps, threshold=False)
