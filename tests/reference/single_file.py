"""Pipelines in one file with the original names, made of tiny pipelines in diffusers' layout: tests/golden/single_file/.

Each file is checked here: what diffusers' own conversion makes of it are the tensors of the folder, to the last bit.
Two stand for folders of tests/golden/sd15 and sd3 (run sd15.py and sd3.py first); `two_layers` has no folder, only the
picture that diffusers draws with it.
"""

import gzip
import json
import re
import shutil
import sys
import tempfile
import types
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline
from diffusers.loaders import single_file_utils as diffusers_names
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from transformers.convert_slow_tokenizer import bytes_to_unicode

import sd15
import tiny_tokenizers
from sd3 import PROMPTS, randomize

GOLDEN = Path(__file__).parent.parent / "golden"
OUT = GOLDEN / "single_file"
Tensors = dict[str, torch.Tensor]


def swap_prefixes(key: str, names: dict[str, str]) -> str:
    for new, old in names.items():
        if key.startswith(new):
            return old + key[len(new) :]
    return key


RESNET = {"norm1.": "in_layers.0.", "conv1.": "in_layers.2.", "time_emb_proj.": "emb_layers.1.", "norm2.": "out_layers.0.", "conv2.": "out_layers.3.", "conv_shortcut.": "skip_connection."}
UNET = {"time_embedding.linear_1.": "time_embed.0.", "time_embedding.linear_2.": "time_embed.2.", "conv_in.": "input_blocks.0.0.", "conv_norm_out.": "out.0.", "conv_out.": "out.2.", "mid_block.attentions.0.": "middle_block.1."}


def unet(tensors: Tensors, layers: int) -> Tensors:
    """The original numbers the modules of each half in a row: `layers` and a sampler for each size."""
    out = {}
    for key, value in tensors.items():
        if match := re.match(r"mid_block\.resnets\.(\d)\.(.*)", key):
            name = f"middle_block.{2 * int(match[1])}.{swap_prefixes(match[2], RESNET)}"
        elif match := re.match(r"down_blocks\.(\d)\.(resnets|attentions|downsamplers)\.(\d)\.(.*)", key):
            size, kind, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
            number = 1 + size * (layers + 1) + (layers if kind == "downsamplers" else layer)
            inner = {"resnets": f"0.{swap_prefixes(rest, RESNET)}", "attentions": f"1.{rest}", "downsamplers": f"0.{rest.replace('conv.', 'op.')}"}
            name = f"input_blocks.{number}.{inner[kind]}"
        elif match := re.match(r"up_blocks\.(\d)\.(resnets|attentions|upsamplers)\.(\d)\.(.*)", key):
            size, kind, layer, rest = int(match[1]), match[2], int(match[3]), match[4]
            number = size * (layers + 1) + (layers if kind == "upsamplers" else layer)
            after = 2 if any(k.startswith(f"up_blocks.{size}.attentions.") for k in tensors) else 1
            inner = {"resnets": f"0.{swap_prefixes(rest, RESNET)}", "attentions": f"1.{rest}", "upsamplers": f"{after}.{rest}"}
            name = f"output_blocks.{number}.{inner[kind]}"
        else:
            name = swap_prefixes(key, UNET)
        out[name] = value
    return out


ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out", "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}


def vae(tensors: Tensors, sizes: int) -> Tensors:
    out = {}
    for key, value in tensors.items():
        if match := re.match(r"(.*)mid_block\.attentions\.0\.(.*)\.(weight|bias)", key):
            name = f"{match[1]}mid.attn_1.{ATTENTION[match[2]]}.{match[3]}"
            value = value[:, :, None, None] if value.dim() == 2 else value
        else:
            name = re.sub(r"mid_block\.resnets\.(\d)\.", lambda m: f"mid.block_{int(m[1]) + 1}.", key)
            name = re.sub(r"down_blocks\.(\d)\.resnets\.", r"down.\1.block.", name)
            name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0\.", r"down.\1.downsample.", name)
            name = re.sub(r"up_blocks\.(\d)\.resnets\.", lambda m: f"up.{sizes - 1 - int(m[1])}.block.", name)
            name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0\.", lambda m: f"up.{sizes - 1 - int(m[1])}.upsample.", name)
            name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        out[name] = value
    return out


