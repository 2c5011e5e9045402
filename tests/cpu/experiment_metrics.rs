//! What style experiments measure.

use crate::doubles;

use std::fs;
use std::sync::atomic::Ordering;

use doubles::{Doubles, World, assert_same_runs, items, merge, run_in};
use toolkit::error::UsageError;
use toolkit::experiment::Config;
use toolkit::experiment::settings::Settings as _;
use toolkit::run::style::{ItemRow, ResultRow};

#[test]
fn every_measured_picture_has_its_score_and_its_photo_is_measured() {
    let world = World::new(5);
    fs::write(world.path("photos/p03.png"), b"broken").unwrap();
    world.run("run", &["strength=['none', 0.5]"], &Doubles::new(2)).unwrap();
    let rows = items(world.path("run/items.csv"));
    let (done, failed): (Vec<&ItemRow>, Vec<&ItemRow>) = rows.iter().partition(|row| row.status == "done");
    assert_eq!((done.len(), failed.len()), (16, 4));
    assert!(failed.iter().all(|row| row.gallery_score.is_none() && row.photo_luma.is_none()));
    let scores: Vec<f64> = done.iter().filter_map(|row| row.gallery_score).collect();
    assert_eq!(scores.len(), 16);
    assert!(scores.iter().sum::<f64>().abs() < 1e-9 && scores.iter().any(|score| *score > 0.5));
    for row in done {
        let photo = toolkit::images::load(world.path(&format!("photos/{}.png", row.id))).unwrap();
        let measures = toolkit::metrics::image::photo::measure(&photo);
        assert_eq!((row.photo_luma, row.photo_sharpness), (Some(measures.luma), measures.sharpness));
        assert_eq!(row.face_share, measures.face_share);
    }
}

#[test]
fn the_key_metrics_says_what_is_computed() {
    let world = World::new(4);
    let summary = world.run("run", &["metrics=['fid', 'lpips']"], &Doubles::new(2)).unwrap();
    let values = &summary.results[0].values;
    assert!(values.value("fid").is_some() && values.value("lpips").is_some() && values.value("artfid").is_none());
    let config = fs::read_to_string(world.path("run/config.toml")).unwrap();
    assert!(config.contains("metrics = [\"fid\", \"lpips\"]"), "{config}");
    let page = toolkit::report::page(&world.path("run")).unwrap();
    assert!(fs::read_to_string(page).unwrap().contains("No strategy has an ArtFID"));
    // What is usual is not written, so that the configuration is the same as before there was the key.
    world.run("usual", &[], &Doubles::new(2)).unwrap();
    assert!(!fs::read_to_string(world.path("usual/config.toml")).unwrap().contains("metrics"));
    let refused = Config::load(&world.path("test.toml"), "mini", &["metrics=['fidd']".to_string()]).unwrap_err();
    assert!(refused.downcast_ref::<UsageError>().is_some());
    assert!(format!("{refused:#}").contains("\"fidd\" is not known here, did you mean \"fid\"?"), "{refused:#}");
}

/// KID stands for any metric that is not a usual one: asked for, it is in every table, and only then.
#[test]
fn a_metric_that_is_asked_for_has_its_column_everywhere() {
    let world = World::new(5);
    world.run("run", &[], &Doubles::new(2)).unwrap();
    let before = fs::read_to_string(world.path("run/results.csv")).unwrap();
    assert!(!before.contains("kid"));
    let again = Doubles::new(2);
    let asked = ["metrics=['artfid', 'fid', 'lpips', 'kid']"];
    let summary = world.run("run", &asked, &again).unwrap();
    assert_eq!(again.loaded.load(Ordering::SeqCst), 0, "it is computed from what is there");
    for row in &summary.results {
        let value = row.values.value("kid").unwrap();
        assert!(row.values.interval("kid").unwrap().contains(value), "{row:?}");
    }
    let results = fs::read_to_string(world.path("run/results.csv")).unwrap();
    let header = results.lines().next().unwrap();
    assert!(
        header.contains(",artfid,fid,lpips,kid,artfid_low,") && header.contains(",lpips_high,kid_low,kid_high,seconds")
    );
    let read: Vec<ResultRow> = toolkit::run::csv::read(&world.path("run/results.csv"), &[]).unwrap();
    assert_eq!(read, summary.results, "what is written is read again");
    let files = toolkit::report::render(&world.path("run")).unwrap();
    assert!(files.iter().any(|file| file.ends_with("plots/kid.svg")));
    let page = fs::read_to_string(world.path("run/report.html")).unwrap();
    assert!(page.contains("KID of each strategy") && page.contains("KID by strategy"));
    let notebook =
        toolkit::report::notebook(&world.path("run"), Some(&world.path("notebooks-export/run.ipynb"))).unwrap();
    let notebook = fs::read_to_string(notebook).unwrap();
    assert!(
        notebook.contains("plot-kid")
            && notebook.contains("sort_values(\\\"kid\\\"")
            && notebook.contains("<th>kid_low</th>")
    );
    // Asked for no more, it leaves the tables as they were.
    world.run("run", &[], &Doubles::new(2)).unwrap();
    assert_eq!(fs::read_to_string(world.path("run/results.csv")).unwrap(), before);
}

