"""Makes the checkpoints of experiments/mini/models: the file layouts of the real ones, with tiny nets.

The nets are built by the reference libraries and hold seeded random weights. Needs torch, transformers,
diffusers, art-fid, sentencepiece and Pillow:

    python checkpoints.py [--out DIR] [--seed S]
"""

import argparse
import functools
import json
import shutil
from pathlib import Path

import art_fid.inception as reference_inception
import diffusers
import numpy
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

import texts
import vocabularies

HERE = Path(__file__).parent
# Widths of the metric nets: the published ones divided by this.
NARROWER = 8


def fill(module, generator):
    """Weights that keep the size of what passes through; biases small but not zero, so that they count."""
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if parameter.ndim > 1:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.02, generator=generator)


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def read_me(folder, text):
    (folder / "README.md").write_text(f"{text} Made by `experiments/mini/make/checkpoints.py`.\n")


# ---------------------------------------------------------------------------------------- Phi-4-multimodal


def phi4_config(vocab_size, added):
    """The configuration that transformers' own class takes."""
    factors = 12  # half of the rotary part of a head: 32 · 0.75 / 2
    return transformers.Phi4MultimodalConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=131072,
        original_max_position_embeddings=4096,
        sliding_window=262144,
        tie_word_embeddings=True,
        bos_token_id=added["<|endoftext|>"],
        eos_token_id=[added["<|end|>"], added["<|endoftext|>"]],
        pad_token_id=added["<|endoftext|>"],
        rope_parameters={
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.75,
            "short_factor": [1.0] * factors,
            "long_factor": [1.0 + 3.0 * i for i in range(factors)],
        },
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_token_id": added["<|endoftext10|>"],
        },
        # Never used: kept as small as the class allows.
        audio_config={
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_blocks": 1,
            "num_attention_heads": 1,
            "ext_pw_out_channel": 8,
            "depthwise_separable_out_channel": 8,
            "nemo_conv_channels": 8,
            "audio_token_id": added["<|endoftext11|>"],
        },
    )


def original_key(key):
    """The name that the hub's main revision uses for a tensor of transformers' class."""
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
    return key


def phi4_original_state(model, ranks, generator):
    """The state dict in the original layout: base layers, the LoRAs of both kinds, a few of the audio tensors."""
    state = {}
    for key, tensor in model.state_dict().items():
        if key == "lm_head.weight" or ".audio_embed." in key:
            continue
        key = original_key(key)
        state[key] = tensor
        if key.endswith(".base_layer.weight"):
            rows, columns = tensor.shape
            stem = key.removesuffix("base_layer.weight")
            for kind, rank in ranks.items():
                # Large enough that a net without its adapter says something else.
                down = torch.randn(rank, columns, generator=generator) * columns**-0.5
                up = torch.randn(rows, rank, generator=generator) * 0.3 * rank**-0.5
                state[f"{stem}lora_A.{kind}.weight"] = down
                state[f"{stem}lora_B.{kind}.weight"] = up
    hidden = model.config.hidden_size
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


def phi4(folder, lines, generator):
    vocab_size = 1024
    added = vocabularies.phi4(folder, lines, vocab_size)
    config = phi4_config(vocab_size, added)
    model = transformers.Phi4MultimodalForCausalLM(config)
    fill(model, generator)
    ranks = {"vision": 8, "speech": 10}
    write_shards(folder, phi4_original_state(model, ranks, generator), 2)
    write_json(folder / "config.json", phi4_original_config(config, ranks))
    ends = {"bos_token_id": config.bos_token_id, "pad_token_id": config.pad_token_id}
    write_json(folder / "generation_config.json", ends | {"eos_token_id": config.eos_token_id})
    processor = {"image_processor_type": "Phi4MMImageProcessor", "processor_class": "Phi4MMProcessor"}
    processor |= {"feature_extractor_type": "Phi4MMAudioFeatureExtractor", "dynamic_hd": 36}
    processor |= {"audio_compression_rate": 8, "audio_downsample_rate": 1, "audio_feat_stride": 1}
    write_json(folder / "preprocessor_config.json", processor)
    write_json(folder / "processor_config.json", {"processor_class": "Phi4MMProcessor"})
    read_me(folder, "Phi-4-multimodal in the layout of the hub's main revision, tiny, random weights.")


# --------------------------------------------------------------------------------------- Stable Diffusion 3


def clip_config(hidden, layers, activation, vocab_size):
    return transformers.CLIPTextConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        projection_dim=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 16,
        hidden_act=activation,
        max_position_embeddings=77,
        bos_token_id=0,
        pad_token_id=1,
        # As published: it means "the end token is the highest id".
        eos_token_id=2,
    )


