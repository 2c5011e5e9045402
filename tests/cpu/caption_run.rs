//! Caption experiments with captioners that are plain functions of the picture.
//!
//! The killed process is this test program itself, started again on the test `child` alone.

use crate::doubles::Gaze;
use crate::notebook_python;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use image::{Rgb, RgbImage};
use toolkit::error::{UsageError, usage};
use toolkit::experiment::caption::{CaptionConfig, CaptionPlan, Captioning};
use toolkit::experiment::models::{Captioners, Needed};
use toolkit::experiment::settings::Settings;
use toolkit::experiment::{Progress, Summary, check, merge, run};
use toolkit::metrics::image::Embedder;
use toolkit::metrics::image::networks::Network;
use toolkit::models::{Caption, CaptionOptions, Captioner, Preprocess};
use toolkit::run::caption::{CaptionItem, CaptionResult, Comparison};

/// A picture with this colour cannot be described.
const UNSPEAKABLE: Rgb<u8> = Rgb([255, 0, 254]);
const PICTURES: u8 = 7;

#[derive(Default)]
struct Doubles {
    pause: Duration,
    described: Arc<AtomicUsize>,
    loaded: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
    seen: Arc<AtomicUsize>,
    /// How often it was asked how photos are preprocessed.
    preprocess: Arc<AtomicUsize>,
}

impl Captioners for Doubles {
    fn find(&self, needed: &Needed) -> Result<PathBuf> {
        if needed.name == "missing" {
            bail!("no model is called {:?}", needed.name);
        }
        Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
    }

    fn check_captions(&self, _name: &str, options: &CaptionOptions) -> Result<()> {
        match options.prompt.as_deref() {
            Some("unanswerable") => Err(usage("it has no answer")),
            _ => Ok(()),
        }
    }

    fn captioner(&self, name: &str) -> Result<Box<dyn Captioner>> {
        self.loaded.fetch_add(1, Ordering::SeqCst);
        assert_eq!(self.alive.fetch_add(1, Ordering::SeqCst), 0, "one model in memory at a time");
        let (pause, described, alive) = (self.pause, self.described.clone(), self.alive.clone());
        Ok(Box::new(Describer { chatty: name == "chatty", pause, described, alive }))
    }

    fn captioner_preprocess(&self, _name: &str) -> Result<Option<Preprocess>> {
        self.preprocess.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    }

    fn embedder(&self, _network: Network, _name: &str) -> Result<Box<dyn Embedder>> {
        assert_eq!(self.alive.load(Ordering::SeqCst), 0, "one model in memory at a time");
        Ok(Box::new(Gaze { seen: self.seen.clone(), blind: false }))
    }

    fn batch_size(&self) -> usize {
        3
    }

    fn place(&self) -> (String, String) {
        ("cpu".to_string(), "float32".to_string())
    }
}

