//! What people said of a run, in its page and its notebook.

use std::path::Path;

use anyhow::Result;
use toolkit::report::{self, table};
use toolkit::run::csv;
use toolkit::run::people::{RatingRow, VoteRow};

use crate::report::fixture::STYLES;
use crate::report::{between, page_of, run_folder};

/// Two raters judge some pictures of the first strategy, and vote on it against the second.
fn judge(dir: &Path) -> Result<()> {
    let rating = |rater: &str, photo: usize, good: bool| RatingRow {
        rater: rater.into(),
        id: format!("face-{photo:03}"),
        strategy: STYLES[0].0.into(),
        rating: if good { "success" } else { "failure" }.into(),
        reason: if good { "" } else { "deformed" }.into(),
        at: "2026-05-28T20:26:40Z".into(),
    };
    let rows = [
        rating("anna", 0, false), // a last word follows
        rating("anna", 0, true),
        rating("anna", 1, true),
        rating("anna", 2, true),
        rating("anna", 3, false),
        rating("anna", 4, false),
        rating("ben", 0, true),
        rating("ben", 1, true),
        rating("ben", 2, false),
        rating("ben", 3, false),
        RatingRow { id: "of another run".into(), ..rating("cleo", 0, true) },
    ];
    csv::write(&dir.join("ratings.csv"), &rows, &[])?;
    let vote = |photo: usize, choice: &str| VoteRow {
        rater: "anna".into(),
        id: format!("face-{photo:03}"),
        left: STYLES[0].0.into(),
        right: STYLES[1].0.into(),
        choice: choice.into(),
        at: "2026-05-28T20:26:40Z".into(),
    };
    let votes: Vec<VoteRow> =
        ["left", "left", "left", "right", "tie"].iter().zip(0..).map(|(c, p)| vote(p, c)).collect();
    csv::write(&dir.join("votes.csv"), &votes, &[])
}

