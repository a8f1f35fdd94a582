"""The results of one run, grouped as the report shows them: per mode, task, method and budget."""

import collections
import dataclasses
import functools

from ..metrics import METRICS
from ..results import FULL


@dataclasses.dataclass(frozen=True)
class Method:
    """One way to compress, at no particular budget."""

    name: str
    policy: str
    heads: str
    fit: str

    @property
    def is_full(self):
        return self.name == FULL

    @property
    def spec(self):
        return "" if self.is_full else "+".join(part for part in (self.policy, self.heads, self.fit) if part)


@dataclasses.dataclass(frozen=True)
class Setting:
    """A method at a budget: one column of a table."""

    method: Method
    budget: str  # "" for the full cache


def setting_of(line):
    """Of a prediction or a row of scores."""
    return Setting(Method(line.method, line.policy, line.heads, line.fit), line.budget)


def suite_of(task):
    return task.partition("/")[0]


def unique(things):
    return list(dict.fromkeys(things))


class Mode:
    """What was run in one mode: question-agnostic or question-aware."""

    def __init__(self, name, order):
        self.name = name
        self.order = order  # {kind: names in the order they were asked for}
        self.scores = {}  # {(task, setting): {sample id: score}}
        self.means = {}  # {(task, setting): the mean as the scorer gave it}
        self.metrics = {}  # {task: metric}
        self.side_metrics = set()  # the tasks above that are a further metric of another
        self.predictions = collections.defaultdict(list)  # {setting: [prediction]}

    def add_scores(self, row, is_side=False):
        task = f"{row.task}, {row.metric}" if is_side else row.task
        cell = task, setting_of(row)
        self.scores[cell] = {score["id"]: score["score"] for score in row.scores}
        self.means[cell] = row.mean
        self.metrics[task] = row.metric
        if is_side:
            self.side_metrics.add(task)

    def _sorted(self, things, kind, name=lambda thing: thing):
        """As asked for; what was not asked for by name comes last, in the order of its appearance."""
        order = {thing: rank for rank, thing in enumerate(unique(self.order[kind]))}
        return sorted(things, key=lambda thing: order.get(name(thing), len(order)))

    @functools.cached_property
    def tasks(self):
        """Suite by suite, a task's further metrics behind it."""
        tasks = self._sorted(self.metrics, "tasks", lambda task: task.partition(", ")[0])
        return [task for suite in unique(map(suite_of, tasks)) for task in tasks if suite_of(task) == suite]

    @functools.cached_property
    def settings(self):
        """The full cache first, then budget by budget."""
        found = unique([setting for _, setting in self.scores] + list(self.predictions))
        by_method = self._sorted(found, "methods", lambda setting: setting.method.name)
        by_budget = self._sorted(by_method, "budgets", lambda setting: setting.budget)
        return sorted(by_budget, key=lambda setting: not setting.method.is_full)

    @property
    def compressed(self):
        return [setting for setting in self.settings if not setting.method.is_full]

    @property
    def full(self):
        return next((setting for setting in self.settings if setting.method.is_full), None)

    @property
    def methods(self):
        """The full cache first."""
        methods = self._sorted(unique(setting.method for setting in self.settings), "methods", lambda it: it.name)
        return sorted(methods, key=lambda method: not method.is_full)

    @property
    def budgets(self):
        return unique(setting.budget for setting in self.compressed)

    def at_budget(self, budget):
        return [setting for setting in self.compressed if setting.budget == budget]

    @functools.cached_property
    def averaged_tasks(self):
        """The tasks of which every setting has the same samples, so that averages compare like with like."""
        return [task for task in self.tasks
                if task not in self.side_metrics and METRICS[self.metrics[task]].percent and
                self._shared_by_all(task)]

    def _shared_by_all(self, task):
        samples = {frozenset(self.scores.get((task, setting), ())) for setting in self.settings}
        return len(samples) == 1 and samples != {frozenset()}

    def label(self, method):
        if method.is_full:
            return "full cache"
        alike = sum(other.name == method.name for other in self.methods)
        return method.name if alike == 1 else f"{method.name} ({method.spec})"

    def title(self, setting):
        return " ".join(part for part in (self.label(setting.method), setting.budget) if part)


def modes(run, predictions, scores):
    """A Mode for each that occurs, in the order of their appearance."""
    asked = run.get("methods", [])
    order = {"tasks": run["tasks"], "methods": [method["method"] for method in asked],
             "budgets": [method["budget"] for method in asked]}
    found = {}
    for rows, is_side in ((scores.rows, False), (scores.more_rows, True)):
        for row in rows:
            found.setdefault(row.mode, Mode(row.mode, order)).add_scores(row, is_side)
    for line in predictions:
        found.setdefault(line.mode, Mode(line.mode, order)).predictions[setting_of(line)].append(line)
    return list(found.values())
