"""The command ``fastloss bench``: from its arguments to a table, files, and an exit code."""

import argparse
import json
import sys
from itertools import groupby

import fastloss as fl
from fastloss import _bench_report as reports
from fastloss._bench import Report, Settings, available_threads, current_threads, run
from fastloss._bench_plot import draw


def bench(options: argparse.Namespace) -> int:
    """Carry out the command.

    Parameters
    ----------
    options : argparse.Namespace
        The arguments, as `fastloss.cli` has parsed them; those not given are absent.

    Returns
    -------
    int
        The exit code.
    """
    given = vars(options)
    available = available_threads()
    if given.get("threads", 1) > available:
        options.error(f"argument --threads: Numba has {available}, got {options.threads}")
    settings = Settings(
        tuple(dict.fromkeys(given.get("loss", ()))),
        given.get("shapes", ()),
        ("float32", "float64") if options.dtype == "both" else (options.dtype,),
        given.get("threads", current_threads()),
        options.seconds,
        options.mode,
    )
    unmeasured = set(settings.losses or fl.losses()) - {case.loss for case in settings.cases()}
    if unmeasured:
        options.error(f"argument --shapes: {', '.join(sorted(unmeasured))} needs shapes like 32x10")

    if "check" in given:
        faults = reports.stale(options.check.read_text(encoding="utf-8"), settings)
        for fault in faults:
            print(f"{options.check.name} is out of date: {fault}.")
        if faults:
            print(f"To bring it up to date: {settings.command()} --readme {options.check.name}")
        return 1 if faults else 0

    if "readme" in given:
        try:  # before an hour of timing, not after it
            for part in ("losses", "bench"):
                reports.part_of(options.readme.read_text(encoding="utf-8"), part)
        except reports.Unmarked as fault:
            options.error(f"argument --readme: {options.readme.name}: {fault}")
    report = _measure(settings)

    if "json" in given:
        options.json.write_text(json.dumps(report.as_json(), indent=1) + "\n", encoding="utf-8")
    if "plot" in given:
        draw(report, options.plot)
    if "readme" in given:
        readme = options.readme.read_text(encoding="utf-8")
        readme = reports.insert(readme, "losses", reports.losses_part())
        readme = reports.insert(readme, "headline", reports.headline_part(report))
        readme = reports.insert(readme, "bench", reports.bench_part(report))
        options.readme.write_text(readme, encoding="utf-8")
    return 0


def _measure(settings: Settings) -> Report:
    """Measure behind a progress bar, and print a table for each loss as soon as it is done."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    # A file or a pipe has no width; the tables need about this much.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    report = Report(settings)
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(settings.cases()))

        def advance(what: str, done: float) -> None:
            progress.update(bar, description=what, completed=done)

        for loss, rows in groupby(run(report, advance), key=lambda row: row.case.loss):
            table = Table(title=loss, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
            for number, heading in enumerate(reports.headings(loss)):
                heading = heading.replace("-", "-\n").replace(".", ".\n")  # or it is cut off
                table.add_column(heading, justify="right" if number else "left")
            for row in rows:
                table.add_row(*reports.cells(row, line_break="\n"))
            console.print(table)
    for text in (reports.summary(report.rows), reports.conditions(report)):
        console.print(text)
    return report
