//! Reports of run folders: what is written, what it says, what happens when something is missing.

mod faults;
pub(crate) mod fixture;
mod hostile;
mod notebook;
mod people;
mod science;

use std::path::{Path, PathBuf};

use anyhow::Result;
use fixture::Fixture;
use toolkit::axes::{control, instruction, ip_adapter, lora, strength, style_text};
use toolkit::metrics::{Value, Values};
use toolkit::report;
use toolkit::run::csv;
use toolkit::run::style::{ItemRow, ResultRow};

/// Writes reports to look at: `cargo test --test cpu report -- --ignored look`, then `target/tmp/look/*/report.html`.
#[test]
#[ignore = "writes example reports for the eye"]
fn look() -> Result<()> {
    for (name, strategies, photos) in [("one", 1, 24), ("four", 4, 24), ("twelve", 12, 60)] {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("look").join(name);
        Fixture { strategies, photos, side: 224 }.write(&dir)?;
        report::render(&dir)?;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("look/strength");
    Fixture { strategies: 4, photos: 24, side: 224 }.write(&dir)?;
    along_strength(&dir)?;
    report::render(&dir)?;
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
    csv::write(&dir.join("items.csv"), &rows, &[])?;
    let mut rows: Vec<ResultRow> = csv::read(&dir.join("results.csv"), &[])?;
    results(&mut rows);
    csv::write(&dir.join("results.csv"), &rows, &[])
}

fn page_of(dir: &Path) -> Result<String> {
    Ok(std::fs::read_to_string(report::page(dir)?)?)
}

/// What lies between two marks, from the first place of the first.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.split_once(start).unwrap_or_else(|| panic!("{start} is missing")).1;
    from.split_once(end).unwrap_or_else(|| panic!("{end} is missing after {start}")).0
}

/// Each plot is on the page twice: for a wide window and for a narrow one.
fn plots_are_shown(html: &str, count: usize) {
    for class in ["plot wide", "plot narrow"] {
        assert_eq!(html.matches(&format!("<div class=\"{class}\"><svg ")).count(), count, "{class}");
    }
    assert_eq!(html.matches("<svg ").count(), 2 * count);
}

#[test]
fn the_page_shows_every_strategy_with_its_gallery() -> Result<()> {
    for strategies in [1, 12] {
        let (_temp, dir) = run_folder(strategies, 13)?;
        let html = page_of(&dir)?;
        assert_eq!(html.matches("<section class=\"strategy\">").count(), strategies);
        assert_eq!(html.matches("<tr>\n<th scope=\"row\"").count(), strategies);
        plots_are_shown(&html, 3);
        assert_eq!(html.matches("<h4>Best scores</h4>").count(), strategies);
        assert_eq!(html.matches("<h4>Worst scores</h4>").count(), strategies);
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

/// Mean and standard deviation.
fn standard(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64).sqrt())
}

#[test]
fn galleries_hold_five_successes_and_failures_by_the_rule_on_the_page() -> Result<()> {
    let (_temp, dir) = run_folder(2, 30)?;
    let html = page_of(&dir)?;
    assert!(html.contains("each standardised over all measured pictures of this run"), "the rule is stated");
    let items = Fixture { strategies: 2, photos: 30, side: 8 }.items();
    let both = items.iter().filter_map(|item| Some((item.values.value("lpips")?, item.style_distance?)));
    let (lpips, style): (Vec<f64>, Vec<f64>) = both.unzip();
    let (lpips, style) = (standard(&lpips), standard(&style));
    for (strategy, _) in &fixture::STYLES[..2] {
        let score = |item: &ItemRow| {
            Some((item.values.value("lpips")? - lpips.0) / lpips.1 + (item.style_distance? - style.0) / style.1)
        };
        let mut ranked: Vec<(f64, String)> = items
            .iter()
            .filter(|item| item.strategy == *strategy)
            .filter_map(|item| Some((score(item)?, item.id.clone())))
            .collect();
        ranked.sort_by(|a, b| a.0.total_cmp(&b.0));
        let section = between(&html, &format!("</span>{strategy}</h3>"), "</section>");
        let ids = |part: &str| -> Vec<String> {
            let starts = part.split("<p class=\"numbers\"><b>").skip(1);
            starts.map(|p| p.split('<').next().unwrap_or("").to_string()).collect()
        };
        let best: Vec<String> = ranked.iter().take(5).map(|(_, id)| id.clone()).collect();
        let worst: Vec<String> = ranked.iter().rev().take(5).map(|(_, id)| id.clone()).collect();
        assert_eq!(ids(between(section, "<h4>Best scores</h4>", "</ol>")), best);
        assert_eq!(ids(between(section, "<h4>Worst scores</h4>", "</ol>")), worst);
    }
    Ok(())
}

