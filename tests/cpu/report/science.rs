//! Pairs of strategies, effects of axes, agreement of metrics, tables for papers, and runs beside each other.

use std::path::{Path, PathBuf};

use anyhow::Result;
use toolkit::axes::{guidance_scale, scheduler, seed, style_text};
use toolkit::metrics::Value;
use toolkit::report;
use toolkit::run::csv;
use toolkit::run::style::{Comparison, EffectRow};

use super::fixture::{Fixture, STYLES};
use super::{between, edit, page_of, run_folder};

/// Compares all strategies of a folder: those after the first lie higher, each but the last certainly.
fn compared(dir: &Path, strategies: usize) -> Result<()> {
    let name = |at: usize| STYLES[at].0.to_string();
    let mut rows = Vec::new();
    for metric in ["artfid", "lpips"] {
        for first in 0..strategies {
            for second in first + 1..strategies {
                let p = if second + 1 == strategies { 0.2 } else { 0.001 };
                rows.push(Comparison {
                    metric: metric.into(),
                    first: name(first),
                    second: name(second),
                    n: 9,
                    difference: -1.5,
                    low: -3.0,
                    high: 0.25,
                    p_value: p / 2.0,
                    p_holm: Some(p),
                });
            }
        }
    }
    csv::write(&dir.join("comparisons.csv"), &rows, &[])
}

/// Twelve strategies as the cells of three axes.
fn crossed(dir: &Path) -> Result<()> {
    let scores = |row: usize| 100.0 + 7.0 * ((row * 5) % 12) as f64;
    edit(
        dir,
        |_| (),
        |results| {
            for (at, row) in results.iter_mut().enumerate() {
                row.axes.set(&scheduler::AXIS, ["ddim", "pndm"][at / 6]);
                row.axes.set(&guidance_scale::AXIS, [1.5, 3.0, 7.0][at / 2 % 3]);
                row.axes.set(&seed::AXIS, at as u64 % 2);
                row.axes.set(&style_text::AXIS, "in ink");
                let value = Some(scores(at));
                row.values.set("artfid", Value { value, low: value, high: value });
            }
        },
    )?;
    let config = "name = \"crossed\"\n[axes]\n[axes.scheduler]\nddim = \"ddim\"\npndm = \"pndm\"\n[axes.guidance_scale]\n\
                  low = 1.5\nmiddle = 3.0\nhigh = 7.0\n[axes.seed]\n0 = 0\n1 = 1\n";
    std::fs::write(dir.join("config.toml"), config)?;
    let effect = |axis: &str, value: &str, mean: f64, p_value: f64| EffectRow {
        axis: axis.into(),
        value: value.into(),
        metric: "artfid".into(),
        n: 60,
        mean,
        low: mean - 4.0,
        high: mean + 4.0,
        p_value,
    };
    let rows = [
        effect("scheduler", "ddim", 120.0, 0.6),
        effect("scheduler", "pndm", 121.0, 0.6),
        effect("guidance_scale", "low", 150.0, 0.0001),
        effect("guidance_scale", "high", 110.0, 0.0001),
    ];
    csv::write(&dir.join("effects.csv"), &rows, &[])
}

