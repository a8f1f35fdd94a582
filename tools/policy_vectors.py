#!/usr/bin/env python3
"""Makes src/policy/test_vectors.h: plans as a torch program computes them.

  tools/policy_vectors.py reference.py > src/policy/test_vectors.h

reference.py: a torch program with kvmerger_head, protect, score_h2o and score_snapkv, written apart from ours. Torch
2.13 made the file in the repository.
"""

import importlib.util
import sys
import textwrap
import types

import torch

ROWS, DIM, GROUP, WINDOW, KERNEL, KEPT = 24, 4, 2, 4, 5, 12


def load_reference(path):
    for name in ("gguf", "transformers"):  # it reads models with them, which is not needed here
        sys.modules[name] = types.SimpleNamespace(AutoTokenizer=None)
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def smooth_keys(generator):
    """Keys of length 6 or so whose neighbours are similar, rounded so that they are short to print."""
    keys = [torch.randn(DIM, generator=generator)]
    for _ in range(ROWS - 1):
        keys.append(0.8 * keys[-1] + 0.6 * torch.randn(DIM, generator=generator))
    return (3 * torch.stack(keys) * 1000).round() / 1000


def array(name, values, comment=""):
    kind = "uint32_t" if values.dtype == torch.int64 else "float"
    text = ", ".join(str(value) for value in values.flatten().numpy())  # the shortest that reads back as the same
    if comment:
        print(f"// {comment}")
    print(textwrap.fill(f"inline const std::vector<{kind}> {name} = {{{text}}};", 118, subsequent_indent="    "))


def kept(reference, score, recent, sinks):
    best = reference.protect(score, recent, sinks).topk(KEPT, 1).indices[0]
    return best.sort().values


def print_merges(reference, keys, values, attention):
    cases = {
        "Sum": dict(rows=12, recent=4, heavy=2, value="sum"),
        "Mean": dict(rows=12, recent=4, heavy=2, value="mean", bias=True),
        "Low": dict(rows=8, recent=1, heavy=0, value="mean"),
    }
    for name, options in cases.items():
        key, value, bias = reference.kvmerger_head(keys, values, attention, **options)
        array(f"k{name}Key", key, f"[{len(bias)}, {DIM}] {options}")
        array(f"k{name}Value", value)
        array(f"k{name}Bias", bias)


def main():
    reference = load_reference(sys.argv[1])
    generator = torch.Generator().manual_seed(11)
    keys, values = smooth_keys(generator), (torch.randn(ROWS, DIM, generator=generator) * 1000).round() / 1000
    accumulated = torch.rand(GROUP, ROWS, generator=generator).pow(3)
    window = torch.rand(GROUP, WINDOW, ROWS, generator=generator).pow(6)
    model = types.SimpleNamespace(G=GROUP)
    attention = reference.score_h2o(model, dict(acc=accumulated))

    pooled = torch.zeros(1, ROWS)  # over the rows older than the window
    pooled[:, :-WINDOW] = reference.score_snapkv(model, dict(win=window[..., :-WINDOW]), WINDOW, KERNEL)

    print("// Made by tools/policy_vectors.py; see there. Arrays are row by row.\n#pragma once\n")
    print("#include <cstdint>\n#include <vector>\n\n// clang-format off")
    print("namespace kvmerger::policy::vectors {\n")
    print(f"inline constexpr uint32_t kRows = {ROWS}, kDim = {DIM}, kKept = {KEPT};")
    array("kKey", keys)
    array("kValue", values)
    array("kAttnSum", attention)
    array("kAttnWin", window.sum((0, 1)), f"the last {WINDOW} queries")
    print_merges(reference, keys, values, attention[0])
    array("kH2oKept", kept(reference, attention, KEPT // 2, 0))
    array("kStreamingKept", kept(reference, torch.arange(ROWS).float()[None], 1, 4))
    array("kSnapKept", kept(reference, pooled, WINDOW, 0), f"kernel {KERNEL}, window {WINDOW}")
    print("\n}  // namespace kvmerger::policy::vectors")


main()
