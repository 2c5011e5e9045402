//! Reports of run folders: what is written, what it says, what happens when something is missing.

mod fixture;
mod notebook;
#[path = "../notebook_python/mod.rs"]
mod notebook_python;

use std::path::{Path, PathBuf};

use anyhow::Result;
use fixture::Fixture;
use toolkit::report::rows::{ItemRow, ResultRow};
use toolkit::report::{self, csv};

/// Writes reports to look at: `cargo test --test report -- --ignored look`, then `target/tmp/look/*/report.html`.
#[test]
#[ignore = "writes example reports for the eye"]
fn look() -> Result<()> {
    for (name, strategies, photos) in [("one", 1, 24), ("four", 4, 24), ("twelve", 12, 60)] {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("look").join(name);
        Fixture { strategies, photos, side: 224 }.write(&dir)?;
        report::render(&dir)?;
    }
    Ok(())
}

/// A small run folder in a temporary place.
fn run_folder(strategies: usize, photos: usize) -> Result<(tempfile::TempDir, PathBuf)> {
    let temp = tempfile::tempdir()?;
    let dir = temp.path().join("style_ablation");
    std::fs::create_dir(&dir)?;
    Fixture { strategies, photos, side: 32 }.write(&dir)?;
    Ok((temp, dir))
}

#[test]
fn plots_are_drawn_in_both_formats_for_any_number_of_strategies() -> Result<()> {
    for strategies in [1, 4, 12] {
        let (_temp, dir) = run_folder(strategies, 10)?;
        let files = report::plot(&dir)?;
        assert_eq!(files.len(), 6);
        for stem in ["artfid", "fid_lpips", "lpips"] {
            let svg = std::fs::read_to_string(dir.join(format!("plots/{stem}.svg")))?;
            for (name, _) in &fixture::STYLES[..strategies] {
                assert!(svg.contains(name), "{stem}.svg of {strategies} names {name}");
            }
            let png = image::open(dir.join(format!("plots/{stem}.png")))?;
            assert_eq!(png.width(), 1520);
        }
    }
    Ok(())
}

/// Changes the rows of a run folder.
fn edit(dir: &Path, items: impl FnOnce(&mut Vec<ItemRow>), results: impl FnOnce(&mut Vec<ResultRow>)) -> Result<()> {
    let mut rows: Vec<ItemRow> = csv::read(&dir.join("items.csv"), &[])?;
    items(&mut rows);
    csv::write(&dir.join("items.csv"), &rows)?;
    let mut rows: Vec<ResultRow> = csv::read(&dir.join("results.csv"), &[])?;
    results(&mut rows);
    csv::write(&dir.join("results.csv"), &rows)
}

fn page_of(dir: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(report::page(dir)?)?)
}

/// What lies between two marks, from the first place of the first.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.split_once(start).unwrap_or_else(|| panic!("{start} is missing")).1;
    from.split_once(end).unwrap_or_else(|| panic!("{end} is missing after {start}")).0
}

#[test]
fn the_page_shows_every_strategy_with_its_gallery() -> Result<()> {
    for strategies in [1, 12] {
        let (_temp, dir) = run_folder(strategies, 13)?;
        let html = page_of(&dir)?;
        assert_eq!(html.matches("<section class=\"strategy\">").count(), strategies);
        assert_eq!(html.matches("<tr>\n<th scope=\"row\"").count(), strategies);
        assert_eq!(html.matches("<svg ").count(), 3);
        assert_eq!(html.matches("<h4>Best</h4>").count(), strategies);
        assert_eq!(html.matches("<h4>Worst</h4>").count(), strategies);
        for (name, style) in &fixture::STYLES[..strategies] {
            assert!(html.contains(&format!("</span>{name}</h3>")), "{name}");
            assert!(html.contains(style), "{style}");
        }
        assert!(!html.contains("not found</span>"), "all pictures are there");
        assert!(html.contains("Which style text brings pictures nearest"));
        assert!(html.contains("toolkit experiment style_ablation --profile mini"));
    }
    Ok(())
}

