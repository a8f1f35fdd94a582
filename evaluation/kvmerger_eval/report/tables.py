"""The tables of the report as rows of cells; how they look is the page's affair."""

import dataclasses

import numpy

from . import statistics
from ..metrics import METRICS
from .modes import suite_of, unique


@dataclasses.dataclass
class Cell:
    """A score, and its difference to the full cache where there is one."""

    mean: float
    difference: float | None = None
    interval: tuple | None = None
    lower_is_better: bool = False
    is_rival: bool = True  # the full cache is none
    is_best: bool = False

    @property
    def verdict(self):
        """better or worse when the interval excludes 0, else nothing."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return ""
        return "better" if (self.interval[0] > 0) != self.lower_is_better else "worse"


@dataclasses.dataclass
class Row:
    name: str
    note: str
    cells: list
    is_average: bool = False


def differences_to_full(mode, tasks, setting):
    """One array for each task; None where a task has no sample in common with the full cache."""
    if setting.method.is_full or not mode.full or any((task, mode.full) not in mode.scores for task in tasks):
        return None
    found = [statistics.paired_differences(mode.scores[task, setting], mode.scores[task, mode.full]) for task in tasks]
    return found if all(map(len, found)) else None


def score_cell(mode, tasks, setting):
    """One task's score, or the average over several; None where one of them is missing."""
    if not tasks or any((task, setting) not in mode.scores for task in tasks):
        return None
    cell = Cell(float(numpy.mean([mode.means[task, setting] for task in tasks])))
    cell.lower_is_better = not METRICS[mode.metrics[tasks[0]]].percent
    cell.is_rival = not setting.method.is_full
    differences = differences_to_full(mode, tasks, setting)
    if differences:
        cell.difference = statistics.mean_difference(differences)
        cell.interval = statistics.interval(differences)
    return cell


def mark_best(cells):
    """The best compressed cells, where there is a choice."""
    rivals = [cell for cell in cells if cell and cell.is_rival]
    if len(rivals) < 2:
        return
    best = (min if rivals[0].lower_is_better else max)(cell.mean for cell in rivals)
    for cell in rivals:
        cell.is_best = cell.mean == best


def score_row(mode, name, note, tasks, settings, is_average=False):
    cells = [score_cell(mode, tasks, setting) for setting in settings]
    mark_best(cells)
    return Row(name, note, cells, is_average)


def task_row(mode, task, settings):
    counts = sorted({len(mode.scores[task, setting]) for setting in settings if (task, setting) in mode.scores})
    note = f"{mode.metrics[task]}, n = " + " to ".join(map(str, unique([*counts[:1], *counts[-1:]]) or ["0"]))
    return score_row(mode, task, note, [task], settings)


def task_count(tasks):
    return f"{len(tasks)} task{'s' if len(tasks) > 1 else ''}"


def average_rows(mode, settings):
    suites = unique(map(suite_of, mode.averaged_tasks))
    for suite in suites if len(suites) > 1 else []:
        tasks = [task for task in mode.averaged_tasks if suite_of(task) == suite]
        if len(tasks) > 1:
            yield score_row(mode, f"average of {suite}", task_count(tasks), tasks, settings, is_average=True)
    tasks = mode.averaged_tasks
    if tasks:
        yield score_row(mode, "average", task_count(tasks), tasks, settings, is_average=True)


def budget_table(mode, budget):
    """(columns, rows): tasks x methods at one budget, with the full cache beside them."""
    settings = ([mode.full] if mode.full else []) + mode.at_budget(budget)
    rows = [task_row(mode, task, settings) for task in mode.tasks] + list(average_rows(mode, settings))
    return [mode.label(setting.method) for setting in settings], rows


def overview(mode):
    """(budgets, rows): methods x budgets, each the average over the tasks that all of them have."""
    rows = []
    for method in (method for method in mode.methods if not method.is_full):
        at = {setting.budget: setting for setting in mode.compressed if setting.method == method}
        cells = [at.get(budget) and score_cell(mode, mode.averaged_tasks, at[budget]) for budget in mode.budgets]
        rows.append(Row(mode.label(method), method.spec, cells))
    for cells in zip(*(row.cells for row in rows)):
        mark_best(cells)
    return mode.budgets, rows


def mean_of(lines, value):
    return float(numpy.mean([value(line) for line in lines])) if lines else None


def rate(lines):
    """Tokens per second, sum over sum, so that answers weigh by their length."""
    answered = [line for line in lines if line.new_tokens]  # perplexity reads, and takes its time to
    seconds = sum(line.decode_s for line in answered)
    return sum(line.new_tokens for line in answered) / seconds if seconds > 0 else None


def kept_bytes(lines):
    """Mean over samples of the bytes left, in percent of the full cache's."""
    return mean_of([line for line in lines if line.bytes_full], lambda line: 100 * line.bytes / line.bytes_full)


def kept_rows(lines):
    return mean_of([line for line in lines if line.rows_before], lambda line: 100 * line.rows / line.rows_before)


def cost_rows(mode):
    """Memory and speed of each setting, over all its samples."""
    for setting in mode.settings:
        lines = mode.predictions.get(setting, [])
        yield {
            "method": mode.label(setting.method), "budget": setting.budget, "n": len(lines),
            "rows": kept_rows(lines), "share": kept_bytes(lines),
            "mib": mean_of(lines, lambda line: line.bytes / 2**20),
            "prompt": mean_of(lines, lambda line: line.prompt_tokens),
            "prefill": mean_of(lines, lambda line: line.prefill_s),
            "compact": mean_of(lines, lambda line: line.compact_s),
            "speed": rate(lines),
        }
