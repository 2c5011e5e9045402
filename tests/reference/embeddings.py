#!/usr/bin/env python3
"""Golden values of CLIP, CSD and DINOv2, and of the metrics in their features.

    python3 tests/reference/embeddings.py              writes tests/golden/embeddings/

From transformers 5.24 (CLIPModel, Dinov2Model and their processors with torchvision 0.26), and openai-clip 1.0.1, whose
VisionTransformer is the backbone of CSD. Checkpoints are tiny, with random weights, in the published layouts: clip_a and
dinov2_a as the first releases saved them, clip_b and dinov2_b as today's library does, csd.pth as CSD's training wrote it.
CLIPScore and RefCLIPScore are those of Hessel et al. 2021, CMMD that of Jayasumana et al. 2024, by their definitions.
"""
import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from clip.model import VisionTransformer
from PIL import Image
from pytorch_fid.fid_score import calculate_frechet_distance
from safetensors.torch import save_file
from tiny_tokenizers import CORPUS, clip as clip_tokenizer
from torchvision import transforms
from transformers import (
    BitImageProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
)

GOLDEN = Path(__file__).parent.parent / "golden"
OUT = GOLDEN / "embeddings"
FILES = ["blip/0.png", "blip/1.png", "blip/2.png", "photo/dark.jpg", "photo/side.jpg"]
LONG = " ".join(CORPUS)
TEXTS = [CORPUS[0], CORPUS[2], "a cat", "", "Pencil sketch!", LONG]
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def picture(name):
    return Image.open(GOLDEN / name).convert("RGB")


def folder(name):
    return [Image.open(file).convert("RGB") for file in sorted((GOLDEN / "artfid" / name).iterdir())]


