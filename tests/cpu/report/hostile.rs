//! Run folders that were made to do harm to who reads them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;
use toolkit::axes::{AXES, Form, instruction, strength};
use toolkit::report;
use toolkit::run::caption::{CaptionItem, CaptionResult, Comparison};
use toolkit::run::csv;

use crate::report::{edit, failure, page_of, run_folder};

/// Ends everything that text can stand in: attributes, tags, code of Markdown, formulas; and a control character.
const EVIL: &str = "x` </code></pre></td>\"'><script>alert(1)</script><img src=x onerror=alert(2)> [a](javascript:alert(3)) \
                    **b** $c$ {{ d }} ]]>\u{1}&amp;";

#[test]
fn links_and_devices_are_refused_and_lead_nowhere() -> Result<()> {
    let places = [
        "plots",
        "gallery",
        "report.html",
        "images",
        "images/watercolour",
        "photos/face-000.png",
        "items.csv",
        ".lock",
    ];
    for place in places {
        let (temp, dir) = run_folder(2, 6)?;
        let victim = temp.path().join("victim");
        fs::create_dir(&victim)?;
        fs::write(victim.join("items.csv"), "precious")?;
        let at = dir.join(place);
        if at.is_dir() {
            fs::remove_dir_all(&at)?;
        } else if at.exists() {
            fs::remove_file(&at)?;
        }
        symlink(if place.contains('.') { victim.join("items.csv") } else { victim.clone() }, &at)?;
        for command in ["report", "plot"] {
            let (text, status) = failure(command, &dir)?;
            let expected = format!("error: RUN/{place} is a link: nothing of a run folder may lead out of it; ");
            assert!(status == 2 && text.starts_with(&expected) && text.lines().count() == 1, "{status} {text}");
        }
        assert!(
            report::notebook(&dir, Some(&temp.path().join("run.ipynb"))).is_err()
                && report::gallery_sheets(&dir).is_err()
        );
        assert_eq!(fs::read_to_string(victim.join("items.csv"))?, "precious");
        assert_eq!(fs::read_dir(&victim)?.count(), 1, "{place}: something is written there");
    }
    let (_temp, dir) = run_folder(2, 6)?;
    fs::remove_file(dir.join("results.csv"))?;
    assert!(std::process::Command::new("mkfifo").arg(dir.join("results.csv")).status()?.success());
    let (text, status) = failure("report", &dir)?;
    assert!(status == 2 && text.contains("results.csv is neither a file nor a folder"), "{text}");
    Ok(())
}

#[test]
fn what_a_killed_report_left_is_removed_unless_another_is_at_work() -> Result<()> {
    let (_temp, dir) = run_folder(2, 6)?;
    fs::create_dir(dir.join("plots"))?;
    let left = [dir.join(".writing-a"), dir.join("plots/.writing-b")];
    left.iter().try_for_each(|file| fs::write(file, "half"))?;
    let busy = fs::File::create(dir.join(".lock"))?;
    busy.lock()?;
    report::render(&dir)?;
    assert!(left.iter().all(|file| file.exists()));
    drop(busy);
    report::plot(&dir)?;
    assert!(!left.iter().any(|file| file.exists()));
    Ok(())
}

#[test]
fn a_file_that_grows_over_the_limit_is_one_line_and_leaves_nothing() -> Result<()> {
    let (_temp, dir) = run_folder(2, 6)?;
    let exe = assert_cmd::cargo::cargo_bin("toolkit");
    let limited = |limit: &str| {
        let script = format!("ulimit -f {limit}; exec \"$0\" report \"$1\"");
        std::process::Command::new("bash").args(["-c", &script]).arg(&exe).arg(&dir).output()
    };
    let output = limited("8")?;
    let text = String::from_utf8(output.stderr)?.replace(&dir.display().to_string(), "RUN");
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.starts_with("error: writing RUN/plots/") && text.ends_with("File too large (os error 27)\n"),
        "{text}"
    );
    let left = |folder: &Path| fs::read_dir(folder).map_or(0, |entries| entries.count());
    assert!(left(&dir.join("plots")) <= 1 && !dir.join("report.html").exists());
    assert!(limited("unlimited")?.status.success(), "with room it is done");
    Ok(())
}

