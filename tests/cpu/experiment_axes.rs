//! Axes of style experiments: what a strategy draws with, and what its rows say of it.

use crate::doubles;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::atomic::Ordering;

use doubles::{Doubles, World, items, without_times};
use sha2::{Digest, Sha256};
use toolkit::axes::{control, ip_adapter, lora, scheduler};
use toolkit::report;
use toolkit::run::style::{ItemRow, ResultRow};

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
