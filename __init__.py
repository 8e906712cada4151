"""Millstream: a Kafka-native stream processor for live data and live answers.

    from millstream import App, count, run, sum_, tumbling

    app = App("shop")
    clicks = app.topic("clicks", {"user": "string", "price": "float", "ts": "timestamp_ms"}, key="user", event_time="ts")
    app.stream(clicks).window(tumbling("10s"), by="user").agg(n=count(), total=sum_("price")).to("totals")

    if __name__ == "__main__":
        run(app)

Everything here is fetched when it is first asked for, so that `import millstream` costs next to nothing. Reducers are
functions of a column's name; those whose name Python has taken end in an underscore (`sum_`, `min_`, `max_`).

If you are here to read the code, start with ARCHITECTURE.md, then workers/stream.py (what a pipeline says),
workers/graph.py (the plan as data), workers/task.py (what one partition's work is) and workers/worker.py (the shell that
does it). A part, such as a window or a codec, is one file: workers/windows/tumbling.py is a short one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .ops.attach import attach
    from .ops.run import run
    from .topics.topic import Topic, topic
    from .workers.aggregate_function import AggregateFunction
    from .workers.app import App
    from .workers.batch_run import run_batch
    from .workers.driver import Driver
    from .workers.reducers.approx_distinct import ApproxDistinct as approx_distinct  # noqa: N813
    from .workers.reducers.argmax import Argmax as argmax  # noqa: N813
    from .workers.reducers.argmin import Argmin as argmin  # noqa: N813
    from .workers.reducers.collect import Collect as collect  # noqa: N813
    from .workers.reducers.collect_set import CollectSet as collect_set  # noqa: N813
    from .workers.reducers.count import Count as count  # noqa: N813
    from .workers.reducers.count_distinct import CountDistinct as count_distinct  # noqa: N813
    from .workers.reducers.first import First as first  # noqa: N813
    from .workers.reducers.histogram import Histogram as histogram  # noqa: N813
    from .workers.reducers.last import Last as last  # noqa: N813
    from .workers.reducers.max import Max as max_  # noqa: N813
    from .workers.reducers.mean import Mean as mean  # noqa: N813
    from .workers.reducers.min import Min as min_  # noqa: N813
    from .workers.reducers.quantile import Quantile as quantile  # noqa: N813
    from .workers.reducers.std import Std as std  # noqa: N813
    from .workers.reducers.sum import Sum as sum_  # noqa: N813
    from .workers.reducers.top_k import TopK as top_k  # noqa: N813
    from .workers.reducers.var import Var as var  # noqa: N813
    from .workers.windows.count import count as count_window
    from .workers.windows.cumulative import cumulative
    from .workers.windows.hopping import hopping
    from .workers.windows.session import session
    from .workers.windows.tumbling import tumbling

__version__ = "0.1.0"

__all__ = [
    "AggregateFunction",
    "App",
    "Driver",
    "Topic",
    "approx_distinct",
    "argmax",
    "argmin",
    "attach",
    "collect",
    "collect_set",
    "count",
    "count_distinct",
    "count_window",
    "cumulative",
    "first",
    "histogram",
    "hopping",
    "last",
    "max_",
    "mean",
    "min_",
    "quantile",
    "run",
    "run_batch",
    "session",
    "std",
    "sum_",
    "top_k",
    "topic",
    "tumbling",
    "var",
]

_WHERE = {
    "AggregateFunction": "workers.aggregate_function:AggregateFunction",
    "App": "workers.app:App",
    "Driver": "workers.driver:Driver",
    "Topic": "topics.topic:Topic",
    "approx_distinct": "workers.reducers.approx_distinct:ApproxDistinct",
    "argmax": "workers.reducers.argmax:Argmax",
    "argmin": "workers.reducers.argmin:Argmin",
    "attach": "ops.attach:attach",
    "collect": "workers.reducers.collect:Collect",
    "collect_set": "workers.reducers.collect_set:CollectSet",
    "count": "workers.reducers.count:Count",
    "count_distinct": "workers.reducers.count_distinct:CountDistinct",
    "count_window": "workers.windows.count:count",
    "cumulative": "workers.windows.cumulative:cumulative",
    "first": "workers.reducers.first:First",
    "histogram": "workers.reducers.histogram:Histogram",
    "hopping": "workers.windows.hopping:hopping",
    "last": "workers.reducers.last:Last",
    "max_": "workers.reducers.max:Max",
    "mean": "workers.reducers.mean:Mean",
    "min_": "workers.reducers.min:Min",
    "quantile": "workers.reducers.quantile:Quantile",
    "run": "ops.run:run",
    "run_batch": "workers.batch_run:run_batch",
    "session": "workers.windows.session:session",
    "std": "workers.reducers.std:Std",
    "sum_": "workers.reducers.sum:Sum",
    "top_k": "workers.reducers.top_k:TopK",
    "topic": "topics.topic:topic",
    "tumbling": "workers.windows.tumbling:tumbling",
    "var": "workers.reducers.var:Var",
}


def __getattr__(name: str) -> Any:
    """A public name, imported from where it is defined."""
    if name not in _WHERE:
        raise AttributeError(f"module 'millstream' has no attribute {name!r}; public names are {', '.join(__all__)}")
    module, _, attribute = _WHERE[name].partition(":")
    found = getattr(import_module(f".{module}", __name__), attribute)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