#[test]
fn the_rule_gives_what_numpy_gives() -> Result<()> {
    use toolkit::report::style::gallery;
    use toolkit::run::gallery_score;

    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/gallery");
    let mut rows: Vec<ItemRow> = csv::read(&golden.join("items.csv"), &["id", "strategy"])?;
    let expected: serde_json::Value = serde_json::from_slice(&std::fs::read(golden.join("expected.json"))?)?;
    gallery_score::score(&mut rows);
    let mut scored = 0;
    for (strategy, expected) in expected.as_object().unwrap() {
        let own = || rows.iter().filter(|row| row.strategy == *strategy);
        for row in own() {
            match (row.gallery_score, expected["scores"].get(&row.id)) {
                (Some(score), Some(golden)) => {
                    // Sums of float64 in another order.
                    assert!((score - golden.as_f64().unwrap()).abs() < 1e-12, "{strategy} {}: {score}", row.id);
                    scored += 1;
                }
                (None, None) => {}
                other => panic!("{strategy} {}: {other:?}", row.id),
            }
        }
        let choice = gallery::choose(own());
        let ids = |items: &[&ItemRow]| serde_json::json!(items.iter().map(|item| &item.id).collect::<Vec<_>>());
        assert_eq!(ids(&choice.successes), expected["successes"], "{strategy}");
        assert_eq!(ids(&choice.failures), expected["failures"], "{strategy}");
    }
    assert_eq!(scored, 35);
    Ok(())
}

#[test]
fn failures_name_what_was_measured_with_its_measure() -> Result<()> {
    type Change = fn(&mut ItemRow);
    let (_temp, dir) = run_folder(1, 30)?;
    let make = |score: usize, change: Change| {
        move |items: &mut Vec<ItemRow>| {
            for item in items.iter_mut() {
                (item.dropped, item.remark) = (String::new(), String::new());
                (item.photo_luma, item.photo_sharpness, item.face_share) = (Some(128.0), Some(0.15), Some(0.2));
            }
            let done = items.iter_mut().filter(|item| item.status == "done");
            let lpips = |item: &ItemRow| item.values.value("lpips").unwrap();
            let worst = done.max_by(|a, b| lpips(a).total_cmp(&lpips(b))).unwrap();
            worst.values.set_value("lpips", Some(score as f64));
            change(worst);
        }
    };
    let cases: [(Change, &str); 5] = [
        (|item| item.dropped = "to the left".into(), "<b>Prompt cut:</b> 3 of 18 words dropped"),
        (|item| item.photo_luma = Some(31.0), "<b>Dark photo:</b> mean luma 31.00 of 255"),
        (|item| item.photo_sharpness = Some(0.002), "<b>Blurred photo:</b> sharpness 0.0020, below 0.004"),
        (|item| item.face_share = Some(0.0), "<b>No face found:</b> SeetaFace sees none"),
        (|item| item.face_share = Some(0.0125), "<b>Very small face:</b> 1.2 % of the photo"),
    ];
    for (change, expected) in cases {
        edit(&dir, make(5, change), |_| {})?;
        let html = page_of(&dir)?;
        let failures = between(&html, "<h4>Worst scores</h4>", "</ol>");
        assert_eq!(failures.matches("<ul class=\"causes\">").count(), 1);
        assert!(failures.contains(expected), "{expected}");
        assert!(between(&html, "<table class=\"findings\">", "</table>").contains("1 of 5</td>"));
    }
    // A run of an older toolkit has no such columns, and says nothing of them.
    edit(&dir, make(5, |_| {}), |_| {})?;
    let text = std::fs::read_to_string(dir.join("items.csv"))?;
    let mut reader = ::csv::Reader::from_reader(text.as_bytes());
    let new = ["gallery_score", "photo_luma", "photo_sharpness", "face_share"];
    let kept: Vec<usize> =
        reader.headers()?.iter().enumerate().filter(|(_, name)| !new.contains(name)).map(|(at, _)| at).collect();
    let mut writer = ::csv::Writer::from_path(dir.join("items.csv"))?;
    for record in std::iter::once(reader.headers()?.clone()).chain(reader.records().map(|record| record.unwrap())) {
        writer.write_record(kept.iter().map(|at| &record[*at]))?;
    }
    writer.flush()?;
    let html = page_of(&dir)?;
    assert!(!html.contains("<ul class=\"causes\">") && !html.contains("<b>Photo</b>"));
    assert_eq!(html.matches("<p class=\"numbers\"><b>").count(), 10, "scored from LPIPS and style distance");
    assert!(!between(&html, "<h4>Worst scores</h4>", "</ol>").contains("score&nbsp;–"));
    Ok(())
}