#[test]
fn the_page_says_which_strategies_are_told_apart() -> Result<()> {
    let (_temp, dir) = run_folder(3, 10)?;
    edit(
        &dir,
        |_| (),
        |results| results[0].values.set("artfid", Value { value: Some(1.0), low: Some(0.5), high: None }),
    )?;
    let before = page_of(&dir)?;
    assert!(!before.contains("id=\"comparisons\""), "an old folder has no pairs");
    compared(&dir, 3)?;
    let html = page_of(&dir)?;
    let said = "watercolour has the lowest ArtFID, 1.000, but on the same photos the difference from line-drawing is only 1.500 \
                (95 % interval −0.250 to 3.000, paired bootstrap p = 0.200): this run does not tell the two apart.";
    assert!(html.contains(said), "{}", between(&html, "class=\"sentence\"", "</p>"));
    let table = between(&html, "<h2 id=\"comparisons\">", "</table>");
    assert_eq!(table.matches("class=\"pair-of\"").count(), 3, "every pair of a few");
    // The better one is the second: what the other has more.
    let pair = between(table, "pixel-art<br>− watercolour", "</tr>");
    assert_eq!(
        pair.matches("<b>+1.500</b><small>−0.250 to 3.000</small><small>p = 0.001</small>").count(),
        2,
        "{pair}"
    );
    assert!(table.contains("line-drawing<br>− watercolour") && table.contains(">+1.500<small>"), "not bold");
    // Of many each against the best alone.
    let (_temp, dir) = run_folder(6, 10)?;
    compared(&dir, 6)?;
    let html = page_of(&dir)?;
    let table = between(&html, "<h2 id=\"comparisons\">", "</table>");
    assert_eq!(table.matches("class=\"pair-of\"").count(), 5);
    assert!(table.contains("comparisons.csv has 10 more pairs."));
    Ok(())
}

#[test]
fn the_page_of_many_strategies_leads_with_what_the_axes_do() -> Result<()> {
    let (_temp, dir) = run_folder(12, 10)?;
    assert!(!page_of(&dir)?.contains("id=\"effects\""));
    crossed(&dir)?;
    let html = page_of(&dir)?;
    let first = between(&html, "<p class=\"sentence\">", "</p>");
    assert_eq!(
        first,
        "Over all photos and the other axes, by mean ArtFID, the axis that does most first: guidance scale high has 110.0 \
         where low has 150.0 (p &lt; 0.001); the values of scheduler are not told apart (p = 0.600)."
    );
    let places = ["id=\"effects\"", "id=\"results\"", "id=\"plots\""].map(|mark| html.find(mark));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
    let table = between(&html, "<h2 id=\"effects\">", "</table>");
    assert!(table.contains("<b>150.0</b><small>146.0 to 154.0</small><small>p &lt; 0.001</small>"), "{table}");
    let files = report::plot(&dir)?;
    assert!(files.iter().any(|file| file.ends_with("plots/interaction.svg")));
    let svg = std::fs::read_to_string(dir.join("plots/interaction.svg"))?;
    assert!(svg.contains("guidance scale by scheduler") && svg.contains("middle"));
    Ok(())
}

#[test]
fn the_page_says_whether_metrics_agree() -> Result<()> {
    let (_temp, dir) = run_folder(6, 10)?;
    let html = page_of(&dir)?;
    let part = between(&html, "<h2 id=\"correlations\">", "</section>");
    assert!(part.contains("Over pictures") && part.contains("Over strategies") && !part.contains("too few"));
    // ArtFID follows FID in the made-up numbers.
    let line = between(part, "<tr><th scope=\"row\">ArtFID</th>", "</tr>");
    assert!(line.contains("<td class=\"number\"></td><td class=\"number\">+1.000</td>"), "{line}");
    // Three strategies are ordered alike, or in reverse, by chance: +1 and -1 would say nothing.
    let (_temp, dir) = run_folder(3, 10)?;
    let html = page_of(&dir)?;
    let part = between(&html, "<h2 id=\"correlations\">", "</section>");
    assert!(part.contains("<p>3 strategies are too few to correlate metrics over: it takes 5.</p>"), "{part}");
    assert_eq!(part.matches("<table").count(), 1, "pictures there are enough");
    let (_temp, dir) = run_folder(1, 10)?;
    assert!(!page_of(&dir)?.contains("Over strategies"), "one strategy has no order");
    Ok(())
}

#[test]
fn a_notebook_of_comparisons_runs_in_jupyter() -> Result<()> {
    let (temp, dir) = run_folder(12, 10)?;
    crossed(&dir)?;
    compared(&dir, 12)?;
    let file = report::notebook(&dir, Some(&temp.path().join("notebooks-export/crossed.ipynb")))?;
    let text = std::fs::read_to_string(&file)?;
    for id in ["comparisons", "effects", "plot-interaction", "agreement-0", "agreement-1"] {
        assert!(text.contains(&format!("\"id\": \"{id}\"")), "{id}");
    }
    crate::notebook_python::runs_and_gives_what_it_stores(&file);
    Ok(())
}