/// Metrics in other networks: each picture is seen once by a network, however many metrics ask for it and however often.
#[test]
fn metrics_of_other_networks_are_computed_once() {
    let world = World::new(5);
    let names = ["clip_text", "clip_image", "csd", "dino", "cmmd", "fd_dinov2"];
    let asked = format!("metrics={:?}", [&["artfid", "fid", "lpips"], &names[..]].concat());
    let doubles = Doubles::new(2);
    let summary = world.run("run", &[&asked], &doubles).unwrap();
    for row in &summary.results {
        for name in names {
            let (value, interval) = (row.values.value(name).unwrap(), row.values.interval(name).unwrap());
            assert!(interval.contains(value), "{name}: {row:?}");
        }
    }
    // Pictures, photos, prompts in CLIP; pictures and style pictures in the larger CLIP and in CSD; in DINOv2 photos too.
    let prompts: std::collections::BTreeSet<String> =
        items(world.path("run/items.csv")).into_iter().map(|row| row.prompt).collect();
    let expected = (10 + 5 + prompts.len()) + 2 * (10 + 7) + (10 + 5 + 7);
    assert_eq!(doubles.seen.load(Ordering::SeqCst), expected);
    for row in items(world.path("run/items.csv")) {
        for name in ["clip_text", "clip_image", "csd", "dino"] {
            assert!(row.values.value(name).is_some_and(|value| (-1.0..=1.0).contains(&value)), "{name}: {row:?}");
        }
        assert!(row.values.value("cmmd").is_none());
    }
    let again = Doubles::new(2);
    world.run("run", &[&asked], &again).unwrap();
    assert_eq!((again.loaded.load(Ordering::SeqCst), again.seen.load(Ordering::SeqCst)), (0, 0));
    // Asked of a finished run, they come to the same, without drawing anything.
    world.run("later", &[], &Doubles::new(2)).unwrap();
    let later = Doubles::new(2);
    world.run("later", &[&asked], &later).unwrap();
    assert_eq!(later.drawn.load(Ordering::SeqCst), 0);
    assert_same_runs(&world.path("run"), &world.path("later"));
    let page = fs::read_to_string(world.path("run/results.csv")).unwrap();
    assert!(page.lines().next().unwrap().contains(",clip_text,clip_image,csd,dino,cmmd,fd_dinov2,"), "{page}");
}

#[test]
fn shards_with_metrics_of_other_networks_come_to_the_same() {
    let world = World::new(5);
    let asked = "metrics=['artfid', 'clip_text', 'csd', 'cmmd']";
    world.run("whole", &[asked], &Doubles::new(1)).unwrap();
    let shards = ["1/2", "2/2"].map(|shard| {
        let out = world.path(&format!("run-shard-{}", &shard[..1]));
        run_in(&out, &world.config(&[asked, &format!("shard={shard}")]), &Doubles::new(1)).unwrap();
        out
    });
    merge(&shards, &world.path("merged")).unwrap();
    assert_same_runs(&world.path("whole"), &world.path("merged"));
}

#[test]
fn features_that_are_no_numbers_end_the_run_and_name_the_picture() {
    let world = World::new(2);
    let error = world.run("run", &["metrics=['csd']", "csd=blind"], &Doubles::new(1)).unwrap_err().to_string();
    assert!(error.contains("run/images/") && error.contains("not all finite numbers"), "{error}");
    // The pictures are there, and a network that sees goes on from them in a run of its own.
    let rows = items(world.path("run/items.csv"));
    assert!(rows.iter().all(|row| row.status == "done"), "{rows:?}");
}
