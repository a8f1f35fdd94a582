#!/usr/bin/env python3
"""Names of test cases must survive CMake's lists: with ; [ or ] in its name a test would silently not run.

  tools/check_test_names.py [root]
  tools/check_test_names.py --self-test
"""

import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
NAME = re.compile(r'^TEST_CASE\(\s*"((?:\\.|[^"\\])*)"', re.MULTILINE)


def check(root):
    for file in sorted([*root.glob("src/**/*_test.cc"), *root.glob("tests/**/*_test.cc")]):
        text = file.read_text(encoding="utf-8")
        for match in NAME.finditer(text):
            if set(match.group(1)) & set(';[]"\\'):
                line = text.count("\n", 0, match.start()) + 1
                yield f"{file.relative_to(root)}:{line}: '{match.group(1)}': leave out ; [ ] \" and \\"


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "tests/a_test.cc"
        file.parent.mkdir()
        file.write_text('TEST_CASE("good, and fine") {}\nTEST_CASE("one; two") {}\nTEST_CASE(\n    "[0, 1)") {}\n')
        found = list(check(pathlib.Path(folder)))
    if [line.split(":")[1] for line in found] != ["2", "3"]:
        sys.exit(f"self-test failed: two violations were planted, found: {found}")
    print("check_test_names: self-test found all 2 planted violations and no other")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    found = list(check(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
    print("\n".join(found) or "check_test_names: every test will run")
    sys.exit(1 if found else 0)


main()