def sd3_parts(clip_vocab, t5_vocab):
    """The nets of the pipeline, smaller in width and depth only."""
    clip_l, clip_g = clip_config(32, 2, "quick_gelu", clip_vocab), clip_config(48, 3, "gelu", clip_vocab)
    t5_config = transformers.T5Config(
        vocab_size=-(-t5_vocab // 64) * 64,
        d_model=96,
        d_kv=16,
        num_heads=6,
        d_ff=128,
        num_layers=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=3,
        num_attention_heads=3,
        attention_head_dim=32,
        joint_attention_dim=t5_config.d_model,
        caption_projection_dim=96,
        pooled_projection_dim=clip_l.hidden_size + clip_g.hidden_size,
        pos_embed_max_size=48,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[16, 32, 32, 32],
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    )
    return {
        "text_encoder": transformers.CLIPTextModelWithProjection(clip_l),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(clip_g),
        "text_encoder_3": transformers.T5EncoderModel(t5_config),
        "transformer": transformer,
        "vae": vae,
    }


@torch.no_grad()
def level(transformer, vae, generator):
    """Scales the two last layers, so that a velocity has about unit size and a picture has contrast."""
    config = transformer.config
    latents = torch.randn(4, 16, 16, 16, generator=generator)
    states = torch.randn(4, 77 + 256, config.joint_attention_dim, generator=generator)
    pooled = torch.randn(4, config.pooled_projection_dim, generator=generator)
    times = torch.tensor([1000.0, 700.0, 400.0, 100.0])
    velocity = transformer(latents, states, pooled, times).sample
    transformer.proj_out.weight /= velocity.std()
    vae.decoder.conv_out.weight *= 0.5 / vae.decode(latents).sample.std()


def sd3(folder, lines, generator):
    clip_vocab = vocabularies.clip([folder / "tokenizer", folder / "tokenizer_2"], lines, 1024)
    t5_vocab = vocabularies.t5(folder / "tokenizer_3", lines, 800)
    parts = sd3_parts(clip_vocab, t5_vocab)
    for net in parts.values():
        fill(net.eval(), generator)
    level(parts["transformer"], parts["vae"], generator)
    index = {"_class_name": "StableDiffusion3Pipeline", "_diffusers_version": "0.29.0"}
    libraries = {name: "diffusers" if name in ["transformer", "vae"] else "transformers" for name in parts}
    index |= {name: [libraries[name], type(net).__name__] for name, net in parts.items()}
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    index |= {"tokenizer": ["transformers", "CLIPTokenizer"], "tokenizer_2": ["transformers", "CLIPTokenizer"]}
    index["tokenizer_3"] = ["transformers", "T5TokenizerFast"]
    write_json(folder / "model_index.json", dict(sorted(index.items())))
    for name, net in parts.items():
        net.to(torch.float16).save_pretrained(folder / name)
    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(folder / "scheduler")
    read_me(folder, "Stable Diffusion 3 medium in the diffusers layout, tiny, random weights.")


# ------------------------------------------------------------------------------------- Stable Diffusion 1.5


def sd_v1_5_parts(clip_vocab):
    """The nets of the pipeline, smaller in width and depth, for pictures of 96 pixels."""
    unet = diffusers.UNet2DConditionModel(
        sample_size=24,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        block_out_channels=[24, 40, 48],
        layers_per_block=1,
        attention_head_dim=4,
        cross_attention_dim=48,
        norm_num_groups=8,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[16, 32, 32],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=96,
    )
    return {"text_encoder": transformers.CLIPTextModel(clip_config(48, 2, "quick_gelu", clip_vocab)), "unet": unet, "vae": vae}


@torch.no_grad()
def level_noise(unet, vae, generator):
    """Scales the two last layers, so that what is taken for noise has unit size and a picture has contrast."""
    latents = torch.randn(4, 4, 24, 24, generator=generator)
    states = torch.randn(4, 77, unet.config.cross_attention_dim, generator=generator)
    unet.conv_out.weight /= unet(latents, torch.tensor([981, 681, 381, 81]), states).sample.std()
    vae.decoder.conv_out.weight *= 0.5 / vae.decode(latents).sample.std()


def old_autoencoder_names(folder):
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


def sd_v1_5(folder, lines, generator):
    parts = sd_v1_5_parts(vocabularies.clip([folder / "tokenizer"], lines, 1024))
    for net in parts.values():
        fill(net.eval(), generator)
    level_noise(parts["unet"], parts["vae"], generator)
    index = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0"}
    index |= {name: ["diffusers", type(parts[name]).__name__] for name in ["unet", "vae"]}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {"scheduler": ["diffusers", "PNDMScheduler"], "safety_checker": [None, None], "feature_extractor": [None, None]}
    write_json(folder / "model_index.json", dict(sorted(index.items())))
    for name, net in parts.items():
        net.to(torch.float16).save_pretrained(folder / name)
    old_autoencoder_names(folder / "vae")
    scheduler = {"_class_name": "PNDMScheduler", "_diffusers_version": "0.6.0", "beta_start": 0.00085, "beta_end": 0.012}
    scheduler |= {"beta_schedule": "scaled_linear", "num_train_timesteps": 1000, "set_alpha_to_one": False}
    scheduler |= {"skip_prk_steps": True, "steps_offset": 1, "trained_betas": None, "clip_sample": False}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    read_me(folder, "Stable Diffusion 1.5 in the diffusers layout, tiny, random weights, without a safety checker.")


# ------------------------------------------------------------------------------------------------- metric nets


class NarrowConv(reference_inception.BasicConv2d):
    """A convolution of the art-Inception with all widths divided, the three colours aside."""

    def __init__(self, in_channels, out_channels, **options):
        in_channels = in_channels if in_channels == 3 else in_channels // NARROWER
        super().__init__(in_channels, out_channels // NARROWER, **options)


def pictures(folder):
    """All pictures below as one batch [n, 3, height, width] in 0..1."""
    files = sorted(folder.rglob("*.png"))
    arrays = [numpy.asarray(Image.open(file).convert("RGB")) for file in files]
    return torch.from_numpy(numpy.stack(arrays)).permute(0, 3, 1, 2).float() / 255


@torch.no_grad()
def art_inception(folder, seen, generator):
    """The trunk of the art-Inception; its batch norms know the statistics of the mini pictures."""
    names = ["InceptionA", "InceptionB", "InceptionC", "InceptionD", "InceptionE", "InceptionAux"]
    blocks = [functools.partial(getattr(reference_inception, name), conv_block=NarrowConv) for name in names]
    net = reference_inception.Inception3(aux_logits=False, inception_blocks=[NarrowConv, *blocks], init_weights=False)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    # Without the heads, which no feature needs.
    net.AuxLogits1 = net.AuxLogits2 = None
    net.fc1, net.fc2 = torch.nn.Identity(), torch.nn.Identity()
    net.train()(seen)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(net.state_dict(), folder / "art_inception.pth")
    read_me(folder, f"The art-Inception of ArtFID, all widths divided by {NARROWER}, random weights.")


@torch.no_grad()
def lpips(folder, generator):
    """AlexNet's convolutions under torchvision's names, and LPIPS heads that weigh all channels alike."""
    widths = [width // NARROWER for width in [64, 192, 384, 256, 256]]
    trunk, channels = {}, 3
    for layer, kernel, width in zip([0, 3, 6, 8, 10], [11, 5, 3, 3, 3], widths):
        deviation = (2 / (channels * kernel**2)) ** 0.5
        weight = torch.randn(width, channels, kernel, kernel, generator=generator) * deviation
        trunk |= {f"features.{layer}.weight": weight, f"features.{layer}.bias": torch.zeros(width)}
        channels = width
    heads = {f"lin{i}.model.1.weight": torch.full((1, width, 1, 1), 0.2) for i, width in enumerate(widths)}
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(trunk, folder / "alexnet.pth")
    torch.save(heads, folder / "alex.pth")
    read_me(folder, f"LPIPS with AlexNet, all widths divided by {NARROWER}, random trunk, uniform heads.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HERE.parent / "models")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    # Libraries initialise weights before `fill` sets them; the seed covers what `fill` leaves alone.
    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    lines = texts.corpus(seed=args.seed)
    for name, make in {
        "mini-phi-4-multimodal": lambda folder, generator: phi4(folder, lines, generator),
        "mini-sd3": lambda folder, generator: sd3(folder, lines, generator),
        "mini-sd-v1-5": lambda folder, generator: sd_v1_5(folder, lines, generator),
        "mini-art-inception": lambda folder, generator: art_inception(folder, pictures(HERE.parent), generator),
        "mini-lpips": lpips,
    }.items():
        shutil.rmtree(args.out / name, ignore_errors=True)
        make(args.out / name, torch.Generator().manual_seed(args.seed))
        size = sum(file.stat().st_size for file in (args.out / name).rglob("*") if file.is_file())
        print(f"{name}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
