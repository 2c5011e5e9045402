//! The parts of the pipeline, and the published sizes to measure speed at.

use crate::models::pipeline_source::Part;

pub const CLIP_L: Part = Part { folder: "text_encoder", stem: "model", parameters: 123_650_304 };
pub const CLIP_G: Part = Part { folder: "text_encoder_2", stem: "model", parameters: 694_659_840 };
pub const T5: Part = Part { folder: "text_encoder_3", stem: "model", parameters: 4_762_310_656 };
pub const TRANSFORMER: Part =
    Part { folder: "transformer", stem: "diffusion_pytorch_model", parameters: 2_084_951_104 };
pub const VAE: Part = Part { folder: "vae", stem: "diffusion_pytorch_model", parameters: 83_819_683 };

/// The configuration files of stabilityai/stable-diffusion-3-medium-diffusers.
pub const PUBLISHED: &str = r#"{
  "model_index": {"_class_name": "StableDiffusion3Pipeline", "text_encoder_3": ["transformers", "T5EncoderModel"]},
  "transformer": {
    "sample_size": 128, "patch_size": 2, "in_channels": 16, "out_channels": 16, "num_layers": 24,
    "attention_head_dim": 64, "num_attention_heads": 24, "joint_attention_dim": 4096,
    "caption_projection_dim": 1536, "pooled_projection_dim": 2048, "pos_embed_max_size": 192
  },
  "text_encoder": {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "quick_gelu", "projection_dim": 768, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 2
  },
  "text_encoder_2": {
    "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 20, "intermediate_size": 5120,
    "hidden_act": "gelu", "projection_dim": 1280, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 2
  },
  "text_encoder_3": {
    "d_model": 4096, "d_kv": 64, "num_heads": 64, "d_ff": 10240, "num_layers": 24,
    "feed_forward_proj": "gated-gelu", "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6, "vocab_size": 32128
  },
  "vae": {
    "in_channels": 3, "out_channels": 3, "latent_channels": 16, "layers_per_block": 2, "norm_num_groups": 32,
    "block_out_channels": [128, 256, 512, 512], "act_fn": "silu",
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
    "scaling_factor": 1.5305, "shift_factor": 0.0609, "use_quant_conv": false, "use_post_quant_conv": false
  },
  "scheduler": {"num_train_timesteps": 1000, "shift": 3.0}
}"#;
