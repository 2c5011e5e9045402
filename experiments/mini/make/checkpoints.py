"""Writes the mini checkpoints in the file layouts of the real ones, by the reference libraries' own means.

    python checkpoints.py tokenizers --out DIR         before training: the tokenizers alone
    python checkpoints.py models --tokenizers DIR --states DIR [--out DIR]
                                                       after it: everything, from the trained weights
    python checkpoints.py metrics --tokenizers DIR --states DIR [--out DIR]
                                                       what train_metrics.py learnt alone: mini-clip and mini-csd

The tokenizers are made once and kept: their trainers do not number equally frequent pieces alike twice.

Needs torch, transformers, diffusers, art-fid and sentencepiece.
"""

import argparse
import json
import math
import shutil
from pathlib import Path

import art_fid.inception
import diffusers
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

import nets
import texts
import vocabularies

HERE = Path(__file__).parent
NEW_STYLE = "the style lorelei-neutral, which the generator never saw; its trigger words are \"mask style\"."
# Adapters by the name of their training: their folders here, and what they are.
ADAPTERS = {
    "lora-sd-v1-5": ("mini-lora-sd-v1-5", f"LoRA of rank 16 for mini-sd-v1-5: {NEW_STYLE}"),
    "lora-sd3": ("mini-lora-sd3", f"LoRA of rank 32 for mini-sd3: {NEW_STYLE}"),
    "controlnet": ("mini-controlnet-canny", "ControlNet for mini-sd-v1-5 that reads Canny's edges (thresholds 100 and 200)."),
    "ip-adapter": ("mini-ip-adapter", "IP-Adapter for mini-sd-v1-5, with the picture half of mini-clip as its image encoder."),
}
BERT_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def read_me(folder, text):
    (folder / "README.md").write_text(f"{text} Trained and made by `experiments/mini/make`: see the README there above.\n")


# -------------------------------------------------------------------------------------------------- tokenizers


