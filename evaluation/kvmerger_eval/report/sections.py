"""The report's figures, section by section, from the results of one mode."""

import collections
import dataclasses

import numpy

from kvmerger_eval.results import EvaluationError

from . import figures, tables

MOST_DEPTHS = 12  # more different depths than this are gathered in tenths


@dataclasses.dataclass
class Group:
    """Figures under one heading, with the numbers behind each in words."""

    title: str
    figures: list
    notes: list = dataclasses.field(default_factory=list)


def budget_title(budget):
    return f"Budget {budget}" if budget else "The methods' own budgets"


def height_of(layers):
    """Inches of a heat map with a line for each layer."""
    return 1.1 + 0.1 * max(layers, 14)


# Quality against budget.

def curve(mode, method, tasks):
    """(label, x, y, errors) over the method's budgets; None where it has no scores."""
    points = []
    for setting in (setting for setting in mode.compressed if setting.method == method):
        cell = tables.score_cell(mode, tasks, setting)
        share = tables.kept_bytes([line for line in mode.predictions.get(setting, []) if line.task in tasks])
        if cell and share is not None:
            below, above = (abs(end - cell.difference) for end in cell.interval) if cell.interval else (0, 0)
            points.append((share, cell.mean, below, above))
    if not points:
        return None
    x, y, *errors = zip(*sorted(points))
    return mode.label(method), x, y, errors


def quality_figure(gallery, mode, name, title, tasks, metric):
    curves = [found for method in mode.methods if not method.is_full and (found := curve(mode, method, tasks))]
    full = tables.score_cell(mode, tasks, mode.full) if mode.full else None
    if not curves:
        return None
    return figures.quality_by_budget(gallery, name, title, curves, full and full.mean, metric)


def quality(gallery, mode):
    """The figure of the average, if there is one, and a group with one of each task."""
    tasks = mode.averaged_tasks
    title = f"Average of {tables.task_count(tasks)}, {mode.name}"
    average = tasks and quality_figure(gallery, mode, "quality average", title, tasks, "mean score")
    each = [quality_figure(gallery, mode, f"quality {task}", f"{task}, {mode.name}", [task], mode.metrics[task])
            for task in mode.tasks if task not in mode.side_metrics]
    return average, Group("Each task", [figure for figure in each if figure])


# Needles.

def needle_samples(mode):
    """{(task, needles): {sample id: (length, depth)}} of the tasks that hide something at a depth of a length."""
    found = collections.defaultdict(dict)
    for lines in mode.predictions.values():
        for line in lines:
            if line.task in mode.metrics and {"length", "depth"} <= line.extra.keys():
                where = line.extra["length"], float(line.extra["depth"])
                found[line.task, line.extra.get("needles", 1)][line.id] = where
    return {key: gather_depths(samples) for key, samples in found.items()}


def gather_depths(samples):
    if len({depth for _, depth in samples.values()}) <= MOST_DEPTHS:
        return samples
    return {sample: (length, round(depth, 1)) for sample, (length, depth) in samples.items()}


def needle_grid(samples, scores):
    """Mean score by depth and length; None where no sample has one."""
    cells = collections.defaultdict(list)
    for sample, (length, depth) in samples.items():
        if sample in scores:
            cells[depth, length].append(scores[sample])
    if not cells:
        return None
    depths = sorted({depth for _, depth in samples.values()})
    lengths = sorted({length for length, _ in samples.values()})
    values = numpy.array([[numpy.mean(cells.get((depth, length), numpy.nan)) for length in lengths]
                          for depth in depths])
    return figures.Grid(values, [f"{100 * depth:.0f} %" for depth in depths], [f"{length:,}" for length in lengths],
                        "depth of the needle", "length, tokens", "mean score", (0, 100))


def needle_maps(gallery, mode):
    """A group for each task and number of needles: the full cache first, then every method at every budget."""
    groups = []
    for (task, needles), samples in needle_samples(mode).items():
        maps = []
        for setting in mode.settings:
            grid = needle_grid(samples, mode.scores.get((task, setting), {}))
            if grid:
                title = mode.title(setting)
                name = f"{task} {needles} {title}"
                maps.append(figures.heat_map(gallery, name, title, grid, (3.7, 2.7), numbers=True))
        groups.append(Group(f"{task}, {needles} needle{'s' * (needles != 1)}", maps))
    return groups


