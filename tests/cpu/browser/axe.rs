//! axe-core (<https://github.com/dequelabs/axe-core>), fetched once from npm, on all pages. Skipped, and said, where npm is
//! not there or not in reach.

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use toolkit::report;

use super::driver::{Browser, browser};
use crate::view::{Server, run_folder};

const PACKAGE: &str = "axe-core@4.11.1";

/// Its code; None where it cannot be had.
pub fn source() -> Option<String> {
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("axe-core");
    let file = place.join("package/axe.min.js");
    if !file.exists() {
        std::fs::create_dir_all(&place).unwrap();
        let packed = Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(&place).output();
        let name = packed.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        let name = name.and_then(|name| String::from_utf8(name).ok())?;
        let unpacked = Command::new("tar").args(["-xzf", name.trim()]).current_dir(&place).status();
        unpacked.ok().filter(|status| status.success())?;
    }
    std::fs::read_to_string(file).ok()
}

/// The serious and critical faults of the page that is open.
pub fn faults(browser: &Browser, axe: &str) -> Vec<String> {
    browser.run(axe);
    let script = "const done = arguments[arguments.length - 1]; \
                  axe.run(document, { resultTypes: ['violations'] }).then((found) => done(found.violations), (e) => done(String(e)));";
    let found = browser.run_async(script);
    let serious = |fault: &&Value| ["serious", "critical"].contains(&fault["impact"].as_str().unwrap_or_default());
    let line = |fault: &Value| {
        let node = &fault["nodes"][0];
        format!(
            "{} ({} places): {} {}",
            fault["id"],
            fault["nodes"].as_array().unwrap().len(),
            node["html"],
            node["failureSummary"]
        )
    };
    found.as_array().unwrap_or_else(|| panic!("{found}")).iter().filter(serious).map(line).collect()
}

#[test]
fn axe_finds_no_serious_fault() {
    let Some(browser) = browser() else { return };
    let Some(axe) = source() else {
        eprintln!("skipped: npm cannot fetch {PACKAGE} here");
        return;
    };
    let (_temp, dir) = run_folder(3, 8);
    let server = Server::start(&dir);
    let first = toolkit::run::csv::read::<toolkit::run::style::ItemRow>(&dir.join("items.csv"), &[]).unwrap().remove(0);
    let rating = serde_json::json!({ "rater": "ann", "id": first.id, "strategy": first.strategy, "rating": "failure" });
    assert_eq!(server.post("/api/ratings", &rating).status, 200);
    report::render(&dir).unwrap();
    for dark in [false, true] {
        browser.look(1440, dark);
        browser.open(&format!("file://{}/report.html", dir.display()));
        assert_eq!(faults(&browser, &axe), [""; 0], "report, dark: {dark}");
        browser.open(&server.url);
        browser.wait("document.querySelector('[role=grid]')");
        assert_eq!(faults(&browser, &axe), [""; 0], "view, dark: {dark}");
        browser.click("[data-view=blind]");
        browser.wait("!document.querySelector('[data-vote=left]').disabled");
        assert_eq!(faults(&browser, &axe), [""; 0], "blind votes, dark: {dark}");
    }
}
