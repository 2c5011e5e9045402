//! The prompt budget: what must hold for every description and style.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tokenizers::Tokenizer;
use toolkit::error::UsageError;
use toolkit::models::TextTokenizer;
use toolkit::prompts::TokenBudget;

fn tokenizer(name: &str) -> Arc<Tokenizer> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/text_tokenizers").join(name);
    TextTokenizer::clip(&dir, 77).unwrap().tokenizer().clone()
}

/// Two tokenizers of different vocabularies, as Stable Diffusion 3 has.
fn budget(limit: usize) -> TokenBudget {
    TokenBudget::new(vec![tokenizer("clip_l"), tokenizer("clip_g")], limit)
}

#[test]
fn what_fits_is_not_changed() {
    let composed = budget(77).compose("a woman with red hair", "oil painting").unwrap();
    assert_eq!(composed.prompt, "a woman with red hair, oil painting");
    assert_eq!(composed.dropped, "");
    assert_eq!(composed.limit, 77);
    assert_eq!(composed.tokens, budget(77).count("a woman with red hair, oil painting").unwrap());
}

#[test]
fn punctuation_reads_well() {
    let prompt = |description: &str, style: &str| budget(77).compose(description, style).unwrap().prompt;
    assert_eq!(prompt("She has red hair.", "oil painting"), "She has red hair, oil painting");
    assert_eq!(prompt("She smiles; \n", " oil painting "), "She smiles, oil painting");
    assert_eq!(prompt("What a smile!", "oil painting"), "What a smile!, oil painting");
    assert_eq!(prompt("red hair", ", oil painting"), "red hair, oil painting");
    assert_eq!(prompt("two\nlines\tof  text", "ink"), "two lines of text, ink");
    assert_eq!(prompt("", "ink"), "ink");
    assert_eq!(prompt(" ... ", "ink"), "ink");
    assert_eq!(prompt("She has red hair.", ""), "She has red hair.");
}

#[test]
fn the_shortened_description_is_the_longest_that_fits() {
    let words: Vec<String> = (0..200).map(|i| format!("word{i},")).collect();
    let composed = budget(40).compose(&words.join(" "), "pixel art, 16 colors").unwrap();
    let kept = composed.prompt.strip_suffix(", pixel art, 16 colors").unwrap().split(' ').count();
    assert!(kept > 1);
    assert_eq!(composed.dropped, words[kept..].join(" "));
    let one_more = format!("{}, pixel art, 16 colors", words[..=kept].join(" ").trim_end_matches(','));
    assert!(budget(40).count(&one_more).unwrap() > 40);
}

#[test]
fn a_style_that_does_not_fit_is_wrong_usage() {
    let error = budget(20).compose("a cat", &"thick brush strokes ".repeat(20)).unwrap_err();
    assert!(error.downcast_ref::<UsageError>().is_some());
    assert!(error.to_string().contains("reads 20"), "{error}");
}

#[test]
fn all_tokenizers_count() {
    let (one, other) =
        (TokenBudget::new(vec![tokenizer("clip_l")], 77), TokenBudget::new(vec![tokenizer("clip_g")], 77));
    let text = "a young woman with long red hair";
    let both = budget(77).count(text).unwrap();
    assert!(one.count(text).unwrap() < other.count(text).unwrap(), "the vocabularies differ");
    assert_eq!(both, other.count(text).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_style_survives_and_the_limit_holds(
        description in r"(\PC{0,12}[ \n.,;:!-]{1,2}){0,40}",
        style in r"[a-zéA-Z0-9 ,.'-]{0,30}",
        limit in 40usize..77,
    ) {
        let budget = budget(limit);
        prop_assume!(budget.count(style.trim()).unwrap() <= limit);
        let composed = budget.compose(&description, &style).unwrap();
        prop_assert!(composed.prompt.ends_with(style.trim()));
        prop_assert!(composed.tokens <= limit);
        prop_assert_eq!(composed.tokens, budget.count(&composed.prompt).unwrap());
        // Kept words, then dropped words, are the description; at the seam only punctuation may go.
        let words: Vec<&str> = description.split_whitespace().collect();
        let dropped = composed.dropped.split_whitespace().count();
        let kept = &words[..words.len() - dropped];
        prop_assert_eq!(words[kept.len()..].join(" "), composed.dropped);
        let beginning = kept.join(" ");
        let beginning = beginning.trim_end_matches(|c: char| ".,;:-–— ".contains(c));
        prop_assert!(composed.prompt.starts_with(beginning));
    }
}
