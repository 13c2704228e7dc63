"""What a step costs in diffusers on PyTorch, for a comparison with `cargo bench -p reverie-diffusion` on the same machine.

    VENV/bin/python reference.py        # VENV as in ../fixtures/generate.py

The same samples as in step.rs: three channels, 50 steps, the 26th of them. Prints milliseconds a step.
"""

import statistics
import time

import diffusers
import torch

SIDES = (64, 256, 1024)
STEPS, AT = 50, 25
SETTINGS = dict(beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing")
SAMPLERS = {
    "ddim": lambda: diffusers.DDIMScheduler(**SETTINGS, clip_sample=False),
    "ddim, static": lambda: diffusers.DDIMScheduler(**SETTINGS, clip_sample=True),
    "ddim, dynamic": lambda: diffusers.DDIMScheduler(**SETTINGS, clip_sample=False, thresholding=True),
    "ddpm, static": lambda: diffusers.DDPMScheduler(**SETTINGS, clip_sample=True),
    "euler": lambda: diffusers.EulerDiscreteScheduler(**SETTINGS),
    "heun": lambda: diffusers.HeunDiscreteScheduler(**SETTINGS),
    "dpmpp_2m": lambda: diffusers.DPMSolverMultistepScheduler(**SETTINGS),
    "dpmpp_2m_sde": lambda: diffusers.DPMSolverMultistepScheduler(**SETTINGS, algorithm_type="sde-dpmsolver++"),
    "unipc": lambda: diffusers.UniPCMultistepScheduler(**SETTINGS),
    "plms": lambda: diffusers.PNDMScheduler(**SETTINGS, skip_prk_steps=True),
}


def milliseconds(make, side: int) -> float:
    """Median of the step `AT`, after the steps before it."""
    scheduler = make()
    scheduler.set_timesteps(STEPS)
    z = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(7))
    noise = torch.Generator().manual_seed(7)
    with_noise = isinstance(scheduler, (diffusers.DDPMScheduler, diffusers.DPMSolverMultistepScheduler))
    options = dict(generator=noise) if with_noise else {}
    # What earlier evaluations leave is there.
    for timestep in scheduler.timesteps[:AT]:
        scheduler.step(z, timestep, z, **options)
    times = []
    for _ in range(31):
        if hasattr(scheduler, "_step_index"):
            scheduler._step_index = AT
        started = time.perf_counter()
        scheduler.step(z, scheduler.timesteps[AT], z, **options)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> None:
    diffusers.utils.logging.set_verbosity_error()
    print(f"diffusers {diffusers.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads; milliseconds a step")
    for name, make in SAMPLERS.items():
        print(f"{name:14}", *(f"{side} px {milliseconds(make, side):8.3f}" for side in SIDES))


if __name__ == "__main__":
    main()