struct Describer {
    chatty: bool,
    pause: Duration,
    described: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

impl Drop for Describer {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Captioner for Describer {
    fn caption(&self, images: &[RgbImage], options: &CaptionOptions) -> Result<Vec<Caption>> {
        std::thread::sleep(self.pause * images.len() as u32);
        let mut captions = Vec::new();
        for image in images {
            let pixel = *image.get_pixel(0, 0);
            if pixel == UNSPEAKABLE {
                bail!("words fail me");
            }
            self.described.fetch_add(1, Ordering::SeqCst);
            let mut text = format!("a picture of number {} on a wall", pixel.0[0]);
            if self.chatty {
                let asked = options.prompt.as_deref().unwrap_or("nothing");
                text += &format!(", and there is so much more to say of it, \"asked {asked}\",\nreally");
            }
            captions.push(Caption { tokens: text.len(), text });
        }
        Ok(captions)
    }
}

struct World {
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { dir: tempfile::tempdir().unwrap() };
        fs::create_dir_all(world.path("own/sub")).unwrap();
        fs::create_dir_all(world.path("flickr")).unwrap();
        let (mut csv, mut token) = ("image,caption\n".to_string(), String::new());
        for n in 0..PICTURES {
            let picture = RgbImage::from_pixel(300, 40 + u32::from(n), Rgb([n, 100, n * 20]));
            picture.save(world.path(&format!("own/sub/{n}.png"))).unwrap();
            picture.save(world.path(&format!("flickr/f{n}.png"))).unwrap();
            csv += &format!("sub/{n}.png,a picture of number {n} on a wall\nsub/{n}.png,\"the number {n}, painted\"\n");
            token += &format!("f{n}.png#0\tnumber {n} on the wall .\nf{n}.png#1\ta wall .\n");
        }
        fs::write(world.path("own/captions.csv"), csv).unwrap();
        fs::write(world.path("flickr/results.token"), token).unwrap();
        let toml = "name = 'captions'\nkind = 'caption'\nquestion = 'Which?'\n\
            [models]\nplain = 'plain'\nchatty = { model = 'chatty', instruction = { one = 'Say.', two = 'Say more.' } }\n\
            [datasets]\nown = 'own'\nflickr = { path = 'flickr', batch_size = 2 }\n\
            [profiles.mini]\n[profiles.full]\nmodels = { plain = 'missing' }\n\
            [[profiles.full.published]]\ndataset = 'own'\nmodel = 'chatty'\nbleu = 0.1\nrouge1 = 0.2\nrouge2 = 0.3\nmeteor = 0.4\n";
        fs::write(world.path("test.toml"), toml).unwrap();
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn config(&self, profile: &str, sets: &[&str]) -> Result<CaptionConfig> {
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        CaptionConfig::load(&self.path("test.toml"), profile, &sets)
    }

    fn run(&self, out: &str, sets: &[&str], doubles: &Doubles) -> Result<Summary<Captioning>> {
        run_in(&self.path(out), &self.config("mini", sets)?, doubles)
    }
}

fn run_in(out: &Path, config: &CaptionConfig, doubles: &Doubles) -> Result<Summary<Captioning>> {
    let plan = CaptionPlan::new(config)?;
    check::<Captioning>(&plan, config, doubles)?;
    run::<Captioning>(&plan, config, out, doubles, Progress::new(true))
}

fn rows<T: toolkit::run::csv::Row>(file: PathBuf) -> Vec<T> {
    toolkit::run::csv::read(&file, &[]).unwrap()
}

/// Every file of a run that must not depend on where it was stopped; times are blanked.
fn contents(run: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, dir: &Path, into: &mut Vec<(String, Vec<u8>)>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                walk(root, &path, into);
            } else if name.ends_with(".csv") {
                let mut reader = csv::Reader::from_path(&path).unwrap();
                let header = reader.headers().unwrap().clone();
                let mut text = String::new();
                for record in reader.records() {
                    for (column, value) in header.iter().zip(&record.unwrap()) {
                        let timed = ["seconds", "images_per_second"].contains(&column);
                        text += &format!("{column}={}|", if timed { "" } else { value });
                    }
                }
                into.push((name, text.into_bytes()));
            } else if name != "manifest.json" && name != "config.toml" && !name.starts_with('.') {
                into.push((name, fs::read(&path).unwrap()));
            }
        }
    }
    let mut all = Vec::new();
    walk(run, run, &mut all);
    all.sort();
    all
}

