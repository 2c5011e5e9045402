//! Runs from start to end with models that are plain functions.

use crate::doubles;

use std::fs;
use std::sync::atomic::Ordering;

use doubles::{Doubles, UNSPEAKABLE, World, assert_same_runs, budget, items, merge, run_in, without_times};
use image::{Rgb, RgbImage};
use toolkit::axes::guidance_scale;
use toolkit::error::UsageError;
use toolkit::experiment::style::models::Models as _;
use toolkit::experiment::style::plan::picture_seed;
use toolkit::metrics::image::frechet::{Gaussian, distance};
use toolkit::run::style::{Comparison, EffectRow, ItemRow, ResultRow};

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
fn a_photo_of_any_shape_is_compared_as_a_square() {
    let world = World::new(1);
    RgbImage::from_pixel(300, 20, Rgb([9, 8, 7])).save(world.path("photos/wide.png")).unwrap();
    let summary = world.run("run", &[], &Doubles::new(2)).unwrap();
    assert_eq!(summary.failed.len(), 0);
    let photo = image::open(world.path("run/photos/wide.png")).unwrap().to_rgb8();
    assert_eq!((photo.dimensions(), *photo.get_pixel(40, 40)), ((80, 80), Rgb([9, 8, 7])));
}
