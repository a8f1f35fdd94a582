"""The folder of a run: run.json, predictions.jsonl and scores.json, read with checks. Computes nothing."""

import dataclasses
import hashlib
import json
import pathlib


class EvaluationError(Exception):
    """Something in the user's files is wrong: says what, where, and what to do."""


FULL = "none"  # the method that compresses nothing: the full cache
NUMBER = (int, float)
KIND_NAMES = {str: "text", int: "a whole number", NUMBER: "a number", bool: "true or false", list: "a list",
              dict: "an object"}


@dataclasses.dataclass(frozen=True)
class Prediction:
    """One line of predictions.jsonl: what one method answered to one sample."""
    line: int  # its number in the file, from 1
    task: str
    id: str
    index: int
    method: str  # as the user named it
    policy: str
    heads: str
    fit: str
    budget: str  # "" for the full cache
    mode: str
    prediction: str
    answers: list  # of str
    all_classes: list  # of str; empty where the task has none
    metric: str
    extra: dict  # what the task adds, e.g. depth and length, or nll and tokens
    prompt_tokens: int
    dropped_tokens: int  # by the task's truncation
    new_tokens: int
    rows_before: int
    rows: int
    bytes_full: int
    bytes: int
    prefill_s: float
    compact_s: float
    decode_s: float
    head_rows: list  # [layers][KV heads] rows kept; None for the full cache

    @property
    def key(self):
        return (self.task, self.id, self.method, self.policy, self.heads, self.fit, self.budget, self.mode)


@dataclasses.dataclass(frozen=True)
class ScoreRow:
    """One cell of the table: the scores of one method on one task."""
    task: str
    method: str
    policy: str
    heads: str
    fit: str
    budget: str
    mode: str
    metric: str
    n: int
    mean: float
    scores: list  # of {"id", "score"}, in the order of the samples


@dataclasses.dataclass(frozen=True)
class Scores:
    """scores.json; `more_rows` has the same shape, for the metrics a task has beside its own."""
    rows: list
    more_rows: list
    of: str = ""  # digest of the predictions that were scored


# A type of a field where the annotation does not say it all; None is read as the empty value given here.
NULLABLE = {"all_classes": list, "head_rows": lambda: None}
TYPES = {"prefill_s": NUMBER, "compact_s": NUMBER, "decode_s": NUMBER, "mean": NUMBER}
STRING_LISTS = ("answers", "all_classes")


def _reject_constant(name):
    raise ValueError(f"{name} is not a number of JSON")


def parse_object(text, where):
    """The JSON object in `text`; `where` is the file, or file and line, that an error names."""
    try:
        value = json.loads(text, parse_constant=_reject_constant)
    except ValueError as error:
        raise EvaluationError(f"{where}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise EvaluationError(f"{where}: expected a JSON object, found {text[:40]}")
    return value


def _check_type(name, kind, value, where):
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if not wrong and name in STRING_LISTS:
        wrong = not all(isinstance(entry, str) for entry in value)
    if wrong:
        expected = "a list of texts" if name in STRING_LISTS else KIND_NAMES[kind]
        raise EvaluationError(f"{where}: the field '{name}' is {json.dumps(value)[:40]}, expected {expected}")


def from_object(record, kind, where, **given):
    """A `kind` (one of the dataclasses here) from a JSON object that must have its fields; unknown ones are ignored."""
    values = dict(given)
    for field in dataclasses.fields(kind):
        if field.name in given:
            continue
        if field.name not in record:
            raise EvaluationError(f"{where}: the field '{field.name}' is missing; the file is of another version or "
                                  "was changed by hand")
        value = record[field.name]
        if value is None and field.name in NULLABLE:
            value = NULLABLE[field.name]()
        else:
            _check_type(field.name, TYPES.get(field.name, field.type), value, where)
        values[field.name] = value
    return kind(**values)


def _read_text(path, missing):
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise EvaluationError(f"{path}: there is no such file; {missing}") from None
    except UnicodeDecodeError as error:
        raise EvaluationError(f"{path}: not UTF-8 at byte {error.start}") from None


def read_run(folder):
    """run.json as a dict with at least model, mode and tasks."""
    path = pathlib.Path(folder) / "run.json"
    run = parse_object(_read_text(path, "give the folder that `kvmerger eval -o` wrote"), path)
    for name, kind in (("model", dict), ("mode", str), ("tasks", list)):
        if not isinstance(run.get(name), kind):
            raise EvaluationError(f"{path}: the field '{name}' is missing or not {KIND_NAMES[kind]}")
    return run


def read_predictions(folder):
    """Every line of predictions.jsonl, in the order of the file; two lines never have the same key."""
    path = pathlib.Path(folder) / "predictions.jsonl"
    text = _read_text(path, "run `kvmerger eval` first")
    if text and not text.endswith("\n"):
        raise EvaluationError(f"{path}:{text.count(chr(10)) + 1}: the last line is not complete, the run was "
                              "interrupted; give the same `kvmerger eval` command again, it goes on from there")
    predictions, lines = [], {}
    for number, line in enumerate(text.split("\n")[:-1], 1):
        where = f"{path}:{number}"
        prediction = from_object(parse_object(line, where), Prediction, where, line=number)
        if prediction.key in lines:
            raise EvaluationError(f"{where}: the same sample and method as in line {lines[prediction.key]}; delete "
                                  "one of the two")
        lines[prediction.key] = number
        predictions.append(prediction)
    return predictions


def digest(predictions):
    """Of all that scoring reads of a line: one made anew with other contents gives another one."""
    scored = [[*line.key, line.prediction, line.answers, line.all_classes, line.metric, line.extra]
              for line in predictions]
    return hashlib.sha256(json.dumps(scored).encode()).hexdigest()


def read_scores(folder):
    """scores.json as Scores."""
    path = pathlib.Path(folder) / "scores.json"
    scores = parse_object(_read_text(path, f"run `kvmerger eval score {folder}` first"), path)
    if not isinstance(scores.get("rows"), list) or not isinstance(scores.get("more_rows", []), list):
        raise EvaluationError(f"{path}: there is no list 'rows'; run `kvmerger eval score {folder}` again")
    rows = {name: [from_object(row, ScoreRow, f"{path}: {name}[{number}]")
                   for number, row in enumerate(scores.get(name, []))] for name in ("rows", "more_rows")}
    return Scores(**rows, of=str(scores.get("of", "")))


def write_scores(folder, scores):
    """Writes scores.json whole or not at all."""
    path = pathlib.Path(folder) / "scores.json"
    unfinished = path.with_suffix(".json.unfinished")
    unfinished.write_text(json.dumps(dataclasses.asdict(scores), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    unfinished.replace(path)
