"""Golden schedules and steps of diffusers' schedulers: tests/golden/schedulers/."""

import json
from pathlib import Path

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
)
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import calculate_shift

OUT = Path(__file__).parent.parent / "golden" / "schedulers"
CONFIGS = {
    "sd3": {"shift": 3.0},
    "no_shift": {"shift": 1.0},
    "short_training": {"shift": 2.5, "num_train_timesteps": 250},
    "dynamic": {"use_dynamic_shifting": True, "base_shift": 0.6, "max_shift": 1.3},
    "dynamic_linear": {"use_dynamic_shifting": True, "time_shift_type": "linear"},
    "terminal": {"shift": 3.0, "shift_terminal": 0.1},
    "karras": {"shift": 3.0, "use_karras_sigmas": True},
    "exponential": {"shift": 1.5, "use_exponential_sigmas": True},
}


def flow_match_euler() -> list[dict]:
    rows = []
    for name, config in CONFIGS.items():
        for steps in [1, 2, 10, 28, 50]:
            if steps == 1 and name in ("terminal", "karras", "exponential"):
                continue  # the formulas divide by zero there
            scheduler = FlowMatchEulerDiscreteScheduler(**config)
            tokens = 16 * 24 if steps < 20 else 64 * 64
            mu = calculate_shift(
                tokens, scheduler.config.base_image_seq_len, scheduler.config.max_image_seq_len,
                scheduler.config.base_shift, scheduler.config.max_shift,
            )
            scheduler.set_timesteps(steps, mu=mu if scheduler.config.use_dynamic_shifting else None)
            sample = torch.linspace(-2, 2, 12)
            first = sample.clone()
            for i, t in enumerate(scheduler.timesteps):
                velocity = torch.sin(sample * 3 + i) + 0.1 * t / 1000
                sample = scheduler.step(velocity, t, sample, return_dict=False)[0]
            rows.append({
                "name": name,
                "config": {k: v for k, v in scheduler.config.items()},
                "steps": steps,
                "tokens": tokens,
                "sigmas": scheduler.sigmas.tolist(),
                "timesteps": scheduler.timesteps.tolist(),
                "start": first.tolist(),
                "end": sample.tolist(),
            })
    return rows


# The scheduler_config.json of Stable Diffusion v1.5.
SD15 = {
    "_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "num_train_timesteps": 1000, "set_alpha_to_one": False, "skip_prk_steps": True,
    "steps_offset": 1, "trained_betas": None, "clip_sample": False,
}
SOLVERS = {
    "pndm": PNDMScheduler,
    "ddim": DDIMScheduler,
    "euler": EulerDiscreteScheduler,
    "euler-ancestral": EulerAncestralDiscreteScheduler,
    "dpmsolver++": DPMSolverMultistepScheduler,
    "heun": HeunDiscreteScheduler,
}
# What each solver is tried with besides: (solvers, changes to SD15).
VARIANTS = {
    "velocity": (list(SOLVERS), {"prediction_type": "v_prediction"}),
    "trailing": (list(SOLVERS), {"timestep_spacing": "trailing"}),
    "linspace": (list(SOLVERS), {"timestep_spacing": "linspace", "beta_schedule": "linear"}),
    "leading_velocity": (list(SOLVERS), {"timestep_spacing": "leading", "prediction_type": "v_prediction", "steps_offset": 0}),
    "cosine": (list(SOLVERS), {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 400, "set_alpha_to_one": True}),
    "trained_betas": (list(SOLVERS), {"trained_betas": [0.01, 0.02, 0.04, 0.03] * 25, "num_train_timesteps": 100}),
    "prk": (["pndm"], {"skip_prk_steps": False}),
    "prk_velocity": (["pndm"], {"skip_prk_steps": False, "prediction_type": "v_prediction", "timestep_spacing": "linspace"}),
    "clip": (["ddim", "heun"], {"clip_sample": True, "clip_sample_range": 0.8, "set_alpha_to_one": True}),
    "karras": (["euler", "dpmsolver++", "heun"], {"use_karras_sigmas": True}),
    "karras_cosine": (["euler", "dpmsolver++", "heun"], {"use_karras_sigmas": True, "beta_schedule": "squaredcos_cap_v2"}),
    "exponential": (["euler", "dpmsolver++", "heun"], {"use_exponential_sigmas": True, "prediction_type": "v_prediction"}),
    "sigma_limits": (["euler", "dpmsolver++", "heun"], {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 9.0}),
    "sigma_min": (["euler", "dpmsolver++", "heun"], {"final_sigmas_type": "sigma_min"}),
    "continuous": (["euler"], {"timestep_type": "continuous", "prediction_type": "v_prediction"}),
    "heun": (["dpmsolver++"], {"solver_type": "heun", "final_sigmas_type": "sigma_min"}),
    "first_order": (["dpmsolver++"], {"solver_order": 1}),
    "no_lower_order": (["dpmsolver++"], {"lower_order_final": False, "final_sigmas_type": "sigma_min", "solver_type": "bh2"}),
    "euler_at_final": (["dpmsolver++"], {"euler_at_final": True, "final_sigmas_type": "sigma_min"}),
    "clipped": (["dpmsolver++"], {"lambda_min_clipped": -2.0, "timestep_spacing": "linspace"}),
    "clipped_leading": (["dpmsolver++"], {"lambda_min_clipped": -1.5, "timestep_spacing": "leading"}),
    "sample": (["ddim", "euler", "dpmsolver++", "heun"], {"prediction_type": "sample"}),
    "zero_snr": (["ddim", "euler", "euler-ancestral", "dpmsolver++", "heun"], {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "timestep_spacing": "trailing"}),
}


