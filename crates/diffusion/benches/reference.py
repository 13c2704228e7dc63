"""What a step costs in diffusers on PyTorch, for a comparison with `cargo bench -p reverie-diffusion` on the same machine.

    VENV/bin/python reference.py        # VENV as in ../fixtures/generate.py

As in step.rs: 50 steps, the 26th evaluation of them, and before each of them sample and output are copied anew. Prints
milliseconds a step, the median of 31.
"""

import statistics
import time

import diffusers
import torch

SHAPES = ((3, 64, 64), (4, 128, 128), (3, 1024, 1024))
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


def milliseconds(make, shape: tuple[int, ...]) -> float:
    """The median of the step `AT`, after the steps before it."""
    scheduler = make()
    scheduler.set_timesteps(STEPS)
    z = torch.randn(1, *shape, generator=torch.Generator().manual_seed(7))
    noise = torch.Generator().manual_seed(7)
    with_noise = isinstance(scheduler, (diffusers.DDPMScheduler, diffusers.DPMSolverMultistepScheduler))
    options = dict(generator=noise) if with_noise else {}
    # What earlier evaluations leave is there.
    for timestep in scheduler.timesteps[:AT]:
        scheduler.step(z, timestep, z, **options)
    before = dict(vars(scheduler))
    sample, output = z.clone(), z.clone()
    times = []
    for _ in range(31):
        vars(scheduler).update(before)
        output.copy_(z)
        sample.copy_(z)
        started = time.perf_counter()
        scheduler.step(output, scheduler.timesteps[AT], sample, **options)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def main() -> None:
    diffusers.utils.logging.set_verbosity_error()
    print(f"diffusers {diffusers.__version__}, PyTorch {torch.__version__}, {torch.get_num_threads()} threads; milliseconds a step of", *SHAPES)
    for name, make in SAMPLERS.items():
        print(f"{name:14}", *(f"{milliseconds(make, shape):8.3f}" for shape in SHAPES))


if __name__ == "__main__":
    main()
