"""A model that people bring, drawn by the mesh, by optimum-onnx and by diffusers with PyTorch: on one machine, by turns.

    cargo xtask imported-peers                  # what runs this
    cargo xtask imported-peers --sizes 256 --steps 4

The model is a Stable Diffusion with random weights and half the channels of version 1.5; optimum exports it and `reverie models import`
reads the export. Everybody draws the same number of steps by the same scheduler with guidance. One caller draws one image after another.
Several callers ask for as many images at once: the mesh gets them as calls of their own; for the libraries, which draw for one
caller at a time, the better of one after another and of a batch counts: of 8 images of 256 px, or of 2 of 512 px (8 of them took 23 GiB).
They are called in their own process, without a server. Memory is the most that the process took, loading included. Prints Markdown.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

CORES = len(os.sched_getaffinity(0))
PROMPT = "a photo of a red house on the green hill"
# In a batch of the libraries.
BATCH_PIXELS = 8 * 256**2
START, END = "<|startoftext|>", "<|endoftext|>"


def tokenizer(folder: Path):
    """CLIP's without its merges: a token for each byte."""
    from transformers import CLIPTokenizer
    from transformers.models.clip.tokenization_clip import bytes_to_unicode

    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters), START, END]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    names = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    return CLIPTokenizer(f"{folder}/vocab.json", f"{folder}/merges.txt", model_max_length=77, **names)


def make(folder: Path) -> None:
    """Writes the pipeline to folder/torch and its export to folder/onnx."""
    import torch
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from optimum.exporters.onnx import main_export
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    text = tokenizer(folder / "tokenizer")
    ids = {"bos_token_id": text.bos_token_id, "eos_token_id": text.eos_token_id, "pad_token_id": text.pad_token_id}
    encoder = CLIPTextConfig(
        vocab_size=len(text), hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, **ids
    )
    channels = (128, 256, 512, 512)
    pipeline = StableDiffusionPipeline(
        unet=UNet2DConditionModel(
            sample_size=64, block_out_channels=channels, cross_attention_dim=768, attention_head_dim=8
        ).eval(),
        vae=AutoencoderKL(
            block_out_channels=tuple(count // 2 for count in channels), latent_channels=4, sample_size=512,
            layers_per_block=2, down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        ).eval(),
        text_encoder=CLIPTextModel(encoder).eval(),
        tokenizer=text,
        scheduler=DPMSolverMultistepScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    weights = sum(weight.numel() for weight in pipeline.unet.parameters())
    print(f"The UNet has {weights / 1e6:.0f} million weights.", flush=True)
    pipeline.save_pretrained(folder / "torch")
    main_export(folder / "torch", folder / "onnx", task="text-to-image", library_name="diffusers", do_validation=False)


def of_optimum(folder: Path):
    import onnxruntime
    from optimum.onnxruntime import ORTStableDiffusionPipeline

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = CORES
    return ORTStableDiffusionPipeline.from_pretrained(
        folder / "onnx", provider="CPUExecutionProvider", session_options=options
    )


def of_diffusers(folder: Path):
    import torch
    from diffusers import StableDiffusionPipeline

    torch.set_num_threads(CORES)
    return StableDiffusionPipeline.from_pretrained(folder / "torch")


LIBRARIES: dict[str, Callable] = {"optimum-onnx": of_optimum, "diffusers, PyTorch": of_diffusers}


def draw(name: str, folder: Path, size: int, steps: int, callers: int) -> None:
    """What a process of a library does: prints the seconds of one image, and the images a second for several callers."""
    pipeline = LIBRARIES[name](folder)
    pipeline.set_progress_bar_config(disable=True)

    def images(count: int) -> float:
        begun = time.monotonic()
        drawn = pipeline([PROMPT] * count, height=size, width=size, num_inference_steps=steps).images
        assert [image.size for image in drawn] == [(size, size)] * count
        return time.monotonic() - begun

    images(1)
    single = min(images(1) for _ in range(2))
    batch = max(1, min(callers, BATCH_PIXELS // size**2))
    print(json.dumps({"single": single, "rate": max(1 / single, batch / images(batch))}))


def of_mesh(bench: str, bundle: Path, size: int, steps: int, callers: int) -> dict:
    def load(callers: int, images: int) -> dict:
        command = [bench, "load", "--json", "--bundle", str(bundle), "--size", str(size), "--steps", str(steps)]
        command += ["--prompt", PROMPT, "--timeout", "1200", "--callers", str(callers), "--images", str(images)]
        return json.loads(measured(command)[0])["runs"][-1]

    single = load(1, 2)["latency_seconds"]["p50"]
    return {"single": single, "rate": max(1 / single, load(callers, callers)["goodput_per_second"])}


def measured(command: list[str]) -> tuple[str, int]:
    """What a program printed, and the bytes that it took at most."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    told = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} ended with {status}")
    global most
    most = max(most, usage.ru_maxrss * 1024)
    return told, most


most = 0


def compare(arguments: argparse.Namespace, folder: Path, bundle: Path, size: int) -> None:
    global most
    figures = {}
    for name in ("Reverie", *LIBRARIES):
        most = 0
        if name == "Reverie":
            figures[name] = of_mesh(arguments.bench, bundle, size, arguments.steps, arguments.callers)
        else:
            command = [sys.executable, __file__, "--draw", name, "--folder", str(folder), "--sizes", str(size)]
            command += ["--steps", str(arguments.steps), "--callers", str(arguments.callers)]
            figures[name] = json.loads(measured(command)[0].splitlines()[-1])
        figures[name]["memory"] = most
        print(f"{size} px: {name}: {figures[name]}", file=sys.stderr, flush=True)
    print(f"\n| {size} px | one image, s | images/s, {arguments.callers} callers | memory, GiB |")
    print("| --- | ---: | ---: | ---: |")
    for name, told in figures.items():
        print(f"| {name} | {told['single']:.2f} | {told['rate']:.3f} | {told['memory'] / 2**30:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bench", help="the program reverie-bench")
    parser.add_argument("--reverie", help="the program reverie")
    parser.add_argument("--folder", type=Path, help="where the model is made, and stays; default: a temporary one")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="of the images, pixels")
    parser.add_argument("--steps", type=int, default=8, help="of an image; each has two rows")
    parser.add_argument("--callers", type=int, default=8, help="several callers")
    parser.add_argument("--draw", choices=LIBRARIES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.draw:
        draw(arguments.draw, arguments.folder, arguments.sizes[0], arguments.steps, arguments.callers)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if not (folder / "onnx").is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            make(folder)
        bundle = folder / "bundle"
        if not bundle.is_dir():
            command = [arguments.reverie, "models", "import", "--from", "diffusers", "--out", str(bundle)]
            subprocess.run([*command, str(folder / "onnx")], check=True)
        print(f"{CORES} cores of {platform.machine()}, Python {platform.python_version()}, {arguments.steps} steps.")
        for size in arguments.sizes:
            compare(arguments, folder, bundle, size)


if __name__ == "__main__":
    main()
