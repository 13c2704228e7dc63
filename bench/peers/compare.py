"""The mesh beside services that one would write in Python: the same graphs, steps and rows on the same machine, by turns.

    cargo xtask peers                          # what runs this
    cargo xtask peers --sizes 64 --seconds 10

Each peer runs with every thread setting below, and its best one counts. Calls are those of a closed loop of 8 callers (throughput), of one
caller (latency) and of an open loop at 80 % of the better peer's throughput (the tail). The tool that calls shares the machine with what it
calls, here and there. Prints Markdown.
"""

import argparse
import contextlib
import json
import os
import platform
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
CORES = len(os.sched_getaffinity(0))
CALLERS = 8
PROMPT = "a small zunin on the left, snow"
START = 120.0
TIMEOUT = 600.0
# Passes of the base model's row that an image takes.
ROWS = 32


@dataclass(frozen=True)
class Peer:
    """A service with one setting of its threads."""

    name: str
    setting: str
    command: tuple[str, ...]
    environment: dict[str, str]


def fastapi(workers: int, concurrency: int, threads: int) -> Peer:
    command = (sys.executable, "-m", "uvicorn", "fastapi_server:app", "--workers", str(workers))
    command += ("--log-level", "warning", "--port", "PORT")
    environment = {"PEER_THREADS": str(threads), "PEER_CONCURRENCY": str(concurrency)}
    setting = f"{workers} processes, {concurrency} images at a time in each, {threads} threads an image"
    return Peer("FastAPI", setting, command, environment)


def litserve(workers: int, batch: int, threads: int) -> Peer:
    environment = {"PEER_THREADS": str(threads), "PEER_WORKERS": str(workers), "PEER_BATCH": str(batch)}
    setting = f"{workers} processes, batches of {batch}, {threads} threads each"
    return Peer("LitServe", setting, (sys.executable, "litserve_server.py", "PORT"), environment)


PEERS = [
    fastapi(1, 1, CORES),
    fastapi(1, CORES, 1),
    fastapi(CORES, 1, 1),
    litserve(1, 1, CORES),
    litserve(1, 4, CORES),
    litserve(CORES, 1, 1),
    litserve(CORES, 4, 1),
]


class Service:
    """A running peer."""

    def __init__(self, url: str, size: int) -> None:
        self.url = url
        self.size = size

    def ask(self, seed: int) -> None:
        body = json.dumps({"prompt": PROMPT, "size": self.size, "seed": seed}).encode()
        request = urllib.request.Request(self.url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            image = answer.read()
        # Width and height are in the first chunk.
        sides = int.from_bytes(image[16:20]), int.from_bytes(image[20:24])
        if image[:8] != b"\x89PNG\r\n\x1a\n" or sides != (self.size, self.size):
            raise ValueError(f"{self.url} answered {image[:60]!r}, not a PNG of {self.size} px")


@contextlib.contextmanager
def serving(peer: Peer, size: int) -> Iterator[Service]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(port) if word == "PORT" else word for word in peer.command]
    process = subprocess.Popen(
        command, cwd=FOLDER, env=os.environ | peer.environment, stdin=subprocess.DEVNULL, start_new_session=True
    )
    try:
        service = Service(f"http://127.0.0.1:{port}/predict", size)
        until = time.monotonic() + START
        while True:
            try:
                service.ask(0)
                break
            except urllib.error.HTTPError:
                raise
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    raise RuntimeError(f"{peer.name} did not start: {command}") from None
                time.sleep(0.2)
        # Every process of it has begun to draw.
        closed(service.ask, CALLERS, 2 * CORES)
        yield service
    finally:
        # The workers are of its session.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def closed(ask: Callable[[int], None], callers: int, images: int) -> tuple[float, list[float]]:
    """Images a second, and the seconds that each took."""
    waiting, took, lock, failed = iter(range(images)), [], threading.Lock(), []

    def call() -> None:
        while True:
            with lock:
                seed = next(waiting, None)
            if seed is None or failed:
                return
            begun = time.monotonic()
            try:
                ask(seed)
            except Exception as error:  # it is raised below
                failed.append(error)
                return
            with lock:
                took.append(time.monotonic() - begun)

    begun = time.monotonic()
    run(call for _ in range(callers))
    if failed:
        raise failed[0]
    return images / (time.monotonic() - begun), sorted(took)


def open_loop(ask: Callable[[int], None], rate: float, seconds: float) -> list[float]:
    """Seconds that each image took from when its call was due; calls come at random at `rate` a second."""
    chance, due, arrivals = random.Random(0), 0.0, []
    while (due := due + chance.expovariate(rate)) < seconds:
        arrivals.append(due)
    took, failed, begun = [0.0] * len(arrivals), [], time.monotonic()

    def call(index: int) -> None:
        time.sleep(max(0.0, begun + arrivals[index] - time.monotonic()))
        try:
            ask(index)
        except Exception as error:  # it is raised below
            failed.append(error)
        took[index] = time.monotonic() - begun - arrivals[index]

    run((lambda index=index: call(index)) for index in range(len(arrivals)))
    if failed:
        raise failed[0]
    return sorted(took)


