"""The launcher with a cargo made up here: python3 -m unittest discover."""

import os
import shutil
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARGO = """#!/bin/bash
echo "$LIBTORCH $*" >> {log}
[[ -e {root}/src/broken.rs ]] && { echo "error: broken" >&2; exit 101; }
mkdir -p "$CARGO_TARGET_DIR/release"
printf '#!/bin/bash\\npwd\\nprintf "<%%s>" "$@"\\nexit 3\\n' > "$CARGO_TARGET_DIR/release/toolkit"
chmod +x "$CARGO_TARGET_DIR/release/toolkit"
echo "built"
"""


class Launcher(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp()).resolve()
        self.addCleanup(shutil.rmtree, self.root)
        shutil.copy(ROOT / "toolkit", self.root)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        (self.root / "src").mkdir()
        (self.root / "src/main.rs").touch()
        library = self.root / "torch/lib/libtorch_cpu.so"
        library.parent.mkdir(parents=True)
        library.touch()
        (self.root / "torch/version.py").write_text("__version__ = '2.11.0'\n")
        self.bin = self.root / "bin"
        self.bin.mkdir()
        self.log = self.root / "log"
        for tool in ["bash", "dirname", "env", "find", "mkdir", "mv", "python3", "readlink", "touch", "chmod"]:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.tool("cargo", CARGO.replace("{log}", str(self.log)).replace("{root}", str(self.root)))
        self.tool("c++", "#!/bin/bash\n")

    def tool(self, name, text):
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def start(self, *arguments, **environment):
        keep = {name: value for name, value in os.environ.items() if not name.startswith(("CARGO", "LIBTORCH", "CXX"))}
        keep |= {"PATH": str(self.bin), "LIBTORCH": str(self.root / "torch")} | environment
        command = [str(self.root / "toolkit"), *arguments]
        return subprocess.run(command, env=keep, capture_output=True, text=True, cwd="/", timeout=60)

    def builds(self):
        return self.log.read_text().splitlines() if self.log.exists() else []

    def test_builds_once_and_passes_everything_on(self):
        arguments = ["--a b", "", "*", "$HOME", "'\"", "-x"]
        for _ in range(2):
            answer = self.start(*arguments)
            self.assertEqual(answer.returncode, 3, answer.stderr)
            self.assertEqual(answer.stdout, "/\n" + "".join(f"<{text}>" for text in arguments))
        self.assertEqual(self.builds(), [f"{self.root}/.libtorch/current build --release --locked --quiet"])
        self.assertEqual(answer.stderr, "")

    def test_builds_again_after_a_change(self):
        self.start()
        time.sleep(0.02)
        (self.root / "src/main.rs").touch()
        self.start()
        self.start()
        self.assertEqual(len(self.builds()), 2)

    def test_a_failed_build_is_tried_again(self):
        (self.root / "src/broken.rs").touch()
        answer = self.start()
        self.assertEqual((answer.returncode, answer.stdout), (1, ""))
        self.assertIn("error: broken", answer.stderr)
        (self.root / "src/broken.rs").unlink()
        self.assertEqual(self.start().returncode, 3)

    def test_works_through_a_link_and_with_another_target_folder(self):
        link = self.root / "link"
        link.symlink_to(self.root / "toolkit")
        other = self.root / "elsewhere"
        environment = {"PATH": str(self.bin), "LIBTORCH": str(self.root / "torch"), "CARGO_TARGET_DIR": str(other)}
        answer = subprocess.run([link, "x"], env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(answer.returncode, 3, answer.stderr)
        self.assertTrue((other / "release/toolkit").exists())

    def test_names_what_is_missing(self):
        for tool, words in {"cargo": "a Rust toolchain", "c++": "a C++ compiler", "python3": "Python 3"}.items():
            with self.subTest(tool):
                hidden = self.bin / f"{tool}.hidden"
                os.rename(self.bin / tool, hidden)
                answer = self.start()
                os.rename(hidden, self.bin / tool)
                self.assertEqual((answer.returncode, answer.stdout), (2, ""))
                self.assertRegex(answer.stderr, f"(?m)^error: {words.replace('+', '.')} is missing .*: install .*$")


if __name__ == "__main__":
    unittest.main()
