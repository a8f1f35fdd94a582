#!/usr/bin/env python3
"""Checks every #include under src/ against the arrows between the folders; a new arrow is an edit of the tables here.

  tools/check_includes.py [root]       red with file:line and what is allowed there
  tools/check_includes.py --self-test  plants violations and expects each to be found
"""

import fnmatch
import pathlib
import re
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Folder -> folders or single headers of ours it may include, besides its own. The arrows of the architecture.
VIEW_AND_PLAN = ["core", "kernels/dense.h", "kv/views.h", "kv/plan.h"]
BELOW_ENGINE = ["core", "kernels", "kv", "policy", "budget", "fit", "text", "model"]
FOLDERS = {
    "core": [],
    "kernels": ["core"],
    "kv": ["core", "kernels"],
    "policy": VIEW_AND_PLAN,
    "budget": VIEW_AND_PLAN,
    "fit": VIEW_AND_PLAN,
    "text": ["core"],
    "model": ["core", "kernels/linear.h", "kernels/linear_token.h", "kernels/rounded_vector.h"],
    "engine": BELOW_ENGINE,
    "server": ["core", "text", "engine"],
    "cli": ["core", "text", "engine", "eval", "bench"],
    "eval": ["core", "text", "engine"],
    "bench": ["core", "kernels", "text", "engine"],
}
# Headers that others see through: they may not bring in what those others may not see. Their own folder is not implied.
HEADERS = {
    "kv/views.h": ["core"],
    "kv/plan.h": ["core", "kv/views.h"],
}
# Third-party library -> (its headers, the only files that may include them).
THIRD_PARTY = {
    "nlohmann-json": (r"nlohmann/.*", ["core/json.cc", "server/openai.cc", "eval/*.cc"]),
    "xxhash": (r"xxhash\.h", ["core/hash.cc"]),
    "Highway": (r"hwy/.*", ["kernels/*.cc"]),
    "Eigen": (r"Eigen/.*", ["fit/*.cc"]),
    "llama.cpp": (r"(llama|llama-cpp|chat|common|log|sampling|json-schema-to-grammar)\.h", ["text/*"]),
    "ggml": (r"(ggml|gguf)[a-z-]*\.h", ["model/*", "engine/attention_*.cc"]),
    "cpp-httplib": (r"httplib\.h", ["server/http.cc"]),
    "CLI11": (r"CLI/.*", ["cli/*"]),
    "doctest": (r"doctest/.*", ["*_test.cc"]),
    "google-benchmark": (r"benchmark/.*", ["*_bench.cc"]),
}
SYSTEM = re.compile(
    r"[a-z0-9_]+|(sys|netinet|arpa)/[a-z_]+\.h|(fcntl|unistd|poll|sched|signal|spawn|dirent|termios)\.h")
INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')


def complaint(path, quote, header):
    """What is wrong when src/`path` includes `header`, or None."""
    folder = path.split("/")[0]
    for library, (headers, files) in THIRD_PARTY.items():
        if re.fullmatch(headers, header):
            if any(fnmatch.fnmatch(path, pattern) for pattern in files):
                return None
            return f"{library} is for {', '.join(files)} only"
    if quote == "<":
        known = SYSTEM.fullmatch(header)
        return None if known else "a header no table knows; add its library to THIRD_PARTY in tools/check_includes.py"
    if header.split("/")[0] not in FOLDERS or "/" not in header:
        return 'our headers are written from src/, as in "kv/plan.h"'
    if path in HEADERS:
        allowed = HEADERS[path]
    else:
        allowed = [folder] + FOLDERS[folder]
    if header in allowed or header.split("/")[0] in allowed:
        return None
    return f"{path if path in HEADERS else folder + '/'} may include {', '.join(allowed) or 'nothing of ours'} only"


def check(root):
    """All complaints about root/src, as lines `file:line: what`."""
    source = root / "src"
    found = []
    for file in sorted(source.rglob("*")):
        if file.suffix not in (".h", ".cc"):
            continue
        path = file.relative_to(source).as_posix()
        if "/" not in path or path.split("/")[0] not in FOLDERS:
            found.append(f"src/{path}:1: its folder is not in FOLDERS of tools/check_includes.py; add the arrows there")
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if match := INCLUDE.match(line):
                if wrong := complaint(path, *match.groups()):
                    found.append(f"src/{path}:{number}: {line.strip()}: {wrong}")
    return found


SELF_TEST = {  # file: what it may include | what it may not
    "core/json.cc": '<nlohmann/json.hpp> <vector> "core/error.h" | "kv/plan.h"',
    "core/log.cc": "<sys/mman.h> <cstdio> | <nlohmann/json.hpp> <boost/any.hpp>",
    "kernels/dot.cc": '"hwy/highway.h" "core/error.h" | "kv/store.h"',
    "kernels/dot.h": "<cstdint> | <hwy/highway.h>",
    "kv/plan.h": '"kv/views.h" | "kv/store.h"',
    "kv/store.cc": '"kv/store.h" "kernels/page.h" | "store.h" "../kv/store.h" "policy/policy.h"',
    "kv/store_test.cc": "<doctest/doctest.h> | <benchmark/benchmark.h>",
    "policy/h2o.cc": '"policy/policy.h" "kv/plan.h" "kv/views.h" | "kv/store.h" "kernels/page.h" "fit/fit.h"',
    "text/chat.cc": '<llama.h> <chat.h> | "engine/session.h"',
    "model/graph.cc": '<ggml-cpu.h> "gguf.h" | "kv/plan.h" <llama.h>',
    "engine/session.cc": '"kv/store.h" "policy/policy.h" | <ggml.h> "cli/run.h"',
    "engine/attention_ragged.cc": "<ggml.h> | <llama.h>",
    "cli/run.cc": '<CLI/CLI.hpp> "engine/session.h" | "kv/store.h"',
    "extra/new.cc": "| <vector>",
}


def self_test():
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        expected = []
        for path, includes in SELF_TEST.items():
            right, wrong = (part.split() for part in includes.split("|"))
            file = root / "src" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(f"#include {header}\n" for header in right + wrong))
            expected += [f"src/{path}:{len(right) + number}" for number in range(1, len(wrong) + 1)]
        actual = [":".join(line.split(":")[:2]) for line in check(root)]
    if sorted(actual) != sorted(expected):
        sys.exit(f"self-test failed: missed {sorted(set(expected) - set(actual))}, "
                 f"wrongly red {sorted(set(actual) - set(expected))}")
    print(f"check_includes: self-test found all {len(expected)} planted violations and no other")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    found = check(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    print("\n".join(found) or "check_includes: every include is allowed")
    sys.exit(1 if found else 0)


main()
