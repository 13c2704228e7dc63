"""The trained text encoder as the other models use it: captions in, tokens out, no gradient."""

import torch

from . import checkpoint
from .paths import training_dir
from .text_encoder import TextTransformer
from .vocabulary import build_tokenizer, encode


def load_text_encoder(device="cpu") -> TextTransformer:
    state = checkpoint.load(training_dir() / "text-encoder.pt", device)
    prefix = "encoder."
    weights = {k[len(prefix) :]: v for k, v in state["average"].items() if k.startswith(prefix)}
    encoder = TextTransformer(weights["embed.weight"].shape[0], state["meta"]["dim"], state["meta"]["layers"])
    encoder.load_state_dict(weights)
    return encoder.eval().requires_grad_(False).to(device)


class FrozenText:
    """Captions -> tokens f32 [N, 32, 128] and mask f32 [N, 32]."""

    def __init__(self, device="cpu"):
        self.device = device
        self.tokenizer = build_tokenizer()
        self.encoder = load_text_encoder(device)

    @torch.no_grad()
    def __call__(self, texts: list[str]):
        ids, mask = (torch.from_numpy(a).to(self.device) for a in encode(self.tokenizer, texts))
        return self.encoder(ids, mask), mask.float()
