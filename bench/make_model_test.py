"""make_model: what it writes can be read again, and what it cannot do it says."""
import contextlib
import io
import pathlib
import struct
import tempfile
import unittest

from scripts import load

make_model = load("make_model")
text, UINT32, STRING, ARRAY = make_model.text, make_model.UINT32, make_model.STRING, make_model.ARRAY

WORDS = [text("tokenizer.ggml.tokens") + struct.pack("<IIQ", ARRAY, STRING, 3) + text("a") + text("bc") + text(""),
         text("tokenizer.ggml.scores") + struct.pack("<IIQ3f", ARRAY, 6, 3, 0, -1, -2)]


def gguf(entries):
    return make_model.MAGIC + struct.pack("<IQQ", make_model.VERSION, 0, len(entries)) + b"".join(entries)


class Model(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.like, self.output = pathlib.Path(folder.name) / "like.gguf", pathlib.Path(folder.name) / "new.gguf"
        other = text("llama.block_count") + struct.pack("<II", UINT32, 7)
        self.like.write_bytes(gguf([WORDS[0], other, WORDS[1]]))

    def make(self, *arguments):
        small = ["--layers", "2", "--embedding", "64", "--feed-forward", "96", "--heads", "4", "--kv-heads", "2"]
        with contextlib.redirect_stdout(io.StringIO()):
            make_model.main(["-o", str(self.output), "--like", str(self.like), *small, *arguments])

    def refusal(self, *arguments):
        errors = io.StringIO()
        with contextlib.redirect_stderr(errors), self.assertRaises(SystemExit) as caught:
            self.make(*arguments)
        return errors.getvalue() + str(caught.exception)

    def test_shape_and_tokenizer(self):
        self.make()
        with open(self.output, "rb") as file:
            self.assertEqual(make_model.Reader(file).tokenizer(), (WORDS, 3))
        weights = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 96) + 2 * 64 * 3
        norms = 5 * 64 * 4
        size = self.output.stat().st_size
        self.assertEqual(size % make_model.ALIGNMENT, 0)
        self.assertTrue(weights // 32 * 18 + norms < size < weights // 32 * 18 + norms + 4096)

    def test_what_cannot_be(self):
        self.assertIn("multiples of 32", self.refusal("--embedding", "100"))
        self.assertIn("must divide", self.refusal("--heads", "3"))
        self.assertIn("nowhere", self.refusal("-o", str(self.output / "nowhere")))
        self.assertFalse(self.output.exists())

    def test_models_without_a_tokenizer(self):
        cut = gguf(WORDS)[:-1]
        endless = make_model.MAGIC + struct.pack("<IQQQ", make_model.VERSION, 0, 1, 2**62)
        strange = gguf([text("a") + struct.pack("<I", 99)])
        for data, message in [(gguf([]), "no tokenizer"), (cut, "not a whole GGUF"), (endless, "not a whole GGUF"),
                              (strange, "unknown kind 99"), (b"something else", "not a GGUF")]:
            self.like.write_bytes(data)
            self.assertIn(message, self.refusal())
        self.like.unlink()
        self.assertIn("tools/fetch_model", self.refusal())


if __name__ == "__main__":
    unittest.main()
