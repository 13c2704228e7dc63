"""`python -m bestiary.sample --out sheet.png`: held-out creatures by the base model.

Columns: the neighbours, the truth, with retrieval, without. Prints the share of genome factors that training's own heads
name correctly in each: a quick look, not a judge (they err on true pictures too, and chance is 0.26).
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from .contact_sheet import save_sheet
from .frozen_text import FrozenText
from .render import draw_whole
from .sampling import sample_base
from .scenes import draw_neighbour, draw_scene, scene_prompt, scene_view, stack
from .trained import load_base, load_genome_heads
from .world import BACKGROUNDS, FACTOR_SIZES, FACTORS, held_out_entities

@torch.no_grad()
def share_named(unet, heads, pictures, tokens, text_mask, genomes) -> list[float]:
    """For each factor, the share of pictures in which the heads name the creature's value."""
    logits = heads(unet.encode_neighbours(pictures.clamp(-1, 1), tokens, text_mask)[-1]).split(FACTOR_SIZES, dim=1)
    return [float((part.argmax(1) == genomes[:, i]).float().mean()) for i, part in enumerate(logits)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--creatures", type=int, default=12)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--text-weight", type=float, default=2.0)
    parser.add_argument("--neighbour-weight", type=float, default=2.0)
    parser.add_argument("--interleave-ratio", type=float, default=0.5)
    parser.add_argument("--neighbours", type=int, default=2)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    rng = np.random.default_rng(a.seed)
    looks, captions, truths, prompts = [], [], [], []
    entities = held_out_entities()[: a.creatures]
    for entity in entities:
        backgrounds = rng.permutation(len(BACKGROUNDS))
        for k in range(a.neighbours):
            view, caption = draw_neighbour(entity, rng, int(backgrounds[k]), "whole" if k == 0 else None)
            looks.append(view)
            captions.append(caption)
        scene = draw_scene(rng, backgrounds[-1:])
        truths.append(scene_view(entity, rng, scene))
        prompts.append(scene_prompt(entity.name, scene))
    unet, facts = load_base()
    text = FrozenText()
    neighbours, truth = draw_whole(stack(looks), 64), draw_whole(stack(truths), 64)
    n = len(prompts)
    with torch.no_grad():
        features = [f.unflatten(0, (n, a.neighbours)) for f in unet.encode_neighbours(neighbours, *text(captions))]
    tokens, text_mask = text(prompts)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(a.seed))
    weights = dict(steps=a.steps, text_weight=a.text_weight, neighbour_weight=a.neighbour_weight, interleave_ratio=a.interleave_ratio)
    seen, hidden = torch.ones(n, a.neighbours), torch.zeros(n, a.neighbours)
    with_retrieval = sample_base(unet, noise, tokens, text_mask, features, seen, **weights)
    without = sample_base(unet, noise, tokens, text_mask, features, hidden, **weights)
    columns = [*neighbours.unflatten(0, (n, a.neighbours)).unbind(1), truth, with_retrieval, without]
    # Two creatures a row of the sheet.
    save_sheet(torch.stack(columns, 1).flatten(0, 1), 2 * len(columns), a.out, zoom=2)
    print(f"step {facts['step']}, loss {facts['loss']}")
    if heads := load_genome_heads():
        genomes = torch.tensor([entity.genome for entity in entities])
        for name, pictures in (("truth", truth), ("with retrieval", with_retrieval), ("without", without)):
            shares = share_named(unet, heads, pictures, tokens, text_mask, genomes)
            print(f"{name:>14}: {sum(shares) / len(shares):.2f} ", *(f"{f} {v:.2f}" for f, v in zip(FACTORS, shares)))
    print("\n".join(prompts))


if __name__ == "__main__":
    main()
