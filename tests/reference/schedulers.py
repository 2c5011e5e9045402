"""Golden schedules and steps of diffusers' schedulers: tests/golden/schedulers/."""

import json
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
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


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "flow_match_euler.json").write_text(json.dumps(flow_match_euler(), separators=(",", ":")))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
