"""The picture that ``fastloss bench --plot`` draws."""

from itertools import groupby
from pathlib import Path
from statistics import geometric_mean
from typing import Any

from fastloss._bench import OURS, Report, Row
from fastloss._peers import LIBRARIES

# The Okabe-Ito palette, told apart with every kind of colour vision; markers differ as well.
STYLES = {
    OURS: ("#D55E00", "o"),
    "NumPy": ("#56B4E9", "s"),
    "PyTorch": ("#009E73", "^"),
    "torch.compile": ("#0072B2", "v"),
    "JAX": ("#CC79A7", "D"),
    "scikit-learn": ("#E69F00", "P"),
}


def draw(report: Report, path: Path) -> None:
    """Draw time per element over size, and how many times faster fastloss is than each peer.

    Parameters
    ----------
    report : Report
        Rows that were measured. The left panel shows the loss and type with most sizes among them,
        the right one all.
    path : Path
        The file; its suffix says the format.
    """
    from matplotlib.figure import Figure

    groups = [
        list(group)
        for _, group in groupby(report.rows, key=lambda row: (row.case.loss, row.case.dtype))
    ]
    bars = sum(len(_peers(group)) + 1 for group in groups)
    height = max(4.4, 1.2 + 0.2 * bars)
    figure = Figure(figsize=(11.5, height), dpi=160, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)  # type: ignore[union-attr, call-arg]
    lines, ratios = figure.subplots(1, 2)
    for axes in (lines, ratios):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color("0.4")
        axes.tick_params(which="both", color="0.4")
        axes.set_axisbelow(True)
    _draw_lines(lines, max(groups, key=len))
    _draw_ratios(ratios, groups)
    figure.savefig(path)


def _draw_lines(axes: Any, rows: list[Row]) -> None:
    rows = sorted(rows, key=lambda row: row.case.size)
    sizes = [row.case.size for row in rows]

    def line(seconds: list[float], **style: Any) -> None:
        nanoseconds = [1e9 * time / size for time, size in zip(seconds, sizes, strict=True)]
        axes.plot(sizes, nanoseconds, clip_on=False, **style)

    case = rows[0].case
    limit = [row.limits["limit"].minimum for row in rows]
    name = rows[0].limit_names["limit"].partition("(")[0]
    line(limit, color="0.45", linestyle=(0, (4, 3)), linewidth=1.4, label=f"{name} alone")
    for peer in (*_peers(rows), OURS):  # ours last, on top
        colour, marker = STYLES[peer]
        ours = peer == OURS
        line(
            [row.seconds(peer) for row in rows],
            color=colour,
            marker=marker,
            markersize=6 if ours else 4.5,
            linewidth=2.8 if ours else 1.4,
            label=peer,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("elements")
    axes.set_ylabel("nanoseconds per element")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(color="0.92")
    axes.set_title(f"{case.loss}, {case.dtype}: lower is better", loc="left", weight="bold")
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], frameon=False, fontsize="small")


def _draw_ratios(axes: Any, groups: list[list[Row]]) -> None:
    from matplotlib.ticker import LogLocator

    place = 0.0
    ticks: dict[float, str] = {}
    for rows in groups:
        case, first = rows[0].case, place
        for peer in _peers(rows):
            shared = [row for row in rows if peer in row.times]
            ratios = [row.seconds(peer) / row.seconds(OURS) for row in shared]
            mean = geometric_mean(ratios)
            axes.barh(place, mean - 1, left=1, height=0.82, color=STYLES[peer][0])
            axes.plot([min(ratios), max(ratios)], [place, place], color="0.25", linewidth=1)
            axes.annotate(
                f"{peer}  ×{mean:.2g}" if mean < 10 else f"{peer}  ×{mean:.0f}",
                (max(*ratios, 1), place),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
            )
            place += 1
        ticks[(first + place - 1) / 2] = f"{case.loss.replace('_', ' ')}\n{case.dtype}"
        place += 0.8
    axes.set_yticks(list(ticks), list(ticks.values()), fontsize="small")
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="0.25", linewidth=1.2)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.8), high * 6)  # room for the names at the right
    axes.xaxis.set_major_locator(LogLocator(numticks=6))
    axes.xaxis.set_minor_formatter("")
    axes.xaxis.set_major_formatter("{x:g}×")
    axes.grid(axis="x", color="0.92")
    axes.set_xlabel("geometric mean over the sizes; thin line: their range")
    axes.set_title("How many times faster fastloss is", loc="left", weight="bold")


def _peers(rows: list[Row]) -> list[str]:
    """Return the peers that every row has, in the order of the columns."""
    return [
        name for name in LIBRARIES
        if all(name in row.times and name not in row.textbook for row in rows)
    ]  # fmt: skip
