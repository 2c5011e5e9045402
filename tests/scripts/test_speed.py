"""The comparison of speeds, with what was measured made up here: python3 -m unittest test_speed."""

import json
import stat
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

SPEED = Path(__file__).resolve().parents[2] / "experiments" / "speed"
sys.path.insert(0, str(SPEED))

import compare  # noqa: E402
import limits  # noqa: E402
import render  # noqa: E402
import sd3_folder  # noqa: E402
from rows import named, rows  # noqa: E402

H200 = {"matmul_tflops": 790, "copy_tbs": 4.3, "attention_tflops": 480, "float32_tflops": 52, "upload_gbs": 55}
COUNTS = {"sd3_transformer": 8904.34e9, "sd3_decode": 10472.2e9, "unet": 803.27e9, "sd15_encode": 1116.66e9,
          "sd15_decode": 2514.52e9, "art_inception": 5.67e9, "alexnet": 1.31e9}


def results(**sides):
    versions = {"torch": "2.11.0", "toolkit": "0.1.0", "driver": None}
    figures = {side: {"date": "2026-11-25", "command": f"{side} command", "peak_memory_bytes": 18.3e9} | value
               for side, value in sides.items()}
    return {"tiny": False, "counts": COUNTS, "machines": {
        "NVIDIA H200": {"ceilings": H200, "versions": versions, "rows": {"sd3-1": figures}}}}


class Limits(unittest.TestCase):
    def test_by_hand(self):
        """Round figures that were worked out apart from the code, on the rates of an H200."""
        by_hand = {"sd3-1": 0.63, "sd3-4": 0.63, "sd15-1": 0.09, "sd15-8": 0.09, "phi4-1": 550, "phi4-6": 3020,
                   "phi4-prefill": 0.015, "blip-base-64": 3570, "blip-large-64": 1585}
        for row in named(",".join(by_hand)):
            limit = limits.limit(row, H200, COUNTS)
            self.assertAlmostEqual(limit / by_hand[row.name], 1, delta=0.04, msg=row.name)

    def test_all_rows_have_one(self):
        for row in rows():
            self.assertGreater(limits.limit(row, H200, COUNTS), 0)
            faster = {name: 2 * rate for name, rate in H200.items()}
            ratio = limits.limit(row, faster, COUNTS) / limits.limit(row, H200, COUNTS)
            self.assertAlmostEqual(ratio, 2 if row.more_is_better else 0.5, msg=row.name)


class Folder(unittest.TestCase):
    def test_tokenizers_are_as_large_as_the_published_ones(self):
        with tempfile.TemporaryDirectory() as scratch:
            sd3_folder.complete(scratch)

            def read(name):
                return json.loads((Path(scratch) / name).read_text(encoding="utf-8"))

            for part in ("tokenizer", "tokenizer_2"):
                tokens = read(f"{part}/vocab.json")
                self.assertEqual(sorted(tokens.values()), list(range(49408)))
                published = {"!": 0, "a</w>": 320, "cat</w>": 2368, "photo</w>": 1125, "<|endoftext|>": 49407}
                self.assertEqual({token: tokens[token] for token in published}, published)
            self.assertEqual(len(read("tokenizer_3/tokenizer.json")["model"]["vocab"]), sd3_folder.T5_TOKENS)
            self.assertEqual(read("model_index.json")["text_encoder_3"], ["transformers", "T5EncoderModel"])


class Table(unittest.TestCase):
    def test_figures_ratio_and_share(self):
        text = render.section(results(peer={"value": 1.6}, compiled={"value": 1.2, "compile_seconds": 61.4},
                                      toolkit={"value": 0.8}))
        self.assertIn("| 1.600 s | 1.200 s (after 61 s) | **0.800 s** | 2.0 / 1.5 | 0.651 s | 81 % | 18.3 GB / 18.3 GB |", text)
        self.assertIn("    toolkit command\n    peer command\n    compiled command\n", text)
        self.assertIn("2026-11-25; toolkit 0.1.0, PyTorch 2.11.0.", text)
        self.assertIn("- Stable Diffusion 3: 28 steps", text)
        self.assertNotIn("BLIP-base", text)

    def test_what_is_missing_is_a_dash(self):
        self.assertIn("| – | – | **0.800 s** | – | 0.651 s |", render.section(results(toolkit={"value": 0.8})))
        self.assertIn("| 1.600 s | – | – | – | 0.651 s | – |", render.section(results(peer={"value": 1.6})))

    def test_more_per_second_is_better(self):
        (row,) = named("phi4-1")
        self.assertEqual(render.ratio(row, 400, 50), "8.0")
        self.assertIn("| 50.0 tok/s | – | **400 tok/s** | 8.0 | 550 tok/s | 73 % |",
                      render.line(row, {"peer": {"value": 50}, "toolkit": {"value": 400}}, 550))

    def test_another_picture_is_shouted(self):
        found = results(toolkit={"value": 0.8})
        found["machines"]["NVIDIA H200"]["rows"]["sd3-start"] = {"toolkit": {
            "value": 5, "date": "2026-11-25",
            "limited": {"24": {"same_picture": False, "process_seconds": 6.0, "peak_memory_bytes": 18e9}}}}
        self.assertIn("the picture is ANOTHER ONE: at most 18.0 GB, 6.0 s", render.section(found))

    def test_only_its_own_section_changes(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "BENCHMARKS.md")
            file.write_text(f"before\n{render.BEGIN}\nold\n{render.END}\n\nafter\n")
            for _ in range(2):
                render.write(results(toolkit={"value": 0.8}), file)
                text = file.read_text()
                self.assertTrue(text.startswith(f"before\n{render.BEGIN}\n### NVIDIA H200\n"))
                self.assertTrue(text.endswith(f"\n{render.END}\n\nafter\n"))
                self.assertNotIn("old", text)
            file.write_text("no markers")
            with self.assertRaisesRegex(SystemExit, "put these two lines"):
                render.write(results(toolkit={"value": 0.8}), file)

    def test_benchmarks_has_its_place(self):
        text = (SPEED.parents[1] / "BENCHMARKS.md").read_text()
        self.assertEqual((text.count(render.BEGIN), text.count(render.END)), (1, 1))


