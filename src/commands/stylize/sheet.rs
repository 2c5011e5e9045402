//! `toolkit stylize --contact-sheet`: strengths, seeds and styles side by side.

use anyhow::Result;
use image::RgbImage;

use super::work::{Work, remark, request};
use crate::cli::StylizeArgs;
use crate::error::Outcome;
use crate::models::Generator;
use crate::pipelines;
use crate::report::contact_sheet::{SheetCell, SheetRow, contact_sheet};

/// Where pictures may differ; the columns of the sheet are the first of these with several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Axis {
    Strength,
    Seed,
    Style,
}

/// One picture: places in the lists of strengths, prompts and seeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Choice {
    strength: usize,
    prompt: usize,
    seed: usize,
}

/// Draws every picture and lays them out. A picture that fails leaves an empty frame.
pub fn draw(args: &StylizeArgs, work: &Work, generator: &dyn Generator) -> Result<(RgbImage, Outcome)> {
    let columns = columns(args, work);
    let mut rows = Vec::new();
    let mut outcome = Outcome::Done;
    for choices in grid(args, work, columns) {
        let mut cells = Vec::new();
        if let Some(photo) = &work.fitted.photo {
            cells.push(SheetCell { picture: Some(photo.clone()), caption: "photo".to_string() });
        }
        let label = choices.first().map(|choice| label(args, work, *choice, columns)).unwrap_or_default();
        for (choice, drawn) in choices.iter().zip(drawn(args, work, generator, &choices)) {
            let caption = value(args, *choice, columns);
            let cell = match drawn {
                Ok(picture) => SheetCell { picture: Some(picture), caption },
                Err(error) => {
                    tracing::error!("{caption}: {error:#}");
                    outcome = Outcome::SomeFailed;
                    SheetCell { picture: None, caption: format!("{caption}\n{error:#}") }
                }
            };
            cells.push(cell);
        }
        rows.push(SheetRow { label, cells });
    }
    if rows
        .iter()
        .all(|row| row.cells.iter().skip(usize::from(work.fitted.photo.is_some())).all(|c| c.picture.is_none()))
    {
        anyhow::bail!("none of the pictures could be drawn");
    }
    Ok((contact_sheet(&rows)?, outcome))
}

/// The pictures of a row, in its order: those of one strength in one batch.
fn drawn(args: &StylizeArgs, work: &Work, generator: &dyn Generator, row: &[Choice]) -> Vec<Result<RgbImage>> {
    let mut pictures = Vec::new();
    for group in row.chunk_by(|a, b| a.strength == b.strength) {
        let strength = args.strength.get(group[0].strength).copied();
        let each: Vec<(usize, u64)> = group.iter().map(|choice| (choice.prompt, args.seed[choice.seed])).collect();
        let drawn = pipelines::draw(generator, &request(args, work, strength, &each));
        pictures.extend(drawn.into_iter().map(|result| result.inspect(remark).map(|drawn| drawn.image)));
    }
    pictures
}

fn columns(args: &StylizeArgs, work: &Work) -> Axis {
    let several =
        [(Axis::Strength, args.strength.len()), (Axis::Seed, args.seed.len()), (Axis::Style, work.prompts.len())];
    several.into_iter().find(|(_, count)| *count > 1).map_or(Axis::Strength, |(axis, _)| axis)
}

/// The rows of the sheet: every combination, `columns` varying inside a row.
fn grid(args: &StylizeArgs, work: &Work, columns: Axis) -> Vec<Vec<Choice>> {
    let mut rows: Vec<Vec<Choice>> = Vec::new();
    let strengths = args.strength.len().max(1);
    let count = |axis, length: usize| if axis == columns { 1 } else { length };
    for prompt in 0..count(Axis::Style, work.prompts.len()) {
        for seed in 0..count(Axis::Seed, args.seed.len()) {
            for strength in 0..count(Axis::Strength, strengths) {
                let at = Choice { strength, prompt, seed };
                rows.push(match columns {
                    Axis::Strength => (0..strengths).map(|strength| Choice { strength, ..at }).collect(),
                    Axis::Seed => (0..args.seed.len()).map(|seed| Choice { seed, ..at }).collect(),
                    Axis::Style => (0..work.prompts.len()).map(|prompt| Choice { prompt, ..at }).collect(),
                });
            }
        }
    }
    rows
}

/// What a picture has on an axis, in words; nothing where there is nothing to say.
fn value(args: &StylizeArgs, choice: Choice, axis: Axis) -> String {
    match axis {
        Axis::Strength => args.strength.get(choice.strength).map(|s| format!("strength {s}")).unwrap_or_default(),
        Axis::Seed => format!("seed {}", args.seed[choice.seed]),
        Axis::Style => args.style.get(choice.prompt).cloned().unwrap_or_default(),
    }
}

/// What the pictures of a row have in common and those of other rows do not.
fn label(args: &StylizeArgs, work: &Work, choice: Choice, columns: Axis) -> String {
    let several =
        [(Axis::Style, work.prompts.len()), (Axis::Strength, args.strength.len()), (Axis::Seed, args.seed.len())];
    let differing = several.into_iter().filter(|(axis, count)| *axis != columns && *count > 1);
    differing.map(|(axis, _)| value(args, choice, axis)).collect::<Vec<_>>().join(", ")
}
