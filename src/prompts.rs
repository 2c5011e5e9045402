//! Composes `description, style` within a text encoder's limit.

/// The text encoder's tokenizer and limit. To be filled with the CLIP tokenizer.
#[derive(Debug)]
pub struct TokenBudget {}