/// All text of a notebook that a browser may take for markup: its Markdown, and its tables.
fn shown(notebook: &Value) -> (String, String) {
    let text = |value: &Value| -> String {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().concat()
    };
    let (mut markdown, mut tables) = (String::new(), String::new());
    for cell in notebook["cells"].as_array().into_iter().flatten() {
        if cell["cell_type"] == "markdown" {
            markdown += &text(&cell["source"]);
        }
        for output in cell["outputs"].as_array().into_iter().flatten() {
            tables += &text(&output["data"]["text/html"]);
        }
    }
    (markdown, tables)
}

fn assert_no_markup(name: &str, text: &str) {
    // Scripts and images of the page's own have no such attributes.
    for evil in ["<script>alert", "<img src=x", "</td>\"'>"] {
        assert!(!text.contains(evil), "{name} has {evil:?}");
    }
    assert!(text.contains("alert(1)"), "{name} shows the text as text");
}

/// Well-formed, as far as quotes and angle brackets go.
fn assert_svg(text: &str) {
    let allowed = |c: char| c >= ' ' || "\n\t\r".contains(c);
    assert!(text.chars().all(allowed) && !text.contains("<script") && !text.contains("<img"));
    assert_eq!(text.matches('<').count(), text.matches('>').count(), "every '<' has its '>'");
}

fn check_all(dir: &Path, out: &Path) -> Result<()> {
    assert_no_markup("the page", &page_of(dir)?);
    for file in report::plot(dir)?.iter().filter(|file| file.extension().is_some_and(|kind| kind == "svg")) {
        assert_svg(&fs::read_to_string(file)?);
    }
    let notebook: Value = serde_json::from_slice(&fs::read(report::notebook(dir, Some(&out.join("run.ipynb")))?)?)?;
    let (markdown, tables) = shown(&notebook);
    assert_no_markup("the notebook", &tables);
    assert_no_markup("the notebook's text", &markdown);
    // No tag but our own, no link and no formula.
    let rest = markdown.replace("<code>", "").replace("</code>", "");
    assert!(!rest.contains(['<', '>']) && !rest.replace("\\]", "").contains("](") && !rest.contains('$'), "{markdown}");
    Ok(())
}

/// A configuration and a manifest of which every text is hostile.
fn origin(dir: &Path, kind: &str) -> Result<()> {
    let mut config = toml::Table::new();
    for key in ["name", "question", "profile", "photos", EVIL] {
        config.insert(key.to_string(), EVIL.into());
    }
    config.insert("kind".to_string(), kind.into());
    fs::write(dir.join("config.toml"), toml::to_string(&config)?)?;
    let command = format!("./toolkit experiment {EVIL}");
    let manifest = serde_json::json!({ "command": command, "device": EVIL, "toolkit": EVIL, EVIL: EVIL });
    Ok(fs::write(dir.join("manifest.json"), manifest.to_string())?)
}

#[test]
fn hostile_text_of_a_style_run_stays_text_everywhere() -> Result<()> {
    let (temp, dir) = run_folder(3, 10)?;
    edit(
        &dir,
        |items| {
            for item in items.iter_mut() {
                for text in [&mut item.caption, &mut item.prompt, &mut item.dropped, &mut item.remark, &mut item.error]
                {
                    *text = EVIL.to_string();
                }
                item.id = format!("{EVIL}{}", item.id);
                item.strategy = format!("{EVIL}{}", item.strategy);
            }
        },
        |results| {
            for (at, row) in results.iter_mut().enumerate() {
                row.strategy = format!("{EVIL}{}", row.strategy);
                for axis in AXES.iter().filter(|axis| axis.form == Form::Text) {
                    row.axes.set(axis, EVIL);
                }
                row.axes.set(&instruction::AXIS, format!("{at}{EVIL}").as_str());
                row.axes.set(&strength::AXIS, 0.1 + at as f64 / 10.0);
            }
        },
    )?;
    origin(&dir, "style_transfer")?;
    check_all(&dir, temp.path())
}

