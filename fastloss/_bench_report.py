"""What ``fastloss bench`` writes: the cells of its tables, and the generated parts of the README.

A generated part stands between the lines ``<!-- NAME:begin -->`` and ``<!-- NAME:end -->``.
"""

import math
import re
from itertools import groupby
from statistics import geometric_mean

import fastloss as fl
from fastloss._bench import MAIN, OURS, Report, Row, Settings
from fastloss._loss import Loss
from fastloss._peer_table import PEERS
from fastloss._peer_table.record import Peers
from fastloss._peers import LIBRARIES

ABSENT = "–"

HEADLINE = ("float32 32×10", "float32 8192×1000", "float32 1000000")
"""The cases that the README's first screen shows, of every main loss that has them."""

OTHERS = "the other losses"
"""The heading of the table of the losses that have one row each."""


HEADLINE_COLUMNS = (OURS, *LIBRARIES, "× best peer")


class Unmarked(ValueError):
    """A README lacks the lines between which a generated part belongs."""


def headings(loss: str) -> list[str]:
    """Return the headings of a loss's table, or of that of the others."""
    limit = "yardstick" if loss == OTHERS else PEERS.get(loss, Peers()).limit
    if loss == OTHERS:
        return ["case", OURS, *LIBRARIES, limit, "copy", "× best peer", f"÷ {limit}"]
    return ["case", OURS, *LIBRARIES, f"one {limit}", "copy", "× best peer", f"÷ one {limit}"]


def cells(row: Row, line_break: str = "<br>") -> list[str]:
    """Return a row of the table: the case, time and error of each candidate, and the ratios."""
    times = {
        name: f"{duration(row.seconds(name))}{line_break}{ulps(row.errors[name])}"
        for name in row.times
    }
    times |= {name: f"({times[name]})" for name in row.textbook}
    return [
        row.case.label,
        *(times.get(name, ABSENT) for name in (OURS, *LIBRARIES)),
        duration(row.limits["limit"].minimum),
        duration(row.limits["copy"].minimum),
        ABSENT if row.speedup is None else ratio(row.speedup),
        ratio(row.price),
    ]


def ratio(number: float) -> str:
    """Return a ratio with two digits."""
    return f"{number:.2g}" if number < 10 else f"{number:.0f}"


def duration(seconds: float) -> str:
    """Return a time with three digits and its unit."""
    scales = {"µs": 1e6, "ms": 1e3, "s": 1.0}
    unit = next((unit for unit, scale in scales.items() if seconds * scale < 999.5), "s")
    number = seconds * scales[unit]
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"


def ulps(error: float) -> str:
    """Return an error in ulp; by powers of ten where hardly a digit is right."""
    if math.isnan(error):
        return "? ulp"
    if math.isinf(error):
        return "NaN or inf"
    if error < 999.5:
        return f"{error:.1f} ulp" if error < 9.95 else f"{error:.0f} ulp"
    mantissa, exponent = f"{error:.0e}".split("e")
    return f"{mantissa}e{int(exponent)} ulp"


def summary(rows: list[Row]) -> str:
    """Return in words how the rows compare with the best peer, naming those that lose."""
    met = [(row, row.speedup) for row in rows if row.speedup is not None]
    if not met:
        return "No peer has what was measured."
    mean = geometric_mean(speedup for _, speedup in met)
    text = f"fastloss is {mean:.2g} times as fast as the fastest peer of each row (geometric mean)."
    lost = "; ".join(
        f"{row.case.loss} {row.case.label} to {row.best_peer} (×{speedup:.2g})"
        for row, speedup in met
        if speedup < 1
    )
    return f"{text} Rows that lose: {lost}." if lost else f"{text} No row loses."


def conditions(report: Report) -> str:
    """Return in words under which conditions was measured, and what the columns mean."""
    facts = report.conditions
    names = {name: full for row in report.rows for name, full in row.limit_names.items()}
    limits = sorted({row.limit_names["limit"] for row in report.rows})
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    threads = facts["threads"]
    missing = "".join(
        f" Not measured: {reason}." for reason in dict.fromkeys(report.missing.values())
    )
    if report.settings.mode == "value":
        each = "the mean loss alone"
        peers = (
            "PyTorch runs without autograd, torch.compile and JAX's jit on optax's loss compiled"
        )
    else:
        each = "the mean loss and its gradient"
        peers = (
            "PyTorch runs forward and backward; torch.compile one compiled function of value and "
            "gradient; JAX jit(value_and_grad) of optax's loss; scikit-learn its private "
            "loss_gradient, which leaves the mean to its caller"
        )
    return (
        f"{facts['cpu']}, {facts['logical_cores']} logical cores, {facts['platform']}; "
        f"{threads} thread{'s' if threads > 1 else ''} on every side, but for NumPy, which has one "
        f"(Numba on {facts['threading_layer']}); {facts['date']}; {versions}. "
        f"Each cell is the median time of one call for {each}, all candidates taking turns on the "
        "same arrays and compilation not counted, and the largest error of the value and of the "
        "gradient entries of the first rows, in units in the last place (ulp), against longdouble. "
        "In the classifications the first row is a confident one, with the probability of its "
        f"label 1 - 2e-9. {peers}. "
        f"Yardsticks, of which the fastest run counts: {', '.join(limits)} on as many threads, and "
        f"copy, {names['copy']} on one. "
        "× best peer: the best peer's time divided by fastloss's. In parentheses, and no peer: the "
        f"`reference` of a loss, for which there is no NumPy code at its best to time.{missing}"
    )