#[test]
fn sheets_are_named_for_who_chose_and_none_of_another_choice_stays() -> Result<()> {
    let (_temp, dir) = run_folder(2, 12)?;
    let sheets = |dir: &Path| -> Result<Vec<String>> {
        report::gallery_sheets(dir)?;
        let files = std::fs::read_dir(dir.join("gallery"))?;
        let mut names: Vec<String> = files.flatten().map(|f| f.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        Ok(names)
    };
    let [judged, other] = [STYLES[0].0, STYLES[1].0];
    let named = |strategy: &str, ends: [&str; 2]| ends.map(|end| format!("{strategy}-{end}.png"));
    let mut expected = [named(judged, ["best", "worst"]), named(other, ["best", "worst"])].concat();
    expected.sort();
    assert_eq!(sheets(&dir)?, expected);
    judge(&dir)?;
    let mut expected = [named(judged, ["successes", "failures"]), named(other, ["best", "worst"])].concat();
    expected.sort();
    assert_eq!(sheets(&dir)?, expected);
    Ok(())
}

#[test]
fn what_people_said_is_in_the_page_and_leads_the_galleries() -> Result<()> {
    let (_temp, dir) = run_folder(2, 12)?;
    assert!(!page_of(&dir)?.contains("What people say"));
    judge(&dir)?;
    let html = page_of(&dir)?;
    // The head of the page answers for people, too: of five votes three are not enough.
    let answer = between(&html, "<section class=\"answer\"", "</section>");
    let verdict = "In 5 blind votes people choose watercolour most, but these votes do not tell it from pixel-art.";
    assert!(answer.contains(verdict), "{answer}");
    let section = between(&html, "<h2 id=\"people\">", "</section>");
    assert!(section.contains("<p>2 raters gave 9 ratings and 5 blind votes.</p>"), "{section}");
    // The mean of 1, 1, 0.5, 0 and 0, and the Wilson interval of 2.5 of 5.
    assert!(section.contains("50 %<small>17 to 83 %</small>") && section.contains("deformed 4"), "{section}");
    assert!(section.contains("Agreement of ratings: Cohen&#x27;s κ = 0.500 of 2 raters over 4 pictures."), "{section}");
    assert!(section.contains("Spearman’s ρ") && section.contains("LPIPS") && !section.contains("Seconds"));
    let gallery = |strategy: usize| between(&html, &format!("</span>{}</h3>", STYLES[strategy].0), "</section>");
    let ids = |part: &str| -> Vec<String> {
        let starts = part.split("<p class=\"numbers\"><b>").skip(1);
        starts.map(|p| p.split('<').next().unwrap_or("").to_string()).collect()
    };
    let mut good = ids(between(gallery(0), "<h4>Successes</h4>", "</ol>"));
    good.sort();
    assert_eq!(good, ["face-000", "face-001"]);
    assert_eq!(ids(between(gallery(0), "<h4>Failures</h4>", "</ol>")), ["face-003", "face-004"]);
    assert!(gallery(1).contains("<h4>Best scores</h4>") && !gallery(1).contains("<h4>Successes</h4>"));
    assert!(html.contains("<h2 id=\"pictures\">Successes and failures</h2>"));
    Ok(())
}

#[test]
fn a_notebook_of_a_judged_run_runs_in_jupyter_and_gives_what_it_stores() -> Result<()> {
    let (temp, dir) = run_folder(2, 12)?;
    judge(&dir)?;
    let file = report::notebook(&dir, Some(&temp.path().join("notebooks-export/style_ablation.ipynb")))?;
    let text = std::fs::read_to_string(&file)?;
    assert!(
        text.contains("## What people say") && text.contains("Bradley-Terry log-odds") && text.contains("by_people")
    );
    let notebook: serde_json::Value = serde_json::from_str(&text)?;
    let cells = notebook["cells"].as_array().unwrap();
    let said = cells.iter().find(|cell| cell["id"] == "people-title").unwrap()["source"].as_array().unwrap();
    let said: String = said.iter().filter_map(|line| line.as_str()).collect();
    for part in [
        "Agreement of ratings: Cohen's κ = 0.500 of 2 raters over 4 pictures.",
        "| watercolour | 5 | 50 \\[17, 83\\] | deformed 4 | 5 |",
        "| pixel-art | 0 | – | – | 5 |",
        "| watercolour | pixel-art | 3 | 1 | 1 |",
        "| Metric | Rated pictures | Spearman's ρ |",
        "| LPIPS | 5 |",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    crate::notebook_python::runs_and_gives_what_it_stores(&file);
    Ok(())
}

#[test]
fn tables_for_papers_hold_what_people_said() -> Result<()> {
    let (_temp, dir) = run_folder(2, 12)?;
    let table = |format: &str| {
        let format = table::FORMATS.iter().find(|known| known.name == format).unwrap();
        report::table(&dir, format)
    };
    assert_eq!(table("latex")?.matches("\\begin{table}").count(), 1);
    judge(&dir)?;
    let latex = table("latex")?;
    assert_eq!(latex.matches("\\begin{table}").count(), 4, "results, strategies, pairs, metrics: {latex}");
    for part in [
        "\\label{tab:style-ablation-people}",
        "2 raters gave 9 ratings and 5 blind votes. Agreement of ratings: Cohen's κ = 0.500 of 2 raters over 4 pictures.",
        "watercolour & 5 & 50 {\\scriptsize [17, 83]} & deformed 4 & 5 & \\textbf{",
        "watercolour & pixel-art & 3 & 1 & 1 & ",
        "LPIPS & 5 & ",
    ] {
        assert!(latex.contains(part), "{part} in {latex}");
    }
    let markdown = table("markdown")?;
    assert!(markdown.contains("| watercolour | 5 | 50 [17, 83] | deformed 4 | 5 | **"), "{markdown}");
    Ok(())
}

#[test]
fn answers_that_mean_nothing_are_one_line() -> Result<()> {
    let (_temp, dir) = run_folder(1, 4)?;
    std::fs::write(dir.join("votes.csv"), "rater,id,left,right,choice,at\na,p,x,y,both,t\n")?;
    let (text, status) = crate::report::failure("report", &dir)?;
    assert_eq!(
        (text.as_str(), status),
        ("error: RUN/votes.csv, row 1: choice \"both\" is none of left, right, tie\n", 1)
    );
    Ok(())
}
