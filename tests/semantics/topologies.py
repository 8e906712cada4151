"""Random pipelines: what each step is to the engine, and what it is in words (`tests/oracles/pipeline.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from hypothesis import strategies as st

from millstream.workers.app import App
from millstream.workers.reducers.sum import Sum
from millstream.workers.stream import Stream
from millstream.workers.window import Window
from millstream.workers.windows.cumulative import cumulative
from millstream.workers.windows.hopping import hopping
from millstream.workers.windows.session import session
from millstream.workers.windows.tumbling import tumbling
from tests.oracles import pipeline as oracle
from tests.oracles.pipeline import Row
from tests.semantics.stage import SCHEMA

Build = Callable[..., Stream]
Words = Callable[..., list[Row]]


@dataclass(frozen=True)
class StepKind:
    """A step with its numbers: `build` takes streams of the columns of `Row` and gives one, `words` takes and gives rows."""

    name: str
    inputs: int
    build: Build
    words: Words

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Placed:
    """A step and the numbers of the streams it reads: sources first, then the steps before it."""

    step: StepKind
    reads: tuple[int, ...]


@dataclass(frozen=True)
class Topology:
    """`keyed`: of each source whether its records are partitioned by `k`, else anyhow."""

    keyed: tuple[bool, ...]
    steps: tuple[Placed, ...]

    @property
    def sources(self) -> list[str]:
        return [f"in-{number}" for number in range(len(self.keyed))]

    def app(self, partitions: int, out_of_order_ms: int, **settings: Any) -> App:
        """Every step's rows are written to `out-<number>`, and its totals by key to `totals-<number>`."""
        app = App("random", **settings)
        streams = [
            app.stream(
                app.topic(
                    name,
                    SCHEMA,
                    key="k" if keyed else (),
                    event_time="at",
                    partitions=partitions,
                    out_of_order=out_of_order_ms,
                    idle_after="10s",
                )
            )
            for name, keyed in zip(self.sources, self.keyed, strict=True)
        ]
        for number, placed in enumerate(self.steps):
            streams.append(placed.step.build(*(streams[read] for read in placed.reads)))
            streams[-1].to(f"out-{number}", key=())
        return app

    def words(self, inputs: Mapping[str, list[Row]]) -> list[list[Row]]:
        """The rows of each step."""
        streams = [list(inputs[name]) for name in self.sources]
        for placed in self.steps:
            streams.append(placed.step.words(*(streams[read] for read in placed.reads)))
        return streams[len(self.keyed) :]


# -- steps of one stream


def _plain(stream: Stream, **columns: pl.Expr) -> Stream:
    """The four columns, some of them computed."""
    kept = {name: columns.get(name, pl.col(name)) for name in SCHEMA}
    return stream.select(*(expr if name not in columns else expr.alias(name) for name, expr in kept.items()))


def _gathered(name: str, window: Window, words: oracle.Windows, grace: int) -> StepKind:
    def build(stream: Stream) -> Stream:
        sums = stream.window(window, by="k", grace=grace, emit="final", late_to="late").agg(x=Sum("x"))
        return _plain(sums, g=pl.col("window_start").cast(pl.String), at=pl.col("window_end") - 1)

    return StepKind(f"{name}, grace {grace}", 1, build, lambda rows: oracle.gathered(rows, words))


def _deduplicated(within: int, grace: int) -> StepKind:
    def build(stream: Stream) -> Stream:
        kept = stream.deduplicate(by="k", within=within, keep="earliest", grace=grace)
        return _plain(kept, g=pl.lit(""), x=pl.lit(0, pl.Int64))

    return StepKind(f"deduplicate {within} {grace}", 1, build, lambda rows: oracle.deduplicated(rows, within))


FILTER = StepKind("filter", 1, lambda s: s.filter(pl.col("x") > 0), lambda rows: [row for row in rows if row.x > 0])
COLUMNS = StepKind(
    "with_columns", 1, lambda s: s.with_columns(x=pl.col("x") + 1), lambda rows: [r._replace(x=r.x + 1) for r in rows]
)
SWAP = StepKind(
    "swap keys",
    1,
    lambda s: _plain(s, k=pl.col("g"), g=pl.col("k")),
    lambda rows: [row._replace(k=row.g, g=row.k) for row in rows],
)
BRANCH = StepKind(
    "branch, rest",
    1,
    lambda s: s.branch(low=pl.col("x") < 0, odd=pl.col("x") == 1)["rest"],
    lambda rows: [row for row in rows if row.x >= 0 and row.x != 1],
)

_sizes, _graces = st.integers(1, 25), st.sampled_from([0, 0, 3, 40])

