//! `toolkit prompt`.

use anyhow::Result;

use crate::cli::{Format, Global, PromptArgs};
use crate::error::Outcome;
use crate::models::load_token_budget;
use crate::runtime::Runtime;

pub fn run(args: PromptArgs, global: &Global) -> Result<Outcome> {
    let budget = load_token_budget(&args.model, &Runtime::new(global)?)?;
    let composed = budget.compose(&args.description, &args.style)?;
    match args.format {
        Format::Json => println!("{}", serde_json::to_string(&composed)?),
        Format::Csv => {
            let mut table = csv::Writer::from_writer(std::io::stdout());
            table.serialize(&composed)?;
            table.flush()?;
        }
        Format::Text => {
            println!("{}", composed.prompt);
            println!("{} of {} tokens", composed.tokens, composed.limit);
            if !composed.dropped.is_empty() {
                println!("dropped: {}", composed.dropped);
            }
        }
    }
    Ok(Outcome::Done)
}
