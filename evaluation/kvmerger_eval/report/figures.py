"""The figures of the report, drawn by matplotlib: each an SVG for the page and an SVG and a PNG file beside it."""

import dataclasses
import html
import io
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402  (the backend is chosen first)
import numpy  # noqa: E402

INK = "#1b1f24"  # texts and axes: the page's colour of text takes its place
PAPER = "#fffffe"  # the background, nothing on the page
MUTED = "#8a939c"  # visible on light and dark
# Okabe and Ito's palette, told apart by the colour-blind; the marks differ too.
COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8d6cc9", "#9a7b4f", "#b8b000"]
MARKS = "osD^vPX*<"
STYLE = {
    "font.size": 9, "axes.titlesize": 10, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.spines.top": False, "axes.spines.right": False, "axes.facecolor": "none", "figure.facecolor": PAPER,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "xtick.color": INK, "ytick.color": INK,
    "grid.color": MUTED, "grid.alpha": 0.4, "grid.linewidth": 0.6, "legend.frameon": False, "legend.fontsize": 8,
    "lines.linewidth": 1.5, "lines.markersize": 5, "svg.fonttype": "none", "svg.hashsalt": "kvmerger",
    "figure.constrained_layout.use": True,
}


@dataclasses.dataclass
class Figure:
    name: str  # of its files
    title: str
    svg: str  # as it stands in the page


class Gallery:
    """Draws figures and keeps their files in one folder."""

    def __init__(self, folder):
        self.folder = folder
        self.names = set()

    def add(self, name, title, draw, size):
        """draw(figure) fills a figure of size inches."""
        name = self._unused(re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"))
        with plt.rc_context(STYLE):
            figure = plt.figure(figsize=size)
            draw(figure)
            figure.draw_without_rendering()  # laid out once for both files
            figure.set_layout_engine("none")
            figure.savefig(self.folder / f"{name}.png", dpi=150)
            text = io.StringIO()
            figure.savefig(text, format="svg", metadata={"Date": None})
            plt.close(figure)
        svg = text.getvalue()
        (self.folder / f"{name}.svg").write_text(svg, encoding="utf-8")
        return Figure(name, title, inline(svg, name, title))

    def _unused(self, name):
        candidates = [name] + [f"{name}-{number}" for number in range(2, len(self.names) + 3)]
        free = next(candidate for candidate in candidates if candidate not in self.names)
        self.names.add(free)
        return free


def inline(svg, name, title):
    """The svg element alone, in the page's colours, with ids that no other figure has."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg"):], flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "none")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1)


def style_of(number):
    return {"color": COLORS[number % len(COLORS)], "marker": MARKS[number % len(MARKS)]}


def quality_by_budget(gallery, name, title, curves, full, metric):
    """curves: [(label, x, y, errors)], x in percent of the cache, errors [2, points] or None; full: score or None."""

    def draw(figure):
        axes = figure.add_subplot(title=title, xlabel="cache kept, % of bytes", ylabel=metric)
        if full is not None:
            axes.axhline(full, color=MUTED, linestyle="--", label="full cache")
        for number, (label, x, y, errors) in enumerate(curves):
            axes.errorbar(x, y, yerr=errors, label=label, capsize=2, elinewidth=0.8, **style_of(number))
        axes.grid(True)
        axes.set_xlim(left=0)
        figure.legend(loc="outside lower left", ncols=2)

    lines_of_legend = (len(curves) + 2) // 2
    return gallery.add(name, title, draw, (4.6, 3.0 + 0.18 * lines_of_legend))


def write_numbers(axes, image, values):
    """Each cell's value, black or white, whichever is read better on its colour."""
    for (y, x), value in numpy.ndenumerate(values):
        if numpy.isnan(value):
            continue
        red, green, blue = (part**2.2 for part in image.cmap(image.norm(value))[:3])
        dark = 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.18  # where WCAG's contrast is as good with white
        axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=8, color="#ffffff" if dark else "#000000")


def label_ticks(axis, labels, most):
    step = -(-len(labels) // most)
    axis.set_ticks(range(0, len(labels), step), labels[::step])


@dataclasses.dataclass
class Grid:
    """Values by row and column, with the names of both."""

    values: numpy.ndarray  # [rows, columns], nan where there is none
    rows: list
    columns: list
    row_name: str
    column_name: str
    value_name: str
    limits: tuple  # lowest and highest value of the colours


def heat_map(gallery, name, title, grid, size, numbers=False, colors="viridis"):
    def draw(figure):
        axes = figure.add_subplot(xlabel=grid.column_name, ylabel=grid.row_name)
        figure.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        image = axes.imshow(grid.values, aspect="auto", interpolation="nearest", cmap=colors, vmin=grid.limits[0],
                            vmax=grid.limits[1])
        label_ticks(axes.xaxis, grid.columns, 8)
        label_ticks(axes.yaxis, grid.rows, 12)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=2)
        if numbers:
            write_numbers(axes, image, grid.values)
        bar = figure.colorbar(image, label=grid.value_name, aspect=30, pad=0.02)
        bar.outline.set_visible(False)

    return gallery.add(name, title, draw, size)