# Rows by head and layer.

def shape_of(head_rows):
    """(layers, heads); None where layers differ or a count is none."""
    if not all(isinstance(layer, list) and len(layer) == len(head_rows[0]) for layer in head_rows):
        return None
    return (len(head_rows), len(head_rows[0])) if all(type(count) is int for count in sum(head_rows, [])) else None


def check_shapes(lines):
    expected = shape_of(lines[0].head_rows)
    for line in lines:
        shape = shape_of(line.head_rows)
        if shape is None or shape != expected:
            raise EvaluationError(f"predictions.jsonl:{line.line}: the field 'head_rows' is not a list of layers with "
                                  f"as many counts each as in line {lines[0].line}; delete the line and run again")


def head_shares(lines):
    """[samples, layers, heads] rows kept, in percent of the tokens that were read; None where nothing says so."""
    counted = [line for line in lines if line.head_rows and line.rows_before]
    if not counted:
        return None
    check_shapes(counted)
    rows = numpy.array([line.head_rows for line in counted], dtype=float)
    before = numpy.array([line.rows_before for line in counted]) / rows[0].size
    return 100 * rows / before[:, None, None]


def head_maps(gallery, mode):
    """Layers x heads, the mean over all samples."""
    groups = []
    for budget in mode.budgets:
        shares = {setting: head_shares(mode.predictions.get(setting, [])) for setting in mode.at_budget(budget)}
        maps = [head_map(gallery, mode.title(setting), share.mean(axis=0)) for setting, share in shares.items()
                if share is not None]
        if maps:
            groups.append(Group(budget_title(budget), maps))
    return groups


def head_map(gallery, title, share):
    """share: [layers, heads] rows kept in percent."""
    layers, heads = share.shape
    grid = figures.Grid(share, range(layers), range(heads), "layer", "KV head", "rows kept, %", (0, 100))
    return figures.heat_map(gallery, f"heads {title}", title, grid, (2.9, height_of(layers)))


def layer_maps(gallery, mode):
    """Layers x samples, and in words how far a layer's share moves from sample to sample."""
    groups = []
    for budget in mode.budgets:
        shares = {setting: head_shares(mode.predictions.get(setting, [])) for setting in mode.at_budget(budget)}
        ratios = {setting: share.mean(axis=2).T for setting, share in shares.items() if share is not None}
        if ratios:
            highest = min(100, max(max(ratio.max(), 2 * ratio.mean()) for ratio in ratios.values()))
            maps = [layer_map(gallery, mode.title(setting), ratio, highest) for setting, ratio in ratios.items()]
            groups.append(Group(budget_title(budget), maps, list(map(persistence, ratios.values()))))
    return groups


def layer_map(gallery, title, ratio, highest):
    """ratio: [layers, samples] rows kept in percent."""
    layers, samples = ratio.shape
    grid = figures.Grid(ratio, range(layers), range(1, samples + 1), "layer", "sample, in the order of the run",
                        "rows kept, %", (0, highest))
    return figures.heat_map(gallery, f"layers {title}", title, grid, (3.4, height_of(layers)))


def persistence(ratio):
    """Without the layers that are whole in every sample: a method leaves those alone, they would count as steady."""
    changing = ratio[(ratio < 100).any(axis=1)]
    if len(changing) == 0:
        return ""
    whole = len(ratio) - len(changing)
    left_out = f" Without the {whole} layers that stay whole." if whole else ""
    over_layers = changing.mean(axis=1).std()
    if ratio.shape[1] < 2:
        return f"Standard deviation over layers {over_layers:.1f} points.{left_out}"
    over_samples = changing.std(axis=1).mean()
    return (f"Standard deviation over samples {over_samples:.1f} points (mean of the layers), over layers "
            f"{over_layers:.1f} points.{left_out}")
