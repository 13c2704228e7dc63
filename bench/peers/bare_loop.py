"""The ceiling: rows of the bundled base model in a bare ONNX Runtime loop, one single-threaded session per core, nothing else.

    python bench/peers/bare_loop.py [SECONDS]        # with onnxruntime and numpy
    cargo xtask bench load --images 96 --callers 8   # the same rows through the mesh: 32 for an image of 64 px

Run both by turns on an idle machine; images a second times 32 against the rows a second here.
"""

import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnxruntime

MODEL = Path(__file__).parents[2] / "models/bestiary/base-64/model.onnx"
NEIGHBOURS = 2


def inputs(session: onnxruntime.InferenceSession, random: np.random.Generator) -> dict[str, np.ndarray]:
    sizes = {"batch": 1, "neighbours": NEIGHBOURS}
    found = {}
    for entry in session.get_inputs():
        shape = [sizes.get(size, size) for size in entry.shape]
        values = random.standard_normal(shape, dtype=np.float32)
        # Masks of ones: every word and every neighbour counts.
        found[entry.name] = np.ones_like(values) if entry.name.endswith("mask") else values
    return found


def run(seconds: float, counts: list[int], index: int, start: threading.Barrier) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    given = inputs(session, np.random.default_rng(index))
    session.run(None, given)
    start.wait()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        session.run(None, given)
        counts[index] += 1


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    threads = len(os.sched_getaffinity(0))
    counts, start = [0] * threads, threading.Barrier(threads)
    workers = [threading.Thread(target=run, args=(seconds, counts, index, start)) for index in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(f"{sum(counts) / seconds:.1f} rows/s with {threads} sessions of one thread ({sum(counts)} rows in {seconds:g} s)")


main()
