"""Tables and figures' numbers on runs small enough to work out by hand."""

import dataclasses
import json

import numpy
import pytest

from kvmerger_eval.report import modes, sections, tables, traces
from kvmerger_eval.results import EvaluationError, Prediction, ScoreRow, Scores

FULL = ("none", "none", "uniform", "none", "")
H2O_HALF = ("h2o", "h2o", "uniform", "none", "50%")
H2O_THIRD = ("h2o", "h2o", "uniform", "none", "35%")
PAPER_HALF = ("paper", "kvmerger", "uniform", "none", "50%")


def row(task, setting, scores, metric="qa_f1", mode="question-agnostic"):
    """scores: {id: score}."""
    return ScoreRow(task, *setting, mode, metric, len(scores), sum(scores.values()) / len(scores),
                    [{"id": sample, "score": score} for sample, score in scores.items()])


def make_mode(rows, predictions=(), more_rows=(), tasks=("b/two", "a/one")):
    asked = [{"method": name, "budget": budget} for name in ("none", "paper", "h2o") for budget in ("", "50%", "35%")]
    run = {"tasks": list(tasks), "methods": asked}
    found = modes.modes(run, predictions, Scores(list(rows), list(more_rows)))
    assert len(found) == 1
    return found[0]


def setting(parts):
    return modes.Setting(modes.Method(*parts[:4]), parts[4])


def two_tasks():
    return make_mode([
        row("a/one", FULL, {"x": 50.0, "y": 70.0}), row("b/two", FULL, {"p": 20.0}),
        row("a/one", H2O_HALF, {"x": 40.0, "y": 50.0}), row("b/two", H2O_HALF, {"p": 26.0}),
        row("a/one", PAPER_HALF, {"x": 45.0, "y": 30.0}), row("b/two", PAPER_HALF, {"p": 5.0}),
    ])


def test_tasks_methods_and_budgets_stand_as_they_were_asked_for():
    mode = two_tasks()
    assert mode.tasks == ["b/two", "a/one"]
    assert [mode.title(setting) for setting in mode.settings] == ["full cache", "paper 50%", "h2o 50%"]


def test_scores_and_differences():
    columns, rows = tables.budget_table(two_tasks(), "50%")
    assert columns == ["full cache", "paper", "h2o"]
    two, one, average = rows
    assert [cell.mean for cell in one.cells] == [60.0, 37.5, 45.0]
    assert [cell.difference for cell in one.cells] == [None, -22.5, -15.0]  # (-5 - 40) / 2, (-10 - 20) / 2
    assert [cell.difference for cell in two.cells] == [None, -15.0, 6.0]
    assert [cell.mean for cell in average.cells] == [40.0, 21.25, 35.5]  # each task weighs the same
    assert [cell.difference for cell in average.cells] == [None, -18.75, -4.5]
    assert [cell.is_best for cell in average.cells] == [False, False, True]
    assert two.cells[1].interval is None and one.cells[1].interval == (-40.0, -5.0)
    assert one.cells[1].verdict == "worse" and two.cells[2].verdict == ""
    assert (one.note, average.note) == ("qa_f1, n = 2", "2 tasks")


def test_suites_of_several_tasks_have_averages_of_their_own():
    scores = {"a/one": 10.0, "a/two": 30.0, "b/one": 80.0}
    mode = make_mode([row(task, parts, {"x": score}) for task, score in scores.items() for parts in (FULL, H2O_HALF)])
    rows = tables.budget_table(mode, "50%")[1]
    assert [(row.name, row.cells[1].mean) for row in rows[3:]] == [("average of a", 20.0), ("average", 40.0)]


def test_a_task_that_a_method_lacks_is_in_no_average():
    mode = make_mode([row("a/one", FULL, {"x": 50.0}), row("b/two", FULL, {"p": 20.0}),
                      row("a/one", H2O_HALF, {"x": 40.0}), row("a/one", H2O_THIRD, {"x": 30.0}),
                      row("b/two", H2O_HALF, {"p": 10.0})])
    assert mode.averaged_tasks == ["a/one"]
    rows = tables.budget_table(mode, "35%")[1]
    assert [row.name for row in rows] == ["b/two", "a/one", "average"]
    assert rows[0].cells[1] is None and rows[2].cells[1].mean == 30.0


def test_perplexity_is_better_when_lower_and_in_no_average():
    mode = make_mode([row("p", FULL, {"x": 10.0, "y": 12.0}, "perplexity"),
                      row("p", H2O_HALF, {"x": 13.0, "y": 14.0}, "perplexity"),
                      row("p", PAPER_HALF, {"x": 9.0, "y": 8.0}, "perplexity")])
    only = tables.budget_table(mode, "50%")[1]
    assert [row.name for row in only] == ["p"]
    full, paper, h2o = only[0].cells
    assert (paper.verdict, h2o.verdict) == ("better", "worse")
    assert (paper.is_best, h2o.is_best) == (True, False)