SD3 = {"pos_embed.pos_embed": "pos_embed", "pos_embed.proj.": "x_embedder.proj.", "time_text_embed.timestep_embedder.linear_1.": "t_embedder.mlp.0.", "time_text_embed.timestep_embedder.linear_2.": "t_embedder.mlp.2.", "time_text_embed.text_embedder.linear_1.": "y_embedder.mlp.0.", "time_text_embed.text_embedder.linear_2.": "y_embedder.mlp.2.", "proj_out.": "final_layer.linear."}
SD3_BLOCK = {
    "attn.to_out.0.": "x_block.attn.proj.", "attn.to_add_out.": "context_block.attn.proj.", "attn2.to_out.0.": "x_block.attn2.proj.",
    "attn.norm_q.": "x_block.attn.ln_q.", "attn.norm_k.": "x_block.attn.ln_k.", "attn2.norm_q.": "x_block.attn2.ln_q.", "attn2.norm_k.": "x_block.attn2.ln_k.",
    "attn.norm_added_q.": "context_block.attn.ln_q.", "attn.norm_added_k.": "context_block.attn.ln_k.",
    "norm1.linear.": "x_block.adaLN_modulation.1.", "norm1_context.linear.": "context_block.adaLN_modulation.1.",
    "ff.net.0.proj.": "x_block.mlp.fc1.", "ff.net.2.": "x_block.mlp.fc2.", "ff_context.net.0.proj.": "context_block.mlp.fc1.", "ff_context.net.2.": "context_block.mlp.fc2.",
}
QKV = {"x_block.attn": ["attn.to_q", "attn.to_k", "attn.to_v"], "context_block.attn": ["attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"], "x_block.attn2": ["attn2.to_q", "attn2.to_k", "attn2.to_v"]}


def halves_swapped(value: torch.Tensor) -> torch.Tensor:
    return torch.cat(value.chunk(2)[::-1])


def transformer(tensors: Tensors) -> Tensors:
    left, out = dict(tensors), {}
    last = max(int(key.split(".")[1]) for key in tensors if key.startswith("transformer_blocks."))
    for block in range(last + 1):
        for name, parts in QKV.items():
            for kind in ("weight", "bias"):
                keys = [f"transformer_blocks.{block}.{part}.{kind}" for part in parts]
                if keys[0] in left:
                    out[f"joint_blocks.{block}.{name}.qkv.{kind}"] = torch.cat([left.pop(key) for key in keys])
    for key, value in left.items():
        if match := re.match(r"transformer_blocks\.(\d+)\.(.*)", key):
            name = f"joint_blocks.{match[1]}.{swap_prefixes(match[2], SD3_BLOCK)}"
            value = halves_swapped(value) if int(match[1]) == last and "norm1_context" in key else value
        elif key.startswith("norm_out.linear."):
            name, value = swap_prefixes(key, {"norm_out.linear.": "final_layer.adaLN_modulation.1."}), halves_swapped(value)
        else:
            name = swap_prefixes(key, SD3)
        out[name] = value
    return out


def text_model(tensors: Tensors) -> Tensors:
    return {key if key.startswith(("text_", "shared", "encoder.block", "encoder.final")) else f"text_model.{key}": value for key, value in tensors.items()}


def under(prefix: str, tensors: Tensors) -> Tensors:
    return {f"{prefix}.{key}": value.contiguous() for key, value in tensors.items()}


def same(ours: Tensors, theirs: Tensors) -> None:
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def new_attention_names(tensors: Tensors) -> Tensors:
    names = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    return {re.sub(r"(mid_block\.attentions\.0\.)(query|key|value|proj_attn)", lambda m: m[1] + names[m[2]], key): value for key, value in tensors.items()}


