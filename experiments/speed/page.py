"""How large and how fast the page of a large run is: bytes, first paint, frames while it is scrolled.

A run folder of 100 photos under 10 strategies is made up from the embedded pictures (enlarged to 384 pixels, so that
thumbnails are as large as those of a real run); `toolkit report` makes its page and `toolkit view` serves it; Chromium
without a window opens both and scrolls them by a gesture, as a wheel does: at once, and when all pictures have been fetched. A box
of plain text is scrolled in turn with them: what the machine gives at that moment. The processor time of a scroll (browser and
server) tells pages apart where other work makes frames late. Needs `chromium` and `chromedriver`.

    python3 experiments/speed/page.py --toolkit target/release/toolkit
"""
import argparse
import csv
import json
import os
import random
import re
import statistics
import struct
import subprocess
import tempfile
import time
import urllib.request
import zlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MINI = ROOT / "experiments" / "mini"
SCALE = 4  # of the embedded pictures, 96 pixels wide

ITEM = ["id", "strategy", "seed", "caption", "prompt", "dropped", "seconds", "lpips", "style_distance", "status", "error",
        "image", "photo"]
RESULT = ["strategy", "style_text", "n", "artfid", "fid", "lpips", "artfid_low", "artfid_high", "seconds_per_image"]


def enlarged(png):
    """The same picture with each pixel as a square; nothing that a thumbnail could save is lost."""
    data = png.read_bytes()
    at, parts = 8, {}
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at:at + 8])
        parts.setdefault(kind, []).append(data[at + 8:at + 8 + size])
        at += 12 + size
    width, height, depth, color = struct.unpack(">IIBB", parts[b"IHDR"][0][:10])
    if (depth, color, parts[b"IHDR"][0][12]) not in ((8, 2, 0), (8, 3, 0), (8, 0, 0), (8, 6, 0)):
        return data
    channels = {0: 1, 2: 3, 3: 1, 6: 4}[color]
    raw, rows, before = zlib.decompress(b"".join(parts[b"IDAT"])), [], bytearray(width * channels)
    for y in range(height):
        start = y * (width * channels + 1)
        row = unfiltered(raw[start], bytearray(raw[start + 1:start + 1 + width * channels]), before, channels)
        wide = b"".join(bytes(row[x:x + channels]) * SCALE for x in range(0, len(row), channels))
        rows += [b"\0" + wide] * SCALE
        before = row
    head = struct.pack(">II", width * SCALE, height * SCALE) + parts[b"IHDR"][0][8:]
    chunks = [(b"IHDR", head)] + [(kind, parts[kind][0]) for kind in (b"PLTE", b"tRNS") if kind in parts]
    chunks += [(b"IDAT", zlib.compress(b"".join(rows), 6)), (b"IEND", b"")]
    pack = lambda kind, body: struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data[:8] + b"".join(pack(kind, body) for kind, body in chunks)


def unfiltered(kind, row, before, step):
    """A line of a PNG without its filter (https://www.w3.org/TR/png-3/#9Filters)."""
    for x in range(len(row)):
        a, b = row[x - step] if x >= step else 0, before[x]
        c = before[x - step] if x >= step else 0
        if kind == 1:
            guess = a
        elif kind == 2:
            guess = b
        elif kind == 3:
            guess = (a + b) // 2
        elif kind == 4:
            p = a + b - c
            guess = min((abs(p - a), 0, a), (abs(p - b), 1, b), (abs(p - c), 2, c))[2]
        else:
            break
        row[x] = (row[x] + guess) & 255
    return row


