"""plot: which rows become which lines, and that pictures are written."""
import contextlib
import io
import json
import pathlib
import tempfile
import unittest

from scripts import load

plot = load("plot")


def measured(depth, speed, **more):
    return {"avg_ts": speed, "stddev_ts": 1, "n_prompt": 0, "n_gen": 64, "n_depth": depth, "kv_bytes": 2**20,
            "method": "none", "budget": "", "when": "prefill", "type_k": "f16", "type_v": "f16", "model": "M",
            "n_threads": 2, "n_batch": 512} | more


COMPARED = {"case": "tg@8192:20%", "ours_tps": 50, "llama_tps": 10, "kv_bytes_ours": 2**20, "kv_bytes_llama": 2**22,
            "n_prompt": 0, "n_gen": 64, "n_depth": 8192, "budget": "20%", "when": "stream", "type": "q8_0"}


class Lines(unittest.TestCase):
    def test_rows_of_bench(self):
        rows = [measured(4096, 30), measured(0, 90), measured(0, 70, method="h2o", budget="35%", when="stream"),
                measured(0, 400, n_prompt=512, n_gen=0)]
        self.assertEqual(plot.lines_of(rows, reading=False),
                         {"kvmerger, full cache f16": [(0, 90, 1, 1.0), (4096, 30, 1, 1.0)],
                          "kvmerger, h2o 35% f16, stream": [(0, 70, 1, 1.0)]})
        self.assertEqual(plot.lines_of(rows, reading=True), {"kvmerger, full cache f16": [(512, 400, 1, 1.0)]})

    def test_settings_are_lines_of_their_own(self):
        rows = [measured(0, 90), measured(0, 50, n_threads=1), measured(0, 80, type_k="q8_0")]
        self.assertEqual(list(plot.lines_of(rows, reading=False)),
                         ["kvmerger, full cache f16, threads 2", "kvmerger, full cache f16, threads 1",
                          "kvmerger, full cache q8_0/f16, threads 2"])

    def test_compared_rows(self):
        without = COMPARED | {"llama_tps": None, "n_depth": 65536}
        full = COMPARED | {"budget": "", "when": "prefill", "type": "f16", "n_depth": 100}
        self.assertEqual(plot.lines_of([COMPARED, full, without], reading=False),
                         {"kvmerger, 20% q8_0, stream": [(8192, 50, 0, 1.0), (65536, 50, 0, 1.0)],
                          "llama.cpp f16": [(100, 10, 0, 4.0), (8192, 10, 0, 4.0)],
                          "kvmerger, full cache f16": [(100, 50, 0, 1.0)]})
        self.assertIn("llama.cpp f16, no flash attention", plot.lines_of([COMPARED | {"llama_fa": 0}], reading=False))


class Files(unittest.TestCase):
    def run_on(self, text, *more):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "rows.json")
            path.write_text(text)
            with contextlib.redirect_stdout(io.StringIO()):
                plot.main([str(path), *more])
            return {file.suffix: file.read_bytes() for file in pathlib.Path(folder).iterdir()}

    def test_pictures_lie_beside_the_rows(self):
        rows = [measured(0, 90), measured(4096, 30), COMPARED]
        for text in json.dumps(rows), "\n".join(json.dumps(row) for row in rows):
            files = self.run_on(text)
            self.assertEqual(sorted(files), [".json", ".png", ".svg"])
            self.assertTrue(files[".png"].startswith(b"\x89PNG"))
            self.assertIn(b"<svg", files[".svg"])
        self.assertEqual(self.run_on(json.dumps(rows))[".svg"], files[".svg"])

    def test_what_cannot_be_drawn_is_named(self):
        for text, word in (("[{]", "rows.json"), ('[{"a": 1}]', "rows.json"), ("[]", "nothing to draw"),
                           ("[3]", "neither")):
            with self.subTest(text), self.assertRaises(SystemExit) as stop:
                self.run_on(text)
            self.assertIn(word, str(stop.exception))
        with self.assertRaises(SystemExit) as stop:
            self.run_on(json.dumps([measured(0, 90)]), "--reading")
        self.assertIn("reads a prompt", str(stop.exception))


if __name__ == "__main__":
    unittest.main()
