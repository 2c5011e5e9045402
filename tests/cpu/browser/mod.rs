//! The pages in a real browser: `report.html` from a file, and `toolkit view`. Skipped, and said, where there is no
//! chromedriver.

mod axe;
mod driver;

use std::path::{Path, PathBuf};

use toolkit::report;
use toolkit::run::csv;
use toolkit::run::people::{RatingRow, VoteRow};
use toolkit::run::style::ItemRow;

use self::driver::{Browser, browser};
use crate::report::fixture::{Fixture, STYLES};
use crate::view::{Server, run_folder};

/// `[data-photo][data-strategy]` of a cell.
fn cell(photo: usize, strategy: usize) -> String {
    format!("[data-photo=\"face-{photo:03}\"][data-strategy=\"{}\"]", STYLES[strategy].0)
}

fn focused(browser: &Browser) -> String {
    browser.text("document.activeElement.dataset.photo + ' ' + document.activeElement.dataset.strategy")
}

/// How much wider than its window the page is.
fn overflow(browser: &Browser) -> i64 {
    let script = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
    browser.run(script).as_i64().unwrap()
}

/// What is wrong with the plots: each is drawn once, whole, in letters that can be read.
fn cut_plots(browser: &Browser) -> String {
    let script = "[...document.querySelectorAll('figure:has(.plot)')].map((figure) => { \
                  const shown = [...figure.querySelectorAll('.plot')].filter((box) => box.offsetParent); \
                  if (shown.length !== 1) return `${shown.length} are shown`; \
                  const box = shown[0].getBoundingClientRect(), svg = shown[0].firstElementChild; \
                  if (shown[0].scrollWidth > shown[0].clientWidth || box.right > innerWidth) return 'wider than its place'; \
                  const column = Math.min(figure.parentElement.clientWidth, innerWidth > 720 ? Infinity : 560); \
                  if (svg.getBoundingClientRect().width < column - 1) return 'narrower than its column'; \
                  const scale = svg.getBoundingClientRect().width / svg.getAttribute('width'); \
                  return scale < 0.9 ? `drawn ${scale} times as large` : ''; }).filter(Boolean)";
    browser.text(script)
}

/// What can be scrolled but not by keys.
fn out_of_reach(browser: &Browser) -> String {
    let script = "[...document.querySelectorAll('main *')].filter((e) => e.offsetParent && \
                  /auto|scroll/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth && e.tabIndex < 0 && \
                  !e.querySelector('[tabindex=\"0\"]')).map((e) => e.className)";
    browser.text(script)
}

/// Colours of a kind of element, as they are painted.
fn colors(browser: &Browser, selector: &str) -> Vec<String> {
    let script = format!(
        "[...new Set([...document.querySelectorAll('{selector}')].map((e) => getComputedStyle(e).color))].join(';')"
    );
    browser.text(&script).split(';').map(String::from).collect()
}

fn ratings(dir: &Path) -> Vec<RatingRow> {
    csv::read(&dir.join("ratings.csv"), &[]).unwrap()
}

fn votes(dir: &Path) -> Vec<VoteRow> {
    csv::read(&dir.join("votes.csv"), &[]).unwrap()
}

/// Screenshots to look at: `BROWSER_LOOK=FOLDER cargo test --test cpu browser::`.
fn look(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("BROWSER_LOOK") {
        std::fs::write(PathBuf::from(folder).join(format!("{name}.png")), browser.screenshot()).unwrap();
    }
}

