//! The parts of the pipeline, and the published sizes of version 1.5 to measure speed at.

use crate::models::pipeline_source::Part;

pub const TEXT_ENCODER: Part = Part { folder: "text_encoder", stem: "model", parameters: 123_060_480 };
pub const UNET: Part = Part { folder: "unet", stem: "diffusion_pytorch_model", parameters: 859_520_964 };
pub const VAE: Part = Part { folder: "vae", stem: "diffusion_pytorch_model", parameters: 83_653_863 };
pub const SAFETY_CHECKER: Part = Part { folder: "safety_checker", stem: "model", parameters: 303_981_588 };

/// The configuration files of stable-diffusion-v1-5/stable-diffusion-v1-5.
pub const PUBLISHED: &str = r#"{
  "model_index": {"_class_name": "StableDiffusionPipeline"},
  "unet": {
    "sample_size": 64, "in_channels": 4, "out_channels": 4, "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
    "layers_per_block": 2, "attention_head_dim": 8, "cross_attention_dim": 768, "norm_num_groups": 32,
    "norm_eps": 1e-5, "act_fn": "silu", "flip_sin_to_cos": true, "freq_shift": 0, "downsample_padding": 1,
    "mid_block_scale_factor": 1, "center_input_sample": false
  },
  "text_encoder": {
    "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "quick_gelu", "projection_dim": 768, "layer_norm_eps": 1e-5,
    "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 2
  },
  "vae": {
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 2, "norm_num_groups": 32,
    "block_out_channels": [128, 256, 512, 512], "act_fn": "silu",
    "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
    "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
  },
  "scheduler": {
    "_class_name": "PNDMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "skip_prk_steps": true, "set_alpha_to_one": false, "steps_offset": 1
  }
}"#;