def denoiser(sample: torch.Tensor, t: float, i: int) -> torch.Tensor:
    """Smooth, so that rounding is not blown up; different at each call."""
    return 0.6 * torch.tanh(sample * 0.7 + t / 900) + 0.3 * torch.cos(sample + i)


def solver_row(name: str, solver: str, config: dict, steps: int, strength: float, **options: float) -> dict:
    scheduler = SOLVERS[solver].from_config(dict(config))
    scheduler.set_timesteps(steps)
    start = max(steps - min(int(steps * strength), steps), 0)
    generator = torch.Generator("cpu").manual_seed(steps)
    noise = torch.randn(2, 4, 3, generator=generator)
    original = torch.linspace(-1.5, 1.5, 24).view(2, 4, 3)
    timesteps = scheduler.timesteps[start * scheduler.order:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(start * scheduler.order)
    if strength == 1.0:
        sample = noise * scheduler.init_noise_sigma
    else:
        sample = scheduler.add_noise(original, noise, timesteps[:1].repeat(2))
    first = sample
    extra = {} if solver in ("pndm", "dpmsolver++", "heun") else {"generator": generator} | options
    for i, t in enumerate(timesteps):
        output = denoiser(scheduler.scale_model_input(sample, t), float(t), i)
        sample = scheduler.step(output, t, sample, return_dict=False, **extra)[0]
    return {
        "name": name, "solver": solver, "config": config, "steps": steps, "strength": strength, "start": start,
        "timesteps": scheduler.timesteps.tolist(), "init_noise_sigma": float(scheduler.init_noise_sigma),
        "first": first.flatten().tolist(), "end": sample.flatten().tolist(),
    } | options


def solvers() -> list[dict]:
    rows = []
    for solver in SOLVERS:
        for steps in (10, 50):
            for strength in (0.3, 0.6, 0.8, 1.0):
                rows.append(solver_row("sd15", solver, SD15, steps, strength))
                rows.append(solver_row("velocity", solver, SD15 | VARIANTS["velocity"][1], steps, strength))
        rows.append(solver_row("sd15", solver, SD15, 1, 1.0))
        rows.append(solver_row("sd15", solver, SD15, 7, 0.5))
    for name, (names, changes) in VARIANTS.items():
        for solver in names:
            for steps, strength in [(9, 1.0), (20, 0.65)]:
                rows.append(solver_row(name, solver, SD15 | changes, steps, strength))
    return rows


def noisy_ddim() -> list[dict]:
    """DDIM that adds noise at each step, over every option that its noise depends on."""
    rows = []
    names = {"sd15": {}} | {name: changes for name, (solvers, changes) in VARIANTS.items() if "ddim" in solvers}
    for name, changes in names.items():
        for eta in (0.3, 1.0):
            for steps, strength in [(9, 1.0), (20, 0.65), (50, 0.8)]:
                rows.append(solver_row(name, "ddim", SD15 | changes, steps, strength, eta=eta))
    return rows


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "solvers.json").write_text(json.dumps(solvers(), separators=(",", ":")))
    (OUT / "noisy_ddim.json").write_text(json.dumps(noisy_ddim(), separators=(",", ":")))
    (OUT / "flow_match_euler.json").write_text(json.dumps(flow_match_euler(), separators=(",", ":")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