fn assert_same(a: &Path, b: &Path) {
    let (a, b) = (contents(a), contents(b));
    assert_eq!(a.iter().map(|(name, _)| name).collect::<Vec<_>>(), b.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for ((name, one), (_, other)) in a.iter().zip(&b) {
        assert!(one == other, "{name} differs:\n{}\n{}", String::from_utf8_lossy(one), String::from_utf8_lossy(other));
    }
}

/// CLIPScore: each picture is seen once, whatever many models described it, and the scores are in the tables.
#[test]
fn clip_scores_are_computed_once_and_compared() {
    let world = World::new();
    let asked = "metrics=['meteor', 'clip_score', 'ref_clip_score']";
    let doubles = Doubles::default();
    let summary = world.run("run", &[asked], &doubles).unwrap();
    let pictures = 2 * usize::from(PICTURES);
    let seen = doubles.seen.load(Ordering::SeqCst);
    assert!(seen > pictures, "texts are seen too");
    for result in &summary.results {
        for name in ["clip_score", "ref_clip_score"] {
            let (value, interval) = (result.values.value(name).unwrap(), result.values.interval(name).unwrap());
            assert!(interval.contains(value) && (0.0..=2.5).contains(&value), "{result:?}");
        }
    }
    let items: Vec<CaptionItem> = rows(world.path("run/items.csv"));
    assert!(items.iter().all(|item| item.values.value("clip_score").is_some()));
    let comparisons: Vec<Comparison> = rows(world.path("run/comparisons.csv"));
    assert!(comparisons.iter().any(|row| row.metric == "ref_clip_score"));
    let again = Doubles::default();
    world.run("run", &[asked], &again).unwrap();
    assert_eq!(again.seen.load(Ordering::SeqCst), 0);
    // Asked of a finished run it comes to the same.
    world.run("later", &["metrics=['meteor']"], &Doubles::default()).unwrap();
    let later = Doubles::default();
    world.run("later", &[asked], &later).unwrap();
    assert_eq!((later.described.load(Ordering::SeqCst), later.seen.load(Ordering::SeqCst)), (0, seen));
    assert_same(&world.path("run"), &world.path("later"));
    // Shards hold what they measured.
    let shards = ["1/2", "2/2"].map(|shard| {
        let out = world.path(&format!("run-shard-{}", &shard[..1]));
        let sets = [asked, &format!("shard={shard}")];
        run_in(&out, &world.config("mini", &sets).unwrap(), &Doubles::default()).unwrap();
        out
    });
    merge::<Captioning>(&shards, &world.path("merged")).unwrap();
    assert_same(&world.path("run"), &world.path("merged"));
}

#[test]
fn ids_that_differ_in_case_alone_have_thumbnails_of_their_own() {
    let world = World::new();
    for (at, name) in ["A.png", "a.png", "b.png"].iter().enumerate() {
        RgbImage::from_pixel(20, 20, Rgb([at as u8, 50, 50])).save(world.path("own").join(name)).unwrap();
    }
    fs::write(world.path("own/captions.csv"), "image,caption\nA.png,one\na.png,two\nb.png,three\n").unwrap();
    world.run("run", &["limit=2"], &Doubles::default()).unwrap();
    let items: Vec<CaptionItem> = rows(world.path("run/items.csv"));
    let own: Vec<&CaptionItem> = items.iter().filter(|item| item.dataset == "own" && item.model == "plain").collect();
    let [upper, lower] = [0, 1].map(|at| own[at].image.to_lowercase());
    assert_ne!(upper, lower);
    assert!(upper.starts_with("pictures/own/a-") && lower.starts_with("pictures/own/a-"), "{upper} {lower}");
    let described = Doubles::default();
    world.run("run", &["limit=2"], &described).unwrap();
    assert_eq!(described.loaded.load(Ordering::SeqCst), 0, "what is done stays done");
    let (own, flickr) = (world.path("own"), world.path("flickr"));
    let twins = format!("datasets={{ own = '{}', OWN = '{}' }}", own.display(), flickr.display());
    let error = format!("{:#}", world.run("twins", &[&twins], &described).unwrap_err());
    assert!(error.contains("two data sets would both be called OWN"), "{error}");
    let twice = format!("datasets=['{0}', '{0}']", own.display());
    let error = format!("{:#}", world.run("twins", &[&twice], &described).unwrap_err());
    assert!(error.contains("own is there twice (as own); name the values in a table"), "{error}");
}

#[test]
fn every_model_describes_and_is_scored_on_every_data_set() {
    let world = World::new();
    let doubles = Doubles::default();
    let summary = world.run("run", &[], &doubles).unwrap();
    assert_eq!((summary.count, summary.failed.len()), (3 * 2 * 7, 0));
    assert_eq!(doubles.loaded.load(Ordering::SeqCst), 2, "a model with two instructions is loaded once");
    assert_eq!(doubles.preprocess.load(Ordering::SeqCst), 2, "once a model, however many batches");
    let results: Vec<CaptionResult> = rows(world.path("run/results.csv"));
    let names: Vec<_> = results.iter().map(|row| format!("{} {}", row.dataset, row.model)).collect();
    assert_eq!(names[..3], ["own plain", "own chatty__one", "own chatty__two"]);
    let (plain, chatty) = (&results[0], &results[1]);
    let value = |row: &CaptionResult, name: &str| row.values.value(name).unwrap();
    // The plain captions are one of the references, word for word.
    assert!((value(plain, "bleu") - 1.0).abs() < 1e-12 && (value(plain, "rouge2") - 1.0).abs() < 1e-12);
    assert!(value(chatty, "bleu") < 0.6 && chatty.values.interval("bleu").unwrap().contains(value(chatty, "bleu")));
    assert!(plain.images_per_second.is_some() && value(plain, "cider") > value(chatty, "cider"));
    assert_eq!((plain.n, plain.words, plain.reference_words), (7, Some(8.0), Some(6.0)));
    let items: Vec<CaptionItem> = rows(world.path("run/items.csv"));
    let item = &items[0];
    assert_eq!((item.id.as_str(), item.caption.as_str()), ("sub/0", "a picture of number 0 on a wall"));
    assert!((item.values.value("rouge1").unwrap() - 1.0).abs() < 1e-12 && item.seconds.is_some());
    assert!(items.iter().any(|item| item.caption.contains("asked Say more.") && item.strategy == "two"));
    let thumbnail = image::open(world.path("run").join(&item.image)).unwrap();
    assert_eq!(thumbnail.width(), 224);
    let comparisons: Vec<Comparison> = rows(world.path("run/comparisons.csv"));
    let one = comparisons.iter().find(|row| row.metric == "bleu" && row.dataset == "own").unwrap();
    assert_eq!((one.first.as_str(), one.second.as_str(), one.n), ("plain", "chatty__one", 7));
    assert!((one.difference - (value(plain, "bleu") - value(chatty, "bleu"))).abs() < 1e-12 && one.p_value < 0.01);
    // Three models are three pairs a metric and data set: corrected together.
    for row in &comparisons {
        let family: Vec<&Comparison> =
            comparisons.iter().filter(|other| (&other.metric, &other.dataset) == (&row.metric, &row.dataset)).collect();
        let p_values: Vec<f64> = family.iter().map(|row| row.p_value).collect();
        let at = family.iter().position(|other| *other == row).unwrap();
        assert_eq!((family.len(), row.p_holm), (3, Some(toolkit::metrics::stats::holm(&p_values)[at])), "{row:?}");
    }
    let references = fs::read_to_string(world.path("run/references/flickr.json")).unwrap();
    assert!(references.contains("\"f3\": [\n    \"number 3 on the wall .\""), "{references}");
}

#[test]
fn what_is_done_is_not_done_again_and_more_pictures_continue_a_run() {
    let world = World::new();
    world.run("run", &["limit=3"], &Doubles::default()).unwrap();
    let again = Doubles::default();
    world.run("run", &["limit=3"], &again).unwrap();
    assert_eq!(again.loaded.load(Ordering::SeqCst), 0);
    let more = Doubles::default();
    world.run("run", &["limit=5"], &more).unwrap();
    // Batches of 3 and 2: the fourth and fifth picture, and in one set the third for company.
    assert_eq!(more.described.load(Ordering::SeqCst), 3 * 2 + 3 * 3);
    world.run("fresh", &["limit=5"], &Doubles::default()).unwrap();
    assert_same(&world.path("run"), &world.path("fresh"));
    let error = world.run("run", &["num_beams=2"], &Doubles::default()).unwrap_err().to_string();
    assert!(error.contains("holds another run"), "{error}");
}

#[test]
fn bad_pictures_fail_alone_and_are_tried_again() {
    let world = World::new();
    let good = fs::read(world.path("own/sub/2.png")).unwrap();
    fs::write(world.path("own/sub/2.png"), &good[..good.len() / 2]).unwrap();
    RgbImage::from_pixel(9, 9, UNSPEAKABLE).save(world.path("own/sub/4.png")).unwrap();
    fs::remove_file(world.path("flickr/f6.png")).unwrap();
    let summary = world.run("run", &[], &Doubles::default()).unwrap();
    assert_eq!((summary.failed.len(), summary.count), (3 * 2, 3 * 13));
    let errors: Vec<&str> = summary.failed.iter().map(|row| row.error.as_str()).collect();
    assert!(errors.iter().any(|error| error.contains("2.png")), "{errors:?}");
    assert!(errors.iter().any(|error| error.contains("cannot describe sub/4: words fail me")), "{errors:?}");
    assert_eq!((summary.results[0].n, summary.results[0].failed), (5, 2));
    let manifest = fs::read_to_string(world.path("run/manifest.json")).unwrap();
    assert!(manifest.contains("f6.png") && manifest.contains("\"finished\": true"), "{manifest}");
    fs::write(world.path("own/sub/2.png"), &good).unwrap();
    assert_eq!(world.run("run", &[], &Doubles::default()).unwrap().failed.len(), 3);
    world.run("fresh", &[], &Doubles::default()).unwrap();
    assert_same(&world.path("run"), &world.path("fresh"));
}

#[test]
fn pictures_without_captions_are_described_and_not_scored() {
    let world = World::new();
    let set = format!("photos={}", world.path("own/sub").display());
    let summary = world.run("run", &[&set], &Doubles::default()).unwrap();
    assert_eq!(summary.count, 3 * 7);
    assert!(summary.results.iter().all(|row| row.n == 7 && row.values.value("bleu").is_none() && row.words.is_some()));
    let files = toolkit::report::render(&world.path("run")).unwrap();
    for entry in fs::read_dir(world.path("run")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(toolkit::run::guard::PLACES.contains(&name.as_str()), "add {name} to run::guard::PLACES");
    }
    assert!(
        fs::read_to_string(files.last().unwrap())
            .unwrap()
            .contains("On photos nothing was scored: there are no references.")
    );
}

/// CLIPScore needs no references: it is what can be said of one's own pictures.
#[test]
fn pictures_without_captions_are_scored_by_what_needs_none() {
    let world = World::new();
    let set = format!("photos={}", world.path("own/sub").display());
    let asked = "metrics=['meteor', 'clip_score', 'ref_clip_score']";
    let summary = world.run("run", &[&set, asked], &Doubles::default()).unwrap();
    for row in &summary.results {
        let (value, interval) = (row.values.value("clip_score").unwrap(), row.values.interval("clip_score").unwrap());
        assert!(interval.contains(value), "{row:?}");
        assert!(row.values.value("ref_clip_score").is_none() && row.values.value("meteor").is_none());
        assert_eq!(row.reference_words, None);
    }
    let comparisons: Vec<Comparison> = rows(world.path("run/comparisons.csv"));
    assert_eq!(comparisons.len(), 3);
    assert!(comparisons.iter().all(|row| row.metric == "clip_score" && row.n == 7), "{comparisons:?}");
    let files = toolkit::report::render(&world.path("run")).unwrap();
    let page = fs::read_to_string(files.last().unwrap()).unwrap();
    assert!(page.contains("the highest CLIPScore") && !page.contains("nothing was scored"), "{page}");
}

#[test]
fn keys_are_set_by_the_names_of_models_and_data_sets() {
    let world = World::new();
    let config = world.config("mini", &["own.batch_size=4", "flickr=own", "chatty.num_beams=3", "limit=2"]).unwrap();
    let datasets = &config.datasets.0;
    assert_eq!((datasets[0].1.batch_size, datasets[1].1.batch_size, config.shared.limit), (Some(4), Some(2), Some(2)));
    assert!(datasets[1].1.path.ends_with("own"));
    assert_eq!((config.models.0[1].1.num_beams, config.models.0[1].1.instruction.len()), (Some(3), 2));
    let auto = world.config("mini", &["flickr.batch_size=auto", "datasets.own.split=val"]).unwrap();
    assert_eq!((auto.datasets.0[1].1.batch_size, auto.datasets.0[0].1.split.as_deref()), (None, Some("val")));
    let again = toml::from_str::<CaptionConfig>(&toml::to_string(&auto).unwrap()).unwrap();
    assert_eq!(again, auto, "what is written is read again");
    for (set, expected) in [
        ("owm.split=x", "did you mean \"own\"?"),
        ("own.splitt=x", "unknown key \"splitt\", did you mean \"split\"?"),
        ("limti=3", "unknown key \"limti\", did you mean \"limit\"?"),
        ("own.batch_size=0", "own.batch_size must be at least 1"),
        ("own", "KEY=VALUE"),
    ] {
        let error = format!("{:#}", world.config("mini", &[set]).unwrap_err());
        assert!(error.contains(expected), "{set}: {error}");
    }
}

#[test]
fn everything_is_checked_before_a_model_is_loaded() {
    let world = World::new();
    let doubles = Doubles::default();
    let error = run_in(&world.path("run"), &world.config("full", &[]).unwrap(), &doubles).unwrap_err().to_string();
    assert!(error.contains("no model is called \"missing\""), "{error}");
    let error = world.run("run", &["chatty.instruction=unanswerable"], &doubles).unwrap_err();
    assert!(error.is::<UsageError>(), "exit status 2");
    assert_eq!(format!("{error:#}"), "model chatty: it has no answer");
    let error = format!("{:#}", world.run("run", &["own=nowhere"], &doubles).unwrap_err());
    assert!(error.contains("data set own: there is no data set nowhere"), "{error}");
    assert_eq!(doubles.loaded.load(Ordering::SeqCst), 0);
    assert!(!world.path("run").exists(), "nothing is written");
}

#[test]
fn merged_shards_equal_the_whole_run() {
    let world = World::new();
    world.run("whole", &[], &Doubles::default()).unwrap();
    let mut dirs = Vec::new();
    for shard in ["2/3", "1/3", "3/3"] {
        let name = format!("shard-{}", &shard[..1]);
        world.run(&name, &[&format!("shard={shard}")], &Doubles::default()).unwrap();
        dirs.push(world.path(&name));
    }
    let error = merge::<Captioning>(&dirs[1..], &world.path("merged")).unwrap_err().to_string();
    assert!(error.contains("shards are missing: 2/3"), "{error}");
    merge::<Captioning>(&dirs, &world.path("merged")).unwrap();
    assert_same(&world.path("merged"), &world.path("whole"));
    assert!(merge::<Captioning>(&dirs, &world.path("merged")).unwrap_err().to_string().contains("is there already"));
    assert!(
        merge::<Captioning>(&[world.path("whole")], &world.path("m")).unwrap_err().to_string().contains("is no shard")
    );
}

#[test]
fn the_page_and_the_plots_come_from_the_folder_alone() {
    let world = World::new();
    world.run("run", &[], &Doubles::default()).unwrap();
    let config = world.path("run/config.toml");
    let published =
        "\n[[published]]\ndataset = 'own'\nmodel = 'chatty'\nbleu = 0.1234\nrouge1 = 0.2\nrouge2 = 0.3\nmeteor = 0.4\n";
    fs::write(&config, fs::read_to_string(&config).unwrap() + published).unwrap();
    for gone in ["own", "flickr"] {
        fs::remove_dir_all(world.path(gone)).unwrap();
    }
    let files = toolkit::report::render(&world.path("run")).unwrap();
    for entry in fs::read_dir(world.path("run")).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        assert!(toolkit::run::guard::PLACES.contains(&name.as_str()), "add {name} to run::guard::PLACES");
    }
    assert_eq!(files.len(), 5);
    let html = fs::read_to_string(world.path("run/report.html")).unwrap();
    for part in [
        "On own plain has the highest METEOR",
        "Where the models differ most",
        "Lowest scores of all models",
        "data:image/",
        "the number 3, painted",
        "asked Say more.",
        "0.1234",
        "chatty__one<br>− chatty__two",
        "The sample is small (7 pictures)",
    ] {
        assert!(html.contains(part), "{part}");
    }
    assert!(!html.contains("picture not found"));
    toolkit::report::render(&world.path("run")).unwrap();
    assert_eq!(fs::read_to_string(world.path("run/report.html")).unwrap(), html, "the same files give the same page");
    fs::remove_file(world.path("run/plots/scores.png")).unwrap();
    assert_eq!(toolkit::report::plot(&world.path("run")).unwrap().len(), 4);
    assert!(image::open(world.path("run/plots/scores.png")).is_ok());
}

