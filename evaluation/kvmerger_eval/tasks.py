"""The task files in evaluation/tasks. Scoring needs little of them; what the runner reads is checked here too."""

import dataclasses
import functools
import pathlib

from kvmerger_eval.metrics import METRICS
from kvmerger_eval.results import KIND_NAMES, EvaluationError, parse_object

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tasks"

GENERATORS = ("needle", "niah", "vt", "cwe", "fwe", "passkey", "perplexity")
FORMATS = ("longbench", "zeroscrolls", "squality", "qmsum", "lines", "kv_retrieval", "passkey", "ruler",
           *(f"generate:{name}" for name in GENERATORS))
TRUNCATIONS = ("middle", "context_end", "none")
LANGUAGES = ("en", "zh")

FIELDS = {"name": str, "source": dict, "template": str, "max_tokens": int, "metric": str, "truncation": str,
          "chat": bool, "first_line": bool, "stop": list, "language": str, "reference": str}
OPTIONAL_FIELDS = {"metric_options": dict, "options": dict, "truncation_note": str}


@dataclasses.dataclass(frozen=True)
class Task:
    name: str  # suite/task
    metric: str  # the one that stands for the task in averages
    more_metrics: tuple  # others that its predictions are scored with
    first_line: bool  # only the first line that is not empty is scored


def _check_fields(task, path):
    for name, kind in (FIELDS | OPTIONAL_FIELDS).items():
        if name not in task and name in OPTIONAL_FIELDS:
            continue
        if not isinstance(task.get(name), kind) or (kind is int and isinstance(task[name], bool)):
            raise EvaluationError(f"{path}: the field '{name}' is missing or not {KIND_NAMES[kind]}")
    unknown = sorted(set(task) - set(FIELDS) - set(OPTIONAL_FIELDS))
    if unknown:
        known = ", ".join([*FIELDS, *OPTIONAL_FIELDS])
        raise EvaluationError(f"{path}: unknown field '{unknown[0]}'; known are {known}")


def _check_choice(value, choices, what, path):
    if value not in choices:
        raise EvaluationError(f"{path}: unknown {what} '{value}'; known are {', '.join(sorted(choices))}")


def read_task(path, name):
    """The task in a file, which must call itself `name`."""
    task = parse_object(path.read_text(encoding="utf-8"), path)
    _check_fields(task, path)
    if task["name"] != name:
        raise EvaluationError(f"{path}: the task calls itself '{task['name']}'; its place says '{name}'")
    _check_choice(task["source"].get("format"), FORMATS, "source format", path)
    _check_choice(task["truncation"], TRUNCATIONS, "truncation", path)
    _check_choice(task["language"], LANGUAGES, "language", path)
    more = tuple(task.get("metric_options", {}).get("more", ()))
    for metric in (task["metric"], *more):
        _check_choice(metric, METRICS, "metric", path)
    return Task(name, task["metric"], more, task["first_line"])


@functools.cache
def all_names(folder=FOLDER):
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.json"))


def find(name, where, folder=FOLDER):
    """The task of that name; `where` is what an error names."""
    if name not in all_names(folder):
        raise EvaluationError(f"{where}: unknown task '{name}'; known are {', '.join(all_names(folder))}")
    return read_task(folder / f"{name}.json", name)
