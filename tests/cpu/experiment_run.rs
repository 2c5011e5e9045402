//! Runs from start to end with models that are plain functions.

use crate::doubles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::Ordering;

use doubles::{Doubles, UNSPEAKABLE, World, assert_same_runs, budget, merge, run_in, without_times};
use image::{Rgb, RgbImage};
use sha2::{Digest, Sha256};
use toolkit::axes::{control, guidance_scale, ip_adapter, lora, scheduler};
use toolkit::error::UsageError;
use toolkit::experiment::Config;
use toolkit::experiment::settings::Settings;
use toolkit::experiment::style::models::Models;
use toolkit::experiment::style::plan::picture_seed;
use toolkit::metrics::image::frechet::{Gaussian, distance};
use toolkit::report;
use toolkit::run::style::{Comparison, EffectRow, ItemRow, ResultRow};

fn items(file: std::path::PathBuf) -> Vec<ItemRow> {
    toolkit::run::csv::read(&file, &[]).unwrap()
}

#[test]
fn a_run_leaves_what_the_contract_says() {
    let world = World::new(5);
    let doubles = Doubles::new(3);
    let summary = world.run("run", &[], &doubles).unwrap();
    assert_eq!((summary.count, summary.failed.len()), (10, 0));
    assert_eq!(doubles.described.load(Ordering::SeqCst), 5, "described once for all strategies");
    for file in ["config.toml", "manifest.json", "items.csv", "results.csv", "captions.csv"] {
        assert!(world.path("run").join(file).exists(), "{file}");
    }
    let rows = items(world.path("run/items.csv"));
    let order: Vec<(&str, &str)> = rows.iter().map(|row| (row.strategy.as_str(), row.id.as_str())).collect();
    assert_eq!(order[..2], [("plain", "p00"), ("plain", "p01")]);
    assert_eq!(order[5], ("long", "p00"));
    for row in &rows {
        assert_eq!(row.status, "done");
        assert_eq!(row.seed, picture_seed(3, &row.id));
        let style = if row.strategy == "plain" { "in ink" } else { "a drawing in ink, flat colours" };
        let composed = budget().compose(&row.caption, style).unwrap();
        assert_eq!((&row.prompt, &row.dropped), (&composed.prompt, &composed.dropped));
        let picture = image::open(world.path("run").join(&row.image)).unwrap().to_rgb8();
        let photo = image::open(world.path("run").join(&row.photo)).unwrap().to_rgb8();
        assert_eq!((picture.dimensions(), photo.dimensions()), ((80, 80), (80, 80)));
        assert!(row.values.value("lpips").unwrap() > 0.0 && row.style_distance.unwrap() > 0.0 && row.seconds.is_some());
    }
    assert!(rows.iter().any(|row| !row.dropped.is_empty()), "the long style drops words");
    assert!(rows.iter().any(|row| !row.remark.is_empty()), "remarks reach the rows");
    let mean = rows[..5].iter().map(|row| row.values.value("lpips").unwrap()).sum::<f64>() / 5.0;
    assert_eq!(summary.results[0].n, 5);
    assert!((summary.results[0].values.value("lpips").unwrap() - mean).abs() < 1e-12);
    check_scores(&world, &rows, &summary.results[1]);
    check_comparisons(&world, &rows, &summary.results);
    let manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(world.path("run/manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["finished"], true);
    assert_eq!(manifest["libtorch"].as_str().unwrap().split('+').next(), Some("2.11.0"));
    assert_eq!(manifest["seeds"], serde_json::json!([3]));
    assert_eq!(manifest["model_files"][0]["sha256"].as_str().unwrap().len(), 64);
}

/// The scores of a strategy, from the files that the run left.
fn check_scores(world: &World, rows: &[ItemRow], result: &ResultRow) {
    let scorer = Doubles::new(1).scorer(&world.config(&[])).unwrap();
    let features = |files: Vec<std::path::PathBuf>| {
        let open = |file| toolkit::images::load(file).unwrap();
        let square = |picture| toolkit::images::resize(&picture, 80, 80, toolkit::images::Filter::Bicubic);
        let pictures: Vec<RgbImage> = files.into_iter().map(open).map(square).collect();
        let rows: Vec<tch::Tensor> =
            scorer.features(&pictures).unwrap().iter().map(|row| tch::Tensor::from_slice(row)).collect();
        Gaussian::fit(&tch::Tensor::stack(&rows, 0)).unwrap()
    };
    let own: Vec<&ItemRow> = rows.iter().filter(|row| row.strategy == result.strategy).collect();
    let drawn = features(own.iter().map(|row| world.path("run").join(&row.image)).collect());
    let style = features(toolkit::images::list(world.path("style")).unwrap());
    let fid = distance(&style, &drawn).unwrap();
    let lpips = own.iter().map(|row| row.values.value("lpips").unwrap()).sum::<f64>() / own.len() as f64;
    assert!((result.values.value("fid").unwrap() - fid).abs() < 1e-9 * fid, "{result:?} {fid}");
    let artfid = result.values.value("artfid").unwrap();
    assert!((artfid - (fid + 1.0) * (lpips + 1.0)).abs() < 1e-9, "{result:?}");
    let interval = result.values.interval("artfid").unwrap();
    assert!(interval.contains(artfid) && interval.low < interval.high);
}

/// Every pair of strategies: the difference of what results.csv says, and of single pictures on the photos of both.
fn check_comparisons(world: &World, rows: &[ItemRow], results: &[ResultRow]) {
    let header = fs::read_to_string(world.path("run/comparisons.csv")).unwrap();
    assert_eq!(header.lines().next(), Some("metric,first,second,n,difference,low,high,p_value,p_holm"));
    let found: Vec<Comparison> = toolkit::run::csv::read(&world.path("run/comparisons.csv"), &[]).unwrap();
    let metrics: Vec<&str> = found.iter().map(|row| row.metric.as_str()).collect();
    assert_eq!(metrics, ["artfid", "fid", "lpips"]);
    for row in &found {
        assert_eq!((row.first.as_str(), row.second.as_str(), row.n), ("plain", "long", 5));
        let value = |at: usize| results[at].values.value(&row.metric).unwrap();
        assert!((row.difference - (value(0) - value(1))).abs() < 1e-9 * value(0).abs().max(1.0), "{row:?}");
        assert!(row.low <= row.difference && row.difference <= row.high, "{row:?}");
        assert!((0.0..=1.0).contains(&row.p_value) && row.p_holm == Some(row.p_value), "one pair needs no correction");
    }
    let lpips = |strategy: &str, id: &str| {
        let row = rows.iter().find(|row| row.strategy == strategy && row.id == id).unwrap();
        row.values.value("lpips").unwrap()
    };
    let paired: Vec<f64> =
        (0..5).map(|p| format!("p{p:02}")).map(|id| lpips("plain", &id) - lpips("long", &id)).collect();
    assert!((found[2].difference - paired.iter().sum::<f64>() / 5.0).abs() < 1e-12);
}

/// The marginal means of each axis, of single pictures those of the rows, and none where one axis varies.
#[test]
fn effects_are_means_over_photos_and_the_other_axes() {
    let world = World::new(6);
    world.run("one", &[], &Doubles::new(2)).unwrap();
    assert!(!world.path("one/effects.csv").exists());
    fs::write(world.path("photos/p03.png"), b"broken").unwrap();
    world.run("run", &["guidance_scale={low=1.5,high=7.0}", "seed=[3,4]"], &Doubles::new(3)).unwrap();
    let text = fs::read_to_string(world.path("run/effects.csv")).unwrap();
    assert_eq!(text.lines().next(), Some("axis,value,metric,n,mean,low,high,p_value"));
    let found: Vec<EffectRow> = toolkit::run::csv::read(&world.path("run/effects.csv"), &[]).unwrap();
    let of = |axis: &str| -> Vec<&str> {
        let rows = found.iter().filter(|row| row.axis == axis && row.metric == "lpips");
        rows.map(|row| row.value.as_str()).collect()
    };
    assert_eq!((of("style_text"), of("guidance_scale")), (vec!["plain", "long"], vec!["low", "high"]));
    assert_eq!((of("seed"), found.len()), (vec!["3", "4"], 3 * 2 * 3));
    let rows = items(world.path("run/items.csv"));
    let results: Vec<ResultRow> = toolkit::run::csv::read(&world.path("run/results.csv"), &[]).unwrap();
    for row in &found {
        // Five photos and four strategies have the value.
        assert_eq!(row.n, 5 * 4);
        assert!(row.low <= row.mean && row.mean <= row.high && (0.0..=1.0).contains(&row.p_value), "{row:?}");
    }
    let guided: Vec<&str> = results
        .iter()
        .filter(|result| result.axes.get(&guidance_scale::AXIS).number() == Some(7.0))
        .map(|result| result.strategy.as_str())
        .collect();
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let high = |metric: &str| {
        found
            .iter()
            .find(|row| row.axis == "guidance_scale" && row.value == "high" && row.metric == metric)
            .unwrap()
            .mean
    };
    let own = rows.iter().filter(|row| guided.contains(&row.strategy.as_str()) && row.status == "done");
    let expected = mean(own.map(|row| row.values.value("lpips").unwrap()).collect());
    assert!((high("lpips") - expected).abs() < 1e-12);
    let own = results.iter().filter(|result| guided.contains(&result.strategy.as_str()));
    let expected = mean(own.map(|result| result.values.value("fid").unwrap()).collect());
    assert!((high("fid") / expected - 1.0).abs() < 1e-9);
}

#[test]
fn a_finished_run_is_not_done_again() {
    let world = World::new(3);
    world.run("run", &[], &Doubles::new(1)).unwrap();
    let before = doubles::contents(&world.path("run"));
    let again = Doubles::new(1);
    world.run("run", &[], &again).unwrap();
    assert_eq!(again.loaded.load(Ordering::SeqCst), 0, "no model is loaded");
    assert_eq!(doubles::contents(&world.path("run")), before);
}

#[test]
fn a_greater_limit_continues() {
    let world = World::new(6);
    let config = |limit| {
        let mut config = world.config(&[]);
        config.shared.limit = limit;
        config
    };
    run_in(&world.path("run"), &config(Some(2)), &Doubles::new(1)).unwrap();
    assert_eq!(items(world.path("run/items.csv")).len(), 4);
    let more = Doubles::new(1);
    run_in(&world.path("run"), &config(None), &more).unwrap();
    assert_eq!(more.drawn.load(Ordering::SeqCst), 8, "only the new ones are drawn");
    world.run("whole", &[], &Doubles::new(1)).unwrap();
    assert_same_runs(&world.path("run"), &world.path("whole"));
    let error = run_in(&world.path("run"), &config(Some(2)), &Doubles::new(1)).unwrap_err();
    assert!(error.downcast_ref::<UsageError>().is_some());
    assert!(error.to_string().contains("limit is not set there and 2 here"), "{error}");
}

#[test]
fn another_configuration_is_refused_by_name() {
    let world = World::new(2);
    world.run("run", &[], &Doubles::new(1)).unwrap();
    let error = world.run("run", &["seed=4"], &Doubles::new(1)).unwrap_err();
    assert!(error.downcast_ref::<UsageError>().is_some());
    assert!(error.to_string().contains("axes.seed."), "{error}");
    let error = world.run("run", &["style_text.plain=in oil"], &Doubles::new(1)).unwrap_err();
    assert!(error.to_string().contains("axes.style_text.plain is \"in ink\" there and \"in oil\" here"), "{error}");
}

#[test]
fn bad_photos_fail_alone_and_are_tried_again() {
    let world = World::new(6);
    let good = fs::read(world.path("photos/p02.png")).unwrap();
    fs::write(world.path("photos/p02.png"), &good[..good.len() / 2]).unwrap();
    fs::write(world.path("photos/p04.png"), b"no picture at all").unwrap();
    RgbImage::from_pixel(50, 50, UNSPEAKABLE).save(world.path("photos/p05.png")).unwrap();
    let sets = ["style_text.none=unpaintable"];
    let summary = world.run("run", &sets, &Doubles::new(4)).unwrap();
    assert_eq!(summary.failed.len(), 2 * 3 + 6);
    let rows = items(world.path("run/items.csv"));
    let row = |strategy: &str, id: &str| rows.iter().find(|row| row.strategy == strategy && row.id == id).unwrap();
    assert!(row("plain", "p02").error.contains("p02.png"), "{}", row("plain", "p02").error);
    assert!(row("plain", "p05").error.contains("words fail me"), "{}", row("plain", "p05").error);
    assert!(row("none", "p00").error.contains("out of paint"), "{}", row("none", "p00").error);
    assert!(rows.iter().all(|row| !row.error.contains('\n') && (row.status == "done") == row.error.is_empty()));
    assert_eq!((summary.results[0].n, summary.results[0].failed), (3, 3));
    assert_eq!((summary.results[2].n, summary.results[2].values.value("fid")), (0, None));
    let compared = |file: &str| -> Vec<Comparison> { toolkit::run::csv::read(&world.path(file), &[]).unwrap() };
    let pairs = compared("run/comparisons.csv");
    assert!(
        pairs.iter().all(|row| (row.first.as_str(), row.second.as_str(), row.n) == ("plain", "long", 3)),
        "{pairs:?}"
    );

    fs::write(world.path("photos/p02.png"), &good).unwrap();
    let again = Doubles::new(4);
    let summary = world.run("run", &sets, &again).unwrap();
    assert_eq!((summary.results[0].n, summary.results[0].failed), (4, 2));
    world.run("fresh", &sets, &Doubles::new(4)).unwrap();
    assert_same_runs(&world.path("run"), &world.path("fresh"));
}

#[test]
fn when_nothing_can_be_drawn_the_run_failed() {
    let world = World::new(2);
    for name in ["p00", "p01"] {
        fs::write(world.path(&format!("photos/{name}.png")), b"").unwrap();
    }
    let error = world.run("run", &[], &Doubles::new(1)).unwrap_err().to_string();
    assert!(error.contains("every picture failed") && error.contains("p00.png"), "{error}");
    assert_eq!(items(world.path("run/items.csv")).len(), 4, "each is listed all the same");
}

#[test]
fn a_bad_style_picture_stops_the_run_with_its_name() {
    let world = World::new(2);
    fs::write(world.path("style/p03.png"), b"").unwrap();
    let doubles = Doubles::new(1);
    let error = world.run("run", &[], &doubles).unwrap_err();
    assert!(error.is::<UsageError>());
    let error = format!("{error:#}");
    assert!(error.contains("style_pictures") && error.contains("p03.png"), "{error}");
    assert_eq!(doubles.loaded.load(Ordering::SeqCst), 0);
    // Damaged behind its header: nothing is described in vain.
    let whole = fs::read(world.path("style/p02.png")).unwrap();
    fs::write(world.path("style/p03.png"), &whole[..whole.len() / 2]).unwrap();
    let error = format!("{:#}", world.run("run", &[], &doubles).unwrap_err());
    assert!(error.contains("style_pictures") && error.contains("p03.png"), "{error}");
    assert_eq!(doubles.described.load(Ordering::SeqCst), 0);
}

#[test]
fn every_photo_has_rows_and_pictures_of_its_own() {
    let world = World::new(0);
    for (at, name) in ["a.jpg", "a.png", "a.png.webp"].iter().enumerate() {
        let format = image::ImageFormat::from_path(name).unwrap();
        RgbImage::from_pixel(50, 50, Rgb([80 * at as u8, 9, 9]))
            .save_with_format(world.path("photos").join(name), format)
            .unwrap();
    }
    for hidden in ["photos/._a.png", "photos/.x.jpg", "style/._p00.png", "style/.DS_Store"] {
        fs::write(world.path(hidden), b"no picture").unwrap();
    }
    let summary = world.run("run", &[], &Doubles::new(2)).unwrap();
    assert_eq!((summary.count, summary.failed.len()), (6, 0));
    let rows = items(world.path("run/items.csv"));
    let ids: Vec<&str> = rows[..3].iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids, ["a.jpg", "a.png", "a.png.webp"]);
    for row in &rows {
        assert_eq!(rows.iter().filter(|other| other.image == row.image).count(), 1);
        assert_eq!(
            rows.iter().filter(|other| other.caption == row.caption).count(),
            2,
            "one caption under two strategies"
        );
    }
}

#[test]
fn the_plan_is_checked_before_a_model_is_loaded() {
    let world = World::new(2);
    let cases = [
        (vec!["photos=nowhere"], "nowhere"),
        (vec!["captioner=missing"], "no model is called \"missing\""),
        (
            vec!["scheduler=['ddim', 'pndm']", "generator=['painter', 'stubborn']"],
            "strategy plain__stubborn__ddim: stubborn has a solver of its own and cannot draw with scheduler ddim",
        ),
        (vec!["steps=4", "strength=['none', 0.5, 0.2]"], "strategy plain__i2i0.2: no step is left"),
        (vec!["width=7"], "strategy plain: width 7 cannot be drawn"),
        (vec!["instruction.odd=unanswerable"], "strategy plain: describer has no answer"),
        (vec!["style_text.much=1 2 3 4 5 6 7 8 9 10 11 12 13"], "strategy much: the style text has 13 tokens"),
    ];
    for (sets, expected) in cases {
        let doubles = Doubles::new(1);
        let error = world.run("run", &sets, &doubles).unwrap_err();
        assert!(expected.contains("missing") || error.is::<UsageError>(), "exit status 2: {error:#}");
        let error = format!("{error:#}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(doubles.loaded.load(Ordering::SeqCst), 0);
        assert!(!world.path("run").exists(), "nothing is written");
    }
}

#[test]
fn merged_shards_equal_the_whole_run() {
    let world = World::new(7);
    fs::write(world.path("photos/p03.png"), b"broken").unwrap();
    let sets = ["limit=6", "guidance_scale=[1.5, 7]", "strength=['none', 0.7]", "keep_drawn=true"];
    world.run("whole", &sets, &Doubles::new(1)).unwrap();
    let mut dirs = Vec::new();
    for shard in ["3/3", "1/3", "2/3"] {
        let name = format!("x-shard-{}", shard.replace('/', "-of-"));
        let shard = format!("shard={shard}");
        let summary = world.run(&name, &[&sets[..], &[shard.as_str()]].concat(), &Doubles::new(1)).unwrap();
        assert_eq!(summary.count, 16);
        dirs.push(world.path(&name));
    }
    let error = merge(&dirs[..2], &world.path("merged")).unwrap_err().to_string();
    assert!(error.contains("shards are missing: 2/3"), "{error}");
    let summary = merge(&dirs, &world.path("merged")).unwrap();
    assert_eq!((summary.count, summary.failed.len()), (48, 8));
    assert_same_runs(&world.path("merged"), &world.path("whole"));
    assert_eq!(
        fs::read_to_string(world.path("merged/config.toml")).unwrap(),
        fs::read_to_string(world.path("whole/config.toml")).unwrap()
    );
    let error = merge(&dirs, &world.path("merged")).unwrap_err().to_string();
    assert!(error.contains("is there already"), "{error}");
    let error = merge(&[dirs[0].clone(), dirs[0].clone()], &world.path("m")).unwrap_err().to_string();
    assert!(error.contains("both shard 3/3"), "{error}");
    let error = merge(&[dirs[0].clone(), world.path("whole")], &world.path("m")).unwrap_err().to_string();
    assert!(error.contains("whole is no shard"), "{error}");
}

#[test]
fn an_unfinished_shard_is_not_merged() {
    let world = World::new(2);
    for shard in ["1", "2"] {
        world.run(shard, &[&format!("shard={shard}/2")], &Doubles::new(1)).unwrap();
    }
    let manifest = world.path("2/manifest.json");
    let text = fs::read_to_string(&manifest).unwrap().replace("\"finished\": true", "\"finished\": false");
    fs::write(&manifest, text).unwrap();
    let error = merge(&[world.path("1"), world.path("2")], &world.path("m")).unwrap_err().to_string();
    assert!(error.contains("is not finished"), "{error}");
    assert!(!world.path("m").exists());
}

#[test]
fn shards_and_limits_draw_the_same_pictures() {
    let world = World::new(4);
    world.run("whole", &[], &Doubles::new(1)).unwrap();
    world.run("part", &["shard=2/2"], &Doubles::new(1)).unwrap();
    for id in ["p01", "p03"] {
        let file = format!("images/long/{id}.png");
        assert_eq!(
            fs::read(world.path("part").join(&file)).unwrap(),
            fs::read(world.path("whole").join(&file)).unwrap()
        );
    }
    assert!(!without_times(&world.path("part/items.csv")).contains("p02"));
}

#[test]
fn one_run_mixes_text_to_image_with_strengths() {
    let world = World::new(4);
    let sets = ["strength=['none', 0.3, 0.9]", "style_text={ plain = 'in ink' }"];
    let doubles = Doubles::new(3);
    let summary = world.run("run", &sets, &doubles).unwrap();
    assert_eq!((summary.count, summary.failed.len()), (12, 0));
    assert_eq!(doubles.described.load(Ordering::SeqCst), 4, "described once for all strengths");
    let strengths: Vec<Option<f64>> = summary.results.iter().map(|row| row.strength()).collect();
    assert_eq!(strengths, [None, Some(0.3), Some(0.9)]);
    for row in &summary.results {
        for name in ["fid", "lpips"] {
            let value = row.values.value(name).unwrap();
            assert!(row.values.interval(name).unwrap().contains(value), "{row:?}");
        }
    }
    let rows = items(world.path("run/items.csv"));
    for id in ["p00", "p03"] {
        let own: Vec<&ItemRow> = rows.iter().filter(|row| row.id == id).collect();
        assert!(own.windows(2).all(|pair| pair[0].seed == pair[1].seed && pair[0].prompt == pair[1].prompt));
        let pictures: Vec<Vec<u8>> =
            own.iter().map(|row| fs::read(world.path("run").join(&row.image)).unwrap()).collect();
        assert!(pictures[0] != pictures[1] && pictures[1] != pictures[2], "each strength draws otherwise");
    }
    // Without the axis a run draws what text-to-image draws in one with it.
    world.run("text", &["style_text={ plain = 'in ink' }"], &Doubles::new(3)).unwrap();
    let file = |run: &str| fs::read(world.path(run)).unwrap();
    assert_eq!(file("text/images/plain/p02.png"), file("run/images/plain__t2i/p02.png"));
}

#[test]
fn schedulers_draw_apart_and_are_recorded() {
    let world = World::new(3);
    let sets = ["strength=0.5", "scheduler=['ddim', 'euler-ancestral']", "style_text={ plain = 'in ink' }"];
    let summary = world.run("run", &sets, &Doubles::new(4)).unwrap();
    let recorded: Vec<(&str, &str)> =
        summary.results.iter().map(|row| (row.strategy.as_str(), row.axes.get(&scheduler::AXIS).text())).collect();
    assert_eq!(recorded, [("plain__ddim", "ddim"), ("plain__euler-ancestral", "euler-ancestral")]);
    let file = |strategy: &str| fs::read(world.path(&format!("run/images/{strategy}/p01.png"))).unwrap();
    assert_ne!(file("plain__ddim"), file("plain__euler-ancestral"));
}

/// An axis without a column of its own in every run: it has one where it is given, also when nothing but 0 is.
#[test]
fn etas_draw_apart_and_have_a_column_only_where_they_are_given() {
    let world = World::new(3);
    let run = |out: &str, sets: &[&str]| {
        let sets = [sets, &["scheduler=ddim", "style_text={ plain = 'in ink' }"]].concat();
        world.run(out, &sets, &Doubles::new(4)).unwrap();
        let results = csv::Reader::from_path(world.path(out).join("results.csv")).unwrap().into_deserialize();
        results.map(|row| row.unwrap()).collect::<Vec<BTreeMap<String, String>>>()
    };
    let column = |rows: &[BTreeMap<String, String>], name: &str| -> Vec<Option<String>> {
        rows.iter().map(|row| row.get(name).cloned()).collect()
    };
    let text = |text: &str| Some(text.to_string());
    let several = run("several", &["eta=[0, 0.5, 1]"]);
    assert_eq!(column(&several, "eta"), [text("0.0"), text("0.5"), text("1.0")]);
    assert_eq!(column(&several, "strategy"), [text("plain__eta0"), text("plain__eta0.5"), text("plain__eta1")]);
    assert_eq!(column(&run("none", &[]), "eta"), [None]);
    assert_eq!(column(&run("zero", &["eta=0"]), "eta"), [text("0.0")]);
    let file = |path: &str| fs::read(world.path(path)).unwrap();
    let etas = ["eta0", "eta0.5", "eta1"].map(|eta| file(&format!("several/images/plain__{eta}/p01.png")));
    assert!(etas[0] != etas[1] && etas[1] != etas[2]);
    assert_eq!(etas[0], file("none/images/plain/p01.png"));
    report::render(&world.path("several")).unwrap();
    let page = fs::read_to_string(world.path("several/report.html")).unwrap();
    assert!(page.contains("Eta") && page.contains("plain__eta0.5"));
    // Continued, and from what is there alone, it is the same.
    let before = without_times(&world.path("several/results.csv"));
    run("several", &["eta=[0, 0.5, 1]"]);
    assert_eq!(without_times(&world.path("several/results.csv")), before);
}

/// Strategies of different adapters are drawn apart, and their files are in the manifest.
#[test]
fn adapters_draw_apart_and_are_recorded() {
    let world = World::new(3);
    for name in ["ink.safetensors", "wash.pt"] {
        fs::write(world.path(name), name).unwrap();
    }
    let [ink, wash] = ["ink.safetensors", "wash.pt"].map(|name| world.path(name).display().to_string());
    let lora = format!("lora=['none', '{ink}:0.5', ['{ink}', '{wash}:2']]");
    let sets = [lora.as_str(), "style_text={ plain = 'in ink' }"];
    let summary = world.run("run", &sets, &Doubles::new(4)).unwrap();
    let recorded: Vec<(&str, &str)> =
        summary.results.iter().map(|row| (row.strategy.as_str(), row.axes.get(&lora::AXIS).text())).collect();
    let (one, both) = (format!("{ink}:0.5"), format!("{ink} + {wash}:2"));
    let expected = [("plain__lora-none", ""), ("plain__lora-ink-0.5", &one), ("plain__lora-ink-wash-2", &both)];
    assert_eq!(recorded, expected);
    let file = |strategy: &str| fs::read(world.path(&format!("run/images/{strategy}/p01.png"))).unwrap();
    let pictures: BTreeSet<Vec<u8>> = expected.iter().map(|(strategy, _)| file(strategy)).collect();
    assert_eq!(pictures.len(), 3);
    let manifest = fs::read_to_string(world.path("run/manifest.json")).unwrap();
    for name in ["ink.safetensors", "wash.pt"] {
        assert!(manifest.contains(&format!("{:x}", Sha256::digest(name))), "{manifest}");
    }
    // What the page shows is no path of this machine.
    report::render(&world.path("run")).unwrap();
    let page = fs::read_to_string(world.path("run/report.html")).unwrap();
    assert!(page.contains("ink + wash-2"));
}

/// Strategies of different pictures to draw after are drawn apart; adapter and pictures are in the manifest, and in the files of
/// what was drawn.
#[test]
fn pictures_drawn_after_part_strategies_and_are_recorded() {
    let world = World::new(2);
    fs::write(world.path("ip.bin"), "adapter").unwrap();
    fs::create_dir(world.path("shown")).unwrap();
    for (name, grey) in [("a", 10), ("b", 200)] {
        let picture = image::RgbImage::from_pixel(80, 80, image::Rgb([grey; 3]));
        toolkit::images::save(&picture, world.path(&format!("shown/{name}.png"))).unwrap();
    }
    let [ip, shown, b] = ["ip.bin", "shown", "shown/b.png"].map(|name| world.path(name).display().to_string());
    let axis = format!("ip_adapter=['none', '{ip}:0.5', ['{ip}', '{b}']]");
    let sets = [axis.as_str(), &format!("ip_images={shown}"), "style_text={ plain = 'in ink' }"];
    let summary = world.run("run", &sets, &Doubles::new(4)).unwrap();
    let recorded: Vec<(&str, &str)> =
        summary.results.iter().map(|row| (row.strategy.as_str(), row.axes.get(&ip_adapter::AXIS).text())).collect();
    let (all, one) = (format!("{ip}:0.5 + {shown}"), format!("{ip} + {b}"));
    assert_eq!(recorded, [("plain__ip-none", ""), ("plain__ip-ip-0.5-shown", &all), ("plain__ip-ip-b", &one)]);
    let path = |strategy: &str| world.path(&format!("run/images/{strategy}/p01.png"));
    let pictures: BTreeSet<Vec<u8>> = recorded.iter().map(|(strategy, _)| fs::read(path(strategy)).unwrap()).collect();
    assert_eq!(pictures.len(), 3);
    let manifest = fs::read_to_string(world.path("run/manifest.json")).unwrap();
    let sum = |name: &str| format!("{:x}", Sha256::digest(fs::read(world.path(name)).unwrap()));
    for name in ["ip.bin", "shown/a.png", "shown/b.png"] {
        assert!(manifest.contains(&sum(name)), "{name}: {manifest}");
    }
    let recipe = toolkit::pipelines::Recipe::read(&path("plain__ip-ip-0.5-shown")).unwrap();
    let origin = recipe.ip_adapter.unwrap();
    assert_eq!((origin.adapter.sha256, origin.adapter.weight), (sum("ip.bin"), Some(0.5)));
    let sums: Vec<String> = origin.pictures.into_iter().map(|picture| picture.sha256).collect();
    assert_eq!(sums, [sum("shown/a.png"), sum("shown/b.png")]);
    report::render(&world.path("run")).unwrap();
    let page = fs::read_to_string(world.path("run/report.html")).unwrap();
    assert!(page.contains("IP-Adapter") && page.contains("ip + b"));
}

/// What steers is computed of each photo, from text and from the photo, and each picture says of what it was drawn.
#[test]
fn photos_steer_their_pictures() {
    let world = World::new(3);
    fs::write(world.path("net.safetensors"), "a net").unwrap();
    let (net, run) = (world.path("net.safetensors").display().to_string(), world.path("run"));
    let sets = [
        "control={ none = '', canny = 'canny:0.8', lines = 'lineart' }",
        "strength=['none', 0.5]",
        "style_text={ plain = 'in ink' }",
        &format!("controlnet={{ canny = '{net}', lineart = '{net}' }}"),
    ];
    let summary = world.run("run", &sets, &Doubles::new(4)).unwrap();
    let control = |row: &ResultRow| row.axes.get(&control::AXIS).text().to_string();
    let recorded: Vec<(&str, String)> =
        summary.results.iter().map(|row| (row.strategy.as_str(), control(row))).collect();
    assert_eq!(
        recorded.iter().map(|(strategy, value)| (*strategy, value.as_str())).collect::<Vec<_>>(),
        [
            ("plain__control-none__t2i", ""),
            ("plain__control-none__i2i0.5", ""),
            ("plain__control-canny__t2i", "canny:0.8"),
            ("plain__control-canny__i2i0.5", "canny:0.8"),
            ("plain__control-lines__t2i", "lineart"),
            ("plain__control-lines__i2i0.5", "lineart"),
        ]
    );
    let file = |strategy: &str| run.join(format!("images/{strategy}/p01.png"));
    let pictures: BTreeSet<Vec<u8>> = recorded.iter().map(|(strategy, _)| fs::read(file(strategy)).unwrap()).collect();
    assert_eq!(pictures.len(), 6);
    let said = |strategy: &str| -> serde_json::Value {
        serde_json::from_str(&toolkit::images::read_text(&file(strategy), "toolkit").unwrap().unwrap()).unwrap()
    };
    let canny = said("plain__control-canny__t2i");
    assert_eq!((&canny["control"]["map"], &canny["control"]["scale"]), (&"canny".into(), &0.8.into()));
    // No path of this machine: from the picture to the file, and to its photo.
    assert_eq!(canny["control"]["model"], "../../../net.safetensors");
    assert!(canny["control"]["revision"].is_string() && canny["strength"].is_null());
    assert_eq!(canny["photo"]["path"], "../../../photos/p01.png");
    assert!(said("plain__control-none__t2i")["control"].is_null());
    let manifest = fs::read_to_string(run.join("manifest.json")).unwrap();
    assert!(manifest.contains(&format!("{:x}", Sha256::digest("a net"))), "{manifest}");
    report::render(&run).unwrap();
    let page = fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("Control") && page.contains("canny-0.8"), "the axis is on the page");
    // Continued, it is the same.
    let before = without_times(&run.join("results.csv"));
    let again = Doubles::new(4);
    world.run("run", &sets, &again).unwrap();
    assert_eq!((without_times(&run.join("results.csv")), again.drawn.load(Ordering::SeqCst)), (before, 0));
}

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

#[test]
fn two_processes_do_not_write_one_run() {
    let world = World::new(1);
    fs::create_dir(world.path("run")).unwrap();
    let lock = fs::File::create(world.path("run/.lock")).unwrap();
    lock.lock().unwrap();
    let error = world.run("run", &[], &Doubles::new(1)).unwrap_err().to_string();
    assert!(error.contains("another process is writing"), "{error}");
}

#[test]
fn a_photo_of_any_shape_is_compared_as_a_square() {
    let world = World::new(1);
    RgbImage::from_pixel(300, 20, Rgb([9, 8, 7])).save(world.path("photos/wide.png")).unwrap();
    let summary = world.run("run", &[], &Doubles::new(2)).unwrap();
    assert_eq!(summary.failed.len(), 0);
    let photo = image::open(world.path("run/photos/wide.png")).unwrap().to_rgb8();
    assert_eq!((photo.dimensions(), *photo.get_pixel(40, 40)), ((80, 80), Rgb([9, 8, 7])));
}

/// A folder with a file that must stay as it is, and whether it did.
fn victim(world: &World) -> (std::path::PathBuf, impl Fn() -> bool + use<>) {
    let victim = world.path("victim");
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join(".writing-x"), "precious").unwrap();
    let file = victim.join(".writing-x");
    let unharmed = move || {
        fs::read_to_string(&file).unwrap() == "precious" && file.parent().unwrap().read_dir().unwrap().count() == 1
    };
    (victim, unharmed)
}

