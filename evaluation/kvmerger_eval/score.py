"""Scores the predictions of a run: writes OUT/scores.json and prints a table, tasks by methods.

Reads run.json, predictions.jsonl and the task files. Whatever cannot be scored is an error that names file and line.
"""

import dataclasses
import pathlib
import statistics

from kvmerger_eval import results, tasks
from kvmerger_eval.metrics import METRICS, BadSample
from kvmerger_eval.results import FULL, EvaluationError, ScoreRow, Scores


def _first_line(text):
    """What LongBench's scorer keeps of an answer behind examples, as a model goes on with examples of its own."""
    return text.lstrip("\n").split("\n")[0]


def _checked(prediction, task, where):
    """The prediction as its metric sees it."""
    if prediction.metric != task.metric:
        raise EvaluationError(f"{where}: the metric is '{prediction.metric}', that of the task {task.name} is "
                              f"'{task.metric}'; run the task again, or score with the version that ran it")
    if METRICS[task.metric].needs_answers and not prediction.answers:
        raise EvaluationError(f"{where}: sample {prediction.id} of {task.name} has no answers; neither a "
                              "benchmark's test set nor a run kept without its texts can be scored")
    if task.first_line:
        return dataclasses.replace(prediction, prediction=_first_line(prediction.prediction))
    return prediction


def _score(metric, prediction, where):
    try:
        score = METRICS[metric].score(prediction)
    except BadSample as error:
        raise EvaluationError(f"{where}: sample {prediction.id} of {prediction.task}: {error}") from None
    return 100 * score if METRICS[metric].percent else score


def _row(metric, group, where):
    """The row of one task, method and metric. group: predictions of the same task and method."""
    scores = [_score(metric, prediction, where(prediction)) for prediction in group]
    first = group[0]
    return ScoreRow(first.task, first.method, first.policy, first.heads, first.fit, first.budget, first.mode, metric,
                    n=len(group), mean=METRICS[metric].mean(group, scores),
                    scores=[{"id": prediction.id, "score": score} for prediction, score in zip(group, scores)])


def _groups(predictions):
    """Predictions of the same task, method and mode, each group in the order of the samples."""
    groups = {}
    for prediction in predictions:
        groups.setdefault(prediction.key[:1] + prediction.key[2:], []).append(prediction)
    return [sorted(group, key=lambda prediction: prediction.index) for group in groups.values()]


def _check_complete(run, predictions, path):
    missing = [name for name in run["tasks"] if name not in {prediction.task for prediction in predictions}]
    if missing:
        raise EvaluationError(f"{path}: no line of the task {', '.join(missing)}, which run.json names; give the same "
                              "`kvmerger eval` command again, it goes on where it stopped")


def score(folder):
    """Scores of the run in `folder`; reads the two files, writes nothing."""
    path = folder / "predictions.jsonl"

    def where(prediction):
        return f"{path}:{prediction.line}"

    run, predictions = results.read_run(folder), results.read_predictions(folder)
    if not predictions:
        raise EvaluationError(f"{path}: there are no predictions; run `kvmerger eval` first")
    known = {}
    for prediction in predictions:
        if prediction.task not in known:
            known[prediction.task] = tasks.find(prediction.task, where(prediction))
    _check_complete(run, predictions, path)
    checked = [_checked(prediction, known[prediction.task], where(prediction)) for prediction in predictions]
    rows, more_rows = [], []
    for group in _groups(checked):
        task = known[group[0].task]
        rows.append(_row(task.metric, group, where))
        more_rows += [_row(metric, group, where) for metric in task.more_metrics]
    return Scores(rows, more_rows, results.digest(predictions))


def _method(row):
    return (row.method, row.policy, row.heads, row.fit, row.budget)


def _text(cell):
    """A cell is a text, a number, or None where there is none."""
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else f"{cell:.2f}"


def _line(cells):
    return "| " + " | ".join(map(_text, cells)) + " |"


def _cell(row, most):
    return None if row is None else f"{row.mean:.2f} ({row.n}{'*' if row.n < most else ''})"


def _average(rows, most, of=lambda name, mean: mean):
    """The mean over tasks; None when one of them is missing or has fewer samples than other methods have."""
    if any(name not in rows or rows[name].n < n for name, n in most.items()):
        return None
    return statistics.fmean(of(name, rows[name].mean) for name in most)


def table(rows, title):
    """A Markdown table of rows of one mode: a line for each task and metric, a column for each method."""
    columns, most = {}, {}  # method -> task and metric -> row; task and metric -> samples, where they are most
    for row in rows:
        name = (row.task, row.metric)
        columns.setdefault(_method(row), {})[name] = row
        most[name] = max(row.n, most.get(name, 0))
    methods = [f"{method} {budget}".strip() for method, *_, budget in columns]
    lines = [f"## {title}", "", _line(["task", "metric", *methods]), _line(["---", "---", *["---:"] * len(methods)])]
    for name, n in most.items():
        lines.append(_line([*name, *(_cell(column.get(name), n) for column in columns.values())]))
    averaged = {name: n for name, n in most.items() if METRICS[name[1]].percent}
    if averaged:
        averages = {method: _average(column, averaged) for method, column in columns.items()}
        lines.append(_line([f"average of {len(averaged)}", "", *averages.values()]))
        full = next((method for method in columns if method[0] == FULL), None)
        if averages.get(full) is not None:
            distances = (_average(column, averaged, lambda name, mean: abs(mean - columns[full][name].mean))
                         for column in columns.values())
            lines.append(_line(["mean distance from the full cache", "", *distances]))
    lines += ["", "In brackets: samples."]
    if any(row.n < most[row.task, row.metric] for row in rows):
        lines.append("\\* fewer samples than another method has: the run is not finished, so there is no average.")
    return "\n".join(lines)


def tables(scores, run):
    """Every table of the run: one a mode, and one a mode for metrics beside the tasks' own."""
    model = run["model"].get("name", "unnamed model")
    parts = []
    for rows, what in ((scores.rows, "Scores"), (scores.more_rows, "Other metrics")):
        for mode in dict.fromkeys(row.mode for row in rows):
            parts.append(table([row for row in rows if row.mode == mode], f"{what}, {mode}, {model}"))
    return "\n\n".join(parts)


def run(folder):
    folder = pathlib.Path(folder)
    scores = score(folder)
    results.write_scores(folder, scores)
    print(tables(scores, results.read_run(folder)))
