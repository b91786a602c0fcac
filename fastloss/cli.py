"""The command ``fastloss``.

Exit codes: 0 all is well, 1 a check failed, 2 the command cannot be carried out as given.
rich and matplotlib come with the extra ``fastloss[cli]`` and are imported only where they are used.
"""

import argparse
import importlib
import json
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fastloss import __version__
from fastloss._demo import Comparison, Settings, draw

if TYPE_CHECKING:
    from fastloss._loss import Loss

CURVE_TOLERANCE = 500
"""How far the two loss curves of the demo may differ, in machine epsilons, relative.

Rounding alone moved them by at most 6 epsilons over 30 seeds at the default settings and by 170 in
trainings of 200 epochs at four times the learning rate. In float32, a gradient that is wrong by one
part in 10,000 moves them by 1200.
"""

REQUIRED_ACCURACY = 0.96
"""What the demo must reach at its default settings; over 30 seeds the lowest was 97.4 %."""

DTYPES = ("float32", "float64")

PLOT_SUFFIXES = (".pdf", ".png", ".svg")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after ``fastloss``; those of the process by default.

    Returns
    -------
    int
        The exit code, 0 or 1. Code 2 is raised as ``SystemExit``, as argparse does.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    return options.command(options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastloss", description="Fast, exact loss functions for NumPy arrays."
    )
    parser.add_argument("--version", action="version", version=f"fastloss {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        name: str, function: Callable[[argparse.Namespace], int], description: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=description,
            description=description,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        added.set_defaults(command=function, error=added.error)
        return added

    # argparse would show defaults of None; the help texts say what None means.
    optional: dict[str, Any] = {"default": argparse.SUPPRESS}

    def some_losses(command: argparse.ArgumentParser, cost: str = "") -> None:
        command.add_argument(
            "--loss", metavar="NAME", nargs="+", action="extend",
            help=f"these losses; else all{cost}", **optional,
        )  # fmt: skip

    default = Settings()
    demo = command(
        "demo",
        _demo,
        "Train a small NumPy network on handwritten digits, once with the compiled loss and once "
        "with the textbook formula, and compare.",
    )
    demo.add_argument(
        "--epochs", type=_count, default=default.epochs, help="passes through the images"
    )
    demo.add_argument(
        "--batch-size", type=_count, default=default.batch_size, help="images per step"
    )
    demo.add_argument(
        "--hidden", type=_count, default=default.hidden, help="units of the hidden layer"
    )
    demo.add_argument(
        "--learning-rate", type=_positive, default=default.learning_rate, help="size of a step"
    )
    demo.add_argument(
        "--seed", type=_seed, default=default.seed, help="of the weights and the batches"
    )
    demo.add_argument("--dtype", choices=DTYPES, default=default.dtype, help="type")
    demo.add_argument(
        "--plot", type=_plot_path, metavar="FILE", help="draw the curves (.png, .svg or .pdf)",
        **optional,
    )  # fmt: skip

    info = command("info", _info, "Show versions, CPU, threads and the cache directory.")
    info.add_argument("--json", action="store_true", help="print JSON")

    command("header", _header, "Print the C header of fastloss.capi.")

    warmup = command(
        "warmup",
        _warmup,
        "Compile the common kernels of losses into the disk cache, for the processes to come.",
    )
    some_losses(warmup, ", which takes some minutes")
    warmup.add_argument("--dtype", choices=(*DTYPES, "both"), default="both", help="type")

    check = command("check", _check, "Compare every loss with its reference on this machine.")
    some_losses(check, ", which takes some minutes")

    bench = command(
        "bench",
        _bench,
        "Time every loss against NumPy, PyTorch, torch.compile, JAX and scikit-learn, whichever "
        "are installed, taking turns on the same arrays.",
    )
    some_losses(bench)
    bench.add_argument(
        "--shapes", type=_shapes, metavar="32x10,1000", help="shapes of the arrays, classes last; "
        "else from tiny to larger than the caches", **optional,
    )  # fmt: skip
    bench.add_argument("--dtype", choices=(*DTYPES, "both"), default="both", help="type")
    bench.add_argument(
        "--threads", type=_count, help="on every side; else what Numba is set to", **optional
    )
    bench.add_argument(
        "--seconds", type=_positive, default=2.0, help="time for each case, all candidates together"
    )
    bench.add_argument(
        "--mode",
        choices=("gradient", "value"),
        default="gradient",
        help="value alone, or with gradient",
    )
    bench.add_argument(
        "--json", type=_output_path, metavar="FILE", help="write everything", **optional
    )
    bench.add_argument(
        "--plot", type=_plot_path, metavar="FILE", help="draw a picture (.png, .svg or .pdf)",
        **optional,
    )  # fmt: skip
    bench.add_argument(
        "--readme", type=_text_file, metavar="FILE", help="write the tables between its "
        "markers <!-- bench:begin --> and <!-- losses:begin -->", **optional,
    )  # fmt: skip
    bench.add_argument(
        "--check", type=_text_file, metavar="FILE", help="time nothing; check that the tables of "
        "this README have the present losses, cases and columns", **optional,
    )  # fmt: skip
    return parser


def _demo(options: argparse.Namespace) -> int:
    _need(options, "rich", *(["matplotlib"] if "plot" in options else []))
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.table import Table

    settings = Settings(
        options.epochs,
        options.batch_size,
        options.hidden,
        options.learning_rate,
        options.seed,
        options.dtype,
    )
    console = Console(highlight=False)
    with console.status("Compiling the loss, or loading it from the cache"):
        comparison = Comparison(settings)
    kernel, textbook = comparison.kernel, comparison.textbook

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Epochs of both trainings", total=settings.epochs)
        for done in comparison.run():
            progress.update(task, completed=done)

    table = Table(title="Handwritten digits: softmax cross-entropy per epoch")
    for heading in ("epoch", "loss, fastloss", "loss, NumPy", "held-out accuracy"):
        table.add_column(heading, justify="right")
    for epoch, row in enumerate(
        zip(kernel.losses, textbook.losses, kernel.accuracies, strict=True), start=1
    ):
        table.add_row(str(epoch), f"{row[0]:.6f}", f"{row[1]:.6f}", f"{row[2]:.1%}")
    console.print(table)

    ratio = textbook.loss_seconds / kernel.loss_seconds
    verdict = f"{ratio:.1f} times faster" if ratio >= 1 else f"{1 / ratio:.1f} times slower"
    console.print(
        f"Time in the loss, {kernel.loss_calls} calls, compilation not counted:\n"
        f"  fastloss {1e3 * kernel.loss_seconds:.1f} ms, "
        f"NumPy {1e3 * textbook.loss_seconds:.1f} ms: [bold]{verdict}[/bold]"
    )
    if "plot" in options:
        try:
            draw(comparison, options.plot)
        except OSError as error:
            options.error(f"argument --plot: cannot write {options.plot}: {error.strerror}")
        console.print(f"Curves drawn in {options.plot}.", soft_wrap=True)

    tolerance = CURVE_TOLERANCE * float(np.finfo(settings.dtype).eps)
    agree = comparison.finite and comparison.difference <= tolerance
    if agree:
        console.print(
            f"[green]The loss curves agree[/green]: they differ by at most "
            f"{comparison.difference:.1e} (relative), allowed {tolerance:.1e}."
        )
    elif not comparison.finite:
        console.print("[red]The training diverged[/red]: try a smaller --learning-rate.")
    else:
        console.print(
            f"[red]The loss curves differ[/red] by {comparison.difference:.1e} (relative), "
            f"allowed {tolerance:.1e}. (A large --learning-rate makes "
            "training chaotic, and then rounding alone can do this.)"
        )

    accuracy = kernel.accuracies[-1]
    required = settings == Settings(seed=settings.seed, dtype=settings.dtype)
    accurate = accuracy >= REQUIRED_ACCURACY or not required
    console.print(
        f"Held-out accuracy {accuracy:.1%}"
        + (f", required {REQUIRED_ACCURACY:.0%}." if required else ".")
        + ("" if accurate else " [red]Too low.[/red]")
    )
    return 0 if agree and accurate else 1


def _info(options: argparse.Namespace) -> int:
    # Printed without rich, so that a bug report can hold it whatever is installed.
    from fastloss._info import collect, lines

    facts = collect()
    print(json.dumps(facts, indent=2) if options.json else "\n".join(lines(facts)))
    return 0


def _header(options: argparse.Namespace) -> int:
    from fastloss import capi

    print(capi.header(), end="")
    return 0


def _warmup(options: argparse.Namespace) -> int:
    _need(options, "rich")
    chosen = _chosen(options)
    from rich.console import Console
    from rich.progress import Progress

    from fastloss._info import cache_directory
    from fastloss._warmup import calls

    place = cache_directory()
    if place is None:
        options.error("Numba has no directory to cache in; set NUMBA_CACHE_DIR to a writable one")
    dtypes = DTYPES if options.dtype == "both" else (options.dtype,)
    console = Console(highlight=False)
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("", total=len(chosen) * len(dtypes))
        for loss in chosen:
            for dtype in dtypes:
                progress.update(bar, description=f"{loss.name} {dtype}")
                for call in calls(loss, dtype):
                    call()
                progress.advance(bar)
    names = ", ".join(loss.name for loss in chosen)
    console.print(f"In the cache: {names} ({' and '.join(dtypes)})\n{place}", soft_wrap=True)
    return 0


def _check(options: argparse.Namespace) -> int:
    _need(options, "rich")
    chosen = _chosen(options)

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from fastloss._check import check

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
    table = Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        title="Worst errors, in units in the last place (ulp)",
        caption="Allowed: the bound the loss states, plus what two epsilons in the inputs do.",
    )
    table.add_column("loss", no_wrap=True)
    table.add_column("dtype", no_wrap=True)
    table.add_column("options")
    for heading in ("loss\nerror", "gradient\nerror", "share of\nallowed"):
        table.add_column(heading, justify="right", no_wrap=True)
    passed = True
    with console.status("Checking") as status:
        for loss in chosen:
            status.update(f"Checking {loss.name}")
            for result in check(loss):
                passed &= result.passed
                table.add_row(
                    loss.name,
                    result.dtype,
                    result.options,
                    f"{result.loss_error:.2f}",
                    f"{result.gradient_error:.2f}",
                    f"{result.share:.0%} "
                    + ("[green]good[/green]" if result.passed else "[red]FAILED[/red]"),
                )
    console.print(table)
    return 0 if passed else 1