fn toolkit(arguments: &[&str], dir: &Path) -> Result<(String, String, i32)> {
    let output = assert_cmd::Command::cargo_bin("toolkit")?.args(arguments).current_dir(dir).output()?;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ok((text(output.stdout), text(output.stderr), output.status.code().unwrap_or(-1)))
}

#[test]
fn tables_for_papers_mark_the_best_and_have_intervals() -> Result<()> {
    let (temp, dir) = run_folder(3, 10)?;
    let run = dir.to_str().unwrap();
    let (latex, _, status) = toolkit(&["export", "table", run, "--to", "latex"], temp.path())?;
    assert_eq!(status, 0);
    for part in ["\\toprule", "\\midrule", "\\bottomrule", "ArtFID $\\downarrow$", "watercolour & 9 & \\textbf{"] {
        assert!(latex.contains(part), "{part} in {latex}");
    }
    assert!(latex.contains("{\\scriptsize [") && latex.contains("brings pictures nearest"));
    let (said, _, status) = toolkit(&["export", "table", run, "--to", "markdown", "--out", "a/table.md"], temp.path())?;
    assert_eq!((said.as_str(), status), ("a/table.md\n", 0));
    let markdown = std::fs::read_to_string(temp.path().join("a/table.md"))?;
    assert!(markdown.starts_with("| Strategy | n | ArtFID ↓ | FID ↓ | LPIPS ↓ |\n| :-- | --: |"), "{markdown}");
    assert_eq!(markdown.matches("**").count(), 6, "one best in each of three columns: {markdown}");
    let (_, error, status) = toolkit(&["export", "table", run, "--to", "latx"], temp.path())?;
    assert_eq!(
        error,
        "error: --to \"latx\" is no format of tables, did you mean \"latex\"? (known: latex, markdown)\n"
    );
    assert_eq!(status, 2);
    assert_eq!(toolkit(&["export", "table", "nowhere", "--to", "latex"], temp.path())?.2, 2);
    Ok(())
}

/// Two run folders of the same photos, the second with LPIPS of its own and another setting.
fn two_runs() -> Result<(tempfile::TempDir, PathBuf, PathBuf)> {
    let temp = tempfile::tempdir()?;
    let (a, b) = (temp.path().join("first"), temp.path().join("second"));
    for dir in [&a, &b] {
        Fixture { strategies: 2, photos: 12, side: 16 }.write(dir)?;
    }
    edit(
        &b,
        |items| {
            for (at, item) in items.iter_mut().filter(|item| item.status == "done").enumerate() {
                let value = item.values.value("lpips").unwrap() + 0.1 + 0.001 * (at % 5) as f64;
                item.values.set_value("lpips", Some(value));
            }
        },
        |results| results[0].strategy = "watercolour".into(),
    )?;
    let config = std::fs::read_to_string(b.join("config.toml"))?;
    std::fs::write(b.join("config.toml"), config.replace("profile = \"mini\"", "profile = \"mini\"\nsteps = 9"))?;
    Ok((temp, a, b))
}