def make(run, photos, strategies):
    """The folder: its two tables and its pictures."""
    chance = random.Random(17)
    sources = sorted((MINI / "styles").glob("*/*.png"))
    faces = sorted((MINI / "photos").glob("*.png"))
    large = {file: enlarged(file) for file in faces + sources}
    names = [f"strategy-{at:02}" for at in range(strategies)]
    for folder in ["photos", *(f"images/{name}" for name in names)]:
        (run / folder).mkdir(parents=True)
    items = []
    for p in range(photos):
        (run / f"photos/face-{p:03}.png").write_bytes(large[faces[p % len(faces)]])
        for s, name in enumerate(names):
            image = f"images/{name}/face-{p:03}.png"
            (run / image).write_bytes(large[sources[(p * 7 + s * 31) % len(sources)]])
            caption = f"A smiling person with light skin, short brown hair and glasses, number {p}, wearing a blue hoodie"
            items.append({"id": f"face-{p:03}", "strategy": name, "seed": p, "caption": caption,
                          "prompt": f"{caption}, in the style of strategy {s}", "seconds": 0.5, "status": "done",
                          "lpips": 0.4 + 0.02 * s + chance.gauss(0, 0.05), "style_distance": 12 + s + chance.gauss(0, 2),
                          "image": image, "photo": f"photos/face-{p:03}.png"})
    results = [{"strategy": name, "style_text": f"in the style of strategy {s}", "n": photos, "artfid": 90 + 7 * s,
                "fid": 60 + 5 * s, "lpips": 0.4 + 0.02 * s, "artfid_low": 80 + 7 * s, "artfid_high": 101 + 7 * s,
                "seconds_per_image": 0.5} for s, name in enumerate(names)]
    for name, columns, rows in (("items.csv", ITEM, items), ("results.csv", RESULT, results)):
        with open(run / name, "w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns, restval="", lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
    (run / "config.toml").write_text('name = "large"\nkind = "style_transfer"\nquestion = "How large may a page be?"\n')


class Browser:
    """Chromium without a window, by the WebDriver protocol."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, text=True)
        ports = (re.search(r"started successfully on port (\d+)", line) for line in self.driver.stdout)
        self.base = f"http://127.0.0.1:{next(filter(None, ports))[1]}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1440,900"]
        asked = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}}
        self.base += "/" + self.ask("", {"capabilities": {"alwaysMatch": asked}})["sessionId"]

    def ask(self, path, body):
        request = urllib.request.Request(self.base + path, json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=300) as answer:
            return json.load(answer)["value"]

    def run(self, script):
        return self.ask("/execute/sync", {"script": script, "args": []})

    def devtools(self, command, **parameters):
        return self.ask("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def look(self, width):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                      mobile=width < 600)

    def end(self):
        urllib.request.urlopen(urllib.request.Request(self.base, method="DELETE"), timeout=60).close()
        self.driver.terminate()
        self.driver.wait()


# A box of text alone, against which the frames of the pages are to be held: what the machine itself gives.
PLAIN = """<!doctype html><title>plain</title><div class="grid-box" style="overflow: auto; height: 780px">
""" + "<p>a line of text</p>\n" * 1000 + "</div>\n"

PAINT = """return {paint: performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? null,
                   loaded: performance.getEntriesByType('navigation')[0].loadEventEnd}"""
FRAMES = """window.frames_ = []; let last = performance.now(); window.on_ = true;
            requestAnimationFrame(function next(now) { frames_.push(now - last); last = now; if (on_) requestAnimationFrame(next); })"""
PLACE = """const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});
           const r = e.getBoundingClientRect();
           return [r.x + r.width / 2, Math.min(r.y + r.height / 2, 700), e.scrollHeight, e.scrollTop]"""


def opened(browser, url):
    """First contentful paint and the end of loading, in milliseconds after the start of the navigation."""
    browser.ask("/url", {"url": "about:blank"})
    browser.ask("/url", {"url": url})
    for _ in range(200):
        found = browser.run(PAINT)
        if found["paint"] is not None and found["loaded"] > 0:
            return found
        time.sleep(0.05)
    raise SystemExit(f"{url} is never painted")


def scrolled(browser, selector, distance, speed):
    """The times between frames while the box under the selector is scrolled down by a gesture, in milliseconds."""
    x, y, height, before = browser.ask("/execute/sync", {"script": PLACE, "args": [selector]})
    browser.run(FRAMES)
    browser.devtools("Input.synthesizeScrollGesture", x=x, y=y, yDistance=-distance, speed=speed, gestureSourceType="mouse")
    frames = browser.run("window.on_ = false; return window.frames_")[1:]
    after = browser.run(f"return document.querySelector('{selector}').scrollTop")
    if after - before < distance / 2:
        raise SystemExit(f"{selector} was scrolled by {after - before} of {distance} pixels")
    return frames


def summary(frames):
    ordered = sorted(frames)
    return {"frames_per_second": 1000 * len(frames) / sum(frames), "median_ms": statistics.median(frames),
            "p99_ms": ordered[int(0.99 * (len(ordered) - 1))], "longest_ms": ordered[-1],
            "late": sum(frame > 25 for frame in frames), "frames": len(frames)}


def measure(browser, pages, width, repeat, server):
    """Each page in turn, as often as asked; `pages`: name to address, and whether its pictures are waited for."""
    browser.look(width)
    opens, frames, seconds = ({name: [] for name in pages} for _ in range(3))
    for _ in range(repeat):
        for name, (url, wait) in pages.items():
            opens[name].append(opened(browser, url))
            if wait:
                fetched(browser)
            before = processor_seconds([browser.driver.pid, server.pid])
            frames[name] += scrolled(browser, ".grid-box", 6000, 1500)
            seconds[name].append(processor_seconds([browser.driver.pid, server.pid]) - before)
    return {f"{name} {width}": {"first_paint_ms": statistics.median(found["paint"] for found in opens[name]),
                                "loaded_ms": statistics.median(found["loaded"] for found in opens[name]),
                                "processor_seconds": statistics.median(seconds[name]), **summary(frames[name])}
            for name in pages}


def fetched(browser):
    """Waits until the page has fetched all of its pictures, as it does while nobody scrolls."""
    there = "return [...document.querySelectorAll('[data-row] img')].every((image) => image.complete)"
    for _ in range(1200):
        if browser.run(there):
            return time.sleep(1)
        time.sleep(0.1)
    raise SystemExit("some pictures are never there")


def processor_seconds(roots):
    """User and system time of these processes and of all that they started and that still run."""
    parents, times = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(fields[1])
        times[int(folder.name)] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    def ours(process):
        while process in parents and process not in roots:
            process = parents[process]
        return process in roots
    return sum(seconds for process, seconds in times.items() if ours(process))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--toolkit", default=ROOT / "target/release/toolkit", type=Path)
    parser.add_argument("--photos", default=100, type=int)
    parser.add_argument("--strategies", default=10, type=int)
    parser.add_argument("--repeat", default=3, type=int)
    parser.add_argument("--keep", type=Path, help="leave the run folder here; one that is there, and its page, are taken")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run = args.keep or Path(scratch) / "large"
        if not (run / "items.csv").exists():
            make(run, args.photos, args.strategies)
        start = time.perf_counter()
        if not (run / "report.html").exists():
            subprocess.run([args.toolkit, "-q", "report", run], check=True, stdout=subprocess.DEVNULL)
        (run / "plain.html").write_text(PLAIN)
        found = {"page_bytes": (run / "report.html").stat().st_size, "report_seconds": time.perf_counter() - start,
                 "load_average": os.getloadavg()[0], "date": time.strftime("%Y-%m-%d")}
        server = subprocess.Popen([args.toolkit, "-q", "view", "--no-open", "--port", "0", run], stdout=subprocess.PIPE,
                                  text=True)
        browser = Browser()
        try:
            served = server.stdout.readline().strip()
            found["browser"] = browser.devtools("Browser.getVersion")["product"]
            file = f"file://{run.absolute()}"
            pages = {"plain": (f"{file}/plain.html", False), "report": (f"{file}/report.html", False),
                     "report, fetched": (f"{file}/report.html", True), "view": (served, False),
                     "view, fetched": (served, True)}
            for width in (1440, 390):
                found.update(measure(browser, pages, width, args.repeat, server))
        finally:
            browser.end()
            server.terminate()
            server.wait()
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
