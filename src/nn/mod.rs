//! Layers that several models use. Each takes a [`Weights`](crate::checkpoints::Weights) place, so
//! its fields carry the checkpoint's own key names.

mod attention;
mod feature_maps;
mod float8;
mod float8_attention;
pub mod fused;
mod kv_cache;
mod layers;
mod lora;
mod resnet;
mod rotary;
mod step_view;
mod warm_up;

pub use attention::{attention, causal_attention, join_heads, repeat_heads, split_heads, with_long_attention};
pub use feature_maps::{
    Conv2d, DeferredBias, GroupNorm, channels_last, conv_relu, from_tokens, laid_out, to_tokens, upsample_nearest,
    wants_channels_first,
};
pub use float8::{AnyLinear, FLOAT8_UNIT, Float8Linear, Float8Rows, LayerInput, requantise};
pub use float8_attention::float8_attention;
pub use kv_cache::{KvCache, Stretch};
pub use layers::{Activation, Embedding, LayerNorm, Linear, RmsNorm};
pub use lora::{Lora, merged_linear};
pub use resnet::{ResnetBlock, ResnetStyle};
pub use rotary::{RotaryTable, Rotation};
pub use step_view::{SPARE_PLACES, Slot, StepView, capacity};
pub use warm_up::{Library, load_libraries, warm_up};