/// Data sets, models and a published table, a failed picture, and texts that pandas could take for something else.
#[test]
fn the_notebook_reads_well_and_runs_in_jupyter() {
    let world = World::new();
    RgbImage::from_pixel(9, 9, UNSPEAKABLE).save(world.path("own/sub/4.png")).unwrap();
    let csv = world.path("own/captions.csv");
    let awkward = "sub/1.png,NA\nsub/2.png,1.50\nsub/3.png,\"<b>a & b</b>, \"\"so\"\"\"\n";
    fs::write(&csv, fs::read_to_string(&csv).unwrap() + awkward).unwrap();
    world.run("run", &[], &Doubles::default()).unwrap();
    let config = world.path("run/config.toml");
    let published =
        "\n[[published]]\ndataset = 'own'\nmodel = 'chatty'\nbleu = 0.1234\nrouge1 = 0.2\nrouge2 = 0.3\nmeteor = 0.4\n";
    fs::write(&config, fs::read_to_string(&config).unwrap() + published).unwrap();
    let file = toolkit::report::notebook(&world.path("run"), Some(&world.path("notebooks-export/run.ipynb"))).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let notebook: serde_json::Value = serde_json::from_str(&text).unwrap();
    let ids: Vec<&str> = notebook["cells"].as_array().unwrap().iter().filter_map(|cell| cell["id"].as_str()).collect();
    for id in ["title", "configuration", "results", "published", "comparisons", "plot-scores", "plot-length", "failed"]
    {
        assert!(ids.contains(&id), "{id} is not in {ids:?}");
    }
    assert!(ids.contains(&"cases-0") && ids.contains(&"cases-1"), "{ids:?}");
    for part in ["On own plain has the highest METEOR", "asked Say more.", "0.123", "words fail me"] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains(env!("CARGO_MANIFEST_DIR")) && !text.contains(world.dir.path().to_str().unwrap()));
    toolkit::report::notebook(&world.path("run"), Some(&world.path("notebooks-export/run.ipynb"))).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), text, "the same run gives the same notebook");
    notebook_python::runs_and_gives_what_it_stores(&file);
}

