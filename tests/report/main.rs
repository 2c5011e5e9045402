//! Reports of run folders: what is written, what it says, what happens when something is missing.

mod fixture;

use std::path::{Path, PathBuf};

use anyhow::Result;
use fixture::Fixture;
use toolkit::report;

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