#[test]
fn a_run_folder_that_was_received_leads_nowhere() {
    use std::os::unix::fs::symlink;
    let world = World::new(2);
    let (victim, unharmed) = victim(&world);
    let doubles = Doubles::new(1);
    world.run("run", &["keep_drawn=true"], &doubles).unwrap();
    let places = [".lock", "images", "images/plain", "drawn/long", "features", "photos", "plots", "photos/p00.png"];
    for (at, place) in places.into_iter().enumerate() {
        let copy = world.path(&format!("copy{at}"));
        assert!(
            std::process::Command::new("cp").arg("-r").arg(world.path("run")).arg(&copy).status().unwrap().success()
        );
        let place_in_copy = copy.join(place);
        if place_in_copy.is_dir() {
            fs::remove_dir_all(&place_in_copy).unwrap();
        } else {
            fs::remove_file(&place_in_copy).unwrap();
        }
        let to_file = place.ends_with("lock") || place.ends_with(".png");
        symlink(if to_file { victim.join(".writing-x") } else { victim.clone() }, &place_in_copy).unwrap();
        let error = world.run(&format!("copy{at}"), &["keep_drawn=true"], &doubles).unwrap_err();
        assert!(error.downcast_ref::<toolkit::error::UsageError>().is_some(), "{place}: {error:#}");
        assert!(error.to_string().contains(&format!("{place} is a link")), "{error:#}");
        let error = merge(&[copy], &world.path("merged")).unwrap_err();
        assert!(error.to_string().contains(&format!("{place} is a link")), "{error:#}");
        assert!(unharmed(), "{place}");
    }
    // A row that says its picture is elsewhere counts for nothing: the picture is drawn.
    let rows = world.path("run/items.csv");
    let text = fs::read_to_string(&rows).unwrap();
    fs::write(&rows, text.replace("images/plain/p00.png", "../photos/p00.png")).unwrap();
    let before = doubles.drawn.load(Ordering::SeqCst);
    world.run("run", &["keep_drawn=true"], &doubles).unwrap();
    assert_eq!(
        (doubles.drawn.load(Ordering::SeqCst) - before, fs::read_to_string(&rows).unwrap().contains("..")),
        (1, false)
    );
}

