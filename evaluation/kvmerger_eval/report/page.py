"""The page: results of every mode, their figures, and the template that lays them out."""

import pathlib
import re

import jinja2
import markupsafe

from . import sections, statistics, tables, traces

HERE = pathlib.Path(__file__).parent
MOST_TRACES = 24  # each is an element per token


def number(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}".replace("-", "−")


def signed(value, digits=1):
    text = number(value, digits)
    return text if text[0] == "−" else "+" + text


def breakable(name):
    """A name that a narrow column may break behind its joints."""
    return markupsafe.Markup(re.sub(r"([/_+])", r"\1<wbr>", str(markupsafe.escape(name))))


def mode_parts(gallery, mode):
    """What the template shows of one mode."""
    average, each_task = sections.quality(gallery, mode)
    budgets, overview = tables.overview(mode)
    return {
        "mode": mode, "average": average, "each_task": each_task,
        "budgets": [budget or "own budget" for budget in budgets], "overview": overview,
        "averaged": tables.task_count(mode.averaged_tasks),
        "full": tables.score_cell(mode, mode.averaged_tasks, mode.full) if mode.full else None,
        "left_out": [task for task in mode.tasks if task not in mode.averaged_tasks],
        "tables": [(sections.budget_title(budget), *tables.budget_table(mode, budget)) for budget in mode.budgets]
                  or [("Full cache", *tables.budget_table(mode, ""))],
        "costs": list(tables.cost_rows(mode)),
        "needles": sections.needle_maps(gallery, mode),
        "heads": sections.head_maps(gallery, mode),
        "layers": sections.layer_maps(gallery, mode),
    }


def similarity_maps(gallery, samples):
    """One a head, as all methods meet the same keys."""
    heads = {(trace.task, trace.id, trace.layer, trace.head): trace for trace in reversed(samples) if trace.similarity}
    return [(trace, traces.similarity_map(gallery, trace)) for trace in reversed(heads.values())]


def render(facts, predictions, found, samples, gallery):
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE), trim_blocks=True, lstrip_blocks=True,
                                     autoescape=jinja2.select_autoescape(["html"]))
    environment.filters.update(number=number, signed=signed, breakable=breakable)
    return environment.get_template("page.html").render(
        run=facts, predictions=predictions, modes=[mode_parts(gallery, mode) for mode in found],
        traces=[(trace, traces.tokens(trace), traces.summary(trace)) for trace in samples[:MOST_TRACES]],
        more_traces=len(samples[MOST_TRACES:]),
        similarities=similarity_maps(gallery, samples), resamples=statistics.RESAMPLES, seed=statistics.SEED)