#[test]
fn runs_beside_each_other_show_settings_and_pairs() -> Result<()> {
    let (temp, a, b) = two_runs()?;
    let (said, error, status) = toolkit(&["compare", "first", "second"], temp.path())?;
    assert_eq!((said.as_str(), status), ("./compare.html\n./compare.csv\n", 0), "{error}");
    let table = std::fs::read_to_string(temp.path().join("compare.csv"))?;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "what,first_run,second_run,name,metric,first,second,n,difference,low,high,p_value,p_holm");
    assert!(lines.contains(&"setting,first,second,steps,,,9,,,,,,"), "{table}");
    let lpips = lines.iter().find(|line| line.starts_with("metric,first,second,watercolour,lpips,")).unwrap();
    let fields: Vec<&str> = lpips.split(',').collect();
    let number = |at: usize| fields[at].parse::<f64>().unwrap();
    assert!((number(8) + 0.102).abs() < 0.001 && number(10) < 0.0 && number(12) < 0.05, "{lpips}");
    assert!(
        lines.iter().any(|line| line.starts_with("metric,first,second,watercolour,fid,") && line.ends_with(",,,,,,"))
    );
    let html = std::fs::read_to_string(temp.path().join("compare.html"))?;
    for part in ["is missing: FID and what", "One setting differs", "<td>9</td>", "not set"] {
        assert!(html.contains(part), "{part}");
    }
    // Another photo is not the same picture; another way of measuring compares none.
    std::fs::copy(b.join("photos/face-001.png"), b.join("photos/face-002.png"))?;
    let (said, _, _) = toolkit(&["compare", "first", "second", "--out", "there"], temp.path())?;
    assert_eq!(said, "there/compare.html\nthere/compare.csv\n");
    let other = std::fs::read_to_string(temp.path().join("there/compare.csv"))?;
    let n = |table: &str| -> usize {
        let line = table.lines().find(|line| line.contains(",watercolour,lpips,")).unwrap();
        line.split(',').nth(7).unwrap().parse().unwrap()
    };
    assert_eq!(n(&other) + 1, n(&table));
    let config = std::fs::read_to_string(a.join("config.toml"))?;
    std::fs::write(a.join("config.toml"), config.replace("comparison_size = 224", "comparison_size = 112"))?;
    toolkit(&["compare", "first", "second"], temp.path())?;
    let html = std::fs::read_to_string(temp.path().join("compare.html"))?;
    assert!(html.contains("comparison_size is 112 and 224: single pictures are not compared."), "{html}");
    Ok(())
}

#[test]
fn what_cannot_be_compared_is_one_line() -> Result<()> {
    let (temp, _, b) = two_runs()?;
    let says = |arguments: &[&str], text: &str| -> Result<()> {
        let (_, error, status) = toolkit(&[&["compare"], arguments].concat(), temp.path())?;
        assert_eq!((error.as_str(), status), (format!("error: {text}\n").as_str(), 2));
        Ok(())
    };
    says(&["first", "./first"], "./first is there twice: name different runs")?;
    let no_run = "nowhere is not a folder: name the folder of a run, such as runs/style_ablation";
    says(&["first", "nowhere"], no_run)?;
    std::fs::write(b.join("config.toml"), "kind = \"caption\"\n")?;
    says(
        &["first", "second"],
        "first is a run of style transfer, second of captions: only runs of one kind can be compared",
    )?;
    assert_eq!(toolkit(&["compare", "first"], temp.path())?.2, 2);
    assert!(!temp.path().join("compare.csv").exists());
    Ok(())
}

/// Only the metrics that a line of the published table has, and only in the row of its strategy.
#[test]
fn what_was_published_of_a_strategy_stands_beside_what_was_measured() -> Result<()> {
    let (_temp, dir) = run_folder(3, 6)?;
    let format = report::table::FORMATS.iter().find(|format| format.name == "markdown").unwrap();
    let before = report::table(&dir, format)?;
    assert!(!before.contains("published"), "{before}");
    let file = dir.join("config.toml");
    let config = std::fs::read_to_string(&file).unwrap_or_default();
    std::fs::write(&file, config + "\n[[published]]\nstrategy = \"pixel-art\"\nartfid = 20.65\n")?;
    let table = report::table(&dir, format)?;
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_string()).collect::<Vec<_>>();
    let heads = cells(table.lines().next().unwrap());
    let at = heads.iter().position(|head| head == "published").expect("a column");
    assert!(heads[at - 1].starts_with("ArtFID") && heads.iter().filter(|head| *head == "published").count() == 1);
    for line in table.lines().skip(2).take(3) {
        let row = cells(line);
        assert_eq!(row[at], if row[1] == "pixel-art" { "20.65" } else { "–" }, "{table}");
    }
    Ok(())
}
