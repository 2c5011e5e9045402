"""The nets of the mini checkpoints: the published architectures, narrow. Built by the reference libraries."""

import functools
import math

import diffusers
import torch
import transformers
from torch import nn

import texts

SIZE = 96  # pixels along a side of a picture
T5_TOKENS = 80  # `max_sequence_length` of the mini profile; diffusers' default is 256
NARROWER = 8  # the metric nets have the published widths divided by this
PHI4_WORDS, CLIP_WORDS, T5_WORDS, BLIP_WORDS = 1024, 1024, 800, 1024  # at most, for the last two
LORA = {"vision": 16, "speech": 10}


def count(net):
    return sum(p.numel() for p in net.parameters())


# ------------------------------------------------------------------------------------------------ captioners


def blip(words):
    """BLIP for captions. `words`: length of vocab.txt."""
    shape = dict(hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=4)
    # Two rows beyond the vocabulary: the start tokens of decoder and encoder, as in the real file.
    text = shape | dict(vocab_size=words + 2, bos_token_id=words, eos_token_id=2, pad_token_id=0, sep_token_id=3)
    text |= dict(max_position_embeddings=64)
    config = transformers.BlipConfig(vision_config=shape | dict(image_size=SIZE, patch_size=8), text_config=text)
    net = transformers.BlipForConditionalGeneration(config)
    for name, p in net.named_parameters():
        # The library's own start leaves the picture's part at zero.
        if p.dim() > 1:
            nn.init.normal_(p, 0, 0.02 if "embed" in name else 0.5 * p[0].numel() ** -0.5)
    return net


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
            "intermediate_size": 160,
            "num_hidden_layers": 4,
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


class LoraLinear(nn.Module):
    """`base_layer`, and the adapter of pictures on it. The adapter starts large enough to matter."""

    def __init__(self, base, rank):
        super().__init__()
        self.base_layer, self.scale = base, 2.0  # lora_alpha / r
        self.lora_A = nn.Parameter(torch.randn(rank, base.in_features) * base.in_features**-0.5)
        self.lora_B = nn.Parameter(torch.randn(base.out_features, rank) * 0.2 * rank**-0.5)

    def forward(self, x):
        return self.base_layer(x) + self.scale * nn.functional.linear(nn.functional.linear(x, self.lora_A), self.lora_B)


def phi4(vocab_size, added, lora=True):
    net = transformers.Phi4MultimodalForCausalLM(phi4_config(vocab_size, added))
    if lora:
        for layer in net.model.layers:
            for owner, names in [(layer.self_attn, ["qkv_proj", "o_proj"]), (layer.mlp, ["gate_up_proj", "down_proj"])]:
                for name in names:
                    setattr(owner, name, LoraLinear(getattr(owner, name), LORA["vision"]))
    for name, p in net.named_parameters():
        if p.dim() > 1 and "lora" not in name:
            nn.init.normal_(p, 0, 0.02 if "embed" in name and "patch" not in name else 0.7 * p[0].numel() ** -0.5)
    return net


# ------------------------------------------------------------------------------------------------ generators


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


def sd3_vae():
    return diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[24, 48, 64, 64],
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=8,
        sample_size=SIZE,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=True,
    )


def sd15_vae():
    """Three blocks instead of four: a 96-pixel picture keeps 24 x 24 latents."""
    return diffusers.AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 3,
        up_block_types=["UpDecoderBlock2D"] * 3,
        block_out_channels=[24, 48, 64],
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=SIZE,
    )