def version_1(parts: dict[str, Tensors], configs: dict[str, dict]) -> Tensors:
    """The whole pipeline under the original names, checked against diffusers' conversion."""
    layers, sizes = configs["unet"]["layers_per_block"], len(configs["vae"]["block_out_channels"])
    whole = {
        **under("model.diffusion_model", unet(parts["unet"], layers)),
        **under("first_stage_model", vae(parts["vae"], sizes)),
        **under("cond_stage_model.transformer", text_model(parts["text_encoder"])),
    }
    same(diffusers_names.convert_ldm_unet_checkpoint(dict(whole), configs["unet"]), parts["unet"])
    same(diffusers_names.convert_ldm_vae_checkpoint(dict(whole), configs["vae"]), new_attention_names(parts["vae"]))
    same(diffusers_names.convert_ldm_clip_checkpoint(dict(whole)), text_model(parts["text_encoder"]))
    return whole


def version_3(parts: dict[str, Tensors], configs: dict[str, dict]) -> Tensors:
    whole = {**under("model.diffusion_model", transformer(parts["transformer"])), **under("first_stage_model", vae(parts["vae"], len(configs["vae"]["block_out_channels"])))}
    encoders = {"text_encoder": "clip_l", "text_encoder_2": "clip_g", "text_encoder_3": "t5xxl"}
    for part, name in encoders.items():
        if part in parts:
            prefix = f"text_encoders.{name}.transformer"
            whole |= under(prefix, text_model(parts[part]))
            convert = diffusers_names.convert_sd3_t5_checkpoint_to_diffusers if name == "t5xxl" else lambda d: diffusers_names.convert_ldm_clip_checkpoint(d, f"{prefix}.")
            same(convert(dict(whole)), text_model(parts[part]))
            whole[f"text_encoders.{name}.logit_scale"] = torch.tensor(4.6)
    net = {key: value for key, value in whole.items() if key.startswith("model.")}
    same(diffusers_names.convert_sd3_transformer_checkpoint_to_diffusers(net), parts["transformer"])
    same(diffusers_names.convert_ldm_vae_checkpoint(dict(whole), configs["vae"]), new_attention_names(parts["vae"]))
    return whole


def read(folder: Path, names: list[str]) -> tuple[dict[str, Tensors], dict[str, dict]]:
    file = lambda name: next((folder / name).glob("*.safetensors"))
    return {name: load_file(file(name)) for name in names}, {name: json.loads((folder / name / "config.json").read_text()) for name in names}


