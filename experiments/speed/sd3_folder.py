#!/usr/bin/env python3
"""Makes a pipeline's folder out of the parts of Stable Diffusion 3, as `save_pretrained` of each writes them
(transformer, vae, text_encoder, text_encoder_2, text_encoder_3): adds model_index.json, the scheduler, CLIP's own
tokenizers (assets/clip) and, for T5, a tokenizer as large as the published one, with made-up tokens. To measure how long
a start takes without the published weights.

    python3 sd3_folder.py FOLDER
"""

import gzip
import json
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PARTS = {
    "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
    "text_encoder": ("transformers", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("transformers", "CLIPTextModelWithProjection"),
    "text_encoder_3": ("transformers", "T5EncoderModel"),
    "tokenizer": ("transformers", "CLIPTokenizer"),
    "tokenizer_2": ("transformers", "CLIPTokenizer"),
    "tokenizer_3": ("transformers", "T5TokenizerFast"),
    "transformer": ("diffusers", "SD3Transformer2DModel"),
    "vae": ("diffusers", "AutoencoderKL"),
}
T5_TOKENS = 32100


def write(file, content):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False), encoding="utf-8")


def clip(folder, pad):
    """The published vocabulary follows from its merges."""
    merges = gzip.decompress((REPOSITORY / "assets/clip/merges.txt.gz").read_bytes()).decode().splitlines()
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(byte) for byte in seen] + [chr(256 + i) for i in range(256 - len(seen))]
    ends = [letter + "</w>" for letter in letters]
    special = ["<|startoftext|>", "<|endoftext|>"]
    tokens = letters + ends + [merge.replace(" ", "", 1) for merge in merges] + special
    write(folder / "vocab.json", {token: i for i, token in enumerate(tokens)})
    write(folder / "merges.txt", "\n".join(["#version: 0.2", *merges]))
    write(folder / "tokenizer_config.json", {"model_max_length": 77, "pad_token": pad})


def t5(folder):
    """The recipe of a small T5 tokenizer; its tokens filled up to the published number."""
    recipe = json.loads((REPOSITORY / "tests/golden/sd3/like_sd35/tokenizer_3/tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = recipe["model"]["vocab"]
    vocabulary += [[f"▁token{i}", -20.0] for i in range(len(vocabulary), T5_TOKENS)]
    write(folder / "tokenizer.json", recipe)


def complete(folder):
    folder = Path(folder)
    scheduler = {"_class_name": PARTS["scheduler"][1], "num_train_timesteps": 1000, "shift": 3.0}
    write(folder / "scheduler/scheduler_config.json", scheduler)
    clip(folder / "tokenizer", "<|endoftext|>")
    clip(folder / "tokenizer_2", "!")
    t5(folder / "tokenizer_3")
    # Last: where it is, the folder is whole.
    write(folder / "model_index.json", {"_class_name": "StableDiffusion3Pipeline", **PARTS})


if __name__ == "__main__":
    complete(sys.argv[1])