def bert(folder, lines, size):
    """BERT's WordPiece."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=BERT_SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    vocab = tokenizer.get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(vocab, key=vocab.get)) + "\n")
    names = ["pad", "unk", "cls", "sep", "mask"]
    tokens = {f"{name}_token": token for name, token in zip(names, BERT_SPECIAL)}
    options = {"do_lower_case": True, "model_max_length": 512, "tokenizer_class": "BertTokenizer"}
    write_json(folder / "special_tokens_map.json", tokens)
    write_json(folder / "tokenizer_config.json", options | tokens)


def tokenizers(out):
    """Writes all tokenizers below `out`."""
    lines = texts.corpus()
    bert(out / "mini-blip", lines, nets.BLIP_WORDS)
    vocabularies.clip([out / "mini-sd3/tokenizer", out / "mini-sd3/tokenizer_2"], lines, nets.CLIP_WORDS)
    vocabularies.t5(out / "mini-sd3/tokenizer_3", lines, nets.T5_WORDS)
    vocabularies.clip([out / "mini-sd-v1-5/tokenizer"], lines, nets.CLIP_WORDS)
    vocabularies.phi4(out / "mini-phi-4-multimodal", lines, nets.PHI4_WORDS)


# -------------------------------------------------------------------------------------------------- captioners


def blip(folder, state):
    net = nets.blip(len((folder / "vocab.txt").read_text().split("\n")) - 1)
    net.load_state_dict(state)
    torch.save({key: value.half() for key, value in net.state_dict().items()}, folder / "pytorch_model.bin")
    net.config.architectures = ["BlipForConditionalGeneration"]
    net.config.to_json_file(folder / "config.json", use_diff=False)
    preprocessor = {"do_normalize": True, "do_resize": True, "image_processor_type": "BlipImageProcessor", "size": nets.SIZE}
    preprocessor["image_mean"] = [0.48145466, 0.4578275, 0.40821073]
    preprocessor["image_std"] = [0.26862954, 0.26130258, 0.27577711]
    write_json(folder / "preprocessor_config.json", preprocessor)
    read_me(folder, "BLIP in the layout of blip-image-captioning-base, narrow.")


def original_key(key):
    """The name that the hub's main revision uses for a tensor of transformers' class, with or without our adapters."""
    for native, original in {
        "img_projection_up.": "img_projection.0.",
        "img_projection_down.": "img_projection.2.",
        "global_img_feature_extensor": "glb_GN",
        "sub_img_feature_extensor": "sub_GN",
    }.items():
        key = key.replace(native, original)
    for layer in ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]:
        if key.startswith("model.layers."):
            key = key.replace(f".{layer}.weight", f".{layer}.base_layer.weight")
    for side in "AB":
        if key.endswith(f".lora_{side}"):
            key += ".vision.weight"
    return key


def phi4_original_state(net, generator):
    """The state dict in the original layout: base layers, the LoRAs of both kinds, a few of the audio tensors."""
    state = {}
    for key, tensor in net.state_dict().items():
        if key == "lm_head.weight" or ".audio_embed." in key:
            continue
        state[original_key(key)] = tensor
        if key.endswith(".base_layer.weight"):
            # The adapter of speech is never used: random.
            rows, columns = tensor.shape
            stem, rank = key.removesuffix("base_layer.weight"), nets.LORA["speech"]
            state[f"{stem}lora_A.speech.weight"] = torch.randn(rank, columns, generator=generator) * columns**-0.5
            state[f"{stem}lora_B.speech.weight"] = torch.randn(rows, rank, generator=generator) * 0.3 * rank**-0.5
    hidden = net.config.hidden_size
    for kind in ["speech", "vision"]:
        stem = f"model.embed_tokens_extend.audio_embed.audio_projection.{kind}"
        for layer, columns in [(0, 8), (2, hidden)]:
            state[f"{stem}.{layer}.weight"] = torch.randn(hidden, columns, generator=generator)
            state[f"{stem}.{layer}.bias"] = torch.randn(hidden, generator=generator)
    return {key: tensor.detach().to(torch.bfloat16).contiguous() for key, tensor in state.items()}


def lora_section(rank):
    layers = r"layers.*((self_attn\.(qkv_proj|o_proj))|(mlp\.(gate_up|down)_proj))"
    return {"r": rank, "lora_alpha": 2 * rank, "layer": layers, "dp": 0.0}


def phi4_original_config(config, ranks):
    """config.json of the hub's main revision; `vision_config` is added, as this tower is not the real one."""
    rope, vision = config.rope_parameters, config.vision_config
    copied = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"]
    copied += ["num_key_value_heads", "hidden_act", "rms_norm_eps", "max_position_embeddings", "sliding_window"]
    copied += ["original_max_position_embeddings", "bos_token_id", "pad_token_id", "tie_word_embeddings"]
    sizes = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_channels"]
    sizes += ["image_size", "patch_size", "crop_size", "hidden_act", "layer_norm_eps", "feature_layer"]
    image_layer = {"crop_size": vision.crop_size, "embedding_cls": "tune_image", "hd_transform_order": "sub_glb"}
    image_layer |= {"image_token_compression_cls": "avg_pool_2d", "projection_cls": "mlp", "use_hd_transform": True}
    image_layer |= {"with_learnable_separator": True, "enable_gradient_checkpointing": True}
    audio_layer = {"embedding_cls": "audio", "projection_cls": "mlp", "use_qformer": False}
    return {
        "architectures": ["Phi4MMForCausalLM"],
        "model_type": "phi4mm",
        "torch_dtype": "bfloat16",
        **{key: getattr(config, key) for key in copied},
        "eos_token_id": config.bos_token_id,
        "attention_bias": False,
        "mlp_bias": False,
        "lm_head_bias": False,
        "embd_pdrop": 0.0,
        "resid_pdrop": 0.0,
        "attention_dropout": 0.0,
        "full_attn_mod": 1,
        "interpolate_factor": 1,
        "use_cache": True,
        "rope_theta": rope["rope_theta"],
        "partial_rotary_factor": rope["partial_rotary_factor"],
        "rope_scaling": {
            "type": "longrope",
            "short_factor": rope["short_factor"],
            "long_factor": rope["long_factor"],
        },
        "vision_lora": lora_section(ranks["vision"]),
        "speech_lora": lora_section(ranks["speech"]),
        "embd_layer": {
            "embedding_cls": "image_audio",
            "image_embd_layer": image_layer,
            "audio_embd_layer": audio_layer,
        },
        "vision_config": {key: getattr(vision, key) for key in sizes} | {"image_token_id": vision.image_token_id},
    }


def write_shards(folder, state, count):
    """`model-0000K-of-0000N.safetensors` and their index, in the order of the names."""
    names = sorted(state)
    weight_map = {}
    for i in range(count):
        part = names[i * len(names) // count : (i + 1) * len(names) // count]
        file = f"model-{i + 1:05}-of-{count:05}.safetensors"
        save_file({name: state[name] for name in part}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})


