//! The rows of `items.csv`, `results.csv` and `comparisons.csv` of a caption run.

use serde::{Deserialize, Serialize};

/// One picture as one model described it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptionItem {
    /// As the data set names it.
    pub id: String,
    pub dataset: String,
    /// The model's name in the results.
    pub model: String,
    /// The name of the instruction, where the model has several.
    pub strategy: String,
    /// What the model was asked; empty: its own default.
    pub prompt: String,
    pub caption: String,
    /// New tokens, the end token included.
    pub tokens: usize,
    /// Words of the caption.
    pub words: usize,
    /// Time of this picture, in seconds: its share of the batch.
    pub seconds: Option<f64>,
    /// The scores of this picture alone.
    pub bleu: Option<f64>,
    pub rouge1: Option<f64>,
    pub rouge2: Option<f64>,
    #[serde(rename = "rougeL")]
    pub rouge_l: Option<f64>,
    pub meteor: Option<f64>,
    pub cider: Option<f64>,
    /// `done` or `failed`.
    pub status: String,
    /// Why it failed, in one line.
    pub error: String,
    /// The picture's thumbnail, relative to the run folder.
    pub image: String,
}

/// One model on one data set. Intervals are 95 % bootstrap intervals.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CaptionResult {
    pub model: String,
    pub dataset: String,
    /// Pictures that were described and scored.
    pub n: usize,
    pub bleu: Option<f64>,
    pub rouge1: Option<f64>,
    pub rouge2: Option<f64>,
    pub meteor: Option<f64>,
    pub images_per_second: Option<f64>,
    #[serde(rename = "rougeL")]
    pub rouge_l: Option<f64>,
    #[serde(rename = "rougeLsum")]
    pub rouge_lsum: Option<f64>,
    pub bleu_low: Option<f64>,
    pub bleu_high: Option<f64>,
    pub rouge1_low: Option<f64>,
    pub rouge1_high: Option<f64>,
    pub rouge2_low: Option<f64>,
    pub rouge2_high: Option<f64>,
    pub meteor_low: Option<f64>,
    pub meteor_high: Option<f64>,
    /// As the COCO caption evaluation computes them.
    pub bleu1: Option<f64>,
    pub bleu2: Option<f64>,
    pub bleu3: Option<f64>,
    pub bleu4: Option<f64>,
    #[serde(rename = "rougeL_coco")]
    pub rouge_l_coco: Option<f64>,
    pub cider: Option<f64>,
    pub cider_low: Option<f64>,
    pub cider_high: Option<f64>,
    /// Mean words of a caption, and of a reference.
    pub words: Option<f64>,
    pub reference_words: Option<f64>,
    /// Pictures that could not be described.
    pub failed: usize,
    pub captioner: String,
    pub strategy: String,
    pub prompt: String,
}

/// Two models on the pictures of a data set that both described.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Comparison {
    pub dataset: String,
    pub metric: String,
    pub first: String,
    pub second: String,
    pub n: usize,
    /// The first's score less the second's, with its 95 % interval.
    pub difference: f64,
    pub low: f64,
    pub high: f64,
    /// Share of the resamples in which the first is better.
    pub first_better: f64,
    /// Two-sided, by paired bootstrap.
    pub p_value: f64,
}

impl CaptionItem {
    pub fn is_done(&self) -> bool {
        self.status == "done"
    }
}
