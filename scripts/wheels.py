"""Finds wheels where pip would, downloads them resumably, and checks them against their pinned sha256."""

import ast
import base64
import hashlib
import html.parser
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import namedtuple
from pathlib import Path

JSON_INDEX = "application/vnd.pypi.simple.v1+json"
ATTEMPTS = 6
BLOCK = 1 << 20


class Problem(Exception):
    """What went wrong, in one line with its remedy."""

    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


class Wheel(namedtuple("Wheel", "sha256 file proof")):
    @property
    def project(self):
        return self.file.split("-")[0].replace("_", "-")


_shown = {"text": "", "what": "", "tenth": 0, "time": 0.0}


def progress(what, done, total, unit, rate=""):
    """One line that is updated on a terminal; elsewhere a line for every tenth, but not several a second."""
    text = f"{what}: {done} of {total} {unit}{rate}"
    if sys.stderr.isatty():
        end = "\n" if done >= total else ""
        print(f"\r{text:<{len(_shown['text'])}}", end=end, file=sys.stderr, flush=True)
        _shown["text"] = "" if end else text
        return
    tenth, now = 10 * done // max(total, 1), time.monotonic()
    if what != _shown["what"] or (tenth != _shown["tenth"] and now > _shown["time"] + 1):
        _shown.update(what=what, tenth=tenth, time=now)
        print(text, file=sys.stderr, flush=True)


