//! `toolkit prompt`.

use anyhow::Result;

use super::print::{self, say};
use crate::cli::{Format, Global, PromptArgs};
use crate::error::Outcome;
use crate::models::load_token_budget;
use crate::runtime::Runtime;

pub fn run(args: PromptArgs, global: &Global) -> Result<Outcome> {
    let budget = load_token_budget(&args.model, &Runtime::new(global)?)?;
    let composed = budget.compose(&args.description, &args.style)?;
    match args.format {
        Format::Json => say!("{}", serde_json::to_string(&composed)?),
        Format::Csv => print::table(|table| table.serialize(&composed))?,
        Format::Text => {
            say!("{}", composed.prompt);
            say!("{} of {} tokens", composed.tokens, composed.limit);
            if !composed.dropped.is_empty() {
                say!("dropped: {}", composed.dropped);
            }
        }
    }
    Ok(Outcome::Done)
}
