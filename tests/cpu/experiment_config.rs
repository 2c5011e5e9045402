//! Experiment files: what they say, and what is said when they are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use toolkit::axes::{generator, guidance_scale, ip_adapter, lora, steps};
use toolkit::error::UsageError;
use toolkit::experiment::caption::CaptionConfig;
use toolkit::experiment::settings::Settings;
use toolkit::experiment::style::plan;
use toolkit::experiment::{Config, built_in, find, kind_of};
use toolkit::images::ControlMap;

const GOOD: &str = r#"
name = "test"
kind = "style_transfer"
inception = "i"
lpips_backbone = "b"
lpips_linear = "l"
photos = "photos"
style_pictures = "style"
[axes]
captioner = "c"
seed = 0
[axes.style_text]
plain = "in ink"
[profiles.mini]
generator = "small"
steps = 4
[profiles.full]
generator = ["large", "owner/Huge"]
guidance_scale = 7
"#;

fn load(text: &str, profile: &str, sets: &[&str]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("my.toml");
    fs::create_dir(dir.path().join("photos")).unwrap();
    fs::write(&file, text).unwrap();
    let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
    Config::load(&file, profile, &sets).map_err(|error| {
        assert!(error.downcast_ref::<UsageError>().is_some(), "exit status 2: {error:#}");
        let text = toolkit::runtime::one_line(&error).replace(&format!("{}/", dir.path().display()), "");
        assert!(!text.contains('\n'), "{text}");
        text
    })
}

fn names(config: &Config) -> Vec<String> {
    plan::cells(&config.axes).unwrap().into_iter().map(|cell| cell.strategy).collect()
}

#[test]
fn profiles_override_and_axes_may_stand_outside_axes() {
    let mini = load(GOOD, "mini", &[]).unwrap();
    assert_eq!((mini.shared.profile.as_str(), names(&mini)), ("mini", vec!["plain".to_string()]));
    assert_eq!(mini.axes.values(&steps::AXIS).collect::<Vec<_>>(), [&4u64.into()]);
    assert_eq!(mini.comparison_size, 224);
    assert!(mini.photos.is_absolute() && mini.photos.ends_with("photos"), "beside the file: {:?}", mini.photos);
    let full = load(GOOD, "full", &[]).unwrap();
    assert_eq!(names(&full), ["plain__large", "plain__huge"]);
    assert_eq!(full.axes.values(&guidance_scale::AXIS).collect::<Vec<_>>(), [&7.0.into()]);
    assert_eq!(full.axes.values(&steps::AXIS).count(), 0);
}

