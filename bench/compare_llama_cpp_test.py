"""compare_llama_cpp with programs that only say what they were asked: cases, order of the rounds, ratios."""
import contextlib
import io
import json
import os
import pathlib
import tempfile
import unittest

from scripts import load

compare = load("compare_llama_cpp")

# Writes its arguments to a log, and answers 10, 30, 20, ... (ours) or 5, 5, ... (theirs) tokens per second.
FAKE = """#!/usr/bin/env python3
import json, os, sys
log = os.path.join({folder!r}, "log")
before = open(log).read().splitlines() if os.path.exists(log) else []
mine = [line for line in before if line.startswith({name!r})]
open(log, "a").write(" ".join([{name!r}, *sys.argv[1:]]) + "\\n")
if "inspect" in sys.argv:
    print(json.dumps({{"layers": 2, "kv_heads": 3, "head_dim": 10}}))
elif "json" in sys.argv:
    speed = {speeds!r}[len([line for line in mine if "json" in line and "inspect" not in line]) % 3]
    print(json.dumps([{{"avg_ts": speed, "kv_bytes": 7, "kv_bytes_peak": 9, "method": "m", "rows_per_head": 1,
                        "cache_bytes_per_token": int(sys.argv[sys.argv.index("-d") + 1]), "memory_share": 0.5,
                        "memory_bytes_per_s": 40000}}]))
"""


class Run:
    """What compare prints, writes and starts."""

    def __init__(self, *arguments):
        with tempfile.TemporaryDirectory() as folder:
            for name, speeds in ("ours", [10, 30, 20]), ("theirs", [5, 5, 5]):
                path = pathlib.Path(folder, name)
                path.write_text(FAKE.format(folder=folder, name=name, speeds=speeds))
                path.chmod(0o755)
            rows, out = os.path.join(folder, "rows.json"), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
                compare.main(["--kvmerger", f"{folder}/ours", "--llama-bench", f"{folder}/theirs", "-m", "model.gguf",
                              "-t", "2", "--json", rows, *arguments])
            self.table = out.getvalue()
            self.rows = json.loads(pathlib.Path(rows).read_text())
            self.started = pathlib.Path(folder, "log").read_text().splitlines()


class Cases(unittest.TestCase):
    def test_what_a_case_means(self):
        self.assertEqual(compare.parse_case("tg@16384", 64), compare.Case("tg@16384", generate=64, depth=16384))
        self.assertEqual(compare.parse_case("tg8@0", 64), compare.Case("tg8@0", generate=8))
        self.assertEqual(compare.parse_case("pp512@100", 64), compare.Case("pp512@100", prompt=512, depth=100))
        case = compare.parse_case("tg@16384:20%:q8_0", 64)
        self.assertEqual((case.budget, case.stream, case.type), ("20%", False, "q8_0"))
        case = compare.parse_case("pp65536:stream2048", 64)
        self.assertEqual((case.prompt, case.budget, case.stream, case.type), (65536, "2048", True, "f16"))

    def test_what_is_no_case(self):
        for text in ("tg", "tg@", "pp", "tg@x", "pp0", "tg0@5", "first", "tg@8:", "tg@8:35%%", "tg@8:q5",
                     "first_token:q8_0"):
            with self.subTest(text), self.assertRaises(SystemExit) as stop:
                compare.parse_case(text, 64)
            self.assertIn(text.split(":")[0], str(stop.exception))