#[test]
fn galleries_hold_the_five_best_and_worst_by_the_rule_on_the_page() -> Result<()> {
    let (_temp, dir) = run_folder(2, 30)?;
    let html = page_of(&dir)?;
    for (strategy, _) in &fixture::STYLES[..2] {
        let score = |item: &ItemRow| Some((1.0 + item.lpips?) * (1.0 + item.style_distance?));
        let mut ranked: Vec<(f64, String)> = Fixture { strategies: 2, photos: 30, side: 8 }
            .items()
            .into_iter()
            .filter(|item| item.strategy == *strategy)
            .filter_map(|item| Some((score(&item)?, item.id)))
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let section = between(&html, &format!("</span>{strategy}</h3>"), "</section>");
        let ids = |part: &str| -> Vec<String> {
            let starts = part.split("<p class=\"numbers\"><b>").skip(1);
            starts.map(|p| p.split('<').next().unwrap_or("").to_string()).collect()
        };
        let best: Vec<String> = ranked.iter().take(5).map(|(_, id)| id.clone()).collect();
        let worst: Vec<String> = ranked.iter().rev().take(5).map(|(_, id)| id.clone()).collect();
        assert_eq!(ids(between(section, "<h4>Best</h4>", "</ol>")), best);
        assert_eq!(ids(between(section, "<h4>Worst</h4>", "</ol>")), worst);
    }
    Ok(())
}

#[test]
fn text_of_a_run_is_never_markup() -> Result<()> {
    let (_temp, dir) = run_folder(2, 10)?;
    let evil = "<script>alert(1)</script><img src=x onerror=alert(2)> \" ' &";
    edit(
        &dir,
        |items| {
            for item in items.iter_mut() {
                item.caption = evil.into();
                item.prompt = evil.into();
                item.dropped = evil.into();
                item.remark = evil.into();
                item.id = format!("{evil}{}", item.id);
                if item.strategy == "pixel-art" {
                    item.strategy = evil.into();
                }
                if item.status == "failed" {
                    item.error = evil.into();
                }
            }
        },
        |results| {
            results[1].strategy = evil.into();
            results[1].style_text = evil.into();
            results[1].instruction = evil.into();
        },
    )?;
    std::fs::write(dir.join("config.toml"), format!("name = {evil:?}\nquestion = {evil:?}\n"))?;
    std::fs::write(dir.join("manifest.json"), serde_json::json!({ "device": evil, "command": evil }).to_string())?;
    let html = page_of(&dir)?;
    assert_eq!(html.matches("<script>").count(), 1, "only the page's own script");
    assert!(!html.contains("<img src=x") && html.contains("&lt;script&gt;alert(1)"));
    assert!(html.contains("script-src 'sha256-"));
    // Nothing is fetched: every source is a data URI, and no style names one.
    assert_eq!(html.matches(" src=\"").count(), html.matches(" src=\"data:image/").count());
    assert!(!html.contains("url(") && !html.contains("<link"));
    report::plot(&dir)?;
    let svg = std::fs::read_to_string(dir.join("plots/artfid.svg"))?;
    assert!(!svg.contains("<script") && !svg.contains("<img"));
    Ok(())
}

#[test]
fn what_is_missing_is_said_in_its_place() -> Result<()> {
    let (_temp, dir) = run_folder(4, 10)?;
    std::fs::remove_dir_all(dir.join("images"))?;
    std::fs::remove_file(dir.join("config.toml"))?;
    std::fs::remove_file(dir.join("manifest.json"))?;
    edit(
        &dir,
        |items| items.iter_mut().filter(|item| item.strategy == "pixel-art").for_each(|item| item.lpips = None),
        |results| {
            results.retain(|row| row.strategy != "watercolour"); // known from its items alone
            results[0].artfid = Some(f64::NAN);
            (results[1].artfid_low, results[1].artfid_high, results[1].fid) = (None, None, None);
        },
    )?;
    let html = page_of(&dir)?;
    assert!(html.contains("<title>style_ablation: report</title>"), "the folder's name stands in for the missing one");
    assert!(html.contains(">picture not found</span>") && !html.contains(">photo not found</span>"));
    assert!(html.contains("</span>watercolour</h3>"));
    assert!(html.contains("Without an ArtFID: pixel-art and watercolour."));
    assert!(html.contains("The pictures were not measured: the first ones are shown."));
    assert!(html.contains("Without FID or LPIPS, not drawn:"));
    assert!(!html.contains("NaN") && !html.contains("config.toml</summary>"));
    Ok(())
}

