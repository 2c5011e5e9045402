//! `toolkit export notebook`: the format's own rules, what is in it, and that it runs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Result;
use serde_json::Value;

use toolkit::axes::style_text;
use toolkit::report;

use crate::report::{along_strength, beyond_words, edit, run_folder};

/// Text that a notebook holds as a list of lines.
fn text(value: &Value) -> String {
    value.as_array().expect("a list of lines").iter().map(|line| line.as_str().expect("a line")).collect()
}

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// The rules of nbformat 4.5: which keys each object must and may have, and of which type.
fn assert_valid(notebook: &Value) {
    assert_eq!(keys(notebook), ["cells", "metadata", "nbformat", "nbformat_minor"].into());
    assert_eq!((notebook["nbformat"].as_u64(), notebook["nbformat_minor"].as_u64()), (Some(4), Some(5)));
    let kernel = &notebook["metadata"]["kernelspec"];
    assert!(kernel["name"].is_string() && kernel["display_name"].is_string());
    let mut ids = BTreeSet::new();
    let mut count = 0;
    for cell in notebook["cells"].as_array().expect("cells") {
        let id = cell["id"].as_str().expect("an id");
        let letters = id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
        assert!((1..=64).contains(&id.len()) && letters && ids.insert(id.to_string()), "id {id:?}");
        let source = text(&cell["source"]);
        assert!(!source.is_empty() && cell["metadata"].is_object());
        if cell["cell_type"] == "markdown" {
            assert_eq!(keys(cell), ["cell_type", "id", "metadata", "source"].into());
            continue;
        }
        assert_eq!(cell["cell_type"], "code");
        assert_eq!(keys(cell), ["cell_type", "execution_count", "id", "metadata", "outputs", "source"].into());
        count += 1;
        assert_eq!(cell["execution_count"].as_u64(), Some(count), "counted from top to bottom");
        for output in cell["outputs"].as_array().expect("outputs") {
            match output["output_type"].as_str() {
                Some("stream") => assert_eq!(keys(output), ["name", "output_type", "text"].into()),
                Some("display_data") => assert_eq!(keys(output), ["data", "metadata", "output_type"].into()),
                Some("execute_result") => {
                    assert_eq!(keys(output), ["data", "execution_count", "metadata", "output_type"].into());
                    assert_eq!(output["execution_count"].as_u64(), Some(count));
                }
                other => panic!("output of type {other:?}"),
            }
        }
    }
}

fn export(dir: &Path, out: &Path) -> Result<Value> {
    let file = report::notebook(dir, Some(&out.join("style_ablation.ipynb")))?;
    Ok(serde_json::from_slice(&std::fs::read(file)?)?)
}

#[test]
fn a_notebook_is_valid_and_holds_tables_plots_and_cases() -> Result<()> {
    for strategies in [1, 12] {
        let (temp, dir) = run_folder(strategies, 20)?;
        let out = temp.path().join("notebooks-export");
        let notebook = export(&dir, &out)?;
        assert_valid(&notebook);
        let cell = |id: &str| notebook["cells"].as_array().unwrap().iter().find(|cell| cell["id"] == id).unwrap();
        assert!(text(&cell("title")["source"]).contains("Which style text brings pictures nearest"));
        assert!(text(&cell("load")["source"]).contains("RUN = Path(\"../style_ablation\")"));
        assert!(text(&cell("configuration")["outputs"][0]["text"]).contains("comparison_size = 224"));
        let table = text(&cell("results")["outputs"][0]["data"]["text/html"]);
        assert_eq!(table.matches("<tr").count(), strategies + 1);
        for plot in ["plot-artfid", "plot-fid_lpips", "plot-lpips"] {
            assert!(cell(plot)["outputs"][0]["data"]["image/png"].as_str().is_some_and(|png| png.len() > 10_000));
            let alt = cell(plot)["outputs"][0]["metadata"]["image/png"]["alt"].as_str().unwrap();
            assert!(alt.contains("watercolour"), "{alt}");
        }
        // What the page's plot of single pictures has, the notebook's has, too.
        let spread = text(&cell("plot-lpips")["source"]);
        assert!(["median", "\"lpips_low\"", "mean"].iter().all(|part| spread.contains(part)), "{spread}");
        for at in 0..strategies {
            let outputs = cell(&format!("cases-{at}"))["outputs"].as_array().unwrap();
            assert_eq!(text(&outputs[0]["data"]["text/html"]).matches("<tr").count(), 11);
            assert!(outputs[1]["data"]["image/jpeg"].is_string());
            // Who does not see the pictures is told what was asked for.
            let alt = outputs[1]["metadata"]["image/jpeg"]["alt"].as_str().unwrap();
            assert!(alt.contains("best face-0") && alt.contains("a person number") && alt.contains("; worst face-0"));
        }
        let first = std::fs::read(out.join("style_ablation.ipynb"))?;
        export(&dir, &out)?;
        assert!(std::fs::read(out.join("style_ablation.ipynb"))? == first, "the same run, other bytes");
    }
    Ok(())
}