def pip_options():
    """pip's options that matter here, from its environment variables and configuration files together."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(command, capture_output=True, text=True).stdout
    options = {}
    for section in ["global.", "download.", ":env:."]:  # the later wins
        for line in listing.splitlines():
            name, equals, value = line.partition("=")
            if equals and name.startswith(section):
                options[name[len(section) :]] = str(ast.literal_eval(value))
    return options


def default_index():
    """The index that is built into pip."""
    code = "from pip._internal.models.index import PyPI; print(PyPI.simple_url)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if answer.returncode != 0:
        raise Problem(
            "pip is missing for this Python: install it (Debian, Ubuntu: apt install python3-pip; "
            "elsewhere: python3 -m ensurepip)",
            2,
        )
    return answer.stdout.strip()


class Links(html.parser.HTMLParser):
    """The links of an index page in HTML."""

    def __init__(self, base):
        super().__init__()
        self.base, self.files = base, {}

    def handle_starttag(self, tag, attributes):
        address = dict(attributes).get("href") if tag == "a" else None
        if address:
            url = urllib.parse.urljoin(self.base, address).partition("#")[0]
            self.files[urllib.parse.unquote(url.rsplit("/", 1)[-1])] = url


class Source:
    """Where wheels come from: local folders that pip knows, then its index."""

    def __init__(self):
        default, options = default_index(), pip_options()
        self.index = options.get("index-url", default).strip().rstrip("/")
        self.offline = options.get("no-index", "").lower() in ("1", "true", "yes", "on")
        links = [link.removeprefix("file://") for link in options.get("find-links", "").split()]
        self.folders = [Path(link) for link in links if "://" not in link]
        self.timeout = float(options.get("timeout") or options.get("default-timeout") or 60)
        self.opener = self._opener(options)

    @staticmethod
    def _opener(options):
        authorities = options.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or None
        try:
            context = ssl.create_default_context(cafile=authorities)
        except OSError as error:
            raise Problem(f"{authorities}: cannot read the certificates that pip is told to use: {error.strerror}", 2)
        handlers = [urllib.request.HTTPSHandler(context=context)]
        if options.get("proxy"):
            handlers.append(urllib.request.ProxyHandler(dict.fromkeys(["http", "https"], options["proxy"])))
        return urllib.request.build_opener(*handlers)

    def _open(self, url, headers):
        parts = urllib.parse.urlsplit(url)
        if parts.username:
            # A name and password in the address go into a header, as pip does it.
            secret = f"{urllib.parse.unquote(parts.username)}:{urllib.parse.unquote(parts.password or '')}"
            headers = headers | {"Authorization": "Basic " + base64.b64encode(secret.encode()).decode()}
            url = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        return self.opener.open(urllib.request.Request(url, headers=headers), timeout=self.timeout)

    def locate(self, wanted):
        """For each wheel its file or address, and its size in bytes (0 when the index does not say)."""
        places = {}
        for wheel in wanted:
            local = [folder / wheel.file for folder in self.folders if (folder / wheel.file).is_file()]
            if local:
                places[wheel] = (local[0], local[0].stat().st_size)
            elif self.offline:
                raise Problem(f"{wheel.file} is not here and pip is told to use no index: export LIBTORCH", 2)
            else:
                places[wheel] = self._on_index(wheel)
        return places

    def _on_index(self, wheel):
        page = f"{self.index}/{wheel.project}/"
        try:
            with self._open(page, {"Accept": f"{JSON_INDEX}, text/html;q=0.5"}) as answer:
                text, base, kind = answer.read().decode(), answer.url, answer.headers.get_content_type()
        except (OSError, urllib.error.URLError) as error:
            raise Problem(f"cannot ask pip's index for {wheel.project} ({reason(error)}): is the network up?")
        if kind == JSON_INDEX:
            for file in json.loads(text)["files"]:
                if file["filename"] == wheel.file:
                    return urllib.parse.urljoin(base, file["url"]), file.get("size") or 0
        else:
            links = Links(base)
            links.feed(text)
            if wheel.file in links.files:
                return links.files[wheel.file], 0
        raise Problem(f"pip's index has no {wheel.file}: use an index that mirrors it, or export LIBTORCH")

    def fetch(self, wheel, place, folder):
        """The checked file of the wheel, and whether it is ours to delete."""
        where, size = place
        if isinstance(where, Path):
            if sha256(where) != wheel.sha256:
                raise Problem(f"{where}: its sha256 is not the pinned one of libtorch-wheels.txt: remove the file")
            return where, False
        folder.mkdir(parents=True, exist_ok=True)
        whole, part = folder / wheel.file, folder / f"{wheel.file}.part"
        if not whole.exists():
            self._download(wheel, where, size, part)
            if sha256(part) != wheel.sha256:
                part.unlink()
                raise Problem(f"{wheel.file} came with a wrong sha256 and was thrown away: start again")
            os.replace(part, whole)
        elif sha256(whole) != wheel.sha256:
            whole.unlink()
            return self.fetch(wheel, place, folder)
        return whole, True

    def _download(self, wheel, url, size, part):
        """Appends to what an earlier try left; tries again, later each time, when the connection breaks."""
        failures = 0
        while True:
            have = part.stat().st_size if part.exists() else 0
            if size and have >= size:
                return
            try:
                if self._continue(wheel, url, part, have):
                    return
                raise ConnectionError("the connection ended early")
            except urllib.error.HTTPError as error:
                if error.code == 416:
                    return  # nothing is left to send
                if error.code < 500 and error.code != 429:
                    raise Problem(f"downloading {wheel.file}: {error.code} {error.reason}")
                cause = error
            except (OSError, ValueError) as error:
                if getattr(error, "errno", None) in (28, 30, 13):
                    raise
                cause = error
            grown = part.exists() and part.stat().st_size > have
            failures = 1 if grown else failures + 1
            if failures >= ATTEMPTS:
                raise Problem(
                    f"downloading {wheel.file} broke off ({reason(cause)}): start again, it continues where it stopped"
                )
            time.sleep(min(2**failures, 30))

    def _continue(self, wheel, url, part, have):
        """Reads from byte `have` on; True when the file is whole."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with self._open(url, headers) as answer:
            if have and answer.status != 206:
                have = 0  # the server sends all of it again
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else 0
            started, begun = time.monotonic(), have
            with open(part, "ab" if have else "wb") as file:
                while block := answer.read(BLOCK):
                    file.write(block)
                    have += len(block)
                    self._show(wheel, have, total or have, (have - begun) / (time.monotonic() - started + 1e-9))
        return not total or have >= total

    @staticmethod
    def _show(wheel, have, total, speed):
        left = (total - have) / max(speed, 1)
        progress(f"downloading {wheel.project}", have // 10**6, total // 10**6, "MB", f", {left:.0f} s left")


def reason(error):
    """The last part of a chain of network errors, in one line."""
    return str(getattr(error, "reason", None) or error).splitlines()[0] or type(error).__name__


def sha256(file):
    digest = hashlib.sha256()
    with open(file, "rb") as content:
        while block := content.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