def trainers_checkpoint(whole: Tensors, file: Path) -> None:
    """What the trainer wrote: weights beside averages of them, schedules, callbacks and states of the optimizer."""
    state = dict(whole)
    for key in list(whole)[:4]:
        state["model_ema." + "".join(key.split(".")[1:])] = whole[key] * 0.5
    state["model_ema.decay"] = torch.tensor(0.9999)
    for name in ["betas", "alphas_cumprod", "sqrt_one_minus_alphas_cumprod"]:
        state[name] = torch.linspace(0, 1, 20)
    state["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    callback = type("ModelCheckpoint", (), {"__module__": module.__name__})
    module.ModelCheckpoint = callback
    for name in ["pytorch_lightning", "pytorch_lightning.callbacks"]:
        sys.modules[name] = types.ModuleType(name)
    sys.modules[module.__name__] = module
    torch.save({
        "epoch": 3, "global_step": 840000, "pytorch-lightning_version": "1.4.2", "state_dict": state,
        "callbacks": {callback: {"monitor": "val/loss_simple_ema", "best_model_score": np.float64(0.14)}},
        "optimizer_states": [{"state": {0: {"step": 840000, "exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [],
    }, file)


@torch.no_grad()
def two_layers() -> None:
    """Three sizes of two layers; the file alone with its configurations, and diffusers' picture."""
    companion = OUT / "two_layers.config"
    tiny_tokenizers.clip(companion / "tokenizer", merges=60)
    tokenizer = CLIPTokenizer.from_pretrained(companion / "tokenizer")
    eos = tokenizer.eos_token_id
    text_encoder = CLIPTextModel(CLIPTextConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, bos_token_id=eos - 1, eos_token_id=eos, pad_token_id=1))
    net = sd15.unet(dict(sample_size=8, block_out_channels=(8, 8, 12), down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"), layers_per_block=2, attention_head_dim=2, cross_attention_dim=16, norm_num_groups=4), 4000)
    autoencoder = AutoencoderKL(block_out_channels=(4, 8, 8), down_block_types=["DownEncoderBlock2D"] * 3, up_block_types=["UpDecoderBlock2D"] * 3, latent_channels=4, layers_per_block=2, norm_num_groups=2)
    randomize(text_encoder.eval(), 4001)
    randomize(autoencoder.eval(), 4002)
    scheduler = PNDMScheduler(skip_prk_steps=True, **{key: value for key, value in sd15.NOISE.items() if key != "clip_sample"})
    pipeline = StableDiffusionPipeline(autoencoder, text_encoder, tokenizer, net, scheduler, None, None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    picture = pipeline(PROMPTS[0], num_inference_steps=6, generator=torch.Generator().manual_seed(11)).images[0]
    picture.save(OUT / "two_layers.png")
    models = {"unet": net, "vae": autoencoder, "text_encoder": text_encoder}
    for name, model in models.items():
        model.half().save_pretrained(OUT / "folder" / name)
        (companion / name).mkdir()
        shutil.copy(OUT / "folder" / name / "config.json", companion / name / "config.json")
    parts, configs = read(OUT / "folder", list(models))
    save_file(version_1(parts, configs), OUT / "two_layers.safetensors")
    shutil.rmtree(OUT / "folder")


def vocabulary() -> None:
    """Ids of CLIP's tokenizer over the merges in assets/clip, built as its own source builds it."""
    merges = gzip.decompress((GOLDEN.parent.parent / "assets" / "clip" / "merges.txt.gz").read_bytes()).decode().splitlines()
    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges), "<|startoftext|>", "<|endoftext|>"]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
        (Path(folder) / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
        tokenizer = CLIPTokenizer(str(Path(folder) / "vocab.json"), str(Path(folder) / "merges.txt"))
    texts = [*PROMPTS, "a photo of a cat", "naïve café — 日本の絵, привет! 🎨 don't", "x" * 300, ""]
    ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True).input_ids
    # Published ids: they are the same for every CLIP.
    assert ids[len(PROMPTS)][:7] == [49406, 320, 1125, 539, 320, 2368, 49407], ids[len(PROMPTS)][:7]
    (OUT / "clip_ids.json").write_text(json.dumps([{"text": text, "ids": row} for text, row in zip(texts, ids)], separators=(",", ":")))


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    parts, configs = read(GOLDEN / "sd15" / "like_v1", ["unet", "vae", "text_encoder"])
    trainers_checkpoint(version_1(parts, configs), OUT / "like_v1.ckpt")
    parts, configs = read(GOLDEN / "sd3" / "with_t5", ["transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3"])
    save_file(version_3(parts, configs), OUT / "with_t5.safetensors")
    # Without text encoders; with the extras of Stable Diffusion 3.5.
    parts, configs = read(GOLDEN / "sd3" / "like_sd35", ["transformer", "vae"])
    save_file(version_3(parts, configs), OUT / "like_sd35.safetensors")
    parts, configs = read(GOLDEN / "sd3" / "like_sd35_large", ["transformer", "vae"])
    save_file(version_3(parts, configs), OUT / "like_sd35_large.safetensors")
    two_layers()
    vocabulary()
    numbers = torch.linspace(-20, 20, 32).view(4, 8)
    small = {"e4m3": numbers.to(torch.float8_e4m3fn), "e5m2": numbers.to(torch.float8_e5m2)}
    save_file({**small, **{f"{name}.float": value.float() for name, value in small.items()}}, OUT / "float8.safetensors")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