def test_further_metrics_are_rows_but_in_no_average():
    own, further = ([row("needle", FULL, {"x": full}, metric), row("needle", H2O_HALF, {"x": h2o}, metric)]
                    for metric, full, h2o in (("string_match_all", 100.0, 0.0), ("rouge", 60.0, 30.0)))
    rows = tables.budget_table(make_mode(own, more_rows=further), "50%")[1]
    assert [(row.name, row.cells[1].mean) for row in rows] == [
        ("needle", 0.0), ("needle, rouge", 30.0), ("average", 0.0)]


def test_without_the_full_cache_there_are_no_differences():
    mode = make_mode([row("a/one", H2O_HALF, {"x": 40.0, "y": 50.0})])
    columns, rows = tables.budget_table(mode, "50%")
    assert columns == ["h2o"] and rows[0].cells[0].difference is None


def test_overview_has_a_row_a_method_and_a_column_a_budget():
    mode = make_mode([row("a/one", parts, {"x": score}) for parts, score in
                      ((FULL, 50.0), (H2O_HALF, 40.0), (H2O_THIRD, 20.0), (PAPER_HALF, 45.0))])
    budgets, rows = tables.overview(mode)
    assert budgets == ["50%", "35%"]
    assert [[cell and cell.mean for cell in row.cells] for row in rows] == [[45.0, None], [40.0, 20.0]]
    assert [rows[0].cells[0].is_best, rows[1].cells[0].is_best] == [True, False]


def test_one_name_for_two_specs_is_told_apart():
    other = ("h2o", "h2o", "profile", "ls", "50%")
    mode = make_mode([row("a/one", H2O_HALF, {"x": 40.0}), row("a/one", other, {"x": 40.0})])
    assert tables.budget_table(mode, "50%")[0] == ["h2o (h2o+uniform+none)", "h2o (h2o+profile+ls)"]


LINE = Prediction(
    line=1, task="a/one", id="x", index=0, method="h2o", policy="h2o", heads="uniform", fit="none", budget="50%",
    mode="question-agnostic", prediction="", answers=[], all_classes=[], metric="qa_f1", extra={}, prompt_tokens=100,
    dropped_tokens=0, new_tokens=10, rows_before=400, rows=200, bytes_full=2**21, bytes=2**20, prefill_s=3.0,
    compact_s=0.5, decode_s=2.0, head_rows=[[25, 75], [50, 50]])


def line(**changes):
    return dataclasses.replace(LINE, **changes)


def test_costs_are_means_over_samples():
    lines = [line(), line(id="y", bytes=2**19, rows=100, prefill_s=5.0, new_tokens=30, decode_s=6.0),
             line(id="z", task="perplexity", new_tokens=0, decode_s=100.0)]
    cost = next(iter(tables.cost_rows(make_mode([], lines))))
    assert cost["n"] == 3 and cost["method"] == "h2o"
    assert cost["share"] == pytest.approx((50 + 25 + 50) / 3)
    assert cost["rows"] == pytest.approx((50 + 25 + 50) / 3)
    assert cost["mib"] == pytest.approx(2.5 / 3)
    assert cost["prefill"] == pytest.approx(11 / 3)
    assert cost["speed"] == pytest.approx(40 / 8)  # what wrote no tokens does not count


def test_curves_stand_at_the_bytes_that_were_kept():
    scores = [row("a/one", FULL, {"x": 50.0, "y": 70.0}), row("a/one", H2O_HALF, {"x": 40.0, "y": 50.0}),
              row("a/one", H2O_THIRD, {"x": 10.0, "y": 30.0})]
    lines = [line(), line(budget="35%", bytes=2**19), line(task="other", bytes=0)]
    label, x, y, (below, above) = sections.curve(make_mode(scores, lines), setting(H2O_HALF).method, ["a/one"])
    assert (label, x, y) == ("h2o", (25.0, 50.0), (20.0, 45.0))
    assert (below, above) == ((0.0, 5.0), (0.0, 5.0))  # 35%: -40 twice; 50%: -10 and -20 around -15


def test_averages_are_over_tasks_of_which_all_have_the_same_samples():
    both, one = {"1": 10.0, "2": 30.0}, {"1": 10.0}
    rows = [row("a", FULL, both), row("a", H2O_HALF, one), row("b", FULL, both), row("b", H2O_HALF, both)]
    mode = make_mode(rows, [])
    assert mode.averaged_tasks == ["b"]


def test_head_shares_are_of_the_tokens_read():
    shares = sections.head_shares([line(), line(head_rows=None), line(rows_before=800)])
    assert shares.tolist() == [[[25, 75], [50, 50]], [[12.5, 37.5], [25, 25]]]
    assert sections.head_shares([line(head_rows=None)]) is None


