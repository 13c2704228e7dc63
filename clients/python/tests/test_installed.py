"""What is installed has types: a program beside it is checked."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
USE = """
from reverie.generation.v1.generation_service_pb2 import GenerateRequest
from reverie_client import Client

with Client("http://127.0.0.1:7100") as client:
    seed: int = client.draw(GenerateRequest(prompt="a zunin", seed=7)).drawings[0].seed
"""
WRONG = """
from reverie.generation.v1.generation_service_pb2 import GenerateRequest

GenerateRequest(promt="a zunin")
"""


def test_a_program_that_uses_it_is_checked(tmp_path: Path) -> None:
    # A copy, since building writes beside the sources.
    source, environment = tmp_path / "source", tmp_path / "environment"
    shutil.copytree(PACKAGE, source, ignore=shutil.ignore_patterns(".*", "tests", "__pycache__"))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    [packages] = environment.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    install = [
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
    ]
    subprocess.run([sys.executable, *install, str(source)], check=True)
    subprocess.run([python, "-c", "import reverie_client"], check=True)

    def check(program: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "use.py").write_text(program)
        mypy = [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--config-file",
            "",
            "--python-executable",
            str(python),
        ]
        return subprocess.run([*mypy, "use.py"], cwd=tmp_path, capture_output=True, text=True, check=False)

    right, wrong = check(USE), check(WRONG)
    assert right.returncode == 0, right.stdout
    assert '"promt"' in wrong.stdout, wrong.stdout