/// Does nothing unless started by the test below: then it is the process that is killed.
#[test]
fn child() {
    let Ok(world) = std::env::var("TOOLKIT_TEST_WORLD") else { return };
    let config = CaptionConfig::load(&Path::new(&world).join("test.toml"), "mini", &[]).unwrap();
    let doubles = Doubles { pause: Duration::from_millis(3), ..Doubles::default() };
    if let Err(error) = run_in(&Path::new(&world).join("run"), &config, &doubles) {
        eprintln!("child: {error:#}");
        std::process::exit(1);
    }
}

#[test]
fn killed_at_any_moment_a_run_ends_the_same() {
    let whole = World::new();
    whole.run("run", &[], &Doubles::default()).unwrap();
    let (mut kills, mut in_the_middle) = (0, 0);
    for round in 0..4u64 {
        let world = World::new();
        let items = world.path("run/items.csv");
        let lines = || fs::read_to_string(&items).map_or(0, |text| text.lines().count());
        for attempt in 0.. {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "caption_run::child", "--nocapture"]).env("TOOLKIT_TEST_WORLD", world.dir.path());
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
            let (goal, patience) = (8 + 9 * attempt + 3 * round as usize, Instant::now());
            while lines() < goal && child.try_wait().unwrap().is_none() {
                assert!(patience.elapsed() < Duration::from_secs(60), "the run does not get on");
                std::thread::sleep(Duration::from_micros(300));
            }
            std::thread::sleep(Duration::from_millis(2 * round));
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success());
                break;
            }
            child.kill().unwrap(); // SIGKILL
            child.wait().unwrap();
            kills += 1;
            in_the_middle += usize::from(lines() > 1 && lines() < 40);
            // A row that was cut off, as a machine that loses power leaves it.
            if attempt == 1 {
                let text = fs::read(&items).unwrap();
                fs::write(&items, &text[..text.len() - 17]).unwrap();
            }
        }
        assert_same(&world.path("run"), &whole.path("run"));
    }
    assert!(kills >= 6 && in_the_middle >= 4, "{kills} kills, {in_the_middle} of them between two rows");
}