WINDOWS = st.one_of(
    st.builds(
        lambda size, grace, offset: _gathered(
            f"tumbling {size} {offset}", tumbling(size, offset), oracle.hopping(size, size, offset), grace
        ),
        _sizes,
        _graces,
        st.sampled_from([0, 0, 5, -7]),
    ),
    st.builds(
        lambda size, hop, grace: _gathered(
            f"hopping {size} {hop}", hopping(size, hop), oracle.hopping(size, hop), grace
        ),
        _sizes,
        st.integers(4, 30),
        _graces,
    ),
    st.builds(
        lambda gap, grace: _gathered(f"session {gap}", session(gap), oracle.session(gap), grace), _sizes, _graces
    ),
    st.builds(
        lambda step, times, grace: _gathered(
            f"cumulative {step} x {times}", cumulative(step * times, step), oracle.cumulative(step * times, step), grace
        ),
        st.integers(1, 9),
        st.integers(1, 4),
        _graces,
    ),
)
ONE = st.one_of(
    WINDOWS,
    st.sampled_from([FILTER, COLUMNS, SWAP, BRANCH]),
    st.builds(_deduplicated, st.integers(1, 20), _graces),
)


# -- steps of two streams


def _summed(joined: Stream) -> Stream:
    """What `oracle._joined` says of a pair or a padded row."""
    left, right = pl.col("x").fill_null(0) * 3, pl.col("x_right").fill_null(0) * 7
    alone = pl.col("at").is_null()
    return _plain(
        joined,
        g=pl.when(alone).then("g_right").otherwise("g"),
        x=left + right,
        at=pl.max_horizontal("at", "at_right"),
    )


def _interval(lower: int, length: int, how: Any, grace: int) -> StepKind:
    upper = lower + length

    def build(left: Stream, right: Stream) -> Stream:
        return _summed(left.interval_join(right, on="k", lower=lower, upper=upper, how=how, grace=grace))

    return StepKind(
        f"interval join {lower} {upper} {how}, grace {grace}",
        2,
        build,
        lambda left, right: oracle.interval_join(left, right, lower, upper, how),
    )


def _window_join(size: int, hop: int, grace: int) -> StepKind:
    def build(left: Stream, right: Stream) -> Stream:
        pairs = left.window_join(right, hopping(size, hop), on="k", grace=grace)
        return _plain(
            pairs,
            g=pl.col("window_start").cast(pl.String),
            x=pl.col("x") * 3 + pl.col("x_right") * 7,
            at=pl.col("window_end") - 1,
        )

    return StepKind(f"window join {size} {hop}", 2, build, lambda a, b: oracle.window_join(a, b, size, hop))


def _asof(grace: int) -> StepKind:
    def build(left: Stream, right: Stream) -> Stream:
        return _plain(left.asof_join(right, on="k", grace=grace), x=pl.col("x") + pl.col("at_right").fill_null(0))

    return StepKind(f"as-of join, grace {grace}", 2, build, oracle.asof_join)


def _followed(within: int, grace: int) -> StepKind:
    def build(first: Stream, second: Stream) -> Stream:
        return _plain(first.followed_by(second, by="k", within=within, grace=grace), at=pl.col("at_next"))

    return StepKind(f"followed by {within}, grace {grace}", 2, build, lambda a, b: oracle.followed_by(a, b, within))


def _not_followed(within: int, grace: int) -> StepKind:
    def build(first: Stream, second: Stream) -> Stream:
        return first.not_followed_by(second, by="k", within=within, grace=grace)

    return StepKind(
        f"not followed by {within}, grace {grace}", 2, build, lambda a, b: oracle.not_followed_by(a, b, within)
    )


MERGE = StepKind("merge", 2, lambda a, b: a.merge(b), lambda a, b: [*a, *b])
TWO = st.one_of(
    st.just(MERGE),
    st.builds(
        _interval,
        st.integers(-15, 15),
        st.integers(0, 20),
        st.sampled_from(["inner", "left", "right", "outer"]),
        _graces,
    ),
    st.builds(_window_join, _sizes, st.integers(5, 30), _graces),
    st.builds(_asof, _graces),
    st.builds(_followed, st.integers(1, 20), _graces),
    st.builds(_not_followed, st.integers(1, 20), _graces),
)


@st.composite
def topologies(draw: st.DrawFn) -> Topology:
    """One to five steps over one or two topics; each reads the newest stream or any, so that chains are common."""
    keyed = tuple(draw(st.lists(st.booleans(), min_size=1, max_size=2)))
    steps: list[Placed] = []
    for number in range(draw(st.integers(1, 5))):
        step = draw(st.one_of(ONE, TWO))
        newest = len(keyed) + number - 1
        others = [draw(st.integers(0, newest)) for _ in range(step.inputs - 1)]
        steps.append(Placed(step, (newest if draw(st.integers(0, 3)) else draw(st.integers(0, newest)), *others)))
    return Topology(keyed, tuple(steps))