class Rounds(unittest.TestCase):
    def test_sides_take_turns_and_share_what_is_the_same(self):
        run = Run("--cases", "tg@300,tg@300:35%,pp512", "-n", "4", "-r", "2")
        sides = [line.split()[0] for line in run.started]
        # inspect, then twice: full cache, theirs, 35 % (theirs is known), prompt, theirs.
        self.assertEqual(sides, ["ours"] + ["ours", "theirs", "ours", "ours", "theirs"] * 2)
        self.assertIn("-p 0 -n 4 -d 300 -t 2 -fa 1 -ctk f16 -ctv f16", run.started[2])
        self.assertIn("--method default --kv-budget 35% --kv-when prefill", run.started[3])
        self.assertIn("-p 512 -n 0 -d 0 -r 1 -ctk f16", run.started[4])

    def test_rows_are_medians_and_their_ratio(self):
        run = Run("--depths", "300", "-n", "4", "-r", "3")
        row, = run.rows
        self.assertEqual(row["case"], "tg4 @ d300")
        self.assertEqual((row["ours_tps"], row["llama_tps"], row["ratio"], row["llama_fa"]), (20, 5, 4, 1))
        # 304 tokens are 512 cells of 2 layers x 3 heads x 10 numbers of K and of V, two bytes each.
        self.assertEqual((row["kv_bytes_ours"], row["kv_bytes_llama"]), (7, 512 * 2 * 3 * 10 * 2 * 2))
        self.assertTrue(run.table.splitlines()[-1].endswith("| 20.0 t/s | 5.0 t/s | 4.00 |"))

    def test_attention_share_is_of_the_time_that_depth_adds(self):
        run = Run("--cases", "tg@0,tg@300", "-n", "4", "-r", "1")
        self.assertNotIn("attention_memory_share", run.rows[0])
        # 10 tokens a second at depth 0, 30 at 300: no time is added, which measures nothing.
        self.assertIsNone(run.rows[1]["attention_memory_share"])
        run = Run("--cases", "tg@300,tg@0", "-n", "4", "-r", "2")  # 10 and 20, 30 and 10: medians 15 and 20
        # 300 bytes in 1/15 - 1/20 = 1/60 s, of 40,000 bytes a second.
        self.assertAlmostEqual(run.rows[0]["attention_memory_share"], 300 * 60 / 40000)

    def test_long_texts_are_not_asked_of_llama(self):
        run = Run("--cases", "pp5000:stream64,pp400", "-r", "1", "--llama-limit", "4999")
        self.assertEqual([(row["llama_tps"], row["ratio"]) for row in run.rows], [(None, None), (5, 6)])
        self.assertIn("--kv-budget 64 --kv-when stream", run.started[1])
        self.assertIn("| - | - |", run.table)

    def test_first_token_is_the_time_of_whole_processes(self):
        run = Run("--cases", "first_token", "-r", "1")
        row, = run.rows
        self.assertAlmostEqual(row["ratio"], row["llama_s"] / row["ours_s"])
        self.assertIn("-c 101 -n 1", run.started[-2])
        self.assertIn("-p 100 -n 0 -d 0", run.started[-1])
        self.assertTrue(run.started[-1].endswith("--no-warmup"))
        self.assertEqual(len(run.started), 1 + 2 * 2)  # both were started once before, to warm the file cache

    def test_a_failure_later_keeps_what_was_measured(self):
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs = pathlib.Path(folder, "ours"), pathlib.Path(folder, "theirs")
            ours.write_text(FAKE.format(folder=folder, name="ours", speeds=[10, 10, 10]))
            theirs.write_text("#!/bin/sh\ncase \"$*\" in *'-d 9 '*) exit 3;; esac\necho '[{\"avg_ts\": 5}]'\n")
            for program in (ours, theirs):
                program.chmod(0o755)
            rows = pathlib.Path(folder, "rows.json")
            with self.assertRaises(SystemExit) as stop, contextlib.redirect_stdout(io.StringIO()), \
                    contextlib.redirect_stderr(io.StringIO()):
                compare.main(["--kvmerger", str(ours), "--llama-bench", str(theirs), "-m", "model.gguf", "--json",
                              str(rows), "--cases", "tg@0,tg@9", "-r", "1"])
            self.assertIn("ended with 3", str(stop.exception))
            self.assertEqual([row["case"] for row in json.loads(rows.read_text())], ["tg@0"])
            with self.assertRaises(SystemExit), contextlib.redirect_stdout(io.StringIO()), \
                    contextlib.redirect_stderr(io.StringIO()):
                compare.main(["--kvmerger", str(ours), "--llama-bench", str(theirs), "-m", "model.gguf", "--json",
                              str(rows), "--cases", "tg@9", "-r", "1"])
            self.assertEqual([row["case"] for row in json.loads(rows.read_text())], ["tg@0"])  # as it was

    def test_a_place_that_cannot_be_written_is_named_first(self):
        with self.assertRaises(SystemExit) as stop:
            compare.main(["--kvmerger", "/bin/true", "--json", "/nowhere/rows.json"])
        self.assertIn("/nowhere/rows.json", str(stop.exception))

    def test_a_program_that_fails_or_is_not_there(self):
        with self.assertRaises(SystemExit) as stop:
            compare.main(["--kvmerger", "/nowhere/kvmerger"])
        self.assertIn("make build", str(stop.exception))
        with self.assertRaises(SystemExit) as stop:
            compare.main(["--kvmerger", "/bin/false", "--llama-bench", "/bin/false"])
        self.assertIn("ended with 1", str(stop.exception))


if __name__ == "__main__":
    unittest.main()