def sd3(clip_vocab, t5_vocab):
    """Everything that learns from pairs of text and picture."""
    clip_l, clip_g = clip_config(48, 2, "quick_gelu", clip_vocab), clip_config(64, 3, "gelu", clip_vocab)
    t5_config = transformers.T5Config(
        vocab_size=-(-t5_vocab // 64) * 64,
        d_model=128,
        d_kv=32,
        num_heads=4,
        d_ff=256,
        num_layers=2,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=SIZE // 8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=4,
        num_attention_heads=4,
        attention_head_dim=32,
        joint_attention_dim=t5_config.d_model,
        caption_projection_dim=128,
        pooled_projection_dim=clip_l.hidden_size + clip_g.hidden_size,
        pos_embed_max_size=24,
    )
    # Every block begins as the identity and the velocity as zero, as diffusion transformers are started.
    for name, p in transformer.named_parameters():
        if name.startswith("proj_out") or (".linear." in name and "norm" in name):
            nn.init.zeros_(p)
    return nn.ModuleDict(
        {
            "text_encoder": transformers.CLIPTextModelWithProjection(clip_l),
            "text_encoder_2": transformers.CLIPTextModelWithProjection(clip_g),
            "text_encoder_3": transformers.T5EncoderModel(t5_config),
            "transformer": transformer,
        }
    )


def sd15(clip_vocab):
    unet = diffusers.UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=4,
        out_channels=4,
        down_block_types=["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
        up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        block_out_channels=[32, 64, 96],
        layers_per_block=1,
        attention_head_dim=4,  # as published, in truth the number of heads
        cross_attention_dim=64,
        norm_num_groups=8,
    )
    nn.init.zeros_(unet.conv_out.weight)
    text = transformers.CLIPTextModel(clip_config(64, 3, "quick_gelu", clip_vocab))
    return nn.ModuleDict({"text_encoder": text, "unet": unet})


# ------------------------------------------------------------------------------------------------ metric nets


def art_inception(reference):
    """The art-Inception of `reference` (art_fid.inception), all widths divided, the three colours aside.

    Head `fc1` names the style; `fc2` holds the values of all attributes, one group after the other.
    """

    class NarrowConv(reference.BasicConv2d):
        def __init__(self, in_channels, out_channels, **options):
            in_channels = in_channels if in_channels == 3 else in_channels // NARROWER
            super().__init__(in_channels, out_channels // NARROWER, **options)

    names = ["InceptionA", "InceptionB", "InceptionC", "InceptionD", "InceptionE", "InceptionAux"]
    blocks = [functools.partial(getattr(reference, name), conv_block=NarrowConv) for name in names]
    net = reference.Inception3(aux_logits=False, inception_blocks=[NarrowConv, *blocks], init_weights=False, dropout=0.1)
    # Without the auxiliary heads, which serve training only.
    net.AuxLogits1 = net.AuxLogits2 = None
    width = 2048 // NARROWER
    net.fc1 = nn.Linear(width, len(texts.STYLES))
    net.fc2 = nn.Linear(width, sum(len(values) for values in texts.ATTRIBUTES.values()))
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, math.sqrt(2 / module.weight[0].numel()))
    return net


class AlexNet(nn.Module):
    """The convolutions of torchvision's AlexNet, narrow, under heads that training alone needs."""

    def __init__(self):
        super().__init__()
        w = [width // NARROWER for width in [64, 192, 384, 256, 256]]
        relu, pool = functools.partial(nn.ReLU, inplace=False), functools.partial(nn.MaxPool2d, 3, 2)
        self.features = nn.Sequential(
            *[nn.Conv2d(3, w[0], 11, 4, 2), relu(), pool(), nn.Conv2d(w[0], w[1], 5, padding=2), relu(), pool()],
            *[nn.Conv2d(w[1], w[2], 3, padding=1), relu(), nn.Conv2d(w[2], w[3], 3, padding=1), relu()],
            *[nn.Conv2d(w[3], w[4], 3, padding=1), relu(), pool()],
        )
        outputs = len(texts.STYLES) + sum(len(values) for values in texts.ATTRIBUTES.values())
        self.pool, self.head = nn.AdaptiveAvgPool2d(3), nn.Linear(9 * w[4], outputs)
        self.widths = w

    def forward(self, x):
        return self.head(self.pool(self.features(x)).flatten(1))