#[test]
fn a_merge_removes_what_a_killed_one_left() {
    let world = World::new(2);
    let dirs = ["1", "2"].map(|shard| {
        world.run(shard, &[&format!("shard={shard}/2")], &Doubles::new(1)).unwrap();
        world.path(shard)
    });
    for (name, files) in [(".writing-killed", true), (".writing-busy", true), (".writing-old", false)] {
        fs::create_dir(world.path(name)).unwrap();
        if files {
            fs::write(world.path(name).join(".lock"), "").unwrap();
            fs::create_dir(world.path(name).join("images")).unwrap();
        }
    }
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    fs::File::open(world.path(".writing-old")).unwrap().set_modified(long_ago).unwrap();
    let busy = fs::File::open(world.path(".writing-busy/.lock")).unwrap();
    busy.lock().unwrap();
    merge(&dirs, &world.path("merged")).unwrap();
    let left: Vec<String> = fs::read_dir(world.dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(".writing-"))
        .collect();
    assert_eq!(left, [".writing-busy"]);
}

#[test]
fn whatever_a_run_writes_is_one_of_the_places_that_are_guarded() {
    let world = World::new(3);
    world.run("run", &["keep_drawn=true"], &Doubles::new(1)).unwrap();
    toolkit::report::render(&world.path("run")).unwrap();
    for entry in fs::read_dir(world.path("run")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(toolkit::run::guard::PLACES.contains(&name.as_str()), "add {name} to run::folder::PLACES");
    }
}

