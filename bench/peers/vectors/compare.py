"""The vector service, its index, faiss and hnswlib on the same vectors: recall against queries a second, in one run.

    cargo xtask vector-peers                    # what runs this
    cargo xtask vector-peers --count 100000 --dimension 256

Arguments go to `reverie-bench vectors`, which draws the vectors and the queries. Graphs have as many links as Reverie's (M = 48; the lowest layer
has twice as many in all of them) and are built with as wide a search (512), by all cores; they are searched by one.
"""

import argparse
import os
import subprocess
import tempfile
import time
from pathlib import Path

import faiss
import hnswlib
import numpy as np

CORES = len(os.sched_getaffinity(0))
LINKS, LOOKED_AT_TO_LINK, NEAREST = 48, 512, 10
LOOKED_AT_IN_SEARCH = [32, 64, 128, 256, 512, 1024]


def rows(path: Path, dimension: int) -> np.ndarray:
    values = np.fromfile(path, dtype="<f4").reshape(-1, dimension)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / NEAREST for a, b in zip(found, truth)]))


def table(name: str, built: float, search, queries: np.ndarray, truth: np.ndarray) -> None:
    print(f"{name}: built in {built:.1f} s")
    for wide in LOOKED_AT_IN_SEARCH:
        begun = time.perf_counter()
        # One by one, as they come.
        found = np.vstack([search(query[None], wide) for query in queries])
        per_second = len(queries) / (time.perf_counter() - begun)
        print(f"  looks at {wide:4}: recall {recall(found[: len(truth)], truth):.4f}, {per_second:7.0f} queries a second")


def main(folder: Path, dimension: int) -> None:
    faiss.omp_set_num_threads(CORES)
    vectors, queries = rows(folder / "vectors.f32", dimension), rows(folder / "queries.f32", dimension)
    exact = faiss.IndexFlatIP(dimension)
    exact.add(vectors)
    truth = exact.search(queries[:200], NEAREST)[1]

    # Half-precision vectors, as Reverie's by default here.
    graph = faiss.IndexHNSWSQ(dimension, faiss.ScalarQuantizer.QT_fp16, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = LOOKED_AT_TO_LINK
    graph.train(vectors)
    begun = time.perf_counter()
    graph.add(vectors)
    built = time.perf_counter() - begun
    faiss.omp_set_num_threads(1)

    def in_faiss(query: np.ndarray, wide: int) -> np.ndarray:
        graph.hnsw.efSearch = wide
        return graph.search(query, NEAREST)[1]

    table("faiss, f16", built, in_faiss, queries, truth)

    index = hnswlib.Index("cosine", dimension)
    index.init_index(len(vectors), M=LINKS, ef_construction=LOOKED_AT_TO_LINK, random_seed=1)
    begun = time.perf_counter()
    index.add_items(vectors, num_threads=CORES)
    built = time.perf_counter() - begun

    def in_hnswlib(query: np.ndarray, wide: int) -> np.ndarray:
        index.set_ef(wide)
        return index.knn_query(query, NEAREST, num_threads=1)[0]

    table("hnswlib, f32", built, in_hnswlib, queries, truth)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bench", type=Path, required=True, help="the program reverie-bench")
    parser.add_argument("--dimension", type=int, default=256)
    arguments, others = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        dimension = str(arguments.dimension)
        subprocess.run([arguments.bench, "vectors", "--out", folder, "--dimension", dimension, *others], check=True)
        main(Path(folder), arguments.dimension)
