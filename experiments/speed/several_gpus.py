#!/usr/bin/env python3
"""What a second GPU brings, and whether results stay the same: style_ablation's drawing, `caption` of 1,000 pictures by
Phi-4 and `evaluate artfid` on 3 x 5,000 pictures, on one GPU and on several, compared byte for byte; `caption` with a
worker that is ended by `kill -9` in the middle; and single pictures, a half of guidance on each of two GPUs. The models have the real sizes and random weights, in the published
layouts; they are made first, with torch.

    python3 several_gpus.py --toolkit target/release/toolkit [--scratch DIR] [--devices cuda:all] [PART ...]
    python3 several_gpus.py --toolkit target/debug/toolkit --tiny       # the embedded models on the CPU

Parts: make, draw, caption, kill, evaluate, picture; all where none is named. `make` is done once a scratch folder. With
`--moments` the moments that `evaluate -v` tells go to standard error.
"""

import argparse
import csv
import json
import math
import os
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import sd3_folder

REPOSITORY = Path(__file__).resolve().parents[2]
MINI = REPOSITORY / "experiments/mini"
SOURCES = REPOSITORY / "src/models"
PARTS = ("make", "draw", "caption", "kill", "evaluate", "picture")


# --- Models -----------------------------------------------------------------------------------------------------------


