"""`python -m bestiary.export --out ../bestiary`: every package of the bundle from the checkpoints' averaged weights.

A model without a checkpoint is left out.
"""

import argparse
import datetime
import shutil
import warnings
from pathlib import Path

import torch

from . import graphs
from .diffusion import TRAIN_TIMESTEPS
from .export_defaults import BASE_DEFAULTS, SUPER_RESOLUTION_DEFAULTS
from .frozen_text import load_text_encoder
from .judge import IMAGE_SIZE, factors_table
from .onnx_graph import export, largest_error, milliseconds_a_row
from .package import Package, fresh, sha256, write_bundle, write_package
from .paths import training_dir
from .trained import averaged, load_base, load_joint, load_judge, load_super_resolution
from .unet import NEIGHBOUR_FEATURES
from .vocabulary import MAX_TOKENS, PAD_ID, write_tokenizer

MAX_NEIGHBOURS = 8  # a request may bring; training drew one to four
SUPER_RESOLUTIONS = ("super-resolution-256", "super-resolution-1024")
TOKENIZER = {"file": "tokenizer.json", "max_tokens": MAX_TOKENS, "pad_id": PAD_ID}


class Exporter:
    def __init__(self, out: Path, code_revision: str, hardware: str, measure: bool):
        self.out, self.code_revision, self.hardware, self.measure = out, code_revision, hardware, measure

    def provenance(self, facts: dict) -> dict:
        images = facts["images"] or facts["step"] * facts["meta"].get("images_per_step", 0)
        return {
            "code_revision": self.code_revision, "steps": facts["step"], "images": images, "seconds": round(facts["seconds"]),
            "hardware": self.hardware, "loss": round(float(facts["loss"]), 5),
            "trained": datetime.date.fromtimestamp(facts["time"]).isoformat(),
        }

    def write(self, folder: str, role: str, description: str, graph: graphs.Graph, facts: dict, tables: dict) -> str:
        """Exports, writes the package and how far ONNX Runtime is from PyTorch on it; returns the graph's digest."""
        part = fresh(self.out / f"{folder}.part")
        path = part / "model.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export(graph, path)
        if "tokenizer" in tables:
            write_tokenizer(path.with_name("tokenizer.json"))
        with torch.no_grad():
            outputs = graph.module(*graph.inputs.values())
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        shapes = {n: tuple(o.shape) for n, o in zip(graph.outputs, outputs)}
        error, largest = largest_error(graph, path)
        facts = facts | {"max_abs_error": float(f"{error:.2g}"), "max_abs_output": float(f"{largest:.3g}")}
        write_package(part, Package(f"bestiary-{path.parent.stem}", role, description, graph, shapes, facts, tables))
        speed = " ".join(f"{milliseconds_a_row(graph, path, t):.1f} ms/{t}t" for t in (1, 2)) if self.measure else ""
        print(f"{folder}: {path.stat().st_size / 1e6:.2f} MB, max |onnx - torch| {error:.2g} of {largest:.2g} {speed}", flush=True)
        digest = sha256(path)
        # A package is whole or not there.
        shutil.rmtree(self.out / folder, ignore_errors=True)
        part.rename(self.out / folder)
        return digest

    def text_encoder(self) -> str:
        _, facts = averaged("text-encoder")
        return self.write("text-encoder", "text-encoder", "Frozen text encoder of the bestiary cascade: scene words and names letter by letter.",
                          graphs.text_encoder(load_text_encoder()), self.provenance(facts), {"tokenizer": TOKENIZER})

    def joint(self) -> None:
        text, image, facts = load_joint()
        said = self.provenance(facts)
        self.write("joint-text", "joint-text", "Text side of the joint encoders: descriptive captions to unit vectors.",
                   graphs.joint_text(text), said, {"tokenizer": TOKENIZER})
        self.write("joint-image", "joint-image", "Image side of the joint encoders: 64 px pictures to unit vectors.", graphs.joint_image(image), said, {})

    def judge(self) -> None:
        model, facts = load_judge()
        self.write("benchmark/judge", "judge", "CreatureDrawBench's judge: names the factors of a 64 px picture. Trained on true drawings alone.",
                   graphs.judge(model), self.provenance(facts), {"judge": {"image_size": IMAGE_SIZE, "factors": factors_table()}})

    def base(self, text_digest: str) -> None:
        unet, facts = load_base()
        said = self.provenance(facts)
        digest = self.write("neighbour-encoder", "neighbour-encoder", "The base model's DStack at t = 0: projected keys and values of a neighbour.",
                            graphs.neighbour_encoder(unet), said, {})
        side = unet.settings.image_size
        tables = {
            "diffusion": {"image_size": side, "prediction_type": "v_prediction", "beta_schedule": "squaredcos_cap_v2", "train_timesteps": TRAIN_TIMESTEPS},
            "conditions": {
                "text": {"dim": unet.settings.text_dim, "max_tokens": MAX_TOKENS, "encoder": text_digest},
                "neighbours": {"max": MAX_NEIGHBOURS, "image_size": side, "features": list(NEIGHBOUR_FEATURES), "encoder": digest},
            },
            "defaults": BASE_DEFAULTS,
        }
        self.write("base-64", "denoiser", "64 px creatures from text and retrieved neighbours (Re-Imagen).", graphs.denoiser(unet), said, tables)

    def super_resolution(self, name: str, text_digest: str) -> None:
        model, facts = load_super_resolution(name)
        s = model.settings
        conditions = {"text": {"dim": s.text_dim, "max_tokens": MAX_TOKENS, "encoder": text_digest}} if s.text else {}
        tables = {
            "diffusion": {"image_size": s.image_size, "prediction_type": "sample", "beta_schedule": "squaredcos_cap_v2",
                          "train_timesteps": TRAIN_TIMESTEPS, "low_resolution_size": s.low_resolution_size},
            "conditions": {**conditions, "noise_level": {}, "low_resolution": {}},
            "defaults": SUPER_RESOLUTION_DEFAULTS[name],
        }
        self.write(name, "super-resolution", f"Super-resolution of the bestiary cascade, {s.low_resolution_size} to {s.image_size} px.",
                   graphs.super_resolution(model), self.provenance(facts), tables)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", help="names of checkpoints to export (the text encoder always is)")
    parser.add_argument("--code-revision", default="unreleased")
    parser.add_argument("--hardware", default="2 CPU cores")
    parser.add_argument("--no-measure", action="store_true")
    a = parser.parse_args()
    torch.manual_seed(0)
    exporter = Exporter(a.out, a.code_revision, a.hardware, not a.no_measure)

    def wanted(name: str) -> bool:
        there = (training_dir() / f"{name}.pt").exists()
        if not there:
            print(f"{name}: no checkpoint, left out")
        return there and (a.only is None or name in a.only)

    text_digest = exporter.text_encoder()
    if wanted("joint"):
        exporter.joint()
    if wanted("judge"):
        exporter.judge()
    if wanted("base-64"):
        exporter.base(text_digest)
    for name in SUPER_RESOLUTIONS:
        if wanted(name):
            exporter.super_resolution(name, text_digest)
    write_bundle(a.out, {
        "text_encoder": "text-encoder", "joint_text": "joint-text", "joint_image": "joint-image", "neighbour_encoder": "neighbour-encoder",
        "denoiser": "base-64", "super_resolution": list(SUPER_RESOLUTIONS),
    })


if __name__ == "__main__":
    main()
