#!/usr/bin/env python3
"""What LoRA, ControlNet and IP-Adapter cost at the published sizes, with random weights: the toolkit alone, without them and
with them in turn; and whether drawing without them costs as much as in another build (--older).

    python3 adapters.py --toolkit target/release/toolkit --device cuda:0
    python3 adapters.py --toolkit target/release/toolkit --device cuda:0 --older FOLDER/toolkit --models sd3-medium
    python3 adapters.py --toolkit target/release/toolkit --device cpu --tiny                 a trial with the mini models

Needs torch and safetensors, which write the random LoRA files, and no weights. Prints a table in Markdown; --results keeps
all figures.
"""
import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MINI = Path(__file__).resolve().parents[1] / "mini/models"
ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
# Layers and width of the transformers, and how many layers have a second attention.
SD3 = {"sd3-medium": (24, 1536, 0), "sd3.5-medium": (24, 1536, 13), "sd3.5-large": (38, 2432, 0)}


def sd15_layers():
    """Every attention of the U-Net and of the text encoder: (name, outputs, inputs)."""
    sizes = [(320, 2), (640, 2), (1280, 2)]
    blocks = [(f"down_blocks.{i}.attentions.{j}", width) for i, (width, count) in enumerate(sizes) for j in range(count)]
    blocks += [("mid_block.attentions.0", 1280)]
    blocks += [(f"up_blocks.{i + 1}.attentions.{j}", width) for i, (width, _) in enumerate(sizes[::-1]) for j in range(3)]
    for block, width in blocks:
        for attention, read in (("attn1", width), ("attn2", 768)):
            for name in ATTENTION:
                inputs = read if name in ("to_k", "to_v") else width
                yield f"unet.{block}.transformer_blocks.0.{attention}.{name}", width, inputs
    for layer in range(12):
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield f"text_encoder.text_model.encoder.layers.{layer}.self_attn.{name}", 768, 768


def sd3_layers(model):
    """Every attention of the transformer, as trainers of diffusers adapt it."""
    layers, width, second = SD3[model]
    for layer in range(layers):
        names = [f"attn.{name}" for name in (*ATTENTION, "add_q_proj", "add_k_proj", "add_v_proj")]
        names += ["attn.to_add_out"] if layer + 1 < layers else []
        names += [f"attn2.{name}" for name in ATTENTION] if layer < second else []
        for name in names:
            yield f"transformer.transformer_blocks.{layer}.{name}", width, width


def write_lora(model, rank, file):
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for name, outputs, inputs in sd15_layers() if model == "sd-v1-5" else sd3_layers(model):
        tensors[f"{name}.lora_A.weight"] = (torch.randn(rank, inputs) * 0.02).half()
        tensors[f"{name}.lora_B.weight"] = (torch.randn(outputs, rank) * 0.02).half()
    save_file(tensors, file)
    return file


def cases(model, args, folder):
    """What is measured: names, and arguments of `bench`."""
    if args.tiny:
        lora = [MINI / f"mini-lora-{model.removeprefix('mini-')}"]
        controlnet, adapters = MINI / "mini-controlnet-canny", [MINI / "mini-ip-adapter/ip-adapter_sd15.safetensors"]
    else:
        lora = [write_lora(model, args.rank, folder / f"{model}-{i}.safetensors") for i in range(2)]
        controlnet, adapters = "controlnet-canny", ["ip-adapter", "ip-adapter-plus"]
    found = {"without": [], "LoRA": ["--lora", lora[0]], "two LoRAs": [part for file in lora for part in ("--lora", file)]}
    if "sd-v1-5" in model:
        found["ControlNet"] = ["--controlnet", controlnet]
        found |= {"IP-Adapter plus" if "plus" in str(name) else "IP-Adapter": ["--ip-adapter", name] for name in adapters}
        found["all of them"] = [*found["LoRA"], *found["ControlNet"], "--ip-adapter", adapters[0]]
    return found


def bench(toolkit, model, more, args):
    command = [*shlex.split(toolkit), "--device", args.device, "bench", model, "--repeat", str(args.repeat),
               "--batch-size", str(args.batch_size), *([] if args.tiny else ["--random-weights"]),
               *(["--steps", str(args.steps)] if args.steps else []), *map(str, more)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(map(str, command))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def measure(model, args, folder):
    """Rows (name, figures). Builds take turns, the first case of this build comes again last: what drifts shows."""
    rows, all_cases = [], cases(model, args, folder)
    if args.older:
        for i in range(2):
            rows.append((f"without, older build {'again' if i else ''}".strip(), bench(args.older, model, [], args)))
            rows.append((f"without {'again' if i else ''}".strip(), bench(args.toolkit, model, [], args)))
        del all_cases["without"]
    for name, more in all_cases.items():
        rows.append((name, bench(args.toolkit, model, more, args)))
        print(f"{model} {name}: {rows[-1][1]['step_seconds'] * 1e3:.3f} ms a step", file=sys.stderr)
    if not args.older:
        rows.append(("without again", bench(args.toolkit, model, [], args)))
    return rows


def table(model, rows):
    base = next(figures["step_seconds"] for name, figures in rows if name == "without")

    def cell(figures, name, times=1e3):
        return f"{figures[name] * times:.1f}" if figures.get(name) is not None else ""

    lines = [f"| {model} | s a picture | ms a step | against without | ms before the first step | first merge, ms | merge, ms | "
             "removal, ms | peak, GB |", "|---|---|---|---|---|---|---|---|---|"]
    for name, figures in rows:
        step = figures["step_seconds"]
        times = [cell(figures, key) for key in ("prepare_seconds", "lora_first_merge_seconds", "lora_merge_seconds",
                                                "lora_removal_seconds")]
        peak = cell(figures, "peak_memory_bytes", 1e-9)
        lines.append(f"| {name} | {figures['seconds_per_image']:.3f} | {step * 1e3:.2f} | {100 * (step / base - 1):+.1f} % | "
                     f"{' | '.join(times)} | {peak} |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toolkit", required=True, help="the command that runs it")
    parser.add_argument("--older", help="another build of it, to draw without adapters")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--models", help="of sd-v1-5, sd3-medium, sd3.5-medium, sd3.5-large (default: the first two)")
    parser.add_argument("--rank", type=int, default=64, help="of the random LoRA files, which adapt every attention")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="the mini models with their own adapters")
    parser.add_argument("--results", type=Path, help="a JSON file for all figures")
    args = parser.parse_args()
    models = (args.models or ("mini-sd-v1-5,mini-sd3" if args.tiny else "sd-v1-5,sd3-medium")).split(",")
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            start = time.monotonic()
            rows = measure(model, args, Path(folder))
            print(f"{table(model, rows)}\n", flush=True)
            print(f"{model}: {time.monotonic() - start:.0f} s", file=sys.stderr)
            found[model] = dict(rows)
            if args.results:
                part = args.results.with_name(f".{args.results.name}")
                part.write_text(json.dumps(found, indent=1))
                os.replace(part, args.results)


if __name__ == "__main__":
    main()