def phi4(folder, state):
    names = ["<|endoftext|>", "<|end|>", "<|endoftext10|>", "<|endoftext11|>"]
    added = {e["content"]: e["id"] for e in json.loads((folder / "tokenizer.json").read_text())["added_tokens"]}
    added = {name: added[name] for name in names}
    net = nets.phi4(nets.PHI4_WORDS, added)
    net.load_state_dict(state)
    config = net.config
    write_shards(folder, phi4_original_state(net, torch.Generator().manual_seed(0)), 2)
    write_json(folder / "config.json", phi4_original_config(config, nets.LORA))
    ends = {"bos_token_id": config.bos_token_id, "pad_token_id": config.pad_token_id}
    write_json(folder / "generation_config.json", ends | {"eos_token_id": config.eos_token_id})
    processor = {"image_processor_type": "Phi4MMImageProcessor", "processor_class": "Phi4MMProcessor"}
    processor |= {"feature_extractor_type": "Phi4MMAudioFeatureExtractor", "dynamic_hd": 36}
    processor |= {"audio_compression_rate": 8, "audio_downsample_rate": 1, "audio_feat_stride": 1}
    write_json(folder / "preprocessor_config.json", processor)
    write_json(folder / "processor_config.json", {"processor_class": "Phi4MMProcessor"})
    read_me(folder, "Phi-4-multimodal in the layout of the hub's main revision, narrow.")


# -------------------------------------------------------------------------------------------------- generators


def index(folder, pipeline, version, parts, more):
    """`model_index.json`: which library and class reads which folder."""
    library = lambda net: type(net).__module__.split(".")[0]
    entries = {name: [library(net), type(net).__name__] for name, net in parts.items()} | more
    head = {"_class_name": pipeline, "_diffusers_version": version}
    write_json(folder / "model_index.json", head | dict(sorted(entries.items())))
    for name, net in parts.items():
        net.to(torch.float16).save_pretrained(folder / name)


def autoencoder(net, states, name):
    net.load_state_dict(states(f"{name}-vae"))
    latents = {key: value for key, value in states.figures(f"{name}-latents").items() if value is not None}
    net.register_to_config(**latents)
    return net


