//! Vision encoders, and how pictures are prepared for them.

pub mod clip_vision;
pub mod image_encoder;
pub mod image_processor;