/// Both as drawn and as compared, each picture says what it was drawn from, and its pixels are those of its row.
#[test]
fn pictures_say_what_they_were_drawn_from() {
    let world = World::new(2);
    world.run("run", &["strength=['none', 0.7]"], &Doubles::new(1)).unwrap();
    for item in items(world.path("run/items.csv")) {
        for kind in ["images", "drawn"] {
            let file = world.path(&format!("run/{kind}/{}/{}.png", item.strategy, item.id));
            let text = toolkit::images::read_text(&file, "toolkit").unwrap().expect("a text");
            let said: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&said["prompt"], &said["seed"]), (&item.prompt.clone().into(), &item.seed.into()));
            let photo = item.strategy.contains("i2i");
            assert_eq!((said["strength"].is_null(), said["photo"].is_null()), (!photo, !photo), "{text}");
            if photo {
                assert_eq!((&said["photo"]["id"], &said["width"]), (&item.id.clone().into(), &100.into()));
                assert_eq!(said["photo"]["sha256"].as_str().map(str::len), Some(64));
                assert_eq!(
                    said["photo"]["path"],
                    format!("../../../photos/{}.png", item.id),
                    "as seen from the picture"
                );
            }
            assert!(toolkit::images::read_text(&file, "parameters").unwrap().is_some());
        }
    }
}