/// Makes the four strategies of a run folder those of two ways along strength.
fn along_strength(dir: &Path) -> Result<()> {
    let ways = [("ink__t2i", None), ("ink__i2i0.3", Some(0.3)), ("ink__i2i0.9", Some(0.9)), ("oil__i2i0.3", Some(0.3))];
    edit(
        dir,
        |items| {
            for item in items {
                let at = fixture::STYLES.iter().position(|(name, _)| *name == item.strategy).unwrap();
                item.strategy = ways[at].0.to_string();
            }
        },
        |results| {
            for (row, (name, strength)) in results.iter_mut().zip(ways) {
                row.strategy = name.to_string();
                row.axes.set(&strength::AXIS, strength);
                row.axes.set(&style_text::AXIS, format!("in {}", &name[..3]).as_str());
                for (metric, below, above) in [("fid", 20.0, 25.0), ("lpips", 0.02, 0.02)] {
                    let value = row.values.value(metric);
                    let (low, high) = (value.map(|v| v - below), value.map(|v| v + above));
                    row.values.set(metric, Value { value, low, high });
                }
            }
        },
    )
}

#[test]
fn the_frontier_is_drawn_from_the_csv_files_alone_where_there_is_one() -> Result<()> {
    let (_temp, dir) = run_folder(4, 12)?;
    report::plot(&dir)?;
    assert!(!dir.join("plots/frontier.svg").exists(), "no strengths, no frontier");
    along_strength(&dir)?;
    for gone in ["images", "photos"] {
        std::fs::remove_dir_all(dir.join(gone))?;
    }
    std::fs::remove_file(dir.join("config.toml"))?;
    std::fs::remove_file(dir.join("manifest.json"))?;
    // With the plot of style text and strength together.
    assert_eq!(report::plot(&dir)?.len(), 10);
    let svg = std::fs::read_to_string(dir.join("plots/frontier.svg"))?;
    let alt = between(&svg, "aria-label=\"", "\"");
    // From the photo to text alone, whatever the order of the rows.
    let order = ["ink 0.3: LPIPS", "0.9: LPIPS", "text: LPIPS", "oil 0.3: LPIPS"].map(|part| alt.find(part));
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{alt}");
    assert_eq!(image::open(dir.join("plots/frontier.png"))?.width(), 1520);
    let html = page_of(&dir)?;
    plots_are_shown(&html, 5);
    assert!(html.contains("Lines of FID against LPIPS along strength"));
    assert!(html.contains("photo, strength 0.9") && html.contains("Drawn from"));
    Ok(())
}

/// Makes the four strategies of a run folder words alone and other ways to the style.
fn beyond_words(dir: &Path) -> Result<()> {
    // The last is behind the second in both.
    let ways = [("words", 0.4, 260.0), ("canny", 0.05, 210.0), ("lora", 0.5, 14.0), ("shown", 0.3, 300.0)];
    edit(
        dir,
        |items| {
            for item in items {
                let at = fixture::STYLES.iter().position(|(name, _)| *name == item.strategy).unwrap();
                item.strategy = ways[at].0.to_string();
            }
        },
        |results| {
            for (row, (name, lpips, fid)) in results.iter_mut().zip(ways) {
                row.strategy = name.to_string();
                row.axes.set(&style_text::AXIS, "in ink");
                for (metric, value) in [("lpips", lpips), ("fid", fid)] {
                    let ends = (Some(value * 0.9), Some(value * 1.1));
                    row.values.set(metric, Value { value: Some(value), low: ends.0, high: ends.1 });
                }
            }
            results[1].axes.set(&control::AXIS, "canny");
            results[2].axes.set(&lora::AXIS, "ink.safetensors");
            results[3].axes.set(&ip_adapter::AXIS, "ip-adapter.safetensors");
        },
    )
}