def sd3(folder, states):
    words = len(json.loads((folder / "tokenizer/vocab.json").read_text()))
    pieces = vocabularies.transformers.T5TokenizerFast.from_pretrained(folder / "tokenizer_3")
    net = nets.sd3(words, len(pieces))
    net.load_state_dict(states("sd3"))
    parts = dict(net.items()) | {"vae": autoencoder(nets.sd3_vae(), states, "sd3")}
    clip = ["transformers", "CLIPTokenizer"]
    more = {"tokenizer": clip, "tokenizer_2": clip, "tokenizer_3": ["transformers", "T5TokenizerFast"]}
    more["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    index(folder, "StableDiffusion3Pipeline", "0.29.0", parts, more)
    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    read_me(folder, "Stable Diffusion 3 medium in the diffusers layout, narrow.")


@torch.no_grad()
def published_scale(vae, scale=0.18215):
    """The same autoencoder with latents of the published size: its 1x1 convolutions take up the factor."""
    k = vae.config.scaling_factor / scale
    channels = vae.config.latent_channels
    vae.quant_conv.weight[:channels] *= k
    vae.quant_conv.bias[:channels] *= k
    vae.quant_conv.bias[channels:] += 2 * math.log(k)
    vae.post_quant_conv.weight /= k
    vae.register_to_config(scaling_factor=scale)
    return vae


def old_autoencoder(folder):
    """Names and configuration of before diffusers 0.14, as the published checkpoint has them."""
    file = folder / "diffusion_pytorch_model.safetensors"
    state = load_file(file)
    for new, old in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
        state = {key.replace(f".{new}.", f".{old}."): tensor for key, tensor in state.items()}
    save_file(state, file, metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    newer = ["scaling_factor", "shift_factor", "latents_mean", "latents_std", "force_upcast"]
    newer += ["use_quant_conv", "use_post_quant_conv", "mid_block_add_attention"]
    write_json(folder / "config.json", {key: value for key, value in config.items() if key not in newer})


def sd15(folder, states):
    net = nets.sd15(len(json.loads((folder / "tokenizer/vocab.json").read_text())))
    net.load_state_dict(states("sd15"))
    parts = dict(net.items()) | {"vae": published_scale(autoencoder(nets.sd15_vae(), states, "sd15"))}
    more = {"tokenizer": ["transformers", "CLIPTokenizer"], "scheduler": ["diffusers", "PNDMScheduler"]}
    more |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    index(folder, "StableDiffusionPipeline", "0.6.0", parts, more)
    old_autoencoder(folder / "vae")
    scheduler = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler |= {"beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "set_alpha_to_one": False}
    scheduler |= {"skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False}
    write_json(folder / "scheduler/scheduler_config.json", scheduler)
    read_me(folder, "Stable Diffusion 1.5 in the diffusers layout, narrow, without a safety checker.")


# ------------------------------------------------------------------------------------------------- metric nets


def art_inception(folder, state):
    folder.mkdir(parents=True, exist_ok=True)
    net = nets.art_inception(art_fid.inception)
    net.load_state_dict(state)
    torch.save(net.state_dict(), folder / "art_inception.pth")
    write_json(folder / "labels.json", {"fc1": {"style": texts.STYLES}, "fc2": texts.ATTRIBUTES})
    read_me(
        folder,
        f"The art-Inception of ArtFID, all widths divided by {nets.NARROWER}. Its head `fc1` names the style, "
        "`fc2` the attributes, one group of `labels.json` after the other.",
    )


def lpips(folder, state):
    """AlexNet's convolutions under torchvision's names, and LPIPS heads that weigh all channels alike."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({k: v for k, v in state.items() if k.startswith("features.")}, folder / "alexnet.pth")
    widths = nets.AlexNet().widths
    heads = {f"lin{i}.model.1.weight": torch.full((1, width, 1, 1), 0.1) for i, width in enumerate(widths)}
    torch.save(heads, folder / "alex.pth")
    read_me(
        folder,
        f"LPIPS with AlexNet, all widths divided by {nets.NARROWER}, trained to name styles and attributes; "
        "uniform heads, not fitted to anyone's judgement.",
    )


def clip(folder, state, tokenizer):
    """CLIP with the tokenizer of mini-sd-v1-5, as the first releases lay."""
    from transformers import CLIPImageProcessor, CLIPTokenizer

    import train_metrics

    folder.mkdir(parents=True, exist_ok=True)
    for file in filter(tokenizer_file, tokenizer.iterdir()):
        shutil.copy(file, folder)
    net = train_metrics.clip_net(CLIPTokenizer.from_pretrained(folder))
    net.load_state_dict(state)
    net.half().save_pretrained(folder)
    side = train_metrics.SIDE
    CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side}).save_pretrained(folder)
    read_me(folder, "CLIP, tiny: pictures of the little world and what is said of them, styles included.")


def csd(folder, state):
    """In the form of the published file: the state of training, names below `module.`."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model_state_dict": {f"module.{k}": v.half() for k, v in state.items()}}, folder / "csd.pth")
    read_me(folder, "CSD, tiny: the styles of the little world, whoever is drawn.")


TOKENIZER_FILES = ["vocab.txt", "vocab.json", "merges.txt", "spiece.model", "tokenizer.json", "added_tokens.json"]
TOKENIZER_FILES += ["tokenizer_config.json", "special_tokens_map.json"]


def adapters(out, source):
    """What `train_adapters.py` wrote, under the names that it has here."""
    for job, (name, text) in ADAPTERS.items():
        if not (source / job).is_dir():
            continue
        folder = out / name
        shutil.rmtree(folder, ignore_errors=True)
        published = source / job / "models"
        shutil.copytree(published if published.is_dir() else source / job, folder)
        for file in folder.rglob("*.safetensors"):
            file.chmod(0o644)
        read_me(folder, text)


def tokenizer_file(path):
    return path.name in TOKENIZER_FILES


class States:
    """The trained weights `NAME.pt` and figures `NAME.json` of a folder."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name):
        return torch.load(self.folder / f"{name}.pt", map_location="cpu")

    def figures(self, name):
        return json.loads((self.folder / f"{name}.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["tokenizers", "models", "metrics", "adapters"])
    parser.add_argument("--tokenizers", type=Path)
    parser.add_argument("--states", type=Path)
    parser.add_argument("--out", type=Path, default=HERE.parent / "models")
    args = parser.parse_args()
    torch.set_num_threads(1)
    if args.what == "tokenizers":
        return tokenizers(args.out)
    if args.what == "adapters":
        return adapters(args.out, args.states)
    if args.what == "metrics":
        states = States(args.states)
        clip(args.out / "mini-clip", states("clip"), args.tokenizers / "mini-sd-v1-5" / "tokenizer")
        return csd(args.out / "mini-csd", states("csd"))
    for source in sorted(args.tokenizers.glob("mini-*")):
        # The models themselves may be named as the source: all else is made anew.
        kept = {f.relative_to(source): f.read_bytes() for f in source.rglob("*") if tokenizer_file(f)}
        shutil.rmtree(args.out / source.name, ignore_errors=True)
        for name, content in kept.items():
            (args.out / source.name / name).parent.mkdir(parents=True, exist_ok=True)
            (args.out / source.name / name).write_bytes(content)
    states = States(args.states)
    blip(args.out / "mini-blip", states("blip"))
    phi4(args.out / "mini-phi-4-multimodal", states("phi4"))
    sd3(args.out / "mini-sd3", states)
    sd15(args.out / "mini-sd-v1-5", states)
    art_inception(args.out / "mini-art-inception", states("art-inception"))
    lpips(args.out / "mini-lpips", states("alexnet"))
    clip(args.out / "mini-clip", states("clip"), args.out / "mini-sd-v1-5" / "tokenizer")
    csd(args.out / "mini-csd", states("csd"))
    for folder in sorted(args.out.glob("mini-*")):
        size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        print(f"{folder.name}: {size / 2**20:.2f} MiB")


if __name__ == "__main__":
    main()