def write_tensors(file, shapes, dtype):
    """Random tensors of these shapes as safetensors: scaled as trained weights are, norms at one, biases at zero."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = {torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]
    header, at = {}, 0
    for key, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[key] = {"dtype": name, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.parent.mkdir(parents=True, exist_ok=True)
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for key, shape in shapes.items():
            if key.endswith(".bias"):
                tensor = torch.zeros(shape, dtype=dtype)
            elif "norm" in key and len(shape) == 1:
                tensor = torch.ones(shape, dtype=dtype)
            else:
                fan_in = math.prod(shape[1:]) if len(shape) > 1 else shape[0]
                tensor = (torch.randn(shape, device=device) / math.sqrt(fan_in)).to(dtype).cpu()
            out.write(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())


def linear(shapes, name, outputs, inputs, bias=True):
    shapes[f"{name}.weight"] = (outputs, inputs)
    if bias:
        shapes[f"{name}.bias"] = (outputs,)


def norm(shapes, name, width, bias=True):
    shapes[f"{name}.weight"] = (width,)
    if bias:
        shapes[f"{name}.bias"] = (width,)


def conv(shapes, name, outputs, inputs, kernel):
    shapes[f"{name}.weight"] = (outputs, inputs, kernel, kernel)
    shapes[f"{name}.bias"] = (outputs,)


def clip_shapes(config):
    width, inner = config["hidden_size"], config["intermediate_size"]
    shapes = {
        "text_model.embeddings.position_embedding.weight": (77, width),
        "text_model.embeddings.token_embedding.weight": (config["vocab_size"], width),
    }
    for layer in range(config["num_hidden_layers"]):
        at = f"text_model.encoder.layers.{layer}"
        norm(shapes, f"{at}.layer_norm1", width)
        norm(shapes, f"{at}.layer_norm2", width)
        linear(shapes, f"{at}.mlp.fc1", inner, width)
        linear(shapes, f"{at}.mlp.fc2", width, inner)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(shapes, f"{at}.self_attn.{part}", width, width)
    norm(shapes, "text_model.final_layer_norm", width)
    linear(shapes, "text_projection", config["projection_dim"], width, bias=False)
    return shapes


def mmdit_shapes(config):
    width = config["num_attention_heads"] * config["attention_head_dim"]
    channels, patch, layers = config["in_channels"], config["patch_size"], config["num_layers"]
    shapes = {"pos_embed.pos_embed": (1, config["pos_embed_max_size"] ** 2, width)}
    conv(shapes, "pos_embed.proj", width, channels, patch)
    linear(shapes, "context_embedder", width, config["joint_attention_dim"])
    linear(shapes, "norm_out.linear", 2 * width, width)
    linear(shapes, "proj_out", patch * patch * config["out_channels"], width)
    for part, inputs in (("text_embedder", config["pooled_projection_dim"]), ("timestep_embedder", 256)):
        linear(shapes, f"time_text_embed.{part}.linear_1", width, inputs)
        linear(shapes, f"time_text_embed.{part}.linear_2", width, width)
    for layer in range(layers):
        at, last = f"transformer_blocks.{layer}", layer + 1 == layers
        parts = ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj"]
        for part in parts + ([] if last else ["to_add_out"]):
            linear(shapes, f"{at}.attn.{part}", width, width)
        for part in ["ff"] + ([] if last else ["ff_context"]):
            linear(shapes, f"{at}.{part}.net.0.proj", 4 * width, width)
            linear(shapes, f"{at}.{part}.net.2", width, 4 * width)
        linear(shapes, f"{at}.norm1.linear", 6 * width, width)
        linear(shapes, f"{at}.norm1_context.linear", (2 if last else 6) * width, width)
    return shapes


def vae_shapes(config):
    widths, layers, latent = config["block_out_channels"], config["layers_per_block"], config["latent_channels"]
    shapes = {}

    def resnet(at, inputs, outputs):
        norm(shapes, f"{at}.norm1", inputs)
        conv(shapes, f"{at}.conv1", outputs, inputs, 3)
        norm(shapes, f"{at}.norm2", outputs)
        conv(shapes, f"{at}.conv2", outputs, outputs, 3)
        if inputs != outputs:
            conv(shapes, f"{at}.conv_shortcut", outputs, inputs, 1)

    def middle(at, width):
        norm(shapes, f"{at}.attentions.0.group_norm", width)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            linear(shapes, f"{at}.attentions.0.{part}", width, width)
        resnet(f"{at}.resnets.0", width, width)
        resnet(f"{at}.resnets.1", width, width)

    conv(shapes, "encoder.conv_in", widths[0], config["in_channels"], 3)
    before = widths[0]
    for block, width in enumerate(widths):
        for layer in range(layers):
            resnet(f"encoder.down_blocks.{block}.resnets.{layer}", before if layer == 0 else width, width)
        if block + 1 < len(widths):
            conv(shapes, f"encoder.down_blocks.{block}.downsamplers.0.conv", width, width, 3)
        before = width
    middle("encoder.mid_block", widths[-1])
    norm(shapes, "encoder.conv_norm_out", widths[-1])
    conv(shapes, "encoder.conv_out", 2 * latent, widths[-1], 3)
    conv(shapes, "decoder.conv_in", widths[-1], latent, 3)
    middle("decoder.mid_block", widths[-1])
    before = widths[-1]
    for block, width in enumerate(reversed(widths)):
        for layer in range(layers + 1):
            resnet(f"decoder.up_blocks.{block}.resnets.{layer}", before if layer == 0 else width, width)
        if block + 1 < len(widths):
            conv(shapes, f"decoder.up_blocks.{block}.upsamplers.0.conv", width, width, 3)
        before = width
    norm(shapes, "decoder.conv_norm_out", widths[0])
    conv(shapes, "decoder.conv_out", config["out_channels"], widths[0], 3)
    return shapes


def make_sd3(folder, torch, configs):
    """Stable Diffusion 3 medium without T5: two CLIPs, the transformer, the autoencoder."""
    makers = {
        "transformer": (mmdit_shapes, "diffusion_pytorch_model"),
        "vae": (vae_shapes, "diffusion_pytorch_model"),
        "text_encoder": (clip_shapes, "model"),
        "text_encoder_2": (clip_shapes, "model"),
    }
    for part, (shapes, stem) in makers.items():
        sd3_folder.write(folder / part / "config.json", configs[part])
        write_tensors(folder / part / f"{stem}.safetensors", shapes(configs[part]), torch.float16)
    sd3_folder.complete(folder)
    shutil.rmtree(folder / "tokenizer_3")
    index = json.loads((folder / "model_index.json").read_text())
    for part in ("text_encoder_3", "tokenizer_3"):
        index[part] = [None, None]
    sd3_folder.write(folder / "model_index.json", index)


def phi4_shapes(config, vision):
    width, inner, rank = config["hidden_size"], config["intermediate_size"], config["vision_lora"]["r"]
    head = width // config["num_attention_heads"]
    rows = width + 2 * head * config["num_key_value_heads"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], width), "model.norm.weight": (width,)}
    for layer in range(config["num_hidden_layers"]):
        at = f"model.layers.{layer}"
        norm(shapes, f"{at}.input_layernorm", width, bias=False)
        norm(shapes, f"{at}.post_attention_layernorm", width, bias=False)
        parts = {"self_attn.qkv_proj": (rows, width), "self_attn.o_proj": (width, width)}
        parts |= {"mlp.gate_up_proj": (2 * inner, width), "mlp.down_proj": (width, inner)}
        for part, (outputs, inputs) in parts.items():
            linear(shapes, f"{at}.{part}.base_layer", outputs, inputs, bias=False)
            linear(shapes, f"{at}.{part}.lora_A.vision", rank, inputs, bias=False)
            linear(shapes, f"{at}.{part}.lora_B.vision", outputs, rank, bias=False)
    image = "model.embed_tokens_extend.image_embed"
    tower, wide, deep = f"{image}.img_processor", vision["hidden_size"], vision["intermediate_size"]
    conv(shapes, f"{tower}.embeddings.patch_embedding", wide, 3, 14)
    shapes[f"{tower}.embeddings.position_embedding.weight"] = (1024, wide)
    for layer in range(vision["num_hidden_layers"]):
        at = f"{tower}.encoder.layers.{layer}"
        norm(shapes, f"{at}.layer_norm1", wide)
        norm(shapes, f"{at}.layer_norm2", wide)
        linear(shapes, f"{at}.mlp.fc1", deep, wide)
        linear(shapes, f"{at}.mlp.fc2", wide, deep)
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            linear(shapes, f"{at}.self_attn.{part}", wide, wide)
    norm(shapes, f"{tower}.post_layernorm", wide)
    shapes[f"{tower}.head.probe"] = (1, 1, wide)
    shapes[f"{tower}.head.attention.in_proj_weight"] = (3 * wide, wide)
    shapes[f"{tower}.head.attention.in_proj_bias"] = (3 * wide,)
    linear(shapes, f"{tower}.head.attention.out_proj", wide, wide)
    norm(shapes, f"{tower}.head.layernorm", wide)
    linear(shapes, f"{tower}.head.mlp.fc1", deep, wide)
    linear(shapes, f"{tower}.head.mlp.fc2", wide, deep)
    linear(shapes, f"{image}.img_projection.0", width, wide)
    linear(shapes, f"{image}.img_projection.2", width, width)
    shapes[f"{image}.glb_GN"], shapes[f"{image}.sub_GN"] = (1, 1, wide), (1, 1, 1, wide)
    return shapes


VISION = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27}


def make_phi4(folder, torch, config, vision=VISION):
    """The original layout of the published checkpoint, with the tokenizer of the embedded one."""
    mini = MINI / "models/mini-phi-4-multimodal"
    folder.mkdir(parents=True, exist_ok=True)
    for file in mini.iterdir():
        if file.suffix != ".safetensors" and not file.name.endswith("index.json") and file.name != "config.json":
            shutil.copy(file, folder)
    own = json.loads((mini / "config.json").read_text())
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        config[key] = own[key]
    sd3_folder.write(folder / "config.json", config)
    write_tensors(folder / "model.safetensors", phi4_shapes(config, vision), torch.bfloat16)


def make_metric_nets(folder, torch):
    """art-Inception and AlexNet: the embedded ones have an eighth of the published channels and the same names."""
    folder.mkdir(parents=True, exist_ok=True)
    small = torch.load(MINI / "models/mini-art-inception/art_inception.pth")
    large = {}
    for key, tensor in small.items():
        shape = list(tensor.shape)
        if key.startswith("fc"):
            shape = [1000] + [8 * width for width in shape[1:]]  # as art-fid builds it
        else:
            shape = [8 * width if at < 2 and (at, width) != (1, 3) else width for at, width in enumerate(shape)]
        if "running_var" in key or key.endswith("bn.weight"):
            large[key] = torch.ones(shape)
        elif tensor.dim() > 1:
            large[key] = torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:]))
        else:
            large[key] = torch.zeros(shape, dtype=tensor.dtype)
    torch.save(large, folder / "art_inception.pth")
    widths, kernels = [64, 192, 384, 256, 256], [11, 5, 3, 3, 3]
    alex, heads, before = {}, {}, 3
    for at, (place, width, kernel) in enumerate(zip((0, 3, 6, 8, 10), widths, kernels)):
        fan_in = before * kernel * kernel
        alex[f"features.{place}.weight"] = torch.randn(width, before, kernel, kernel) * math.sqrt(2 / fan_in)
        alex[f"features.{place}.bias"] = torch.zeros(width)
        heads[f"lin{at}.model.1.weight"] = torch.rand(1, width, 1, 1) / width
        before = width
    torch.save(alex, folder / "alexnet.pth")
    torch.save(heads, folder / "alex.pth")


def make_models(folder):
    import torch

    torch.manual_seed(0)
    make_sd3(folder / "sd3", torch, json.loads((SOURCES / "diffusion/stable_diffusion_3/published.json").read_text()))
    config = (SOURCES / "captioners/phi4_multimodal/published_config.json").read_text()
    make_phi4(folder / "phi4", torch, json.loads(config))
    make_metric_nets(folder / "nets", torch)


# --- Pictures ---------------------------------------------------------------------------------------------------------


def make_pictures(folder, count, size, distinct=250):
    """Pictures of soft colours as JPEG, or as PNG where there is no Pillow; their contents repeat."""
    import numpy

    folder.mkdir(parents=True, exist_ok=True)
    rng, files = numpy.random.default_rng(len(folder.name)), []
    for _ in range(min(distinct, count)):
        coarse = rng.integers(0, 256, (9, 9, 3), dtype=numpy.uint8)
        pixels = coarse.repeat(-(-size[1] // 9), 0).repeat(-(-size[0] // 9), 1)[: size[1], : size[0]]
        files.append(encoded(numpy.ascontiguousarray(pixels)))
    for at in range(count):
        suffix, data = files[at % len(files)]
        (folder / f"{at:05}{suffix}").write_bytes(data)


def encoded(pixels):
    import io
    import zlib

    try:
        from PIL import Image
    except ImportError:
        height, width, _ = pixels.shape
        lines = b"".join(b"\0" + pixels[y].tobytes() for y in range(height))

        def chunk(name, data):
            return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

        head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        return ".png", b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(lines, 1)) + chunk(b"IEND", b"")
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=90)
    return ".jpg", out.getvalue()


# --- Measuring --------------------------------------------------------------------------------------------------------


class Watched:
    """A command whose progress is watched: how many things are done at which moment."""

    def __init__(self, command, count, disturb=None):
        self.start, self.moments, self.lines = time.monotonic(), [], []
        # As the launcher `./toolkit` has it; without that the program starts itself again.
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "passive"}
        process = subprocess.Popen(
            [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        errors = []
        readers = [
            threading.Thread(target=lambda: self.lines.extend(self.said(process.stdout))),
            threading.Thread(target=lambda: errors.extend(process.stderr)),
        ]
        for reader in readers:
            reader.start()
        done, disturbed = 0, False
        while process.poll() is None:
            now = count(self)
            if now > done:
                self.moments.append((time.monotonic(), now))
                done = now
            if disturb and not disturbed and done:
                disturbed = disturb(process)
            time.sleep(0.01)
        self.wall = time.monotonic() - self.start
        for reader in readers:
            reader.join()
        if process.returncode:
            raise SystemExit(f"{' '.join(map(str, command))}: status {process.returncode}\n{''.join(errors[-30:])}")
        self.said_of_moments = [line for line in errors if re.search(r"\d\.\d\d s: ", line)]

    @staticmethod
    def said(pipe):
        yield from pipe

    def rate(self):
        """Things a second between the first that were done and the last."""
        if len(self.moments) < 2:
            return None
        (begin, first), (end, last) = self.moments[0], self.moments[-1]
        return (last - first) / (end - begin)


def workers_of(parent):
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            if stat.rsplit(")", 1)[1].split()[1] == str(parent):
                found.append(int(entry.name))
    return found


def kill_one(process):
    workers = workers_of(process.pid)
    if not workers:
        return False
    os.kill(random.choice(workers), signal.SIGKILL)
    return True


def items(run):
    """The rows of a run without its times, and its pictures."""
    with open(run / "items.csv", newline="", encoding="utf-8") as file:
        rows = [{key: value for key, value in row.items() if not key.startswith("seconds")} for row in csv.DictReader(file)]
    pictures = {file.relative_to(run).as_posix(): file.read_bytes() for file in sorted(run.glob("images/*/*.png"))}
    return rows, pictures, (run / "results.csv").read_text().count("\n")


class Measurement:
    def __init__(self, options):
        self.toolkit, self.scratch, self.tiny = options.toolkit, options.scratch, options.tiny
        self.moments, self.pictures = options.moments, options.pictures
        self.one, self.several = ("cpu", "cpu,cpu") if self.tiny else ("cuda:0", options.devices)
        self.table = []

    def add(self, what, one, several, same):
        self.table.append((what, one, several, same))
        print(f"{what}: done", file=sys.stderr)

    def make(self):
        start = time.monotonic()
        marker = self.scratch / "whole"
        if not marker.exists():
            counts = (4, 6, 8) if self.tiny else (32, 1000, self.pictures)
            make_pictures(self.scratch / "photos", counts[0], (512, 512))
            make_pictures(self.scratch / "to_describe", counts[1], (448, 448))
            for name in ("content", "style", "stylized"):
                make_pictures(self.scratch / name, counts[2], (224, 224))
            if not self.tiny and not (self.scratch / "models").exists():
                make_models(self.scratch / "models")
            marker.touch()
        print(f"made in {time.monotonic() - start:.0f} s", file=sys.stderr)

    def model(self, name):
        return {"sd3": "mini-sd3", "phi4": "mini-phi-4-multimodal"}[name] if self.tiny else self.scratch / "models" / name

    def nets(self):
        if self.tiny:
            return "mini-art-inception", "mini-lpips", "mini-lpips"
        return tuple(self.scratch / "models/nets" / file for file in ("art_inception.pth", "alexnet.pth", "alex.pth"))

    def draw(self):
        inception, backbone, heads = self.nets()
        sets = {
            "photos": self.scratch / "photos",
            "style_pictures": self.scratch / "photos",
            "captioner": self.model("phi4"),
            "generator": self.model("sd3"),
            "inception": inception,
            "lpips_backbone": backbone,
            "lpips_linear": heads,
            "max_new_tokens": 16,
        }
        # Not the default metrics: their networks would have to be made too.
        sets |= {"steps": 2} if self.tiny else {"metrics": '["artfid", "fid", "lpips", "kid"]'}
        runs, watched = [], []
        for device in (self.one, self.several):
            run = self.scratch / f"run-{device.replace(':', '')}"
            shutil.rmtree(run, ignore_errors=True)
            command = [self.toolkit, "experiment", "style_ablation", "--profile", "mini" if self.tiny else "full"]
            command += ["--device", device, "--out", run]
            for key, value in sets.items():
                command += ["--set", f"{key}={value}"]

            def count(_, file=run / "items.csv"):
                try:
                    return max(0, file.read_bytes().count(b"\n") - 1)
                except OSError:
                    return 0

            watched.append(Watched(command, count))
            runs.append(items(run))
        self.add("style_ablation, pictures/s while drawing", watched[0].rate(), watched[1].rate(), runs[0] == runs[1])
        self.add("style_ablation, whole command, s", watched[0].wall, watched[1].wall, runs[0] == runs[1])

    def captions(self, device, disturb=None):
        command = [self.toolkit, "caption", "--model", self.model("phi4"), "--max-new-tokens", "8", "--device", device]
        command += ["--batch-size", "2"] if self.tiny else []
        return Watched([*command, self.scratch / "to_describe"], lambda watched: len(watched.lines), disturb)

    def caption(self):
        one, several = self.captions(self.one), self.captions(self.several)
        (self.scratch / "captions.txt").write_text("".join(one.lines))
        same = one.lines == several.lines
        self.add("caption, pictures/s once loaded", one.rate(), several.rate(), same)
        self.add("caption, whole command, s", one.wall, several.wall, same)

    def kill(self):
        """Against what `caption` has left of one device."""
        before = (self.scratch / "captions.txt").read_text() if (self.scratch / "captions.txt").exists() else None
        killed = self.captions(self.several, kill_one)
        self.add("caption with a worker killed, s", None, killed.wall, None if before is None else "".join(killed.lines) == before)

    def evaluate(self):
        """On one device and on several, in float32 and in TensorFloat-32."""
        self.artfids = {}
        for options in ([], ["--tf32"]):
            self.evaluate_with(options)
        for name, value in self.artfids.items():
            print(f"ArtFID {name}: {value}")
        plain, rounded = (self.artfids[name] for name in ("in float32", "--tf32"))
        print(f"difference: {rounded - plain:+.3g}, {100 * (rounded / plain - 1):+.2g} %")

    def evaluate_with(self, options):
        inception, backbone, heads = self.nets()
        folders = [part for name in ("content", "style", "stylized") for part in (f"--{name}", self.scratch / name)]
        nets = ["--inception", inception, "--lpips-backbone", backbone, "--lpips-linear", heads]
        devices = (self.one, self.several)
        name = " ".join(options) or "in float32"
        command = [self.toolkit, "-v", "evaluate", "artfid", *folders, *nets, *options, "--format", "json", "--device"]
        # In turn; the first pass reads the files from the disk.
        passes = [[Watched([*command, device], lambda _: 0) for device in devices] for _ in range(1 if self.tiny else 6)]
        one, several = ([watched[at] for watched in passes[0 if self.tiny else 1 :]] for at in (0, 1))
        if self.moments:
            for device, watched in zip(devices, (one, several)):
                sys.stderr.writelines([f"\n{name}, {device}:\n", *watched[-1].said_of_moments])
        same = all(watched.lines == one[0].lines for watched in one + several)
        walls = [statistics.median(watched.wall for watched in all) for all in (one, several)]
        self.artfids[name] = json.loads("".join(one[0].lines))["artfid"]
        self.add(f"evaluate artfid {name}, whole command, median s", *walls, same)

    def picture(self):
        """One picture, or one batch, on one GPU and with a half of guidance on each of two."""
        one, two = ("cpu", "cpu,cpu") if self.tiny else ("cuda:0", "cuda:0,1")
        cases = [("mini-sd3", [1], []), ("mini-sd-v1-5", [1], ["--strength", "0.6"])]
        if not self.tiny:
            cases = [("sd3-medium", [1, 4], []), ("sd-v1-5", [1, 8], []), ("sd-v1-5", [1, 8], ["--strength", "0.6"])]
        for model, batches, more in cases:
            for batch in batches:
                command = [self.toolkit, "bench", model, "--batch-size", batch, "--format", "json", *more]
                command += ["--steps", 2, "--repeat", 1] if self.tiny else ["--random-weights"]
                run = lambda device: json.loads("".join(Watched([*command, "--device", device], lambda _: 0).lines))
                figures = [run(device) for device in (one, two)]
                for key in ("seconds_per_image", "step_seconds"):
                    name = f"bench {model} {' '.join(more)}, {batch} at a time, {key}"
                    self.add(name, figures[0][key], figures[1][key], None)

    def show(self):
        number = lambda value: "-" if value is None else f"{value:.4g}"
        verdict = {True: "yes", False: "NO", None: "-"}
        print(f"\n| what | {self.one} | {self.several} | factor | equal |\n|---|---|---|---|---|")
        for what, one, several, same in self.table:
            factor = None
            if one and several:
                factor = several / one if "pictures/s" in what else one / several
            print(f"| {what} | {number(one)} | {number(several)} | {number(factor)} | {verdict[same]} |")
        return all(same is not False for *_, same in self.table)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--toolkit", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, default=Path("several-gpus"))
    parser.add_argument("--devices", default="cuda:all")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--moments", action="store_true")
    parser.add_argument("--pictures", type=int, default=5000, help="that `evaluate` finds in each folder")
    parser.add_argument("parts", nargs="*", metavar="PART")
    options = parser.parse_args()
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"no part is called {', '.join(sorted(unknown))}: choose from {', '.join(PARTS)}")
    options.scratch, options.toolkit = options.scratch.resolve(), options.toolkit.resolve()
    options.scratch.mkdir(parents=True, exist_ok=True)
    measurement = Measurement(options)
    if options.parts != ["picture"]:
        measurement.make()
    try:
        for part in PARTS[1:]:
            if part in options.parts or not options.parts:
                getattr(measurement, part)()
    finally:
        same = measurement.show()
    sys.exit(0 if same else 1)


if __name__ == "__main__":
    main()
