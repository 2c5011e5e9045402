//! Run folders: who may write where, and what is left there.

use crate::doubles;

use std::fs;
use std::sync::atomic::Ordering;

use doubles::{Doubles, World, merge};

#[test]
fn two_processes_do_not_write_one_run() {
    let world = World::new(1);
    fs::create_dir(world.path("run")).unwrap();
    let lock = fs::File::create(world.path("run/.lock")).unwrap();
    lock.lock().unwrap();
    let error = world.run("run", &[], &Doubles::new(1)).unwrap_err().to_string();
    assert!(error.contains("another process is writing"), "{error}");
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
