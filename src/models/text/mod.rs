//! Text encoders of several generators, and tokenizers.

pub(super) mod clip_layer;
pub mod clip_text;
mod clip_vocabulary;
mod sentencepiece;
pub mod t5_encoder;
pub(super) mod text_tokenizer;
pub(super) mod tokenizer_file;
