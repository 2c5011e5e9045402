//! What was once wrong with the page and the notebook, as who reads them sees it.

use std::path::Path;

use anyhow::Result;
use toolkit::axes::instruction;
use toolkit::report;
use toolkit::run::csv;
use toolkit::run::style::Comparison;

use crate::report::fixture::STYLES;
use crate::report::{between, edit, page_of, run_folder};

/// The page without its pictures, scripts and tags.
fn visible(html: &str) -> String {
    let body = between(html, "<body>", "</body>");
    let mut text = String::new();
    for (at, part) in body.split('<').enumerate() {
        let skipped = part.starts_with("script");
        let after = if at == 0 { Some(part) } else { part.split_once('>').map(|(_, after)| after) };
        text += after.filter(|_| !skipped).unwrap_or_default();
    }
    text
}

#[test]
fn what_all_strategies_share_is_said_once() -> Result<()> {
    let (_temp, dir) = run_folder(12, 8)?;
    let long = "Use one sentence to describe the person's appearance, including hairstyle, face shape, and clothing.";
    edit(
        &dir,
        |items| items.iter_mut().for_each(|item| item.face_share = Some(0.0)),
        |results| results.iter_mut().for_each(|row| row.axes.set(&instruction::AXIS, long)),
    )?;
    let text = visible(&page_of(&dir)?);
    assert_eq!(text.matches(&long.replace('\'', "&#x27;")).count(), 1, "the instruction");
    // Drawn faces are found in no photo: that explains no failure, and it is not said of each strategy.
    assert_eq!(text.matches("No face found").count(), 1);
    assert!(text.contains("holds for most pictures of every strategy, so it explains none."));
    // Where the strategies differ in it, their rows have its beginning alone.
    edit(
        &dir,
        |_| {},
        |results| {
            for (at, row) in results.iter_mut().enumerate() {
                row.axes.set(&instruction::AXIS, format!("{long} Answer {}.", at % 2).as_str());
            }
        },
    )?;
    let html = page_of(&dir)?;
    let table = between(&html, "<h2 id=\"results\">", "</table>");
    assert_eq!(table.matches("<span aria-hidden=\"true\">Use one sentence").count(), 12, "{table}");
    assert!(!table.contains(&format!("<span aria-hidden=\"true\">{}", long.replace('\'', "&#x27;"))));
    Ok(())
}

#[test]
fn no_one_is_called_a_failure_where_no_one_judged() -> Result<()> {
    let (temp, dir) = run_folder(2, 12)?;
    edit(
        &dir,
        |items| {
            items.retain(|item| item.status == "done");
            items.iter_mut().for_each(|item| (item.remark, item.error) = Default::default());
        },
        |results| results.iter_mut().for_each(|row| row.failed = 0),
    )?;
    let text = visible(&page_of(&dir)?).to_lowercase();
    let file = report::notebook(&dir, Some(&temp.path().join("run.ipynb")))?;
    let notebook = std::fs::read_to_string(file)?.to_lowercase();
    for word in ["success", "failure"] {
        assert!(!text.contains(word), "{word} on the page");
        assert!(!notebook.contains(word), "{word} in the notebook");
    }
    assert!(text.contains("best and worst scores") && notebook.contains("## best and worst scores"));
    Ok(())
}

#[test]
fn a_picture_is_described_by_its_prompt() -> Result<()> {
    let (_temp, dir) = run_folder(2, 8)?;
    let html = page_of(&dir)?;
    let images = html.split("<img ").skip(1).map(|image| image.split_once('>').unwrap().0);
    let alts: Vec<&str> = images.map(|image| between(image, "alt=\"", "\"")).filter(|alt| !alt.is_empty()).collect();
    let (photos, pictures): (Vec<&str>, Vec<&str>) = alts.iter().partition(|alt| alt.starts_with("Photo face-"));
    assert!(photos.len() > 8 && pictures.len() > 8, "{alts:?}");
    for alt in pictures {
        let (of, prompt) = alt.split_once(": ").unwrap_or_else(|| panic!("{alt}"));
        assert!(of.starts_with("face-0") && prompt.starts_with("a person number"), "{alt}");
    }
    Ok(())
}

/// On a phone a column is narrower than many a name.
#[test]
fn names_of_columns_break_behind_their_underscores_and_are_no_markup() -> Result<()> {
    let (_temp, dir) = run_folder(2, 8)?;
    let name = "wide_<b>_ink_";
    edit(
        &dir,
        |items| items.iter_mut().filter(|i| i.strategy == STYLES[1].0).for_each(|i| i.strategy = name.into()),
        |results| results[1].strategy = name.into(),
    )?;
    let html = page_of(&dir)?;
    assert!(html.contains("<span>wide_<wbr>&lt;b&gt;_<wbr>ink_<wbr></span>"));
    assert!(html.contains(&format!("<span>{}</span>", STYLES[0].0)));
    Ok(())
}

/// Thirty pairs, each with a small probability of its own: after Holm's correction none is certain.
#[test]
fn probabilities_are_corrected_for_how_many_they_are() -> Result<()> {
    let (_temp, dir) = run_folder(4, 10)?;
    let name = |at: usize| STYLES[at].0.to_string();
    let pairs = (0..4).flat_map(|first| (first + 1..4).map(move |second| (first, second)));
    let rows: Vec<Comparison> = pairs
        .flat_map(|pair| ["artfid", "fid", "lpips"].map(|metric| (pair, metric)))
        .map(|((first, second), metric)| Comparison {
            metric: metric.into(),
            first: name(first),
            second: name(second),
            n: 9,
            difference: -1.5,
            low: -3.0,
            high: -0.1,
            p_value: 0.03,
            p_holm: Some(0.18),
        })
        .collect();
    csv::write(&dir.join("comparisons.csv"), &rows, &[])?;
    let html = page_of(&dir)?;
    let table = between(&html, "<h2 id=\"comparisons\">", "</table>");
    assert_eq!((table.matches("p = 0.180").count(), table.matches("0.030").count()), (rows.len(), 0), "{table}");
    assert!(!table.contains("<b>"), "nothing is certain");
    Ok(())
}

fn cell<'a>(notebook: &'a serde_json::Value, id: &str) -> &'a serde_json::Value {
    notebook["cells"].as_array().unwrap().iter().find(|cell| cell["id"] == id).unwrap_or_else(|| panic!("no {id}"))
}

fn table_of(dir: &Path, out: &Path, id: &str) -> Result<String> {
    let file = report::notebook(dir, Some(&out.join("run.ipynb")))?;
    let notebook: serde_json::Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let lines = cell(&notebook, id)["outputs"][0]["data"]["text/html"].as_array().unwrap();
    Ok(lines.iter().filter_map(|line| line.as_str()).collect())
}

#[test]
fn tables_of_the_notebook_have_wide_texts_and_times_of_people() -> Result<()> {
    let (temp, dir) = run_folder(2, 12)?;
    let cases = table_of(&dir, temp.path(), "cases-0")?;
    for column in ["caption", "prompt", "dropped"] {
        assert!(cases.contains(&format!("<th style=\"min-width: 240px;\">{column}</th>")), "{column} in {cases}");
    }
    assert!(cases.contains("smiling at the camera"), "the end of a caption");
    let manifest = table_of(&dir, temp.path(), "manifest")?;
    assert!(manifest.contains("2026-05-28 20:26 UTC") && !manifest.contains("1780000000"), "{manifest}");
    Ok(())
}