#[test]
fn what_is_written_is_read_again() {
    let config = load(GOOD, "full", &["limit=3", "style_text.odd=a \"quoted\", text # with all"]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    fs::write(&file, toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(Config::from_run(&file).unwrap(), config);
    let again = Config::load(&file, "mini", &["limit=9".to_string()]).unwrap();
    let mut nine = config;
    nine.shared.limit = Some(9);
    assert_eq!(again, nine, "a run's own configuration is an experiment file");
}

#[test]
fn set_takes_toml_bare_words_dots_and_new_values() {
    let config = load(
        GOOD,
        "mini",
        &[
            "seed=[1, 2]",
            "axes.style_text.oil=in oil",
            "generator=owner/other",
            "profiles.mini.limit=5",
            "photos=/somewhere/else",
            "keep_drawn=true",
            "guidance_scale=5",
        ],
    );
    let config = config.unwrap();
    assert_eq!(names(&config), ["plain__seed1", "plain__seed2", "oil__seed1", "oil__seed2"]);
    assert_eq!(config.axes.texts(&generator::AXIS).collect::<Vec<_>>(), ["owner/other"]);
    assert_eq!((config.shared.limit, config.keep_drawn), (Some(5), true));
    assert_eq!(config.photos, Path::new("/somewhere/else"));
    for auto in [load(GOOD, "mini", &["batch_size=auto"]), load(&format!("batch_size = 'auto'\n{GOOD}"), "mini", &[])] {
        assert_eq!(auto.unwrap().shared.batch_size, None);
    }
    let one = load(GOOD, "mini", &["style_text=Peanuts comic style"]).unwrap();
    assert_eq!(names(&one), ["peanuts-comic-style"]);
}

#[test]
fn strengths_are_read_written_and_named() {
    let config = load(GOOD, "mini", &["strength=['none', 0.25, 1]"]).unwrap();
    assert_eq!(names(&config), ["plain__t2i", "plain__i2i0.25", "plain__i2i1"]);
    let named = load(GOOD, "mini", &["strength.text_only=none", "strength.half=0.5"]).unwrap();
    assert_eq!(names(&named), ["plain__text_only", "plain__half"]);
    let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
}

#[test]
fn a_path_from_the_command_line_is_the_working_folders() {
    // `photos` exists beside the file, `src` in the folder the tests run in.
    let config = load(GOOD, "mini", &["photos=src"]).unwrap();
    assert_eq!(config.photos, std::env::current_dir().unwrap().join("src"));
}

#[test]
fn adapters_beside_the_file_are_found_from_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.toml");
    fs::create_dir(folder.path().join("photos")).unwrap();
    fs::write(folder.path().join("ink.safetensors"), "").unwrap();
    let lora = "[axes.lora]\nnone = ''\nink = 'ink.safetensors:0.8'\nboth = ['ink.safetensors', 'elsewhere.pt']\n";
    fs::write(&file, GOOD.replacen("[axes.style_text]", &format!("{lora}[axes.style_text]"), 1)).unwrap();
    let config = Config::load(&file, "mini", &[]).unwrap();
    assert_eq!(names(&config), ["plain__lora-none", "plain__lora-ink", "plain__lora-both"]);
    let texts: Vec<&str> = config.axes.texts(&lora::AXIS).collect();
    let ink = folder.path().join("ink.safetensors");
    let both = format!("{} + elsewhere.pt", ink.display());
    assert_eq!(texts, ["", &format!("{}:0.8", ink.display()), &both]);
    let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let net = format!("controlnet = {{ canny = 'ink.safetensors', lineart = 'owner/lines' }}\n{GOOD}");
    fs::write(&file, net).unwrap();
    let sets = ["control=['canny', 'lineart:0.5']", "controlnet.lineart=owner/other"].map(str::to_string);
    let config = Config::load(&file, "mini", &sets).unwrap();
    let named = ControlMap::ALL.map(|map| config.controlnet(map).unwrap().to_string());
    assert_eq!(named, [ink.display().to_string(), "owner/other".to_string()]);
    let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let wrong = load(GOOD, "mini", &["lora=ink.pt:nan"]).unwrap_err();
    assert!(wrong.contains("ink.pt:NaN has no weight to work with"), "{wrong}");
}

/// An adapter that names no picture is shown those of `ip_images`, which `--set` may change; none are taken silently.
#[test]
fn adapters_are_shown_the_pictures_that_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.toml");
    for name in ["photos", "ink", "wash"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("ip.bin"), "").unwrap();
    fs::write(folder.path().join("brush.png"), "").unwrap();
    let axis =
        "[axes.ip_adapter]\nnone = 'none'\nink = 'ip.bin:0.6'\nalone = ['ip.bin']\nbrush = ['ip.bin', 'brush.png']\n";
    let text = GOOD.replacen("[axes.style_text]", &format!("{axis}[axes.style_text]"), 1);
    fs::write(&file, &text).unwrap();
    let wrong = Config::load(&file, "mini", &[]).unwrap_err().to_string();
    assert!(wrong.contains("ip.bin:0.6 is shown no picture: give ip_images = FOLDER"), "{wrong}");
    fs::write(&file, format!("ip_images = 'ink'\n{text}")).unwrap();
    let config = Config::load(&file, "mini", &[]).unwrap();
    assert_eq!(names(&config), ["plain__ip-none", "plain__ip-ink", "plain__ip-alone", "plain__ip-brush"]);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let texts = |config: &Config| config.axes.texts(&ip_adapter::AXIS).map(str::to_string).collect::<Vec<_>>();
    let (ip, ink, brush) = (at("ip.bin"), at("ink"), at("brush.png"));
    let shown = [String::new(), format!("{ip}:0.6 + {ink}"), format!("{ip} + {ink}"), format!("{ip} + {brush}")];
    assert_eq!(texts(&config), shown);
    let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let set = Config::load(&file, "mini", &[format!("ip_images={}", at("wash"))]).unwrap();
    assert_eq!(texts(&set)[1], format!("{ip}:0.6 + {}", at("wash")));
}