class Comparing(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def peer(self, code):
        """Peers that run this instead of peers.py."""
        script = self.folder / "peers.py"
        script.write_text(code)
        peers = compare.Peers(False)
        peers.command = lambda *_: [sys.executable, str(script)]
        self.addCleanup(peers.stop)
        return peers

    def test_a_peer_answers_row_by_row(self):
        peers = self.peer("import json, os, sys\nfor line in sys.stdin:\n    print('noise')\n"
                          "    print(json.dumps(json.loads(line) | {'process': os.getpid()}), flush=True)\n")
        one, four = (peers.measure(row, False, compare.time.monotonic() + 20) for row in named("sd3-1,sd3-4"))
        self.assertEqual((one["row"], four["row"]), ("sd3-1", "sd3-4"))
        self.assertEqual(one["process"], four["process"])
        self.assertEqual(one["command"], "python3 experiments/speed/peers.py --rows sd3-1")
        (other,) = (peers.measure(row, False, compare.time.monotonic() + 20) for row in named("sd15-1"))
        self.assertNotEqual(one["process"], other["process"])

    def test_a_peer_that_fails_dies_or_hangs(self):
        (row,) = named("sd3-1")
        for code, text in [("print('{\"row\": 1, \"error\": \"no room\"}', flush=True)\ninput()", "no room"),
                           ("raise SystemExit(3)", "ended by itself"),
                           ("import time\ntime.sleep(60)", "its time was over")]:
            with self.assertRaisesRegex(compare.Failed, text):
                self.peer(code).measure(row, False, compare.time.monotonic() + 1)

    def test_results_are_merged_and_trials_kept_apart(self):
        file = self.folder / "speed.json"
        self.assertEqual(compare.load(file, False), {"tiny": False, "machines": {}})
        compare.save(results(peer={"value": 1.6}), file)
        self.assertEqual(compare.load(file, False)["machines"]["NVIDIA H200"]["rows"]["sd3-1"]["peer"]["value"], 1.6)
        with self.assertRaisesRegex(SystemExit, "no trial"):
            compare.load(file, True)
        file.write_text("[]")
        with self.assertRaisesRegex(SystemExit, "not results of this script"):
            compare.load(file, False)

    def test_the_command_line(self):
        script = [sys.executable, str(SPEED / "compare.py"), "--results", str(self.folder / "speed.json")]
        for arguments, text in [(["--toolkit", "t", "--rows", "sd4"], "no row sd4; there are: sd3-1, "),
                                (["--toolkit", "t", "--sides", "left"], "no side left"), ([], "--write FILE writes")]:
            run = subprocess.run(script + arguments, capture_output=True, text=True)
            self.assertNotEqual(run.returncode, 0)
            self.assertIn(text, run.stderr)


class Processes(unittest.TestCase):
    def test_the_toolkit_is_timed_with_its_peak(self):
        import processes

        with tempfile.TemporaryDirectory() as folder:
            toolkit = Path(folder, "toolkit")
            toolkit.write_text("#!/bin/sh\necho 'DEBUG peak memory: 1234567 bytes (0.0 GB)' >&2\n")
            toolkit.chmod(toolkit.stat().st_mode | stat.S_IXUSR)
            process = processes.Artfid(Path(folder), tiny=True)
            process.prepare = lambda deadline: None
            figures = processes.measure_toolkit(process, [str(toolkit)], compare.time.monotonic() + 20)
            self.assertEqual(figures["peak_memory_bytes"], 1234567)
            self.assertGreater(figures["process_seconds"], 0)
            self.assertTrue(figures["command"].startswith("toolkit -v evaluate artfid --content content "), figures)
            self.assertEqual(json.loads(json.dumps(figures)), figures)


if __name__ == "__main__":
    unittest.main()
