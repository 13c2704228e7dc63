"""Writes the code for the contracts in protos/ into src/reverie; with --check, says whether what is there is that."""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

HERE = Path(__file__).parent
PROTOS = HERE.parents[1] / "protos"
TARGET = HERE / "src" / "reverie"
# The public door. Whatever else its contracts import comes with them.
SERVICES = ("generation", "knowledge", "retrieval")
MESSAGES = ("diffusion", "tensor")


def generate(into: Path) -> None:
    """Generate modules for messages, with types, and stubs for the services."""
    for folder in SERVICES + MESSAGES:
        for proto in sorted((PROTOS / "reverie" / folder).glob("v1/*.proto")):
            options = [f"-I{PROTOS}", f"--python_out={into}", f"--pyi_out={into}"]
            if proto.stem.endswith("_service"):
                options.append(f"--grpc_python_out={into}")
            if protoc.main(["protoc", *options, str(proto)]) != 0:
                sys.exit(f"{proto} was not compiled")
    # Says to type checkers that the modules have types.
    (into / "reverie" / "py.typed").touch()


def differences(one: Path, other: Path) -> list[str]:
    """Return the files that are not the same in both folders."""
    files = {
        path.relative_to(root)
        for root in (one, other)
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    _, differing, missing = filecmp.cmpfiles(one, other, [str(path) for path in sorted(files)], shallow=False)
    return differing + missing


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        made = Path(folder) / "reverie"
        if check:
            if wrong := differences(made, TARGET):
                sys.exit(f"generated anew, these differ: {', '.join(wrong)}; run generate.py")
            return
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(made, TARGET)


if __name__ == "__main__":
    main()