@pytest.mark.parametrize("head_rows", [[[1, 2], [3]], [[1, 2]], [1, 2], [[1, None], [2, 3]]])
def test_heads_of_another_shape_are_named(head_rows):
    with pytest.raises(EvaluationError, match="predictions.jsonl:7: the field 'head_rows'"):
        sections.head_shares([line(), line(line=7, head_rows=head_rows)])


def test_persistence_in_words():
    # Layers 0 and 1 over three samples: deviations over samples 2 and 4, over layers half of 60 - 20.
    deviation = (3 / 2) ** 0.5
    ratio = numpy.array([[20 - 2 * deviation, 20, 20 + 2 * deviation], [60 - 4 * deviation, 60, 60 + 4 * deviation]])
    assert sections.persistence(ratio) == (
        "Standard deviation over samples 3.0 points (mean of the layers), over layers 20.0 points.")
    assert sections.persistence(ratio[:, 1:2]) == "Standard deviation over layers 20.0 points."
    whole = numpy.full((1, 3), 100.0)
    assert sections.persistence(numpy.concatenate([ratio, whole])) == (
        sections.persistence(ratio) + " Without the 1 layers that stay whole.")
    assert sections.persistence(whole) == ""


def test_needle_grid_is_depth_by_length():
    lines = [line(task="needle", id=f"{length} {depth} {number}", extra=dict(length=length, depth=depth, needles=2))
             for length in (8192, 1024) for depth in (0.5, 0.0) for number in range(2)]
    scores = {"1024 0.0 0": 100.0, "1024 0.0 1": 50.0, "1024 0.5 0": 20.0, "8192 0.5 1": 10.0}
    mode = make_mode([row("needle", H2O_HALF, scores, "string_match_all")], lines)
    (key, samples), = sections.needle_samples(mode).items()
    assert key == ("needle", 2)
    grid = sections.needle_grid(samples, scores)
    assert (grid.rows, grid.columns) == (["0 %", "50 %"], ["1,024", "8,192"])
    numpy.testing.assert_equal(grid.values, [[75.0, numpy.nan], [20.0, 10.0]])
    assert sections.needle_grid(samples, {}) is None


def test_many_depths_are_gathered_in_tenths():
    samples = {str(number): (1024, number / 100) for number in range(100)}
    gathered = sections.gather_depths(samples)
    assert {depth for _, depth in gathered.values()} == {tenth / 10 for tenth in range(11)}
    assert gathered["32"] == (1024, 0.3)


TRACE = {"task": "t", "id": "1", "method": "paper", "budget": "50%", "layer": 1, "head": 0,
         "tokens": ["a", " b", "\n", " c", " d", " e"], "rows": [[0], [1, 2], [3, 5], [5]], "similarity": [1.0] * 4}


def test_tokens_know_their_rows():
    found = traces.tokens(traces.read_trace(TRACE, "here"))
    assert [token.rows for token in found] == ["0", "1", "1", "2", "", "2 3"]
    assert [token.style for token in found] == ["", "merged m0", "merged m0", "merged m1", "dropped", "merged m1"]
    assert found[2].text == "↵\n"


def test_what_became_of_the_tokens_in_words():
    assert traces.summary(traces.read_trace(TRACE, "here")) == (
        "6 tokens became 4 rows: 1 kept alone, 4 merged into 2 rows (the largest of 2), 1 dropped.")


def test_a_trace_made_again_counts_and_an_unfinished_line_does_not(tmp_path):
    assert traces.read_traces(tmp_path) == []
    again = TRACE | {"rows": [[0]]}
    text = "".join(json.dumps(record) + "\n" for record in (TRACE, TRACE | {"method": "h2o"}, again))
    (tmp_path / "traces.jsonl").write_text(text + json.dumps(TRACE)[:20])
    assert [(trace.method, len(trace.rows)) for trace in traces.read_traces(tmp_path)] == [("paper", 1), ("h2o", 4)]
    (tmp_path / "traces.jsonl").write_text("[]\n")
    with pytest.raises(EvaluationError, match="traces.jsonl:1: expected a JSON object"):
        traces.read_traces(tmp_path)


@pytest.mark.parametrize("change, message", [
    ({"rows": [[0], [9]]}, r"here: rows\[1\] is \[9\], expected positions below 6"),
    ({"rows": [[]]}, r"here: rows\[0\] is \[\]"),
    ({"tokens": [1]}, "here: the field 'tokens'"),
    ({"similarity": [1.0] * 5}, "here: the field 'similarity' has 5 numbers"),
    ({"similarity": ["1"]}, "here: the field 'similarity' is not a list of numbers"),
    ({"layer": "1"}, "here: the field 'layer'"),
])
def test_wrong_traces_are_named(change, message):
    with pytest.raises(EvaluationError, match=message):
        traces.read_trace(TRACE | change, "here")
