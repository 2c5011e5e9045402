//! Captions prepared for scoring: what several metrics need of them is computed once, when the first one asks.

use std::sync::{Arc, OnceLock};

use super::bleu::{self, Counts, ReferenceLength};
use super::captions::Caption;
use super::clip_score::ClipScores;
use super::corpus::{Corpus, Texts};
use super::rouge::{self, Rouge};
use super::{cider, ptb};

/// Captions and their references.
pub struct Prepared<'a> {
    pub texts: Texts<'a>,
    clip: Vec<Option<ClipScores>>,
    bleu: OnceLock<Arc<Vec<Counts>>>,
    rouge: OnceLock<Vec<Rouge>>,
    coco: OnceLock<Coco>,
}

/// What the COCO caption evaluation computes from one tokenization.
pub struct Coco {
    pub bleu: Arc<Vec<Counts>>,
    pub rouge_l: Vec<f64>,
    pub cider: Vec<f64>,
}

impl<'a> Prepared<'a> {
    pub fn new(captions: &'a [Caption]) -> Self {
        let clip = captions.iter().map(|caption| caption.clip).collect();
        Self { texts: Texts::new(captions), clip, bleu: OnceLock::new(), rouge: OnceLock::new(), coco: OnceLock::new() }
    }

    /// What CLIP says of each caption.
    pub fn clip(&self) -> &[Option<ClipScores>] {
        &self.clip
    }

    /// The counts of each caption over mteval-v13a tokens.
    pub fn bleu(&self) -> &Arc<Vec<Counts>> {
        self.bleu.get_or_init(|| {
            let tokens = self.texts.tokenize(bleu::tokenize_13a);
            Arc::new(bleu::item_counts(&Corpus::new(&tokens), ReferenceLength::Shortest))
        })
    }

    pub fn rouge(&self) -> &[Rouge] {
        self.rouge.get_or_init(|| rouge::scores(&self.texts))
    }

    pub fn coco(&self) -> &Coco {
        self.coco.get_or_init(|| {
            let tokens = self.texts.tokenize(ptb::tokenize_caption);
            let corpus = Corpus::new(&tokens);
            Coco {
                bleu: Arc::new(bleu::item_counts(&corpus, ReferenceLength::Closest)),
                rouge_l: rouge::coco_rouge_l(&corpus),
                cider: cider::scores(&corpus),
            }
        })
    }
}