def _bench(options: argparse.Namespace) -> int:
    if "check" not in options:
        _need(options, "rich", *(["matplotlib"] if "plot" in options else []))
    _chosen(options)
    from fastloss._bench_command import bench

    return bench(options)


def _chosen(options: argparse.Namespace) -> "list[Loss]":
    """Return the losses that are named, or all; stop with one line if there is no such loss."""
    import fastloss as fl

    losses, names = fl.losses(), vars(options).get("loss", ())
    for name in names:
        if name not in losses:
            options.error(
                f"argument --loss: there is no loss {name!r}; there are {', '.join(losses)}"
            )
    return [losses[name] for name in dict.fromkeys(names)] or list(losses.values())


def _need(options: argparse.Namespace, *packages: str) -> None:
    """Stop with one line if a package of the extra is missing."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ModuleNotFoundError:
            options.error(f'{package} is not installed; run: pip install "fastloss[cli]"')


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return number


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0, got {text!r}")
    return int(text)


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number above 0, got {text!r}")
    return number


def _shapes(text: str) -> tuple[tuple[int, ...], ...]:
    try:
        return tuple(tuple(map(_count, word.split("x"))) for word in text.split(","))
    except argparse.ArgumentTypeError:
        message = f"must be shapes like 32x10 or 1000, separated by commas, got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _plot_path(text: str) -> Path:
    if Path(text).suffix.lower() not in PLOT_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"must end in {', '.join(PLOT_SUFFIXES[:-1])} or {PLOT_SUFFIXES[-1]}, got {text!r}"
        )
    return _output_path(text)


def _text_file(text: str) -> Path:
    if not Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text!r}")
    return _output_path(text)


def _output_path(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a directory")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"the directory of {text!r} does not exist")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} cannot be written")
    return path
