#!/usr/bin/env python3
"""Models of the published sizes with random weights, and JPEGs, for whole processes (processes.py): the toolkit and its
peers read the same files but for Phi-4, which transformers reads in a layout of its own (without the LoRA of pictures,
which the toolkit merges into its weights: so much less work).

    python3 whole_models.py ROOT PART ... [--tiny]        phi4, phi4-peer, blip, sd3, nets; photos-COUNT
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import nets
import several_gpus
from several_gpus import MINI, SOURCES
from timing import build, number_type

PHI4_TOKENIZER = MINI / "models/mini-phi-4-multimodal"
BLIP_TOKENIZER = MINI / "models/mini-blip"
# Words of BLIP's vocabulary before the two that begin texts.
BLIP_WORDS = 30522
PHOTO = (640, 480)


def phi4(folder, tiny):
    import torch

    if tiny:
        shutil.copytree(PHI4_TOKENIZER, folder)
        return
    config = json.loads((SOURCES / "captioners/phi4_multimodal/published_config.json").read_text())
    several_gpus.make_phi4(folder, torch, config)


def phi4_peer(folder, tiny):
    """As transformers saves it, with the tokenizer of the embedded model."""
    import torch

    config, new = nets.phi4(tiny)
    if tiny:
        config.hidden_size, config.intermediate_size, config.vocab_size = 256, 512, 2048
        config.num_attention_heads, config.num_key_value_heads = 2, 1
        config.vision_config.hidden_size, config.vision_config.intermediate_size = 64, 128
        config.vision_config.num_attention_heads = 4
        config.audio_config.hidden_size = 64
        config.audio_config.intermediate_size = 64
    own = json.loads((PHI4_TOKENIZER / "config.json").read_text())
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(config, key, own[key])
    ids = {token["content"]: token["id"] for token in json.loads((PHI4_TOKENIZER / "tokenizer.json").read_text())["added_tokens"]}
    config.vision_config.image_token_id = ids["<|endoftext10|>"]
    config.audio_config.audio_token_id = ids["<|endoftext11|>"]
    build(new, number_type(torch.bfloat16)).save_pretrained(folder)
    shutil.copy(PHI4_TOKENIZER / "tokenizer.json", folder)


def blip(folder, tiny):
    """BLIP-base as transformers saves it; its words are those of the embedded model and made-up ones."""
    import torch

    if tiny:
        shutil.copytree(BLIP_TOKENIZER, folder)
        return
    build(nets.blip("base"), number_type(torch.float16)).save_pretrained(folder)
    known = (BLIP_TOKENIZER / "vocab.txt").read_text(encoding="utf-8").splitlines()
    words = known + [f"word{at}" for at in range(len(known), BLIP_WORDS)]
    # [SEP] ends a text: where transformers looks for it.
    at = words.index("[SEP]")
    words[at], words[102] = words[102], words[at]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(BLIP_TOKENIZER / name, folder)
    preprocessor = json.loads((BLIP_TOKENIZER / "preprocessor_config.json").read_text())
    preprocessor["size"] = {"height": 384, "width": 384}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def sd3(folder, tiny):
    import torch

    if tiny:
        shutil.copytree(MINI / "models/mini-sd3", folder)
        return
    several_gpus.make_sd3(folder, torch, json.loads((SOURCES / "diffusion/stable_diffusion_3/published.json").read_text()))


def metric_nets(folder, tiny):
    """Of the published size in a trial too: art-fid builds no other."""
    import torch

    several_gpus.make_metric_nets(folder, torch)


MAKERS = {"phi4": phi4, "phi4-peer": phi4_peer, "blip": blip, "sd3": sd3, "nets": metric_nets}


def make(root, name, tiny):
    """Once: a folder that was not finished is made again."""
    folder, part = root / name, root / f"{name}.part"
    if folder.exists():
        return
    shutil.rmtree(part, ignore_errors=True)
    if name.startswith("photos-"):
        several_gpus.make_pictures(part, int(name.partition("-")[2]), PHOTO, distinct=100)
    else:
        import torch

        torch.manual_seed(0)
        MAKERS[name](part, tiny)
    part.rename(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path)
    parser.add_argument("parts", nargs="+", metavar="PART")
    parser.add_argument("--tiny", action="store_true", help="small ones, for a trial")
    options = parser.parse_args()
    options.root.mkdir(parents=True, exist_ok=True)
    for name in options.parts:
        if name not in MAKERS and not name.startswith("photos-"):
            parser.error(f"nothing is called {name}: {', '.join(MAKERS)}, photos-COUNT")
        make(options.root, name, options.tiny)


if __name__ == "__main__":
    sys.exit(main())
