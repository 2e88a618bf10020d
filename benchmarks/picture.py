"""Distributions of samples as a picture: how many calls of a hundred have ended after so many milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .process import BenchmarkError
from .sampling import Series

_SIZE_INCHES = (10.0, 4.5)


def distributions(path: str, title: str, curves: Mapping[str, Series], groups: Sequence[str]) -> None:
    """Write an SVG with a curve for each series.

    Args:
        curves: the series by their names.
        groups: beginnings of names; each has a colour of its own, and its curves differ by their strokes.

    Raises:
        BenchmarkError: matplotlib is missing, or the file cannot be written.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise BenchmarkError("matplotlib is missing, which draws; install the extra 'dev'") from None
    matplotlib.use("svg")
    # Text as text, and nothing in the file that changes with the day or the run.
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": title})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=_SIZE_INCHES, layout="constrained")
    strokes = dict.fromkeys(groups, 0)
    for name, series in curves.items():
        group = max((one for one in groups if name.startswith(one)), key=len)
        walls = sorted(sample.wall for sample in series.samples)
        shares = [100 * (rank + 1) / len(walls) for rank in range(len(walls))]
        style = ("-", "--", ":")[strokes[group] % 3]
        axes.step(walls, shares, style, where="post", color=f"C{groups.index(group)}", label=name)
        strokes[group] += 1
    axes.set(title=title, xlabel="milliseconds", ylabel="% of the calls", xscale="log", ylim=(0, 101))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(visible=True, which="both", alpha=0.3)
    figure.legend(fontsize="small", loc="outside right upper")
    try:
        figure.savefig(path, metadata={"Date": None})
    except OSError as error:
        raise BenchmarkError(f"cannot write {path}: {error.strerror}") from None
    finally:
        pyplot.close(figure)
