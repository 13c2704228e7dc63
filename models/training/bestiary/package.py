"""Model packages: `model.toml` beside its files, and the bundle that names the packages."""

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch

from . import WORLD_VERSION
from .graphs import Graph

SCHEMA = 1
VERSION = "0.1.0"
LICENSE = "Apache-2.0"
_DTYPES = {torch.float32: "f32", torch.int64: "i64"}


@dataclass
class Package:
    """One package; `tables` are the role's own tables of model.toml (tokenizer, diffusion, conditions, defaults)."""

    name: str
    role: str
    description: str
    graph: Graph
    output_shapes: dict[str, tuple[int, ...]]
    facts: dict
    tables: dict = field(default_factory=dict)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _value(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{k} = {_value(v)}" for k, v in value.items()) + " }"
    return json.dumps(value)  # a TOML string or number looks the same


def to_toml(tables: dict) -> str:
    """Nested dicts as TOML tables, lists of dicts as arrays of tables; one empty line before each table."""
    lines = []
    for line in _lines(tables, ""):
        lines += ["", line] if line.startswith("[") and lines else [line]
    return "\n".join(lines) + "\n"


def _lines(tables: dict, prefix: str) -> list[str]:
    lines = [f"{k} = {_value(v)}" for k, v in tables.items() if not isinstance(v, dict) and not _is_array_of_tables(v)]
    for key, value in tables.items():
        if _is_array_of_tables(value):
            for row in value:
                lines += [f"[[{prefix}{key}]]", *_lines(row, "")]
    for key, value in tables.items():
        if isinstance(value, dict):
            only_tables = value and all(isinstance(v, dict) for v in value.values())
            lines += ([] if only_tables else [f"[{prefix}{key}]"]) + _lines(value, f"{prefix}{key}.")
    return lines


def _is_array_of_tables(value) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _tensors(graph: Graph, shapes: dict[str, tuple[int, ...]], dtypes: dict) -> dict:
    return {
        name: {"name": name, "dtype": dtypes[name], "shape": [graph.dynamic[name].get(i, side) for i, side in enumerate(shape)]}
        for name, shape in shapes.items()
    }


def write_package(folder: Path, package: Package) -> None:
    """Writes model.toml for the files already in `folder`."""
    graph = package.graph
    files = [p for p in sorted(folder.iterdir()) if p.is_file() and p.name != "model.toml"]
    inputs = {name: tuple(t.shape) for name, t in graph.inputs.items()}
    tables = {
        "schema": SCHEMA, "name": package.name, "version": VERSION, "role": package.role,
        "description": package.description, "license": LICENSE,
        "files": [{"path": p.name, "sha256": sha256(p), "size_bytes": p.stat().st_size} for p in files],
        "graph": {
            "file": "model.onnx",
            "inputs": _tensors(graph, inputs, {n: _DTYPES[t.dtype] for n, t in graph.inputs.items()}),
            "outputs": _tensors(graph, package.output_shapes, dict.fromkeys(package.output_shapes, "f32")),
        },
        **package.tables,
        "provenance": {"world_version": WORLD_VERSION, **package.facts},
    }
    (folder / "model.toml").write_text(to_toml(tables))


def write_bundle(folder: Path, packages: dict) -> None:
    tables = {
        "schema": SCHEMA, "name": "bestiary", "version": VERSION, "packages": packages,
        "knowledge_bases": {"creatures": "knowledge/creatures"},
    }
    (folder / "bundle.toml").write_text(to_toml(tables))


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