#[test]
fn what_is_wrong_is_one_line_that_names_it() {
    let with = |from: &str, to: &str| load(&GOOD.replace(from, to), "mini", &[]).unwrap_err();
    let cases = [
        (
            with("inception =", "incepton ="),
            "my.toml: profile mini: unknown key \"incepton\", did you mean \"inception\"?",
        ),
        (with("steps = 4", "step = 4"), "my.toml: profile mini: unknown key \"step\", did you mean \"steps\"?"),
        (
            with("guidance_scale = 7", "guidence_scale = 7"),
            "my.toml: profile full: unknown key \"guidence_scale\", did you mean \"guidance_scale\"?",
        ),
        (
            with("[axes.style_text]", "[axes.style_txt]"),
            "my.toml: profile mini: unknown key \"style_txt\", did you mean \"style_text\"?",
        ),
        (with("[profiles.", "[profile."), "my.toml: unknown key \"profile\", did you mean \"profiles\"?"),
        (
            with("\"style_transfer\"", "\"style_transfr\""),
            "my.toml: profile mini: kind = \"style_transfr\" is not known, did you mean \"style_transfer\"? (known: style_transfer)",
        ),
        (with("captioner = \"c\"", ""), "my.toml: profile mini: captioner is missing"),
        (
            with("seed = 0", "seed = \"x\""),
            "my.toml: profile mini: invalid type: string \"x\", expected a whole number of at least 0 (key \"axes.seed\")",
        ),
        (with("seed = 0", "seed = ]"), "my.toml: line 11: "),
        (with("plain = \"in ink\"", "'a b' = \"x\""), "cannot be part of a folder's name"),
        (
            load(GOOD, "ful", &[]).unwrap_err(),
            "my.toml: no profile \"ful\", did you mean \"full\"? (it has: mini, full)",
        ),
        (
            load(GOOD, "mini", &["stepz=4"]).unwrap_err(),
            "--set stepz=4: unknown key \"stepz\", did you mean \"steps\"?",
        ),
        (load(GOOD, "mini", &["steps"]).unwrap_err(), "--set steps: give it as KEY=VALUE"),
        (load(GOOD, "mini", &["steps=many"]).unwrap_err(), "--set steps=many: invalid type: string \"many\""),
        (
            load(GOOD, "mini", &["metrics=fid"]).unwrap_err(),
            "--set metrics=fid: invalid type: string \"fid\", expected a list (key \"metrics\")",
        ),
        (load(GOOD, "mini", &["steps=0"]).unwrap_err(), "steps must be at least 1"),
        (
            load(GOOD, "mini", &["style_txt.a=b"]).unwrap_err(),
            "unknown key \"style_txt.a\", did you mean \"style_text\"?",
        ),
        (load(GOOD, "mini", &["comparison_size=10"]).unwrap_err(), "comparison_size = 10"),
        (
            load(GOOD, "mini", &["control=cany:0.8"]).unwrap_err(),
            "--set control=cany:0.8: control = \"cany\" is not known, did you mean \"canny\"? (known: canny, lineart), or \"none\"",
        ),
        (
            load(GOOD, "mini", &["control=lineart"]).unwrap_err(),
            "control = \"lineart\" needs a ControlNet that reads it: give controlnet = MODEL, or controlnet.lineart = MODEL",
        ),
        (load(GOOD, "mini", &["controlnet=a"]).unwrap_err(), "controlnet is given, but nothing for it to read"),
        (
            load(GOOD, "mini", &["control=canny", "controlnet.cany=a"]).unwrap_err(),
            "\"cany\" is not known, did you mean \"canny\"? (known: canny, lineart) (key \"controlnet\")",
        ),
        (
            load(GOOD, "mini", &["strength=0"]).unwrap_err(),
            "--set strength=0: strength = 0 is not above 0 and up to 1 (text-to-image, without the photo, is \"none\")",
        ),
        (load(GOOD, "mini", &["strength=[0.5, 1.5]"]).unwrap_err(), "strength = 1.5 is not above 0 and up to 1"),
        (load(GOOD, "mini", &["strength=non"]).unwrap_err(), "strength = \"non\" is not known, did you mean \"none\"?"),
        (with("seed = 0", "seed = 0\nstrength = ['none', 'none']"), "t2i is there twice (as t2i)"),
        (
            load(GOOD, "mini", &["scheduler=['ddim', 'pmdm']"]).unwrap_err(),
            "scheduler = \"pmdm\" is not known, did you mean \"pndm\"? (known: pndm, ddim, euler,",
        ),
        (load(GOOD, "mini", &["photos=7"]).unwrap_err(), "photos must be the path of a folder"),
    ];
    for (error, expected) in cases {
        assert!(error.contains(expected), "{error}\nwanted: {expected}");
    }
}

