"""The loop every trainer shares: learning rate, moving average, log, checkpoints, resuming."""

import json
import math
import os
import signal
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import checkpoint
from . import muon
from ..paths import training_dir


@dataclass
class LoopSettings:
    """`steps` is where this run stops; the rate is constant after warm-up and falls to zero over the last `decay_steps`."""

    steps: int = 1000
    decay_steps: int = 0
    learning_rate: float = 5e-4
    warmup_steps: int = 200
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 1
    checkpoint_minutes: float = 3.0
    log_every: int = 20
    threads: int = 2  # at most: one while other programs are busy (two would wait for each other at every barrier)
    bf16: bool | None = None  # autocast; None: where the device computes in bf16 (it is 1.5 times as fast there, slow elsewhere)
    muon: bool = False  # for the matrices; AdamW for all else


def computes_in_bf16(device: str) -> bool:
    if device == "cpu":
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.cuda.is_bf16_supported(including_emulation=False)


@dataclass
class Loop:
    """Runs `loss(step, rng) -> (tensor, {name: number})` until done; state lives in `<training_dir>/<name>.pt`."""

    name: str
    module: torch.nn.Module
    settings: LoopSettings
    device: str = "cpu"
    meta: dict = field(default_factory=dict)

    @property
    def path(self) -> Path:
        return training_dir() / f"{self.name}.pt"

    def optimisers(self) -> list[torch.optim.Optimizer]:
        s = self.settings
        matrices, others = muon.split(self.module) if s.muon else ([], list(self.module.parameters()))
        adamw = torch.optim.AdamW(others, lr=s.learning_rate, betas=(0.9, 0.99), weight_decay=s.weight_decay)
        return [adamw, muon.Muon(matrices, lr=s.learning_rate, weight_decay=s.weight_decay)] if matrices else [adamw]

    def rate(self, step: int, born: int = 0) -> float:
        """Warms up from the step at which the optimisers were `born`."""
        s = self.settings
        warm = min(1.0, (step - born + 1) / max(1, s.warmup_steps))
        left = (s.steps - step) / s.decay_steps if s.decay_steps else 1.0
        cool = 0.5 - 0.5 * math.cos(math.pi * min(1.0, left))
        return s.learning_rate * warm * cool

    def run(self, loss_of_step, resume: bool) -> None:
        s = self.settings
        optimisers = self.optimisers()
        average = checkpoint.MovingAverage(self.module, s.ema_decay)
        step, born, seconds, images, last_loss = 0, 0, 0.0, 0, 0.0
        if resume and self.path.exists():
            state = checkpoint.load(self.path, self.device)
            whole = "optimisers" in state  # a restored package has neither optimisers nor heads
            self.module.load_state_dict(state["weights"], strict=whole)
            for optimiser, kept in zip(optimisers, state.get("optimisers", [])):
                optimiser.load_state_dict(kept)
            average.values |= state["average"]
            step, seconds, last_loss = state["step"], state["seconds"], state["loss"]
            # Batches may change size between runs, so images are counted.
            images = state.get("images", step * state["meta"].get("images_per_step", 0))
            born = state["born"] if whole else step
        stop = []
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.append(True))
        log = open(training_dir() / f"{self.name}.jsonl", "a")
        started = saved = tick = time.monotonic()
        first, sums = step, {}  # of each number its sum and how often it came

        def keep():
            spent = seconds + time.monotonic() - started
            checkpoint.save(self.path, dict(weights=self.module.state_dict(), average=average.values, optimisers=[o.state_dict() for o in optimisers],
                                            step=step, born=born, images=images, seconds=spent, loss=last_loss, meta=self.meta))

        while step < s.steps and not stop:
            for group in (g for o in optimisers for g in o.param_groups):
                group["lr"] = self.rate(step, born)
            # Step and seed alone decide a step's random numbers: a resumed run continues as if never stopped.
            torch.manual_seed(s.seed * 1_000_003 + step)
            loss, numbers = loss_of_step(step)
            self.module.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.module.parameters(), s.clip_norm)
            for optimiser in optimisers:
                optimiser.step()
            average.update(self.module, step)
            step += 1
            images += self.meta["images_per_step"]
            for key, value in numbers.items():
                total, count = sums.get(key, (0.0, 0))
                sums[key] = (total + float(value), count + 1)
            if step % s.log_every == 0:
                # A process of raised priority (negative nice) need not give way.
                busy = os.getloadavg()[0] > s.threads + 1 and os.getpriority(os.PRIO_PROCESS, 0) >= 0
                torch.set_num_threads(1 if busy else s.threads)
                now = time.monotonic()
                count = min(s.log_every, step - first)
                row = {"step": step, **{k: round(total / n, 5) for k, (total, n) in sums.items()}, "s_per_step": round((now - tick) / count, 4),
                       "rate": self.rate(step), "seconds": round(seconds + now - started)}
                last_loss = row.get("loss", last_loss)
                log.write(json.dumps(row) + "\n")
                log.flush()
                print(row, flush=True)
                sums, tick = {}, now
            if time.monotonic() - saved > 60 * s.checkpoint_minutes:
                keep()
                saved = time.monotonic()
        keep()


def read_config(path: Path) -> dict:
    with open(path, "rb") as file:
        return tomllib.load(file)