/// A caption run of two models on one data set, all of them named by `evil`.
fn caption_run(dir: &Path, evil: &str, dataset: &str, image: &str) -> Result<()> {
    fs::create_dir_all(dir)?;
    let models = ["a", "b"].map(|name| format!("{evil}{name}"));
    let item = |(at, model): (usize, &String)| CaptionItem {
        id: format!("{evil}{at}"),
        dataset: dataset.into(),
        model: model.clone(),
        strategy: evil.into(),
        prompt: evil.into(),
        caption: evil.into(),
        words: 3 + at,
        values: [("meteor", Some(0.1 * at as f64)), ("bleu", Some(0.1))].into_iter().collect(),
        status: if at == 9 { "failed" } else { "done" }.into(),
        error: evil.into(),
        image: image.into(),
        ..CaptionItem::default()
    };
    let items: Vec<CaptionItem> = (0..10).flat_map(|at| models.iter().map(move |model| item((at, model)))).collect();
    csv::write(&dir.join("items.csv"), &items, &[])?;
    let result = |model: &String| CaptionResult {
        model: model.clone(),
        dataset: dataset.into(),
        n: 9,
        values: [("bleu", Some(0.1)), ("meteor", Some(0.2))].into_iter().collect(),
        prompt: evil.into(),
        captioner: evil.into(),
        ..CaptionResult::default()
    };
    csv::write(&dir.join("results.csv"), &models.each_ref().map(result), &[])?;
    let [first, second] = models;
    let comparison =
        Comparison { dataset: dataset.into(), metric: "bleu".into(), first, second, n: 9, ..Comparison::default() };
    csv::write(&dir.join("comparisons.csv"), &[comparison], &[])
}

#[test]
fn hostile_text_of_a_caption_run_stays_text_everywhere() -> Result<()> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("run");
    caption_run(&dir, EVIL, &format!("{EVIL}set"), "pictures/x.jpg")?;
    origin(&dir, "caption")?;
    check_all(&dir, temp.path())
}

#[test]
fn names_in_tables_read_nothing_outside_the_folder() -> Result<()> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("run");
    fs::write(temp.path().join("secret.json"), r#"{"p0": ["the secret words"], "p1": ["the secret words"]}"#)?;
    image::RgbImage::from_pixel(64, 64, image::Rgb([250, 3, 7])).save(temp.path().join("secret.png"))?;
    let absolute = temp.path().join("secret").display().to_string();
    for dataset in ["../../secret".to_string(), absolute] {
        caption_run(&dir, "p", &dataset, &format!("{dataset}.png"))?;
        let html = page_of(&dir)?;
        assert!(html.contains("picture not found") && !html.contains("the secret words") && !html.contains("<img"));
        let notebook = fs::read_to_string(report::notebook(&dir, Some(&temp.path().join("run.ipynb")))?)?;
        assert!(!notebook.contains("the secret words"));
    }
    Ok(())
}

/// A strategy's name that says where the colours go, in a folder whose name does: neither leaves its string.
#[test]
fn the_code_of_a_notebook_holds_names_as_strings() -> Result<()> {
    let (temp, dir) = run_folder(1, 4)?;
    let evil = "@RUN@\"); import os; (\"@COLORS@";
    let rename = |name: &mut String| *name = evil.to_string();
    edit(
        &dir,
        |items| items.iter_mut().for_each(|i| rename(&mut i.strategy)),
        |results| rename(&mut results[0].strategy),
    )?;
    let moved = temp.path().join("x@COLORS@\"y");
    fs::rename(&dir, &moved)?;
    let notebook: Value =
        serde_json::from_slice(&fs::read(report::notebook(&moved, Some(&temp.path().join("out/run.ipynb")))?)?)?;
    let code: Vec<&Value> =
        notebook["cells"].as_array().into_iter().flatten().filter(|cell| cell["cell_type"] == "code").collect();
    let lines: Vec<&str> = code
        .iter()
        .flat_map(|cell| cell["source"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .collect();
    assert!(lines.contains(&"RUN = Path(\"../x@COLORS@\\\"y\")  # the run folder, seen from this notebook's folder\n"));
    let colors = format!("  {}: \"#", serde_json::json!(evil));
    assert!(lines.iter().any(|line| line.starts_with(&colors)), "{lines:?}");
    Ok(())
}