#[test]
fn ways_to_a_style_are_the_points_of_a_frontier_without_strengths() -> Result<()> {
    let (_temp, dir) = run_folder(4, 12)?;
    beyond_words(&dir)?;
    report::plot(&dir)?;
    let svg = std::fs::read_to_string(dir.join("plots/frontier.svg"))?;
    let alt = between(&svg, "aria-label=\"", "\"");
    let order = ["better in both: canny: LPIPS", "; lora: LPIPS", "Behind them: words: LPIPS", "; shown: LPIPS"];
    let places = order.map(|part| alt.find(part));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{alt}");
    assert_eq!(image::open(dir.join("plots/frontier.png"))?.width(), 1520);
    let html = page_of(&dir)?;
    assert!(html.contains("Points of FID against LPIPS") && html.contains("for every way to the style"));
    assert!(!html.contains("along strength") && !html.contains("at every strength"));
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
            results[1].axes.set(&style_text::AXIS, evil);
            results[1].axes.set(&instruction::AXIS, evil);
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
        |items| {
            items
                .iter_mut()
                .filter(|item| item.strategy == "pixel-art")
                .for_each(|item| item.values = Values::default())
        },
        |results| {
            results.retain(|row| row.strategy != "watercolour"); // known from its items alone
            results[0].values.set_value("artfid", Some(f64::NAN));
            let value = results[1].values.value("artfid");
            results[1].values.set("artfid", Value { value, ..Value::default() });
            results[1].values.set_value("fid", None);
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
        |results| (results[1].n, results[1].values) = (0, Values::default()),
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
    assert_eq!(report::render(&dir)?.len(), 13);
    let first = files(&dir)?;
    std::fs::remove_dir_all(dir.join("plots"))?;
    std::fs::remove_dir_all(dir.join("gallery"))?;
    std::fs::remove_file(dir.join("report.html"))?;
    report::plot(&dir)?;
    report::gallery_sheets(&dir)?;
    report::page(&dir)?;
    assert!(files(&dir)? == first, "files differ when they are made again");
    Ok(())
}

#[test]
fn sheets_hold_the_gallery_for_papers() -> Result<()> {
    let (_temp, dir) = run_folder(2, 20)?;
    std::fs::remove_file(dir.join("images/pixel-art/face-003.png")).ok();
    assert_eq!(report::gallery_sheets(&dir)?.len(), 4);
    for name in ["watercolour-best", "watercolour-worst", "pixel-art-best", "pixel-art-worst"] {
        let sheet = image::open(dir.join(format!("gallery/{name}.png")))?.to_rgb8();
        // Five beside each other, photo above picture.
        assert!(sheet.width() > 5 * 384 && sheet.height() > 2 * 384, "{name}: {:?}", sheet.dimensions());
    }
    let html = page_of(&dir)?;
    let part = between(&html, "</span>watercolour</h3>", "</section>");
    let first = between(part, "<p class=\"numbers\"><b>", "</b>");
    let photo = image::open(dir.join(format!("photos/{first}.png")))?.to_rgb8();
    let sheet = image::open(dir.join("gallery/watercolour-best.png"))?.to_rgb8();
    // Each pixel of the 32 x 32 photo is a square of 12: somewhere in the sheet's first column.
    let at = |x: u32, y: u32| {
        photo.enumerate_pixels().all(|(i, j, pixel)| sheet.get_pixel(x + 12 * i + 6, y + 12 * j + 6) == pixel)
    };
    let found = (0..300).any(|x| (0..40).any(|y| at(x, y)));
    assert!(found, "the photo of {first}");
    // Without pictures there is nothing to lay out.
    std::fs::remove_dir_all(dir.join("gallery"))?;
    std::fs::remove_dir_all(dir.join("images"))?;
    assert!(report::gallery_sheets(&dir)?.is_empty());
    assert!(!dir.join("gallery").exists());
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
    assert!((1 << 20..15 << 20).contains(&size), "{size} bytes");
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
