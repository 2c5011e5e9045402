"""The script that provides libtorch, against an index and wheels made up here: python3 -m unittest discover."""

import hashlib
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
import zipfile
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PROOF = "torch/lib/libtorch_cpu.so"


def wheel(version="2.11.0"):
    """A wheel with what a libtorch is told by, and something that is not to be unpacked."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("torch/version.py", f"__version__ = '{version}+cu130'\n")
        archive.writestr(PROOF, os.urandom(3 << 20))
        archive.writestr("torch/include/torch/all.h", "//")
        archive.writestr("torch/nn/functional.py", "")
    return content.getvalue()


class Index(http.server.BaseHTTPRequestHandler):
    """An index of one project. Class attributes say how it behaves, `log` what it was asked."""

    content, as_html, break_after, log = b"", False, None, []

    def log_message(self, *_):
        pass

    def do_GET(self):
        wanted = self.headers.get("Range")
        type(self).log.append((self.path, wanted))
        if self.path == "/simple/torch/":
            return self.page()
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        if self.break_after and not wanted:
            self.wfile.write(self.content[: self.break_after])
            return None
        return self.wfile.write(self.content[start:])

    def page(self):
        file = "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl"
        if self.as_html:
            kind, text = "text/html", f'<a href="../../files/{file}#sha256=0">{file}</a>'
        else:
            kind = "application/vnd.pypi.simple.v1+json"
            text = json.dumps({"files": [{"filename": file, "url": f"../../files/{file}", "size": len(self.content)}]})
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(text.encode())


class Provide(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.root)
        (self.root / "scripts").mkdir()
        for name in ["libtorch.py", "wheels.py"]:
            shutil.copy(SCRIPTS / name, self.root / "scripts")
        self.handler = type("Handler", (Index,), {"content": wheel(), "log": []})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.pin(hashlib.sha256(self.handler.content).hexdigest())

    def pin(self, sha256):
        file = "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl"
        table = f"# a comment\n{os.uname().machine} cpu {sha256} {file} {PROOF}\n"
        (self.root / "scripts/libtorch-wheels.txt").write_text(table)

    def provide(self, **environment):
        keep = {name: value for name, value in os.environ.items() if name != "LIBTORCH" and not name.startswith("PIP_")}
        keep |= {"PIP_INDEX_URL": f"http://127.0.0.1:{self.server.server_port}/simple", "PIP_CONFIG_FILE": os.devnull}
        keep |= {"no_proxy": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"}
        # -S hides a torch that is installed on the machine of the test.
        command = [sys.executable, "-S", str(self.root / "scripts/libtorch.py"), "--cpu-only"]
        return subprocess.run(command, env=keep | environment, capture_output=True, text=True, timeout=120)

    def files_asked(self):
        return [wanted for path, wanted in self.handler.log if path.startswith("/files/")]

    def assert_provided(self):
        current = self.root / ".libtorch/current"
        self.assertEqual(os.readlink(current), "site/torch")
        self.assertTrue((current / "lib/libtorch_cpu.so").is_file())
        self.assertTrue((current / "include/torch/all.h").is_file())
        self.assertFalse((current / "nn").exists(), "only what is needed is unpacked")
        self.assertEqual(sorted(path.name for path in (self.root / ".libtorch").iterdir()), ["current", "lock", "site"])

    def test_downloads_once(self):
        answer = self.provide()
        self.assertEqual((answer.returncode, answer.stdout), (0, ""), answer.stderr)
        self.assertIn("downloading torch", answer.stderr)
        self.assert_provided()
        again = self.provide()
        self.assertEqual((again.returncode, again.stderr), (0, ""))
        self.assertEqual(len(self.files_asked()), 1)

    def test_reads_an_index_in_html(self):
        self.handler.as_html = True
        self.assertEqual(self.provide().returncode, 0)
        self.assert_provided()

    def test_continues_a_broken_download(self):
        self.handler.break_after = 1_500_000
        answer = self.provide()
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertEqual(self.files_asked(), [None, "bytes=1500000-"])
        self.assert_provided()

    def test_continues_what_an_earlier_start_left(self):
        folder = self.root / ".libtorch/download"
        folder.mkdir(parents=True)
        part = folder / "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl.part"
        part.write_bytes(self.handler.content[:1_000_000])
        self.assertEqual(self.provide().returncode, 0)
        self.assertEqual(self.files_asked(), ["bytes=1000000-"])
        self.assert_provided()

    def test_refuses_a_wrong_sha256(self):
        self.pin("0" * 64)
        answer = self.provide()
        self.assertEqual(answer.returncode, 1)
        self.assertIn("wrong sha256", answer.stderr.splitlines()[-1])
        self.assertFalse((self.root / ".libtorch/site").exists())

    def test_takes_a_wheel_from_a_local_folder(self):
        folder = self.root / "wheels"
        folder.mkdir()
        (folder / "torch-2.11.0-cp311-cp311-manylinux_2_28_x86_64.whl").write_bytes(self.handler.content)
        answer = self.provide(PIP_FIND_LINKS=str(folder), PIP_NO_INDEX="1")
        self.assertEqual(answer.returncode, 0, answer.stderr)
        self.assertEqual(self.handler.log, [])
        self.assertEqual(len(list(folder.iterdir())), 1, "the user's own file stays")
        self.assert_provided()

    def test_an_unreachable_index_is_one_line(self):
        answer = self.provide(PIP_INDEX_URL="http://127.0.0.1:9/simple")
        self.assertEqual(answer.returncode, 1)
        self.assertRegex(answer.stderr, r"^error: cannot ask pip's index for torch \(.*\n$")

    def test_libtorch_of_the_environment_comes_first(self):
        other = self.root / "other"
        zipfile.ZipFile(io.BytesIO(wheel())).extractall(other)
        self.assertEqual(self.provide(LIBTORCH=str(other / "torch")).returncode, 0)
        self.assertEqual(os.readlink(self.root / ".libtorch/current"), str((other / "torch").resolve()))
        self.assertEqual(self.handler.log, [])

    def test_a_wrong_libtorch_of_the_environment_is_named(self):
        other = self.root / "other"
        zipfile.ZipFile(io.BytesIO(wheel("2.10.0"))).extractall(other)
        answer = self.provide(LIBTORCH=str(other / "torch"))
        self.assertEqual(answer.returncode, 2)
        self.assertIn("holds version 2.10.0, but 2.11.0 is needed", answer.stderr)
        self.assertEqual(self.provide(LIBTORCH=str(self.root / "nowhere")).returncode, 2)

    def test_an_installed_python_torch_is_used(self):
        place = self.root / "installed"
        zipfile.ZipFile(io.BytesIO(wheel())).extractall(place)
        (place / "torch/__init__.py").write_text("raise ImportError('must not be imported')")
        self.assertEqual(self.provide(PYTHONPATH=str(place)).returncode, 0)
        self.assertEqual(os.readlink(self.root / ".libtorch/current"), str((place / "torch").resolve()))

    def test_two_starts_at_once_do_the_work_once(self):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(self.provide())) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual([answer.returncode for answer in answers], [0, 0])
        self.assertEqual(len(self.files_asked()), 1)
        self.assert_provided()


if __name__ == "__main__":
    unittest.main()
