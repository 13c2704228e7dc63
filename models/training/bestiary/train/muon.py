"""Muon (Jordan et al. 2024, with the update size of Liu et al. 2025, 2502.16982): orthogonalised momentum for weight matrices.

Convolutions count as matrices [out, in kh kw]. `torch.optim.Muon` takes two-dimensional parameters only and orthogonalises in
bf16, which CPUs without bf16 arithmetic emulate slowly; this one works in f32, on the Gram matrix.
"""

import torch

# Newton-Schulz: f(s) = a s + b s^3 + c s^5 pushes every singular value towards one.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5
_UPDATE_RMS = 0.2  # of the update, in learning rates: that of AdamW, so that both can share a rate


def orthogonalised(matrix: torch.Tensor) -> torch.Tensor:
    """The nearest orthogonal matrix, roughly: [r, c] with singular values moved to 0.7..1.2.

    Every iterate is P X with P a polynomial of G = X X^T, so only the small side's square is multiplied repeatedly.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    x = matrix / matrix.norm().clamp_min(1e-12)
    gram = x @ x.T
    identity = torch.eye(len(gram), device=gram.device)
    p = identity
    for _ in range(_STEPS):
        s = p @ gram @ p
        p = (_A * identity + _B * s + _C * (s @ s)) @ p
    return p @ x


class Muon(torch.optim.Optimizer):
    """For parameters of two or more dimensions whose first is the output's."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(parameters, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                momentum = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                update = orthogonalised(p.grad.lerp(momentum, group["momentum"]).flatten(1))
                scale = _UPDATE_RMS * max(update.shape) ** 0.5
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.view_as(p), alpha=-group["lr"] * scale)


def split(module: torch.nn.Module) -> tuple[list, list]:
    """(hidden matrices for Muon, all else for AdamW): embeddings, heads, first and last layers are not Muon's."""
    matrices, others = [], []
    for name, p in module.named_parameters():
        inner = p.dim() in (2, 4) and min(p.flatten(1).shape) >= 32 and not any(w in name for w in ("embed.", "head", ".stem.", "time."))
        (matrices if inner else others).append(p)
    return matrices, others
