"""traces.jsonl: which tokens of a sample were merged into which row, and how similar the keys of one head are."""

import collections
import dataclasses
import itertools
import math

import numpy

from kvmerger_eval.results import NUMBER, EvaluationError, from_object, parse_object

from . import figures

HUES = 6  # the page's colours of neighbouring sets


@dataclasses.dataclass(frozen=True)
class Trace:
    """One head after the compaction of one sample."""

    task: str
    id: str
    method: str
    budget: str
    layer: int
    head: int
    tokens: list  # of str
    rows: list  # of lists: the source positions of each surviving row
    similarity: list  # n x n cosines of that head's first n keys, row by row; empty where another method's has them

    @property
    def title(self):
        where = f"layer {self.layer}, KV head {self.head}"
        return " ".join(part for part in (self.task, self.id + ":", self.method, self.budget) if part) + f", {where}"


@dataclasses.dataclass(frozen=True)
class Token:
    text: str
    rows: str  # the rows it went into, with spaces between; "" if it was dropped
    style: str  # classes of the page


def is_row(row, tokens):
    return isinstance(row, list) and bool(row) and all(type(at) is int and 0 <= at < tokens for at in row)


def read_trace(record, where):
    trace = from_object(record, Trace, where)
    if not all(isinstance(token, str) for token in trace.tokens):
        raise EvaluationError(f"{where}: the field 'tokens' is not a list of strings")
    for number, row in enumerate(trace.rows):
        if not is_row(row, len(trace.tokens)):
            raise EvaluationError(f"{where}: rows[{number}] is {str(row)[:40]}, expected positions below "
                                  f"{len(trace.tokens)}, the number of tokens")
    if math.isqrt(len(trace.similarity)) ** 2 != len(trace.similarity):
        raise EvaluationError(f"{where}: the field 'similarity' has {len(trace.similarity)} numbers, which is "
                              "no square")
    if not all(isinstance(value, NUMBER) for value in trace.similarity):
        raise EvaluationError(f"{where}: the field 'similarity' is not a list of numbers")
    return trace


def read_traces(folder):
    """The lines of traces.jsonl; none where there is no such file.

    An interrupted run makes the trace of its last prediction again, and the later one counts. A last line that is not
    whole is of a run that goes on.
    """
    path = folder / "traces.jsonl"
    if not path.exists():
        return []
    found = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], 1):
        where = f"{path}:{number}"
        trace = read_trace(parse_object(line, where), where)
        found[trace.task, trace.id, trace.method, trace.budget] = trace
    return list(found.values())


def shown(piece):
    """Line ends take room, so that they can be pointed at."""
    return piece.replace("\n", "↵\n")


def tokens(trace):
    """A Token for each of the sample's."""
    rows_of = collections.defaultdict(list)
    for row, sources in enumerate(trace.rows):
        for source in sources:
            rows_of[source].append(row)
    merged = [row for row, sources in enumerate(trace.rows) if len(sources) > 1]
    hue = dict(zip(merged, itertools.cycle(range(HUES))))

    def token(at, piece):
        rows = rows_of[at]
        hues = [f"merged m{hue[row]}" for row in rows if row in hue]
        style = hues[0] if hues else "" if rows else "dropped"
        return Token(shown(piece), " ".join(map(str, rows)), style)

    return [token(at, piece) for at, piece in enumerate(trace.tokens)]


def summary(trace):
    """What became of the tokens, in words."""
    sets = [sources for sources in trace.rows if len(sources) > 1]
    merged = {source for sources in sets for source in sources}
    kept = {source for sources in trace.rows for source in sources} - merged
    dropped = len(trace.tokens) - len(merged) - len(kept)
    largest = f" (the largest of {max(map(len, sets))})" if sets else ""
    return (f"{len(trace.tokens):,} tokens became {len(trace.rows):,} rows: {len(kept):,} kept alone, {len(merged):,} "
            f"merged into {len(sets):,} rows{largest}, {dropped:,} dropped.")


def similarity_map(gallery, trace):
    """The paper's figure of one head; None where another trace of the sample has it."""
    if not trace.similarity:
        return None
    size = math.isqrt(len(trace.similarity))
    values = numpy.array(trace.similarity, dtype=float).reshape(size, size)
    limits = min(0.0, values.min()), 1
    grid = figures.Grid(values, range(size), range(size), "token", "token", "cosine of keys", limits)
    return figures.heat_map(gallery, f"similarity {trace.title}", f"Layer {trace.layer}, KV head {trace.head}", grid,
                            (4.2, 3.6), colors="magma")
