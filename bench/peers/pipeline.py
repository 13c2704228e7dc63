"""What the peers serve: the bundled models by ONNX Runtime with the schedulers of diffusers, as a Python service would run them.

Graphs, steps and rows are those of the mesh's defaults: 16 steps of UniPC with two rows each, then one step of each level. In the peers'
favour, nothing is retrieved and no reference is encoded per image: the features of two references are computed once.
"""

import io
import os
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from diffusers import DDIMScheduler, UniPCMultistepScheduler
from PIL import Image
from tokenizers import Tokenizer

BUNDLE = Path(__file__).parents[2] / "models/bestiary"
SCHEDULE = {"num_train_timesteps": 1000, "beta_schedule": "squaredcos_cap_v2", "timestep_spacing": "trailing"}
STEPS = 16
WEIGHT = 3.0
# Two steps of every five are guided by the text, the others by the references: interleave_ratio = 0.4.
TEXT_STEPS = {step for step in range(STEPS) if step % 5 in (1, 3)}
LEVELS = {256: "super-resolution-256", 1024: "super-resolution-1024"}
NEIGHBOURS = 2


class Pipeline:
    """The cascade on sessions of `threads` threads; may be called by several threads at a time."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self.threads = threads
        self.tokenizer = Tokenizer.from_file(str(BUNDLE / "text-encoder/tokenizer.json"))
        self.text_encoder = self.open("text-encoder")
        self.base = self.open("base-64")
        self.levels = {size: self.open(name) for size, name in LEVELS.items()}
        self.features = self.encode_references()

    def open(self, package: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        path = str(BUNDLE / package / "model.onnx")
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def encode_references(self) -> dict[str, np.ndarray]:
        encoder = self.open("neighbour-encoder")
        tokens, mask = self.encode(["a zunin, snow"] * NEIGHBOURS)
        images = np.random.default_rng(0).uniform(-1, 1, (NEIGHBOURS, 3, 64, 64)).astype(np.float32)
        given = {"image": images, "text_tokens": tokens, "text_mask": mask}
        names = [output.name for output in encoder.get_outputs()]
        return dict(zip(names, encoder.run(names, given), strict=True))

    def encode(self, prompts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded = self.tokenizer.encode_batch(prompts)
        ids = np.array([text.ids for text in encoded], dtype=np.int64)
        mask = np.array([text.attention_mask for text in encoded], dtype=np.int64)
        [tokens] = self.text_encoder.run(["text_tokens"], {"token_ids": ids, "attention_mask": mask})
        return tokens, mask.astype(np.float32)

    def draw(self, prompts: list[str], seeds: list[int], size: int) -> list[bytes]:
        """PNG of `size` x `size` pixels for each prompt; all of them share each pass."""
        random = [torch.Generator().manual_seed(seed) for seed in seeds]
        tokens, mask = self.encode(prompts)
        images = self.draw_base(tokens, mask, random)
        for side in (side for side in LEVELS if side <= size):
            images = self.enlarge(side, images, tokens, mask, random)
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        return [png(image) for image in pixels]

    def draw_base(self, tokens: np.ndarray, mask: np.ndarray, random: list[torch.Generator]) -> torch.Tensor:
        count = len(random)
        scheduler = UniPCMultistepScheduler(
            **SCHEDULE,
            prediction_type="v_prediction",
            thresholding=True,
            dynamic_thresholding_ratio=0.995,
            sample_max_value=1000.0,
        )
        scheduler.set_timesteps(STEPS)
        x = noise(random, 64)
        # Rows that see everything, then as many that do not see what guides the step.
        features = {name: np.stack([values] * (2 * count)) for name, values in self.features.items()}
        texts, seen = np.concatenate([tokens] * 2), np.ones((2 * count, NEIGHBOURS), np.float32)
        for step, timestep in enumerate(scheduler.timesteps):
            text_mask, neighbour_mask = np.concatenate([mask] * 2), seen.copy()
            hidden = text_mask if step in TEXT_STEPS else neighbour_mask
            hidden[count:] = 0
            given = features | {
                "x": torch.cat([x] * 2).numpy(),
                "timestep": np.full(2 * count, float(timestep), np.float32),
                "text_tokens": texts,
                "text_mask": text_mask,
                "neighbour_mask": neighbour_mask,
            }
            [predicted] = self.base.run(["prediction"], given)
            with_it, without = torch.from_numpy(predicted).chunk(2)
            x = scheduler.step(without + WEIGHT * (with_it - without), timestep, x).prev_sample
        return x

    def enlarge(
        self,
        side: int,
        images: torch.Tensor,
        tokens: np.ndarray,
        mask: np.ndarray,
        random: list[torch.Generator],
    ) -> torch.Tensor:
        count = len(random)
        level = self.levels[side]
        scheduler = DDIMScheduler(**SCHEDULE, prediction_type="sample", clip_sample=True)
        scheduler.set_timesteps(1)
        low = torch.nn.functional.interpolate(images.clamp(-1, 1), side, mode="bilinear")
        x = noise(random, side)
        for timestep in scheduler.timesteps:
            given = {
                "x": x.numpy(),
                "low_resolution": low.numpy(),
                "timestep": np.full(count, float(timestep), np.float32),
                "noise_level": np.zeros(count, np.float32),
                "text_tokens": tokens,
                "text_mask": mask,
            }
            taken = {entry.name for entry in level.get_inputs()}
            given = {name: value for name, value in given.items() if name in taken}
            [predicted] = level.run(["prediction"], given)
            x = scheduler.step(torch.from_numpy(predicted), timestep, x).prev_sample
        return x


def noise(random: list[torch.Generator], side: int) -> torch.Tensor:
    return torch.stack([torch.randn((3, side, side), generator=generator) for generator in random])


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def of_environment() -> Pipeline:
    """With PEER_THREADS threads a session."""
    return Pipeline(int(os.environ["PEER_THREADS"]))
