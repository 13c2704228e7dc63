"""The import on a local Ray, with the encoder service that `ENCODER` and the program that `REVERIE` name (`cargo xtask ray`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ROOT = Path(__file__).parents[3]
PROGRAM = os.environ["REVERIE"]
ENCODER = os.environ["ENCODER"]
BUNDLED = ROOT / "models" / "bestiary" / "knowledge" / "creatures" / "segments" / "000001"
FILES = 3
ROWS = 40


def reverie(*arguments: str) -> str:
    return subprocess.run([PROGRAM, *arguments], check=True, capture_output=True, text=True, cwd=ROOT).stdout


def entries() -> list[dict[str, object]]:
    """Those that the bundled knowledge base begins with, as a data set has them."""
    lines = (BUNDLED / "entries.jsonl").read_text().splitlines()[: FILES * ROWS]
    pack = (BUNDLED / "images.pack").read_bytes()
    rows = []
    for line in map(json.loads, lines):
        span = line["image"]
        picture = pack[span["offset"] : span["offset"] + span["length"]]
        rows.append({"id": line["id"], "text": line["caption"], "image": {"bytes": picture, "path": None}})
    return rows


def write(path: Path, rows: list[dict[str, object]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture
def data_set(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rows = entries()
    for number in range(FILES):
        write(folder / f"part-{number}.parquet", rows[number * ROWS : (number + 1) * ROWS])
    (folder / "notes.txt").write_text("no part of the data set")
    return folder


def start(pictures: Path, folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    script = ROOT / "clients" / "ray" / "import_pictures.py"
    command = [
        sys.executable,
        str(script),
        str(pictures),
        "--to",
        str(folder / "birds"),
        "--parts",
        str(folder / "parts"),
    ]
    command += ["--encoder", ENCODER, "--reverie", PROGRAM, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def inspect(folder: Path) -> dict[str, object]:
    found = json.loads(reverie("knowledge", "inspect", str(folder), "--json"))
    assert isinstance(found, dict)
    return found


def test_a_data_set_of_several_files_becomes_one_epoch(data_set: Path, tmp_path: Path) -> None:
    target = tmp_path / "birds"
    nowhere = start(data_set, tmp_path)
    assert nowhere.returncode == 1
    assert "there is no knowledge base" in nowhere.stderr, nowhere.stderr
    reverie("knowledge", "create", str(target), "--name", "birds", "--encoder", ENCODER)

    # One file is bad: all that is wrong is told, and nothing is added.
    rows = entries()
    write(
        data_set / "part-1.parquet",
        [{**rows[0], "image": {"bytes": b"no picture", "path": None}}, *rows[ROWS + 1 : 2 * ROWS]],
    )
    refused = start(data_set, tmp_path)
    assert refused.returncode == 1
    assert "1 of 3 files were not built" in refused.stderr, refused.stderr
    assert inspect(target)["size"] == 0
    assert len(list((tmp_path / "parts").iterdir())) == FILES - 1, "the others stay"

    write(data_set / "part-1.parquet", rows[ROWS : 2 * ROWS])
    done = start(data_set, tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{FILES * ROWS} entries added" in done.stdout, done.stdout
    first = inspect(target)
    assert (first["size"], first["epoch"]) == (FILES * ROWS, 2)

    # Again: nothing is there twice.
    again = start(data_set, tmp_path)
    assert again.returncode == 0, again.stderr
    assert "0 entries added" in again.stdout, again.stdout
    assert inspect(target) == first

    # What a machine alone builds of the same entries.
    alone = tmp_path / "alone"
    write(tmp_path / "all.parquet", rows)
    reverie(
        "knowledge",
        "build",
        "--pictures",
        str(tmp_path / "all.parquet"),
        "--name",
        "birds",
        "--out",
        str(alone),
        "--encoder",
        ENCODER,
    )
    searched = [
        reverie(
            "knowledge",
            "search",
            str(rows[50]["text"]),
            "-k",
            "5",
            "--knowledge-base",
            "birds",
            "--json",
            *location,
        )
        for location in ([f"--with-knowledge-base=birds={target}"], [f"--with-knowledge-base=birds={alone}"])
    ]
    found = [[hit["id"] for hit in json.loads(answer)["neighbours"]] for answer in searched]
    assert found[0] == found[1]
    assert rows[50]["id"] in found[0]


def test_flags_after_two_dashes_are_those_of_build(data_set: Path, tmp_path: Path) -> None:
    reverie(
        "knowledge",
        "create",
        str(tmp_path / "birds"),
        "--name",
        "birds",
        "--vectors",
        "f16",
        "--encoder",
        ENCODER,
    )
    rows = entries()
    write(
        data_set / "part-1.parquet",
        [{**rows[0], "image": {"bytes": b"no picture", "path": None}}, *rows[ROWS + 1 : 2 * ROWS]],
    )
    done = start(data_set, tmp_path, "--", "--skip-bad")
    assert done.returncode == 0, done.stderr
    assert inspect(tmp_path / "birds")["size"] == FILES * ROWS - 1


def test_a_part_that_was_cut_off_is_built_again_and_ids_are_told_with_their_files(
    data_set: Path, tmp_path: Path
) -> None:
    target = tmp_path / "birds"
    reverie("knowledge", "create", str(target), "--name", "birds", "--encoder", ENCODER)
    write(data_set / "part-2.parquet", entries()[:ROWS])
    twice = start(data_set, tmp_path)
    assert twice.returncode == 1
    assert f"{ROWS} ids occur twice" in twice.stderr, twice.stderr
    assert "part-0.parquet and" in twice.stderr, twice.stderr
    assert "part-2.parquet" in twice.stderr, twice.stderr
    assert inspect(target)["size"] == 0

    # Mended; and a part at a URL of which only a piece was written before.
    write(data_set / "part-2.parquet", entries()[2 * ROWS :])
    parts = (tmp_path / "elsewhere").as_uri()
    done = start(data_set, tmp_path, "--parts", parts)
    assert done.returncode == 0, done.stderr
    assert inspect(target)["size"] == FILES * ROWS
    cut_off = sorted((tmp_path / "elsewhere").iterdir())[0]
    (cut_off / "manifest.json").unlink()
    (cut_off / "published.sha256").write_text("0" * 64 + "\n")
    others = tmp_path / "others"
    reverie("knowledge", "create", str(others), "--name", "others", "--encoder", ENCODER)
    done = start(data_set, tmp_path, "--parts", parts, "--to", str(others))
    assert done.returncode == 0, done.stderr
    assert inspect(others)["size"] == FILES * ROWS
    assert len(list((tmp_path / "elsewhere").iterdir())) == FILES + 1