#[test]
fn failures_and_remarks_are_listed() -> Result<()> {
    let (_temp, dir) = run_folder(2, 20)?;
    let items = Fixture { strategies: 2, photos: 20, side: 8 }.items();
    let failed = items.iter().filter(|item| item.status == "failed").count();
    assert!(failed > 0);
    let html = page_of(&dir)?;
    assert!(html.contains(&format!("{failed} of 40 pictures failed; they are listed below.")));
    let table = between(&html, "<h2 id=\"failed\">", "</table>");
    assert_eq!(table.matches("the picture is cut off after 1234 bytes").count(), failed);
    assert!(between(&html, "<h2 id=\"remarks\">", "</table>").contains("drawn again in float32"));
    // A strategy of which everything failed has its row and says why its gallery is empty.
    edit(
        &dir,
        |items| items.iter_mut().filter(|i| i.strategy == "pixel-art").for_each(|i| i.status = "failed".into()),
        |results| (results[1].n, results[1].artfid, results[1].fid, results[1].lpips) = (0, None, None, None),
    )?;
    assert!(page_of(&dir)?.contains("No picture of this strategy was made."));
    Ok(())
}

/// Every file under a folder, with its bytes.
fn files(dir: &Path) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            all.extend(files(&path)?);
        } else {
            let bytes = std::fs::read(&path)?;
            all.push((path, bytes));
        }
    }
    all.sort();
    Ok(all)
}

#[test]
fn the_same_run_gives_the_same_bytes() -> Result<()> {
    let (_temp, dir) = run_folder(3, 10)?;
    assert_eq!(report::render(&dir)?.len(), 7);
    let first = files(&dir)?;
    std::fs::remove_dir_all(dir.join("plots"))?;
    std::fs::remove_file(dir.join("report.html"))?;
    report::plot(&dir)?;
    report::page(&dir)?;
    assert!(files(&dir)? == first, "files differ when they are made again");
    Ok(())
}

#[test]
fn a_page_of_many_pictures_stays_small() -> Result<()> {
    let (_temp, dir) = run_folder(12, 13)?;
    let mut state = 7u32;
    let noise = image::RgbImage::from_fn(256, 256, |_, _| {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        image::Rgb([(state >> 24) as u8, (state >> 16) as u8, (state >> 8) as u8])
    });
    for (path, _) in files(&dir.join("images"))?.into_iter().chain(files(&dir.join("photos"))?) {
        noise.save(path)?;
    }
    let size = page_of(&dir)?.len();
    assert!((1 << 20..8 << 20).contains(&size), "{size} bytes");
    Ok(())
}

/// The one line that a command prints for this folder, and its exit status.
fn failure(command: &str, dir: &Path) -> Result<(String, i32)> {
    let output = assert_cmd::Command::cargo_bin("toolkit")?.arg(command).arg(dir).output()?;
    let text = String::from_utf8(output.stderr)?.replace(&format!("{}", dir.display()), "RUN");
    Ok((text, output.status.code().unwrap_or(-1)))
}

#[test]
fn damage_is_one_clear_line() -> Result<()> {
    let (_temp, dir) = run_folder(2, 10)?;
    let whole = std::fs::read_to_string(dir.join("items.csv"))?;
    let results = std::fs::read_to_string(dir.join("results.csv"))?;
    let says = |text: &str, status: i32| -> Result<()> {
        for command in ["report", "plot"] {
            assert_eq!(failure(command, &dir)?, (format!("error: {text}\n"), status));
        }
        assert!(!dir.join("report.html").exists() && !dir.join("plots").exists());
        Ok(())
    };
    std::fs::write(dir.join("items.csv"), whole.replacen(",0.", ",half ", 1))?;
    says("RUN/items.csv, line 2, column \"seconds\": \"half 8782568730916349\" is not a number", 1)?;
    std::fs::write(dir.join("items.csv"), whole.replacen(",lpips,", ",lips,", 1))?;
    says("RUN/items.csv, line 1: column \"lpips\" is missing", 1)?;
    std::fs::write(dir.join("items.csv"), &whole)?;
    std::fs::write(dir.join("results.csv"), format!("{results}{}\n", results.lines().nth(1).unwrap_or("")))?;
    says("RUN/results.csv: strategy \"watercolour\" has two rows", 1)?;
    std::fs::remove_file(dir.join("results.csv"))?;
    says("RUN has no results.csv: this run did not finish; start it again to continue it", 1)?;
    std::fs::remove_file(dir.join("items.csv"))?;
    says("RUN is no run folder: it has no items.csv and no results.csv", 2)?;
    std::fs::remove_dir_all(&dir)?;
    says("RUN is not a folder: name the folder of a run, such as runs/style_ablation", 2)
}