def run(calls: Iterator[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def at(share: float, took: list[float]) -> float:
    return took[min(len(took) - 1, int(share * len(took)))]


@dataclass(frozen=True)
class Mesh:
    """The mesh with one setting, in the process of reverie-bench."""

    setting: str
    program: str
    settings: tuple[str, ...]
    environment: dict[str, str]

    def figures(self, size: int, *arguments: str) -> dict:
        """Of one run of reverie-bench load."""
        command = [self.program, "load", "--json", "--size", str(size), "--prompt", PROMPT]
        command += ["--timeout", f"{TIMEOUT:g}", *arguments]
        for setting in self.settings:
            command += ["--set", setting]
        environment = os.environ | self.environment
        told = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
        return json.loads(told.stdout)["runs"][-1]


def meshes(program: str, openvino: str | None) -> dict[str, Mesh]:
    found = {"Reverie": Mesh("the default", program, (), {})}
    if openvino:
        services, keys = ("encoder", "denoiser", "super-resolution"), ("provider=openvino", "openvino.precision=bf16")
        settings = tuple(f"{service}.inference.{key}" for service in services for key in keys)
        found["Reverie, OpenVINO"] = Mesh("bfloat16", program, settings, {"ORT_DYLIB_PATH": openvino})
    return found


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def compare(of_mesh: dict[str, Mesh], size: int, seconds: float, rounds: int) -> None:
    best: dict[str, tuple[float, Peer]] = {}
    for peer in PEERS:
        with serving(peer, size) as service:
            rate, _ = closed(service.ask, CALLERS, 2 * CALLERS)
            rate, _ = closed(service.ask, CALLERS, max(CALLERS, round(seconds * rate)))
        note(f"{size} px: {peer.name}, {peer.setting}: {rate:.2f} images/s")
        if rate > best.get(peer.name, (0.0, peer))[0]:
            best[peer.name] = (rate, peer)
    offered = 0.8 * max(rate for rate, _ in best.values())
    images = str(max(CALLERS, round(seconds * offered)))
    alone = str(max(5, round(0.5 * seconds * offered)))
    # By turns: a machine that has a slow minute has it for all of them.
    rates, single, tail = {}, {}, {}
    for _ in range(rounds):
        for name, mesh in of_mesh.items():
            figures = mesh.figures(size, "--callers", str(CALLERS), "--images", images)
            rates.setdefault(name, []).append(figures["goodput_per_second"])
            figures = mesh.figures(size, "--callers", "1", "--images", alone)
            single.setdefault(name, []).append(figures["latency_seconds"]["p50"])
            figures = mesh.figures(size, "--rate", str(offered), "--seconds", str(2 * seconds))
            if figures["drawn"] != figures["calls"]:
                raise RuntimeError(f"{name} drew {figures['drawn']} of {figures['calls']} images at {offered:.2f} a second")
            tail.setdefault(name, []).append(figures["latency_seconds"]["p99"])
        for name, (_, peer) in best.items():
            with serving(peer, size) as service:
                rates.setdefault(name, []).append(closed(service.ask, CALLERS, int(images))[0])
                single.setdefault(name, []).append(at(0.5, closed(service.ask, 1, int(alone))[1]))
                tail.setdefault(name, []).append(at(0.99, open_loop(service.ask, offered, 2 * seconds)))
    print(f"\n### {size} px\n")
    print(f"| | images/s, {CALLERS} callers | one image, s | p99 at {offered:.2f} images/s, s | setting |")
    print("| --- | ---: | ---: | ---: | --- |")
    settings = {name: mesh.setting for name, mesh in of_mesh.items()}
    settings |= {name: peer.setting for name, (_, peer) in best.items()}
    for name, setting in settings.items():
        cells = (max(rates[name]), min(single[name]), min(tail[name]))
        print(f"| {name} | {cells[0]:.2f} | {cells[1]:.3f} | {cells[2]:.2f} | {setting} |", flush=True)
    if size == 64:
        bare = subprocess.run([sys.executable, str(FOLDER / "bare_loop.py"), str(seconds)], check=True, stdout=subprocess.PIPE)
        rows = float(bare.stdout.split()[0])
        print(f"\nA bare ONNX Runtime loop computes {rows:.1f} rows of the base model a second: {rows / ROWS:.2f} images of {ROWS} rows.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mesh", required=True, help="the program reverie-bench")
    parser.add_argument("--openvino", metavar="LIBRARY", help="an ONNX Runtime with OpenVINO, to measure the mesh on it, too")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 1024], help="of the images, pixels")
    parser.add_argument("--seconds", type=float, default=15.0, help="about how long each measurement takes")
    parser.add_argument("--rounds", type=int, default=2, help="the best of so many turns counts")
    arguments = parser.parse_args()
    print(f"{CORES} cores of {platform.machine()}, Python {platform.python_version()}; the best of {arguments.rounds} turns.")
    for size in arguments.sizes:
        compare(meshes(arguments.mesh, arguments.openvino), size, arguments.seconds, arguments.rounds)


if __name__ == "__main__":
    main()