#[test]
fn all_unknown_and_missing_keys_are_said_at_once() {
    let text = GOOD
        .replace("inception =", "incepton =")
        .replace("captioner = \"c\"", "captoner = \"c\"")
        .replace("style_pictures = \"style\"", "")
        .replace("seed = 0", "");
    let error = load(&text, "mini", &[]).unwrap_err();
    let expected = "my.toml: profile mini: unknown key \"incepton\", did you mean \"inception\"?; \
         unknown key \"captoner\", did you mean \"captioner\"?; style_pictures is missing; inception is missing; \
         captioner is missing; seed is missing";
    let sorted = |text: &str| {
        let mut parts: Vec<String> = text.split("; ").map(str::to_string).collect();
        parts.sort();
        parts
    };
    assert_eq!(sorted(&error), sorted(expected));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("captions.toml");
    let text = "name = 'a'\nkind = 'caption'\nlimt = 1\n[models.m]\nmodle = 'x'\n[datasets.d]\npaht = 'y'\nsplt = 'z'\n\
                [[published]]\nmodel = 'm'\ndataset = 'd'\nbleu = 'high'\n";
    fs::write(&file, text).unwrap();
    let error = CaptionConfig::load(&file, "mini", &[]).unwrap_err().to_string();
    for part in [
        "unknown key \"limt\", did you mean \"limit\"?",
        "unknown key \"modle\", did you mean \"model\"? (in models.m)",
        "models.m.model is missing",
        "unknown key \"paht\", did you mean \"path\"?",
        "unknown key \"splt\", did you mean \"split\"?",
        "datasets.d.path is missing",
    ] {
        assert!(error.contains(part), "{error}\nwanted: {part}");
    }
}

/// A key of those that all kinds have is named too, and the published lines are of metrics that there are.
#[test]
fn wrong_values_of_shared_keys_name_the_key() {
    for (set, expected) in [
        ("limit=x", "(key \"limit\")"),
        ("num_beams=-1", "(key \"num_beams\")"),
        ("metrics=7", "(key \"metrics\")"),
        (
            "published=[{strategy='plain', artfidd=1}]",
            "published of plain: \"artfidd\" is no metric here, did you mean \"artfid\"?",
        ),
        ("published=[{artfid=1}]", "published: a line without strategy"),
        ("published=[{strategy='plain', artfid='x'}]", "published of plain: artfid is no number"),
        ("published=[{strategy='plain'}]", "published of plain: no metric has a value"),
    ] {
        let error = load(GOOD, "mini", &[set]).unwrap_err();
        assert!(error.contains(expected), "{error}\nwanted: {expected}");
    }
    let config = load(GOOD, "mini", &["published=[{strategy='plain', artfid=20, fid=19.5}]"]).unwrap();
    let again: Config = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    assert_eq!(again.shared.published[0].value("artfid"), Some(20.0));
}

/// Every value of an experiment file that is allowed here is allowed by the schema that editors get, and the other way round.
#[test]
fn the_schema_for_editors_is_the_one_in_the_repository() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/experiment.schema.json");
    let held: serde_json::Value = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let fresh = toolkit::experiment::keys::schema();
    assert_eq!(
        held, fresh,
        "toolkit experiment --keys --format json > experiments/experiment.schema.json makes it again"
    );
}

#[test]
fn a_missing_file_or_name_lists_what_is_there() {
    let error = find("style_ablatio").unwrap_err().to_string();
    assert!(error.contains("did you mean \"style_ablation\"?"), "{error}");
    assert!(find("none.toml").unwrap_err().to_string().contains("no file none.toml"));
    assert_eq!(find("style_ablation").unwrap().file_name(), PathBuf::from("style_ablation.toml").file_name());
}

/// Runs over every experiment of the repository.
#[test]
fn built_in_experiments_are_whole() {
    let all = built_in().unwrap();
    assert!(all.iter().any(|experiment| experiment.name == "style_ablation"));
    for experiment in all {
        let text = fs::read_to_string(&experiment.file).unwrap();
        let head = text.lines().take_while(|line| line.starts_with('#')).collect::<Vec<_>>().join("\n");
        assert!(head.contains(&format!("./toolkit experiment {}", experiment.name)), "its head says the command");
        assert!(head.contains(&experiment.question), "its head says what it asks");
        for profile in ["mini", "full"] {
            if kind_of(&experiment.file).as_deref() == Some("caption") {
                let config = CaptionConfig::load(&experiment.file, profile, &[]).unwrap();
                assert_eq!(config.shared.name, experiment.name);
                continue;
            }
            let config = Config::load(&experiment.file, profile, &[]).unwrap();
            assert_eq!(config.shared.name, experiment.name);
            assert!(!plan::cells(&config.axes).unwrap().is_empty());
            assert!(config.photos.is_dir() && config.style_pictures.is_dir());
        }
    }
}