/// A run folder with everything that makes pandas and this program differ when one is careless.
fn awkward(dir: &Path) -> Result<()> {
    std::fs::remove_file(dir.join("images/watercolour/face-001.png")).ok();
    edit(
        dir,
        |items| {
            for (at, item) in items.iter_mut().enumerate() {
                match at % 5 {
                    0 => item.caption = "NA".into(),
                    1 => item.caption = "1.50".into(),
                    2 => item.caption = format!("<b>{}</b> & \"quoted\",\nnext line {}", at, "very long ".repeat(30)),
                    3 => item.caption = String::new(),
                    _ => item.dropped = "None".into(),
                }
                item.id = format!("{at:05}");
                if item.strategy == "line-drawing" {
                    item.style_distance = None;
                }
                if item.strategy == "oil-portrait" {
                    item.values.set_value("lpips", None);
                }
            }
        },
        |results| {
            let known = results[0].values.get("artfid");
            results[0].values.set("artfid", toolkit::metrics::Value { low: None, ..known });
            results[1].values.set_value("artfid", Some(f64::NAN));
            results[2].axes.set(&style_text::AXIS, "nan <i>");
            results[3].seconds_per_image = None;
        },
    )
}

#[test]
fn what_is_missing_makes_no_invalid_notebook() -> Result<()> {
    let (temp, dir) = run_folder(4, 12)?;
    awkward(&dir)?;
    std::fs::remove_file(dir.join("config.toml"))?;
    std::fs::remove_file(dir.join("manifest.json"))?;
    edit(
        &dir,
        |_| {},
        |results| {
            results.iter_mut().for_each(|row| {
                for name in ["artfid", "fid"] {
                    row.values.set_value(name, None);
                }
            })
        },
    )?;
    let notebook = export(&dir, temp.path())?;
    assert_valid(&notebook);
    let ids: Vec<&str> = notebook["cells"].as_array().unwrap().iter().filter_map(|cell| cell["id"].as_str()).collect();
    assert!(!ids.contains(&"configuration") && !ids.contains(&"plot-artfid") && ids.contains(&"plot-lpips"));
    Ok(())
}

#[test]
fn the_frontier_of_a_notebook_runs_in_jupyter() -> Result<()> {
    let (temp, dir) = run_folder(4, 12)?;
    along_strength(&dir)?;
    let out = temp.path().join("notebooks-export");
    let notebook = export(&dir, &out)?;
    assert_valid(&notebook);
    let cell = notebook["cells"].as_array().unwrap().iter().find(|cell| cell["id"] == "plot-frontier").unwrap();
    let source = text(&cell["source"]);
    // Along each line from the photo to text alone.
    let order = ["\"ink\":", "ink__i2i0.3", "ink__i2i0.9", "ink__t2i", "\"oil\":", "oil__i2i0.3"];
    let places = order.map(|part| source.find(part));
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{source}");
    crate::notebook_python::runs_and_gives_what_it_stores(&out.join("style_ablation.ipynb"));
    Ok(())
}

#[test]
fn the_frontier_of_ways_runs_in_jupyter() -> Result<()> {
    let (temp, dir) = run_folder(4, 12)?;
    beyond_words(&dir)?;
    let out = temp.path().join("notebooks-export");
    let notebook = export(&dir, &out)?;
    assert_valid(&notebook);
    let cell = notebook["cells"].as_array().unwrap().iter().find(|cell| cell["id"] == "plot-frontier").unwrap();
    assert!(text(&cell["source"]).contains("def beaten(row)") && !text(&cell["source"]).contains("strength"));
    crate::notebook_python::runs_and_gives_what_it_stores(&out.join("style_ablation.ipynb"));
    Ok(())
}

#[test]
fn a_notebook_runs_in_jupyter_and_gives_what_it_stores() -> Result<()> {
    for (strategies, change) in [(12, false), (4, true)] {
        let (temp, dir) = run_folder(strategies, 12)?;
        if change {
            awkward(&dir)?;
        }
        let file = report::notebook(&dir, Some(&temp.path().join(format!("notebooks-export/{strategies}.ipynb"))))?;
        crate::notebook_python::runs_and_gives_what_it_stores(&file);
    }
    Ok(())
}
