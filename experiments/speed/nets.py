"""The peers' networks at their published sizes (tiny: the same architecture with few layers), by transformers,
diffusers, torchvision and lpips. Each function gives a function that builds one."""


def sd3_transformer(tiny=False):
    from diffusers import SD3Transformer2DModel

    return lambda: SD3Transformer2DModel(
        sample_size=128, patch_size=2, in_channels=16, out_channels=16, num_layers=2 if tiny else 24,
        attention_head_dim=64, num_attention_heads=24, joint_attention_dim=4096, caption_projection_dim=1536,
        pooled_projection_dim=2048, pos_embed_max_size=192)


def autoencoder(latent_channels):
    """Of SD3 (16 channels) or SD v1.5 (4)."""
    from diffusers import AutoencoderKL

    sd3 = dict(sample_size=1024, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
               use_post_quant_conv=False)
    return lambda: AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[128, 256, 512, 512], layers_per_block=2, latent_channels=latent_channels,
        **(sd3 if latent_channels == 16 else dict(sample_size=512)))


def clip(size, tiny=False):
    """CLIP's text encoder: `l` or `g`."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    width, layers, heads, act = {"l": (768, 12, 12, "quick_gelu"), "g": (1280, 32, 20, "gelu")}[size]
    config = CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=2 if tiny else layers,
                            num_attention_heads=heads, projection_dim=width, hidden_act=act)
    return lambda: CLIPTextModelWithProjection(config)


def t5(tiny=False):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(vocab_size=32128, d_model=4096, d_kv=64, d_ff=10240, num_layers=1 if tiny else 24, num_heads=64,
                      feed_forward_proj="gated-gelu", is_encoder_decoder=False, use_cache=False)
    return lambda: T5EncoderModel(config)


def unet():
    from diffusers import UNet2DConditionModel

    return lambda: UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8,
                                        block_out_channels=(320, 640, 1280, 1280))


def phi4(tiny=False):
    from transformers import Phi4MultimodalConfig, Phi4MultimodalForCausalLM

    config = Phi4MultimodalConfig(num_attention_heads=24, num_key_value_heads=8, tie_word_embeddings=True)
    config.audio_config.num_blocks = 1  # takes no part
    if tiny:
        config.num_hidden_layers = 2
        config.vision_config.num_hidden_layers = 3
    config._attn_implementation = "sdpa"
    return config, lambda: Phi4MultimodalForCausalLM(config)


def blip(size, tiny=False):
    """BLIP: `base` or `large`."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    width, layers, heads = {"base": (768, 12, 12), "large": (1024, 24, 16)}[size]
    vision = dict(image_size=384, patch_size=16, hidden_size=width, intermediate_size=4 * width,
                  num_hidden_layers=2 if tiny else layers, num_attention_heads=heads)
    text = dict(vocab_size=30524, hidden_size=768, num_attention_heads=12, num_hidden_layers=2 if tiny else 12,
                bos_token_id=30522, eos_token_id=2, pad_token_id=0, sep_token_id=102, encoder_hidden_size=width)
    config = BlipConfig(text_config=text, vision_config=vision)
    return lambda: BlipForConditionalGeneration(config)


def art_inception():
    from art_fid import inception

    return lambda: inception.Inception3(init_weights=False)


def alexnet():
    import torchvision

    return lambda: torchvision.models.alexnet(weights=None)
