"""The report of a run: one self-contained HTML page, and its figures as files beside it."""

import pathlib

from kvmerger_eval import results, score
from kvmerger_eval.report import modes, page, traces
from kvmerger_eval.report.figures import Gallery


def read_scores(folder, predictions):
    """scores.json; scores first where there is none, or one of other predictions."""
    scores = folder / "scores.json"
    found = results.read_scores(folder) if scores.exists() else None
    if found is None or found.of != results.digest(predictions):
        score.run(folder)
        found = results.read_scores(folder)
    for row in found.rows + found.more_rows:
        if not all(isinstance(entry, dict) and isinstance(entry.get("score"), results.NUMBER) and "id" in entry
                   for entry in row.scores):
            raise results.EvaluationError(f"{scores}: the scores of {row.method} on {row.task} are not objects with id "
                                          f"and score; run `kvmerger eval score {folder}` again")
    return found


def run(folder, output):
    """Writes the page `output` and the figures beside it, in <name of the page>_files."""
    folder, output = pathlib.Path(folder), pathlib.Path(output)
    facts = results.read_run(folder)
    predictions = results.read_predictions(folder)
    if not predictions:
        raise results.EvaluationError(f"{folder / 'predictions.jsonl'}: there are no predictions; run `kvmerger eval` "
                                      "first")
    found = modes.modes(facts, predictions, read_scores(folder, predictions))
    samples = traces.read_traces(folder)
    files = output.with_name(output.stem + "_files")
    files.mkdir(parents=True, exist_ok=True)
    text = page.render(facts, len(predictions), found, samples, Gallery(files))
    unfinished = output.with_name(output.name + ".unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(output)
