"""Imports a data set of many files into a knowledge base, on all machines of a Ray cluster.

Each file becomes a part: a task embeds its pictures by a running encoder service and builds the part's index. The parts
are independent of each other. Then one epoch adds all of them to the knowledge base: whoever searches it sees all of the
data set or nothing of it. An import that was interrupted goes on when it is started again: parts that are complete stay,
and what was added is not added again.
"""

from __future__ import annotations

import argparse
import glob
import hashlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

DATA_SETS = (".csv", ".jsonl", ".parquet", ".tar")
# Flags of `reverie knowledge build` that leave the same entries where a file has no bad ones.
FORGIVING = ("--skip-bad",)
# What `reverie` says of a folder that another build is writing to, and of a place that holds something else.
BUSY = "another build is writing to it"
DIFFERS = "is there already with another content"
PAUSE_SECONDS = 5
# A task that was killed may leave a build that ends by itself.
PATIENCE_SECONDS = 3600
ATTEMPTS = 10


@dataclass(frozen=True)
class Job:
    """What is the same for all parts."""

    program: str
    encoder: str
    parts: str
    vectors: str
    threads: int
    build: tuple[str, ...]


class FailedError(Exception):
    """The program `reverie` said why it did not do something."""


def reverie(program: str, *arguments: str) -> str:
    """Run the program `reverie`; give what it prints."""
    try:
        ended = subprocess.run([program, *arguments], capture_output=True, text=True)
    except OSError as error:
        raise FailedError(f"{program}: {error}") from error
    if ended.returncode != 0:
        raise FailedError(ended.stderr.strip() or f"{program} ended with {ended.returncode}")
    return ended.stdout


def inspect(program: str, place: str) -> dict[str, Any] | None:
    """Describe the knowledge base in a folder; none if there is none."""
    found: dict[str, Any] | None = json.loads(reverie(program, "knowledge", "inspect", place, "--json"))
    return found


def is_local(place: str) -> bool:
    """Say whether it is a path, not a URL."""
    return "://" not in place


def files_of(places: Sequence[str]) -> list[str]:
    """List the files of a data set: those that are named, and those in named folders and patterns. URLs are files."""
    files = []
    for place in places:
        path = Path(place)
        if not is_local(place) or path.is_file():
            files.append(place if not is_local(place) else str(path.absolute()))
            continue
        found = path.iterdir() if path.is_dir() else map(Path, glob.glob(place))
        listed = sorted(str(file.absolute()) for file in found if file.suffix.lower() in DATA_SETS)
        if not listed:
            raise FailedError(f"{place}: there is no file with a name in {', '.join(DATA_SETS)}")
        files += listed
    return list(dict.fromkeys(files))


def part_of(job: Job, file: str) -> str:
    """Name the place of a file's part: another one for another file, for one that has changed, and for other flags."""
    state = Path(file).stat() if is_local(file) else None
    version = [state.st_size, state.st_mtime_ns] if state else []
    told = json.dumps([file, version, job.vectors, *(flag for flag in job.build if flag not in FORGIVING)])
    return f"{job.parts.rstrip('/')}/part-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def build_in(job: Job, file: str, part: str) -> int:
    """Build a part in a folder, unless it is there; wait for another one that builds it. Give its number of entries."""
    begun = time.monotonic()
    build = ["knowledge", "build", "--pictures", file, "--name", "part", "--encoder", job.encoder]
    build += ["--vectors", job.vectors, "--threads", str(job.threads), *job.build, "--out", part]
    while True:
        found = inspect(job.program, part)
        if found is not None:
            return int(found["size"])
        try:
            reverie(job.program, *build)
        except FailedError as failed:
            if BUSY not in str(failed) or time.monotonic() - begun > PATIENCE_SECONDS:
                raise
            time.sleep(PAUSE_SECONDS)