def randomize(model, seed, scale=0.25):
    """Numbers that half precision holds, large enough that every part matters."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        is_norm = tensor.ndim == 1 and name.endswith("weight") or "lambda" in name
        tensor.copy_(((1 + 0.2 * noise) if is_norm else noise * scale).half().float())
    return model.eval()


# ---- CLIP ----


def clip(name, early, seed):
    out = OUT / name
    clip_tokenizer(out)
    tokenizer = CLIPTokenizer.from_pretrained(out)
    text = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2 if early else 1, num_attention_heads=4,
                vocab_size=len(tokenizer), max_position_embeddings=77, eos_token_id=2 if early else tokenizer.eos_token_id)
    vision = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=2 if early else 1, num_attention_heads=3, image_size=32, patch_size=8)
    if not early:
        text["hidden_act"] = vision["hidden_act"] = "gelu"
    model = randomize(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)), seed)
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    if early:
        config = {
            "architectures": ["CLIPModel"], "initializer_factor": 1.0, "logit_scale_init_value": 2.6592, "model_type": "clip",
            "projection_dim": 16, "text_config": text | {"model_type": "clip_text_model", "projection_dim": 512},
            "text_config_dict": None, "vision_config": vision | {"model_type": "clip_vision_model", "projection_dim": 512},
            "vision_config_dict": None, "torch_dtype": "float32", "transformers_version": None,
        }
        (out / "config.json").write_text(json.dumps(config, indent=2))
        state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
        for part, count in [("text", 77), ("vision", 17)]:
            state[f"{part}_model.embeddings.position_ids"] = torch.arange(count)[None]
        torch.save(state, out / "pytorch_model.bin")
        early_processor = {
            "crop_size": 32, "do_center_crop": True, "do_normalize": True, "do_resize": True,
            "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": MEAN, "image_std": STD, "resample": 3, "size": 32,
        }
        (out / "preprocessor_config.json").write_text(json.dumps(early_processor, indent=2))
    else:
        model.half().save_pretrained(out)
        model.float()
        processor.save_pretrained(out)
        (out / "vocab.json").unlink(), (out / "merges.txt").unlink()
        tokenizer.save_pretrained(out)
    return model, processor, tokenizer


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def of(output):
    return output if isinstance(output, torch.Tensor) else output.pooler_output


def of_pictures(model, processor, pictures):
    return unit(torch.cat([of(model.get_image_features(**processor(images=p, return_tensors="pt"))) for p in pictures]))


def of_texts(model, tokenizer, texts):
    return unit(torch.cat([of(model.get_text_features(**tokenizer([t], truncation=True, max_length=77, return_tensors="pt"))) for t in texts]))


def clip_scores(model, processor, tokenizer):
    """CLIPScore = 2.5 · max(cos, 0); RefCLIPScore = its harmonic mean with the nearest reference."""
    captions = [CORPUS[1], CORPUS[0], "a cat", LONG, "red"]
    references = [[CORPUS[2], CORPUS[1]], ["a cat", "a dog", CORPUS[0]], [CORPUS[4]], [CORPUS[5], "a hat"], ["blue", "green"]]
    prefixed = lambda texts: of_texts(model, tokenizer, ["A photo depicts " + text for text in texts])
    seen, said = of_pictures(model, processor, [picture(file) for file in FILES]), prefixed(captions)
    clip_s = 2.5 * (seen * said).sum(-1).clamp_min(0)
    nearest = torch.stack([(prefixed(own) @ one).max() for own, one in zip(references, said)]).clamp_min(0)
    ref = torch.where(clip_s + nearest > 0, 2 * clip_s * nearest / (clip_s + nearest), torch.zeros(()))
    ids = [Path(file).stem for file in FILES]
    return {
        "files": FILES, "captions": dict(zip(ids, captions)), "references": dict(zip(ids, references)),
        "clip_score": dict(zip(ids, clip_s.tolist())), "ref_clip_score": dict(zip(ids, ref.tolist())),
    }


def cmmd(a, b):
    """1000 · MMD² with the kernel exp(-|x - y|² / (2 · 10²)), every pair counted, also of a picture with itself."""
    a, b = a.double().numpy(), b.double().numpy()
    mean = lambda x, y: np.mean([[math.exp(-((p - q) ** 2).sum() / 200) for q in y] for p in x])
    return 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))


# ---- CSD ----


class Csd(torch.nn.Module):
    """https://github.com/learn2phoenix/CSD, CSD/model.py: the backbone without its projection, and two heads."""

    def __init__(self, layers, width, seed):
        super().__init__()
        self.backbone = VisionTransformer(input_resolution=32, patch_size=8, width=width, layers=layers, heads=width // 64, output_dim=20)
        self.backbone.proj = None
        self.last_layer_style = torch.nn.Parameter(torch.empty(width, 20))
        self.last_layer_content = torch.nn.Parameter(torch.empty(width, 20))
        randomize(self, seed, 0.15)

    def forward(self, x):
        return unit(self.backbone(x) @ self.last_layer_style)


PREPARED = transforms.Compose([
    transforms.Resize(32, interpolation=transforms.InterpolationMode.BICUBIC), transforms.CenterCrop(32),
    transforms.ToTensor(), transforms.Normalize(MEAN, STD),
])


def csd(out):
    """The published file holds more than weights; one layer of one head, so that it is small."""
    small = Csd(1, 64, 31)
    state = {f"module.{name}": value.half() for name, value in small.state_dict().items()}
    kept = {
        "model_state_dict": state, "epoch": 3, "args": argparse.Namespace(lr=0.003, arch="vit_large", lam=[1, 2]),
        "optimizer": {"state": {0: {"momentum_buffer": torch.ones(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "best_acc": np.float64(0.5),
    }
    torch.save(kept, OUT / "csd.pth")
    styles = lambda net, pictures: net(torch.stack([PREPARED(p) for p in pictures]))
    out["csd_small"] = styles(small, [picture(file) for file in FILES])
    stylized, style = styles(small, folder("stylized")), styles(small, folder("style"))
    out["csd"] = (stylized @ style.T).mean(1)
    # Two layers of two heads; the test makes the same numbers.
    large = Csd(2, 128, 32)
    names = {}
    for name, value in large.state_dict().items():
        value.copy_(wave(name, value))
        names[name] = list(value.shape)
    out["csd_large"] = styles(large, [picture(file) for file in FILES])
    (OUT / "csd_shapes.json").write_text(json.dumps(names, indent=0))


def wave(name, like):
    """Numbers that the test computes too: a sine in float64, rounded to float32."""
    phase, index = sum(name.encode()) % 97, torch.arange(like.numel(), dtype=torch.float64)
    values = torch.sin(index * 1.7 + phase) * 0.15
    is_norm = like.ndim == 1 and name.endswith("weight")
    return (values + 1 if is_norm else values).float().reshape(like.shape)


# ---- DINOv2 ----


def dinov2(name, early, seed):
    out = OUT / name
    config = Dinov2Config(hidden_size=24, num_hidden_layers=2, num_attention_heads=4, mlp_ratio=2, image_size=24 if early else 16,
                          patch_size=4, use_swiglu_ffn=not early)
    model = randomize(Dinov2Model(config), seed)
    processor = BitImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 16, "width": 16}, do_convert_rgb=True, resample=3,
                                  image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    model.half().save_pretrained(out)
    model.float()
    processor.save_pretrained(out)
    return model, lambda pictures: torch.cat([model(**processor(images=p, return_tensors="pt")).last_hidden_state[:, 0] for p in pictures])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    out, number = {}, lambda value: torch.tensor([value], dtype=torch.float64)
    with torch.no_grad():
        for name, early, seed in [("clip_a", True, 16), ("clip_b", False, 12)]:
            model, processor, tokenizer = clip(name, early, seed)
            out[f"{name}_pictures"] = of_pictures(model, processor, [picture(file) for file in FILES])
            out[f"{name}_texts"] = of_texts(model, tokenizer, TEXTS)
            if early:
                scores = clip_scores(model, processor, tokenizer) | {"texts": TEXTS}
                (OUT / "clip_score.json").write_text(json.dumps(scores, indent=1, ensure_ascii=False) + "\n")
                sets = {part: of_pictures(model, processor, folder(part)) for part in ["content", "style", "stylized"]}
                out["cmmd"] = number(cmmd(sets["stylized"], sets["style"]))
                out["clip_image"] = (sets["stylized"] * sets["content"]).sum(-1)
        csd(out)
        for name, early, seed in [("dinov2_a", True, 21), ("dinov2_b", False, 22)]:
            _, described = dinov2(name, early, seed)
            out[f"{name}_pictures"] = described([picture(file) for file in FILES])
            if early:
                sets = {part: described(folder(part)) for part in ["content", "style", "stylized"]}
                out["dino"] = (unit(sets["stylized"]) * unit(sets["content"])).sum(-1)
                moments = lambda rows: (rows.double().numpy().mean(0), np.cov(rows.double().numpy(), rowvar=False))
                out["fd_dinov2"] = number(calculate_frechet_distance(*moments(sets["stylized"]), *moments(sets["style"])))
    save_file({name: value.contiguous() for name, value in out.items()}, OUT / "values.safetensors")
    for name in ["cmmd", "fd_dinov2", "csd", "dino", "clip_image", "clip_a_texts"]:
        print(name, out[name].flatten()[:6].tolist())
    print(scores["clip_score"], scores["ref_clip_score"])


if __name__ == "__main__":
    main()