def bench_part(report: Report) -> str:
    """Return the README's tables with what belongs to them."""
    parts = []
    for loss, group in groupby(
        report.rows, key=lambda row: table_of(row.case.loss, report.settings)
    ):
        lines = _table_head(headings(loss))
        for row in group:
            texts = cells(row)
            texts[0] = f"{row.case.loss}, {texts[0]}" if loss == OTHERS else texts[0]
            fastest = 1 + [OURS, *LIBRARIES].index(row.fastest)
            texts[fastest] = f"**{texts[fastest].replace('<br>', '**<br>', 1)}"
            lines.append(_line(texts))
        parts += [f"#### {loss}", "\n".join(lines)]
    parts += [
        summary(report.rows),
        conditions(report),
        f"```sh\n{report.settings.command()} --readme README.md\n```",
    ]
    return "\n\n".join(parts)


def table_of(loss: str, settings: Settings) -> str:
    """Return the heading of the table in which a loss stands."""
    return loss if loss in MAIN or settings.losses else OTHERS


def headline_part(report: Report) -> str:
    """Return the short table of the README's first screen."""
    lines = _table_head(["loss and gradient", *HEADLINE_COLUMNS])
    for row in report.rows:
        if row.case.label in HEADLINE and row.case.loss in MAIN:
            texts = cells(row)
            columns = dict(zip(headings(row.case.loss), texts, strict=True))
            name = f"{row.case.loss}, {row.case.label}"
            lines.append(_line([name, *(columns[column] for column in HEADLINE_COLUMNS)]))
    return "\n".join(lines)


def losses_part() -> str:
    """Return the README's table of losses."""
    lines = [
        "| loss | what | family | options | also known as |",
        "| --- | --- | --- | --- | --- |",
    ]
    return "\n".join(lines + [_line(_loss_cells(loss)) for loss in fl.losses().values()])


def _loss_cells(loss: Loss) -> list[str]:
    what = (loss.__doc__ or "").partition("\n")[0].replace("``", "`")
    options = ", ".join(f"`{name}={option.default!r}`" for name, option in loss.options.items())
    peers = ", ".join(f"{library} `{name}`" for library, name in loss.peers.items())
    return [f"`{loss.name}`", what, loss.family, options or ABSENT, peers or ABSENT]


def _table_head(texts: list[str]) -> list[str]:
    return [_line(texts), _line(["---", *["---:"] * (len(texts) - 1)])]


def _line(texts: list[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def insert(readme: str, part: str, content: str) -> str:
    """Return the README with the content of a generated part replaced."""
    start, end = _span(readme, part)
    return f"{readme[:start]}\n{content}\n{readme[end:]}"


def part_of(readme: str, part: str) -> str:
    """Return the content of a generated part."""
    start, end = _span(readme, part)
    return readme[start:end].strip("\n")


def _span(readme: str, part: str) -> tuple[int, int]:
    begin, end = f"<!-- {part}:begin -->", f"<!-- {part}:end -->"
    start, stop = readme.find(begin), readme.find(end)
    if start < 0 or stop < start:
        raise Unmarked(f"it has no lines {begin} and {end}, in this order")
    return start + len(begin), stop


def stale(readme: str, settings: Settings) -> list[str]:
    """Return what is not up to date in the generated parts; nothing is timed.

    Parameters
    ----------
    readme : str
        The text of the README.
    settings : Settings
        The cases that its tables should have.

    Returns
    -------
    list of str
        One sentence for each fault.
    """
    faults = []
    try:
        if part_of(readme, "losses") != losses_part():
            faults.append("the table of losses differs from the present losses")
        found = _tables(part_of(readme, "bench"))
        headline = [line.split(" | ")[0] for line in part_of(readme, "headline").splitlines()[2:]]
    except Unmarked as fault:
        return [str(fault)]
    wanted = {
        loss: (
            headings(loss),
            [f"{case.loss}, {case.label}" if loss == OTHERS else case.label for case in group],
        )
        for loss, group in groupby(settings.cases(), key=lambda x: table_of(x.loss, settings))
    }
    shown = [
        f"| {case.loss}, {case.label}"
        for case in settings.cases()
        if case.label in HEADLINE and case.loss in MAIN
    ]
    if headline != shown:
        faults.append(f"the first table has the rows {headline}; they should be {shown}")
    for loss in wanted.keys() - found.keys():
        faults.append(f"the benchmarks have no table of {loss}")
    for loss in found.keys() - wanted.keys():
        faults.append(f"the benchmarks have a table of {loss}, which is not to be measured")
    for loss in sorted(wanted.keys() & found.keys()):
        for what, is_, should in zip(("columns", "cases"), found[loss], wanted[loss], strict=True):
            if is_ != should:
                faults.append(
                    f"the {what} of {loss} are {', '.join(is_)}; they should be {', '.join(should)}"
                )
    return faults


def _tables(part: str) -> dict[str, tuple[list[str], list[str]]]:
    """Return the columns and the cases of each table, by the heading above it."""
    tables: dict[str, tuple[list[str], list[str]]] = {}
    for section in re.split(r"^#### ", part, flags=re.MULTILINE)[1:]:
        name = section.partition("\n")[0].strip()
        lines = [
            [text.strip() for text in line.strip("| ").split("|")]
            for line in section.splitlines()
            if line.startswith("|")
        ]
        columns, cases = (lines[0], [texts[0] for texts in lines[2:]]) if lines else ([], [])
        tables[name] = (columns, cases)
    return tables