def build_at(job: Job, file: str, part: str) -> tuple[str, int]:
    """Build a part at a URL, unless it is there. Where an attempt was cut off, the next one has another name."""
    with tempfile.TemporaryDirectory() as folder:
        for attempt in range(ATTEMPTS):
            place = f"{part}-{attempt}"
            found = inspect(job.program, place)
            if found is not None:
                return place, int(found["size"])
            size = build_in(job, file, f"{folder}/part")
            try:
                reverie(job.program, "knowledge", "publish", f"{folder}/part", place)
            except FailedError as failed:
                if DIFFERS not in str(failed):
                    raise
            else:
                return place, size
    raise FailedError(f"{part}: {ATTEMPTS} attempts were cut off before; remove what they left")


def build_part(row: dict[str, Any], job: Job) -> dict[str, Any]:
    """Embed and index the pictures of one file, unless that was done before."""
    file = row["file"]
    try:
        part = part_of(job, file)
        place, size = (part, build_in(job, file, part)) if is_local(part) else build_at(job, file, part)
    except (FailedError, OSError) as failed:
        return {"file": file, "part": "", "size": 0, "error": str(failed)}
    return {"file": file, "part": place, "size": size, "error": ""}


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read what the command was given."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="What follows -- are further flags of `reverie knowledge build`.",
    )
    parser.add_argument(
        "pictures",
        nargs="+",
        help="files of the data set (.parquet, .tar, .jsonl, .csv), folders of such, patterns, or URLs of the first two",
    )
    parser.add_argument(
        "--to", required=True, help="the knowledge base that gets them; `reverie knowledge create` makes one"
    )
    parser.add_argument(
        "--parts",
        required=True,
        help="where parts are kept until all are there: a folder that all machines share, or a URL",
    )
    parser.add_argument(
        "--encoder", required=True, help="a running encoder service, such as http://encoder:7101"
    )
    parser.add_argument("--reverie", default="reverie", help="the program `reverie`, on every machine")
    parser.add_argument("--cpus", type=float, default=1.0, help="cores that a part takes")
    parser.add_argument(
        "--ray", default=None, help="address of the cluster; without it, RAY_ADDRESS or this machine"
    )
    given = list(sys.argv[1:] if given is None else given)
    # What comes after -- is for the other program, and argparse would take it for pictures.
    end = given.index("--") if "--" in given else len(given)
    return argparse.Namespace(**vars(parser.parse_args(given[:end])), build=given[end + 1 :])


def run(asked: argparse.Namespace) -> None:
    """Build all parts, then add them to the knowledge base."""
    target = inspect(asked.reverie, asked.to)
    if target is None:
        raise FailedError(f"{asked.to}: there is no knowledge base; `reverie knowledge create` makes one")
    files = files_of(asked.pictures)
    parts = str(Path(asked.parts).absolute()) if is_local(asked.parts) else asked.parts
    threads = max(1, math.ceil(asked.cpus))
    job = Job(asked.reverie, asked.encoder, parts, target["vectors"], threads, tuple(asked.build))
    ray.init(address=asked.ray, include_dashboard=False, log_to_driver=False)
    tasks = ray.data.from_items([{"file": file} for file in files], override_num_blocks=len(files))
    built = tasks.map(build_part, fn_kwargs={"job": job}, num_cpus=asked.cpus).take_all()
    wrong = sorted((part["file"], part["error"]) for part in built if part["error"])
    if wrong:
        told = "\n".join(f"{file}: {error}" for file, error in wrong)
        raise FailedError(
            f"{len(wrong)} of {len(files)} files were not built, and nothing was added:\n{told}"
        )
    by_file = {part["file"]: part["part"] for part in built}
    print(f"{sum(part['size'] for part in built)} entries in {len(files)} parts")
    try:
        merge = ["knowledge", "merge", *(by_file[file] for file in files), "--to", asked.to]
        print(reverie(asked.reverie, *merge), end="")
    except FailedError as failed:
        told = str(failed)
        for file, part in by_file.items():
            told = told.replace(part, file)
        raise FailedError(told) from failed


if __name__ == "__main__":
    try:
        run(arguments())
    except FailedError as failed:
        sys.exit(str(failed))