#[test]
fn the_grid_is_walked_and_rated_by_keyboard_and_is_there_after_a_reload() {
    let Some(browser) = browser() else { return };
    let (_temp, dir) = run_folder(3, 5);
    let server = Server::start(&dir);
    browser.look(1440, false);
    browser.open(&server.url);
    browser.wait("document.querySelector('[role=grid]') && document.querySelector('[data-rater]').value");
    // Tab comes to the grid, once.
    browser.run("document.querySelector('[data-grid-way]').focus()");
    browser.press(&["Tab"]);
    assert_eq!(focused(&browser), format!("face-000 {}", STYLES[0].0));
    browser.press(&["Right", "Down", "Down", "Left", "Right", "Right", "Right"]);
    assert_eq!(focused(&browser), format!("face-002 {}", STYLES[2].0));
    assert_eq!(browser.text("document.querySelectorAll('[aria-selected=true]').length"), "1");
    browser.press(&["Up", "s"]);
    let pressed = |photo, strategy, rate: &str| {
        format!(
            "document.querySelector('{} [data-rate={rate}]').getAttribute('aria-pressed') === 'true'",
            cell(photo, strategy)
        )
    };
    browser.wait(&pressed(1, 2, "success"));
    assert_eq!(ratings(&dir).len(), 1, "it is shown when it is on disk");
    browser.press(&["Left", "3"]);
    browser.wait(&pressed(1, 1, "failure"));
    browser.click(&format!("{} [data-rate=failure]", cell(2, 0)));
    browser.wait(&pressed(2, 0, "failure"));
    browser.click("[data-reason=\"identity lost\"]");
    browser.wait(&format!("document.querySelector('{}').dataset.reason === 'identity lost'", cell(2, 0)));
    browser.press(&["Up", "f"]);
    browser.wait(&pressed(1, 0, "failure"));
    look(&browser, "view-1440");
    browser.press(&["u"]);
    browser.wait(&format!("!({})", pressed(1, 0, "failure")));
    let said: Vec<(String, String, String)> =
        ratings(&dir).into_iter().map(|row| (row.id, row.rating, row.reason)).collect();
    let row = |id: &str, rating: &str, reason: &str| (id.to_string(), rating.to_string(), reason.to_string());
    let expected = [
        row("face-001", "success", ""),
        row("face-001", "failure", "deformed"),
        row("face-002", "failure", ""),
        row("face-002", "failure", "identity lost"),
    ];
    assert_eq!(said, expected);
    browser.open(&server.url);
    browser.wait(&pressed(1, 2, "success"));
    browser.wait(&pressed(1, 1, "failure"));
    browser.wait(&pressed(2, 0, "failure"));
    // A picture that is shown large is rated there, by key and by button, and says what was said of it.
    browser.click(&format!("{} img", cell(1, 1)));
    browser.wait("document.querySelector('[data-lightbox]').open");
    let large = |rate: &str| {
        format!("document.querySelector('[data-lightbox-rate={rate}]').getAttribute('aria-pressed') === 'true'")
    };
    browser.wait(&large("failure"));
    assert_eq!(browser.text("document.querySelector('[data-lightbox-why]').textContent"), "deformed");
    browser.press(&["s"]);
    browser.wait(&large("success"));
    browser.press(&["Right"]);
    browser.wait(&large("success"));
    browser.click("[data-lightbox-rate=failure]");
    browser.wait(&large("failure"));
    look(&browser, "view-lightbox-1440");
    assert_eq!(ratings(&dir).into_iter().skip(4).map(|row| row.rating).collect::<Vec<_>>(), ["success", "failure"]);
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn blind_votes_hide_who_made_what_and_are_on_disk() {
    let Some(browser) = browser() else { return };
    let (_temp, dir) = run_folder(3, 5);
    let server = Server::start(&dir);
    browser.look(1440, false);
    browser.open(&server.url);
    browser.wait("document.querySelector('[role=grid]')");
    browser.click("[data-view=blind]");
    let ready = "document.querySelector('[data-vote=left]') && !document.querySelector('[data-vote=left]').disabled";
    browser.wait(ready);
    let seen = "document.body.innerText + [...document.querySelectorAll('*')].flatMap((e) => ['alt', 'title', \
                'aria-label', 'src', 'href', 'data-strategy'].map((name) => e.getAttribute(name) || '')).join('\\n')";
    let seen = browser.text(&format!("({seen})"));
    for (name, style) in &STYLES[..3] {
        assert!(!seen.contains(name) && !seen.contains(style), "{name} is in {seen}");
    }
    assert_eq!(
        browser.text("[...document.querySelectorAll('.trio img')].filter((i) => i.naturalWidth > 0).length"),
        "3"
    );
    look(&browser, "blind-1440");
    for (at, vote) in ["left", "right", "tie"].into_iter().enumerate() {
        browser.click(&format!("[data-vote={vote}]"));
        browser.wait(&format!("document.querySelector('[data-progress]').textContent.startsWith('{} of')", at + 1));
        browser.wait(ready);
        assert_eq!(votes(&dir)[at].choice, vote);
    }
    browser.press(&["Left"]);
    browser.wait("document.querySelector('[data-progress]').textContent.startsWith('4 of')");
    browser.wait(ready);
    browser.press(&["u"]);
    browser.wait("document.querySelector('[data-said]').textContent.includes('taken back')");
    assert_eq!(votes(&dir).len(), 3);
    // The grid comes back as it was.
    browser.click("[data-view=grid]");
    browser.wait(&format!("document.querySelector('{}')", cell(0, 0)));
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn two_raters_in_two_browsers_keep_their_own_answers() {
    let (Some(one), Some(other)) = (browser(), browser()) else { return };
    let (_temp, dir) = run_folder(1, 4);
    let server = Server::start(&dir);
    for browser in [&one, &other] {
        browser.open(&server.url);
        browser.wait("document.querySelector('[data-rater]').value");
    }
    let pressed = |rate: &str| {
        format!("document.querySelector('{} [data-rate={rate}]').getAttribute('aria-pressed') === 'true'", cell(1, 0))
    };
    one.click(&format!("{} [data-rate=success]", cell(1, 0)));
    other.click(&format!("{} [data-rate=failure]", cell(1, 0)));
    one.wait(&pressed("success"));
    other.wait(&pressed("failure"));
    let rows = ratings(&dir);
    assert!(rows.len() == 2 && rows[0].rater != rows[1].rater, "{rows:?}");
    // Under the name of the other one sees the other's answers.
    let name = &rows.iter().find(|row| row.rating == "failure").unwrap().rater;
    one.run(&format!(
        "const n = document.querySelector('[data-rater]'); n.value = '{name}'; n.dispatchEvent(new Event('change'))"
    ));
    one.wait(&pressed("failure"));
}

#[test]
fn the_pages_fit_a_phone_and_a_desk_light_and_dark() {
    let Some(browser) = browser() else { return };
    let (_temp, dir) = run_folder(4, 12);
    report::render(&dir).unwrap();
    let server = Server::start(&dir);
    let page = format!("file://{}/report.html", dir.display());
    for (name, url) in [("report", &page), ("view", &server.url)] {
        for (width, dark) in [(390, false), (390, true), (1440, false), (1440, true)] {
            browser.look(width, dark);
            browser.open(url);
            browser.wait("document.querySelector('[role=grid]')");
            assert!(overflow(&browser) <= 0, "{name} at {width} is wider by {}", overflow(&browser));
            let small = "[...document.querySelectorAll('button')].filter((b) => b.offsetParent).map((b) => \
                         b.getBoundingClientRect()).filter((r) => r.width < 20 || r.height < 20).length";
            assert_eq!(browser.text(small), "0", "buttons of {name} that are too small");
            if name == "report" {
                assert_eq!(cut_plots(&browser), "", "plots at {width} that are cut, scroll, or are not there");
                // Only what leads somewhere has the colour of a link.
                let (links, text) = (colors(&browser, "main a"), colors(&browser, "main :not(a, a *, button, svg *)"));
                assert!(links.len() == 1 && !text.contains(&links[0]), "{links:?} in {text:?}");
            }
            assert_eq!(out_of_reach(&browser), "", "scrolled parts of {name} at {width} that no key reaches");
            look(&browser, &format!("{name}-{width}-{}", if dark { "dark" } else { "light" }));
        }
    }
    browser.look(390, false);
    browser.click("[data-view=blind]");
    browser.wait("!document.querySelector('[data-vote=left]').disabled");
    assert!(overflow(&browser) <= 0);
    look(&browser, "blind-390");
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A caption run and a comparison of two runs, as the program makes them.
fn other_pages(dir: &Path) -> [(&'static str, PathBuf); 2] {
    let toolkit = |args: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("toolkit").unwrap();
        command.current_dir(dir).args(args).env("HF_HUB_OFFLINE", "1").assert().success();
    };
    toolkit(&["experiment", "caption_benchmark", "--device", "cpu", "--limit", "2", "--out", "captions"]);
    for name in ["one", "two"] {
        Fixture { strategies: 3, photos: 8, side: 32 }.write(&dir.join(name)).unwrap();
    }
    toolkit(&["compare", "one", "two"]);
    [("captions", dir.join("captions/report.html")), ("compare", dir.join("compare.html"))]
}

#[test]
fn pages_of_captions_and_comparisons_fit_and_have_no_serious_fault() {
    let Some(browser) = browser() else { return };
    let temp = tempfile::tempdir().unwrap();
    let axe = axe::source();
    for (name, page) in other_pages(temp.path()) {
        for (width, dark) in [(390, false), (390, true), (1440, false), (1440, true)] {
            browser.look(width, dark);
            browser.open(&format!("file://{}", page.display()));
            browser.wait("document.querySelector('.answer')");
            assert!(overflow(&browser) <= 0, "{name} at {width} is wider by {}", overflow(&browser));
            if name == "captions" {
                assert_eq!(cut_plots(&browser), "", "plots at {width} that are cut, scroll, or are not there");
            }
            look(&browser, &format!("{name}-{width}-{}", if dark { "dark" } else { "light" }));
            if let Some(axe) = &axe {
                assert_eq!(axe::faults(&browser, axe), [""; 0], "{name} at {width}, dark: {dark}");
            }
        }
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn the_grid_of_a_report_opens_filters_and_sorts() {
    let Some(browser) = browser() else { return };
    let (_temp, dir) = run_folder(3, 8);
    report::render(&dir).unwrap();
    browser.look(1440, false);
    browser.open(&format!("file://{}/report.html", dir.display()));
    browser.click(&cell(1, 0));
    browser.wait("document.querySelector('[data-lightbox]').open");
    // The original is larger than what the page carries of it.
    browser.wait("document.querySelector('[data-lightbox-picture]').src.startsWith('file:')");
    browser.wait("document.querySelector('[data-lightbox-picture]').naturalWidth === 48");
    let facts = browser.text("document.querySelector('[data-lightbox-facts]').innerText");
    for fact in ["Caption", "Prompt", "Seed", "LPIPS", "lower is better", "Style distance"] {
        assert!(facts.contains(fact), "{fact} in {facts}");
    }
    browser.press(&["Right", "Down", "+", "+", "c"]);
    let title = browser.text("document.querySelector('[data-lightbox-title]').textContent");
    assert_eq!(title, format!("face-002, {}", STYLES[1].0));
    let zoomed = "return getComputedStyle(document.querySelector('[data-lightbox-panes]')).getPropertyValue('--zoom')";
    assert!(browser.run(zoomed).as_str().unwrap().parse::<f64>().unwrap() > 1.5);
    let both = "const of = (name) => getComputedStyle(document.querySelector(`[data-lightbox-${name}]`)).transform; \
                return [of('photo'), of('picture')]";
    let both = browser.run(both);
    assert!(both[0] == both[1] && both[0] != "matrix(1, 0, 0, 1, 0, 0)", "photo and picture are zoomed alike: {both}");
    // The slider lays the picture over the photo from where it stands.
    let shown = "const p = document.querySelector('[data-lightbox-panes]'), [a, b] = p.querySelectorAll('.pane'); \
                 const x = a.getBoundingClientRect(), y = b.getBoundingClientRect(); \
                 return [p.classList.contains('cut-mode'), x.x === y.x && x.width === y.width, getComputedStyle(b).clipPath]";
    let cut = "const e = document.querySelector('[data-lightbox-cut] input'); e.value = arguments[0]; \
               e.dispatchEvent(new Event('input', { bubbles: true }))";
    for part in [50, 20, 80] {
        browser.run(&cut.replace("arguments[0]", &part.to_string()));
        assert_eq!(browser.run(shown), serde_json::json!([true, true, format!("inset(0px 0px 0px {part}%)")]));
    }
    look(&browser, "lightbox-1440");
    browser.press(&["Escape"]);
    browser.wait("!document.querySelector('[data-lightbox]').open");
    assert_eq!(focused(&browser), format!("face-002 {}", STYLES[1].0));
    // Names of strategies and photos stay where the grid is scrolled to.
    let heads = "const b = document.querySelector('.grid-box'); b.style.maxHeight = '300px'; b.style.width = '420px'; \
                 b.scrollTop = 200; b.scrollLeft = 100; const r = b.getBoundingClientRect(); \
                 const at = (e) => { const q = e.getBoundingClientRect(); return [Math.round(q.x - r.x - b.clientLeft), \
                 Math.round(q.y - r.y - b.clientTop)]; }; const found = [b.scrollTop, b.scrollLeft, \
                 at(b.querySelector('.heads'))[1], at(b.querySelector('.heads .head'))[0], \
                 at(b.querySelector('[data-row] .head'))[0]]; b.removeAttribute('style'); return found";
    assert_eq!(browser.run(heads), serde_json::json!([200, 100, 0, 0, 0]));
    // A point of a plot opens its picture.
    browser.run("document.querySelector('.spot[data-spot-photo=\"face-004\"]').scrollIntoView({ block: 'center' })");
    browser.click(".spot[data-spot-photo=\"face-004\"]");
    browser.wait("document.querySelector('[data-lightbox]').open");
    assert!(browser.text("document.querySelector('[data-lightbox-title]').textContent").starts_with("face-004, "));
    browser.press(&["Escape"]);
    let set = |name: &str, value: &str| {
        browser.run(&format!(
            "const e = document.querySelector('[data-grid-{name}]'); e.value = {value:?}; \
             e.dispatchEvent(new Event('input', {{ bubbles: true }}))"
        ));
    };
    let shown = || {
        browser.text("[...document.querySelectorAll('[data-row]')].filter((r) => !r.hidden).map((r) => r.querySelector('.name').textContent)")
    };
    set("find", "number 3");
    assert_eq!(shown(), "face-003");
    set("find", "");
    let items: Vec<ItemRow> = csv::read(&dir.join("items.csv"), &[]).unwrap();
    let value = |photo: &str, s: usize| {
        items.iter().find(|item| item.id == photo && item.strategy == STYLES[s].0).unwrap().values.value("lpips")
    };
    set("metric", "0");
    set("of", "1");
    set("less", "0");
    let mut order: Vec<(Option<f64>, String)> = (0..8)
        .map(|p| format!("face-{p:03}"))
        .map(|photo| (value(&photo, 1).zip(value(&photo, 0)).map(|(a, b)| a - b), photo))
        .collect();
    order
        .sort_by(|a, b| (a.0.is_none(), a.0.unwrap_or(0.0)).partial_cmp(&(b.0.is_none(), b.0.unwrap_or(0.0))).unwrap());
    let order: Vec<String> = order.into_iter().map(|(_, photo)| photo).collect();
    assert_eq!(shown(), order.join(","));
    set("status", "failed");
    let failed: Vec<&String> =
        order.iter().filter(|photo| items.iter().any(|i| i.id == **photo && i.status == "failed")).collect();
    assert_eq!(shown(), failed.iter().map(|id| id.as_str()).collect::<Vec<_>>().join(","));
    assert_eq!(browser.complaints(), [""; 0]);
}

/// A rater who scrolls does not wait for pictures, and one with a finger turns them over, too.
#[test]
fn pictures_are_there_before_they_are_scrolled_to_and_are_turned_by_button() {
    let Some(browser) = browser() else { return };
    let (_temp, dir) = run_folder(3, 40);
    report::render(&dir).unwrap();
    let server = Server::start(&dir);
    for url in [format!("file://{}/report.html", dir.display()), server.url.clone()] {
        browser.look(390, false);
        browser.open(&url);
        browser.wait("document.querySelector('[role=gridcell] img')");
        let images = "[...document.querySelectorAll('[data-row] img')]";
        browser.wait(&format!("{images}.every((i) => i.complete && i.naturalWidth > 0)"));
        assert_eq!(browser.text("document.querySelector('.grid-box').scrollTop"), "0", "{url}");
        browser.click(&cell(0, 0));
        browser.wait("document.querySelector('[data-lightbox]').open");
        let title = || browser.text("document.querySelector('[data-lightbox-title]').textContent");
        let next = "[data-lightbox-step='1']";
        let before = "[data-lightbox-step='-1']";
        let steps =
            [(before, 0, 0), (next, 0, 1), (next, 0, 2), (next, 1, 0), (before, 0, 2), (before, 0, 1), (next, 0, 2)];
        for (button, photo, strategy) in steps {
            browser.click(button);
            assert_eq!(title(), format!("face-{photo:03}, {}", STYLES[strategy].0), "{url}");
        }
        assert!(overflow(&browser) <= 0);
        browser.press(&["Escape"]);
    }
    assert_eq!(browser.complaints(), [""; 0]);
}

#[test]
fn text_of_a_run_is_never_run_by_a_browser() {
    let Some(browser) = browser() else { return };
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    Fixture { strategies: 2, photos: 4, side: 32 }.write(&dir).unwrap();
    let evil =
        "</script><script>document.title = 'run'</script>\"'><img src=x onerror=\"document.title = 'run'\"> {{ x }}";
    let mut items: Vec<ItemRow> = csv::read(&dir.join("items.csv"), &[]).unwrap();
    for item in &mut items {
        for text in [&mut item.caption, &mut item.prompt, &mut item.dropped, &mut item.remark, &mut item.error] {
            *text = evil.to_string();
        }
        item.id = format!("{evil}{}", item.id);
        item.strategy = format!("{evil}{}", item.strategy);
    }
    csv::write(&dir.join("items.csv"), &items, &[]).unwrap();
    report::render(&dir).unwrap();
    let server = Server::start(&dir);
    for url in [format!("file://{}/report.html", dir.display()), server.url.clone()] {
        browser.open(&url);
        browser.wait("document.querySelector('[role=gridcell] img')");
        browser.run("document.querySelector('[role=gridcell] img').click()");
        browser.wait("document.querySelector('[data-lightbox]').open");
        assert!(browser.text("document.querySelector('[data-lightbox-facts]').innerText").contains("onerror"));
        assert_ne!(browser.text("document.title"), "run", "{url}");
    }
    browser.run("document.querySelector('[data-lightbox]').close()");
    browser.click("[data-rate=success]");
    browser.wait("document.querySelector('[data-rate=success][aria-pressed=true]')");
    assert_eq!(ratings(&dir)[0].id, items.iter().find(|item| item.status == "done").unwrap().id);
    assert_ne!(browser.text("document.title"), "run");
}

/// As a page of another site that a rater has open would try it.
#[test]
fn pages_of_other_sites_write_and_read_nothing() {
    let Some(browser) = browser() else { return };
    let (_temp, dir) = run_folder(1, 4);
    let (server, other) = (Server::start(&dir), Server::start(&dir));
    let body = serde_json::json!({ "rater": "eve", "id": "face-001", "strategy": STYLES[0].0, "rating": "success" });
    // Another port is another origin; the name leads to the same machine.
    for from in ["data:text/html,<p>mine".to_string(), other.url.replace("127.0.0.1", "localhost")] {
        browser.open(&from);
        for (kind, mode) in [("application/json", "cors"), ("text/plain", "no-cors"), ("text/plain", "cors")] {
            let script = format!(
                "const done = arguments[arguments.length - 1]; fetch('{}api/ratings', {{ method: 'POST', mode: '{mode}', \
                 headers: {{ 'content-type': '{kind}' }}, body: JSON.stringify({body}) }}).then((r) => r.text()).then(done, () => done('')); ",
                server.url
            );
            assert_eq!(browser.run_async(&script), "", "{kind} {mode} from {from}");
        }
        let read = format!(
            "const done = arguments[arguments.length - 1]; fetch('{}api/answers?rater=ann').then((r) => r.text()).then(done, () => done(''))",
            server.url
        );
        assert_eq!(browser.run_async(&read), "", "from {from}");
    }
    assert!(!dir.join("ratings.csv").exists());
    // A picture inside a page of another site is refused, and so is a frame.
    browser.open("data:text/html,<p>mine");
    let image = format!(
        "const done = arguments[arguments.length - 1]; const i = new Image(); i.onload = () => done('shown'); \
         i.onerror = () => done('refused'); i.src = '{}images/{}/face-001.png'",
        server.url, STYLES[0].0
    );
    assert_eq!(browser.run_async(&image), "refused");
}
