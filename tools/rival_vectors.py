#!/usr/bin/env python3
"""Makes src/policy/rival_vectors.h: what the published formulas of other methods give on fixed rows.

  tools/rival_vectors.py > src/policy/rival_vectors.h

Written from the formulas over whole arrays, as the public implementations compute them; needs numpy only.
"""

import textwrap

import numpy as np

HEADS, GROUP, ROWS, DIM, QUERIES, KEPT = 2, 2, 24, 4, 12, 16
SINKS, RECENT, LAG = 3, 5, 6


def softmax(logits):
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def array(name, values, comment=""):
    values = np.asarray(values)
    kind = "uint32_t" if values.dtype.kind in "iu" else "float"
    numbers = values.flatten() if kind == "uint32_t" else values.flatten().astype(np.float32)
    if comment:
        print(f"// {comment}")
    text = f"inline const std::vector<{kind}> {name} = {{{', '.join(str(number) for number in numbers)}}};"
    print(textwrap.fill(text, 118, subsequent_indent="    "))


def best(scores, count):
    return np.sort(np.argsort(-scores, kind="stable")[:count])


def safe(scores, sinks, recent):
    scores = scores.copy()
    scores[:sinks] = scores[len(scores) - recent :] = np.inf
    return scores


def lag_part(rows):
    """[partitions - 1, LAG] softmax of the deviation over channels, on the next partition's scale."""
    full = (ROWS - SINKS) // LAG * LAG
    parts = rows[SINKS : SINKS + full].reshape(-1, LAG, DIM)
    low, high = parts[1:].min(1, keepdims=True), parts[1:].max(1, keepdims=True)
    return softmax(((parts[:-1] - low) / (high - low)).std(-1, ddof=1))


def print_lag(keys, values):
    scores = (lag_part(keys) + lag_part(values)) / 2
    ranks = scores.argsort(-1).argsort(-1) / LAG
    tail = ROWS - SINKS - scores.size
    always = np.concatenate([np.ones(SINKS), ranks.flatten(), np.ones(tail)])
    array("kLagCross", scores, f"sinks {SINKS}, lag {LAG}: rows {SINKS} to {SINKS + scores.size}")
    array("kLagKept", best(always, KEPT))


def cosines(left, right):
    normal = [rows / np.linalg.norm(rows, axis=-1, keepdims=True) for rows in (left, right)]
    return normal[0] @ normal[1].T


def scatter(rows, targets, sources, self_weight, weights, total):
    """rows[t] = (self rows[t] + sum of weight source) / total, where something joins t."""
    sums = self_weight[:, None] * rows
    np.add.at(sums, targets, weights[:, None] * sources)
    return sums / total[:, None]


def merge(keys, values, attention, kind):
    kept = best(safe(attention, SINKS, RECENT), KEPT // 2)
    dropped = np.setdiff1d(np.arange(ROWS), kept)
    receivers = kept[SINKS:-1]  # sinks and the newest row stay as they are
    similarity = cosines(keys[dropped], keys[receivers])
    nearest, most = similarity.argmax(1) + SINKS, similarity.max(1)
    if kind.startswith("d2o"):
        merged = most >= most.mean()
        dropped, nearest, most = dropped[merged], nearest[merged], most[merged]
    count = np.bincount(nearest, minlength=len(kept))
    ones = np.ones(len(kept))
    if kind == "d2o cosine":  # mean of the row and its scaled guests
        weights, own, total = most, ones, 1 + count
    elif kind == "d2o exp":
        weights, own = np.exp(most), np.e * ones
        total = own + np.bincount(nearest, weights, len(kept))
    elif kind == "similarity":
        weights, own = (most + 1) / 2, ones
        total = own + np.bincount(nearest, weights, len(kept))
    elif kind == "pivot":  # mean of the row and of its means with each guest
        weights, own, total = np.full(len(most), 0.5), 1 + count / 2, 1 + count
    else:
        weights, own, total = np.ones(len(most)), ones, 1 + count
    return [scatter(rows[kept], nearest, rows[dropped], own, weights, total) for rows in (keys, values)]


def print_merges(keys, values, attention):
    for kind in ("similarity", "pivot", "average", "d2o cosine", "d2o exp"):
        name = "k" + "".join(word.capitalize() for word in kind.split())
        key, value = merge(keys, values, attention, kind)
        array(name + "Key", key, f"[{KEPT // 2}, {DIM}] sinks {SINKS}, the newest {RECENT} stay")
        array(name + "Value", value)


def gaussian(keys, values, queries, epsilon):
    """[ROWS] expected attention from a Gaussian fitted to the queries [GROUP, QUERIES, DIM] of each query head."""
    mean = queries.mean(1)
    covariance = np.einsum("gqi,gqj->gij", queries - mean[:, None], queries - mean[:, None]) / QUERIES
    logits = mean @ keys.T / np.sqrt(DIM) + np.einsum("ni,gij,nj->gn", keys, covariance, keys) / DIM / 2
    return (softmax(logits).mean(0) + epsilon) * np.linalg.norm(values, axis=-1)


def main():
    random = np.random.default_rng(41)
    keys = np.zeros((HEADS, ROWS, DIM))
    step = random.normal(size=keys.shape)
    keys[:, 0] = step[:, 0]
    for row in range(1, ROWS):
        keys[:, row] = 0.8 * keys[:, row - 1] + 0.6 * step[:, row]
    keys, values = (2 * keys).round(3), random.normal(size=keys.shape).round(3)
    last = random.normal(size=(HEADS, GROUP, DIM))
    attention = random.random(ROWS).round(3) ** 3
    queries = random.normal(size=(GROUP, QUERIES, DIM)).round(3)
    probability = softmax(np.einsum("hgd,hnd->hgn", last, keys) / np.sqrt(DIM))

    print("// Made by tools/rival_vectors.py; see there. Arrays are row by row.\n#pragma once\n")
    print("#include <cstdint>\n#include <vector>\n\n// clang-format off")
    print("namespace kvmerger::policy::rivals {\n")
    print(f"inline constexpr uint32_t kHeads = {HEADS}, kRows = {ROWS}, kDim = {DIM}, kKept = {KEPT};")
    array("kKey", keys, f"[{HEADS}, {ROWS}, {DIM}]")
    array("kValue", values)
    array("kAttnSum", attention, "of the first head")
    array("kLastAttention", probability.sum(1), f"[{HEADS}, {ROWS}] of the last query, summed over the group")
    array("kTovaKept", best(safe(probability.mean((0, 1)), 0, 1), KEPT))
    array("kKnorm", -np.linalg.norm(keys[0], axis=-1), "scores of the first head")
    anchor = (keys[0] / np.linalg.norm(keys[0], axis=-1, keepdims=True)).mean(0, keepdims=True)
    array("kKeyDiff", -cosines(keys[0], anchor), "scores of the first head")
    print_lag(keys[0], values[0])
    print_merges(keys[0], values[0], attention)
    array("kQuery", queries, f"[{GROUP}, {QUERIES}, {DIM}]")
    array("kGaussian", gaussian(keys[0], values[0], queries, 0.0))
    array("kGaussianEpsilon", gaussian(keys[0], values[0], queries, 0.02), "epsilon 0.02")
    print("\n}  // namespace kvmerger::policy::rivals")


main()
