"""Changed code on old state: what goes through without a word, and what is refused, with what changed and the ways out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest

from millstream import App, collect, count, hopping, session, sum_, tumbling
from millstream.ops.exit_codes import exit_code_of
from millstream.ops.pipeline_yaml.build import pipeline_of
from millstream.ops.produce import Row, send
from millstream.state.store import Changes, StoreWrite
from millstream.state.stores.memory import MemoryDatabases
from millstream.topics.broker import TopicSpec
from millstream.topics.memory import MemoryBroker
from millstream.topics.schema import Schema
from millstream.workers.errors import FingerprintError
from millstream.workers.fingerprint import StoreFingerprint, Verdict, fingerprint_of, judge
from millstream.workers.fingerprint_topic import read_kept
from millstream.workers.naming import changelog_topic
from millstream.workers.worker import Worker
from tests.docs.pages import blocks_of

COLUMNS = {"user": "string", "page": "string", "price": "float", "ts": "timestamp_ms"}


def app_of(build: Callable[[App, Any], Any], *, partitions: int = 2, **columns: str) -> App:
    """An app of one stream of clicks by user, with what `build` makes of it."""
    app = App("shop", commit_interval="10ms")
    clicks = app.topic("clicks", {**COLUMNS, **columns}, key="user", event_time="ts", partitions=partitions)
    build(app, app.stream(clicks))
    return app


def prints(app: App) -> dict[str, StoreFingerprint]:
    return fingerprint_of(app.plan())


def judged(old: App, new: App) -> Verdict:
    known = prints(old)
    return judge("shop", known, prints(new), known)


def _sums(app: App, clicks: Any, window: Any = None, name: str | None = "w", **aggregates: Any) -> Any:
    rows = clicks.window(window or tumbling("10s"), by="user", name=name, grace="5s", emit="final")
    return rows.agg(**(aggregates or {"n": count(), "total": sum_("price")})).to("sums")


def _views(app: App) -> Any:
    return app.stream(app.topic("views", COLUMNS, key="user", event_time="ts", partitions=2))


def _joined(app: App, clicks: Any, upper: str = "5m", **options: Any) -> Any:
    return _views(app).interval_join(clicks, on="user", lower="0s", upper=upper, name="j", **options).to("joined")


def _window(window: Any) -> Callable[[App, Any], Any]:
    return lambda app, clicks: _sums(app, clicks, window)


BEFORE: Callable[[App, Any], Any] = _sums

GOES_THROUGH: dict[str, tuple[Callable[[App, Any], Any], Verdict]] = {
    "nothing": (_sums, Verdict()),
    "a filter before it": (lambda app, clicks: _sums(app, clicks.filter(pl.col("price") > 0)), Verdict()),
    "a column before it": (lambda app, clicks: _sums(app, clicks.with_columns(vat=pl.col("price") * 0.2)), Verdict()),
    "another output topic": (
        lambda app, clicks: (
            clicks.window(tumbling("10s"), by="user", name="w", grace="5s", emit="final")
            .agg(n=count(), total=sum_("price"))
            .to("elsewhere")
        ),
        Verdict(),
    ),
    "other names of results, other emission": (
        lambda app, clicks: (
            clicks.window(tumbling("10s"), by="user", name="w", grace="5s")
            .agg(clicks=count(), spent=sum_("price"))
            .to("sums")
        ),
        Verdict(),
    ),
    "a shorter grace": (
        lambda app, clicks: (
            clicks.window(tumbling("10s"), by="user", name="w", grace="4s").agg(n=count(), t=sum_("price")).to("s")
        ),
        Verdict(),
    ),
    "a branch beside it": (
        lambda app, clicks: (_sums(app, clicks), clicks.filter(pl.col("price") > 9).to("dear")),
        Verdict(),
    ),
    "a store before it": (
        lambda app, clicks: (_sums(app, clicks, tumbling("1m"), None), _sums(app, clicks)),
        Verdict(came=("window_aggregate-1",)),
    ),
    "one more topic": (
        lambda app, clicks: _sums(app, clicks.merge(_views(app))),
        Verdict(),
    ),
    "a changed step under another name": (
        lambda app, clicks: _sums(app, clicks, tumbling("1m"), "minutes"),
        Verdict(came=("minutes",), went=("w",)),
    ),
    "the store is gone": (lambda app, clicks: clicks.to("copies"), Verdict(went=("w",))),
}


@pytest.mark.parametrize("change", GOES_THROUGH)
def test_what_does_not_touch_the_state_goes_through(change: str) -> None:
    build, expected = GOES_THROUGH[change]
    assert judged(app_of(BEFORE), app_of(build)) == expected


REFUSED: dict[str, tuple[App, App, str]] = {
    "size": (app_of(_sums), app_of(_window(tumbling("60s"))), "store 'w': window tumbling 10s -> tumbling 1m"),
    "offset": (
        app_of(_sums),
        app_of(_window(tumbling("10s", offset="1s"))),
        "store 'w': window tumbling 10s -> tumbling 10s, offset 1s",
    ),
    "hop": (
        app_of(_window(hopping("10s", "5s"))),
        app_of(_window(hopping("10s", "2s"))),
        "store 'w': window hopping 10s, hop 5s -> hopping 10s, hop 2s",
    ),
    "kind": (
        app_of(_sums),
        app_of(_window(session("10s"))),
        "store 'w': kind window_aggregate -> session_aggregate",
    ),
    "gap": (
        app_of(_window(session("10s"))),
        app_of(_window(session("20s"))),
        "store 'w': window session 10s -> session 20s",
    ),
    "reducers": (
        app_of(_sums),
        app_of(lambda app, clicks: _sums(app, clicks, n=count(), pages=collect("page"))),
        "store 'w': aggregates count(), sum(price): float -> count(), collect(page): string",
    ),
    "a column's type": (
        app_of(_sums),
        app_of(_sums, price="int"),
        "store 'w': aggregates count(), sum(price): float -> count(), sum(price): int",
    ),
    "a key's type": (app_of(_sums), app_of(_sums, user="int"), "store 'w': by user: string -> user: int"),
    "a longer grace": (
        app_of(_sums),
        app_of(
            lambda app, clicks: (
                clicks.window(tumbling("10s"), by="user", name="w", grace="6s").agg(n=count(), t=sum_("price")).to("s")
            )
        ),
        "store 'w': grace 5s -> 6s (it can only become shorter)",
    ),
    "partitions": (
        app_of(_sums),
        app_of(_sums, partitions=3),
        "store 'w': 2 partitions -> 3, as the topics it reads have: keys would not be found again",
    ),
    "another topic": (
        app_of(_sums),
        app_of(lambda app, clicks: _sums(app, _views(app))),
        "store 'w': rows of clicks -> rows of views",
    ),
    "bounds": (
        app_of(_joined),
        app_of(lambda app, clicks: _joined(app, clicks, "6m")),
        "store 'j': right minus left 0s to 5m -> 0s to 6m",
    ),
    "a side that waits": (
        app_of(_joined),
        app_of(lambda app, clicks: _joined(app, clicks, how="left")),
        "store 'j': how inner -> left",
    ),
    "a column of a side": (
        app_of(_joined),
        app_of(_joined, shop="string"),
        "store 'j': right user: string, page: string, price: float, ts: int -> "
        "user: string, page: string, price: float, ts: int, shop: string",
    ),
    "a step that was renamed": (
        app_of(_sums),
        app_of(lambda app, clicks: _sums(app, clicks, name="sums")),
        "store 'w' is gone, and 'sums' is the same under another name; name='w' on that step keeps the store",
    ),
    "a step without a name that became the second": (
        app_of(lambda app, clicks: _sums(app, clicks, name=None)),
        app_of(lambda app, clicks: (_sums(app, clicks, tumbling("1m"), None), _sums(app, clicks, name=None))),
        "store 'window_aggregate-1': window tumbling 10s -> tumbling 1m\n"
        "  store 'window_aggregate-1': what it was is step 'window_aggregate-2' now; "
        "name='window_aggregate-1' on that step keeps the store",
    ),
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_changes_a_store_is_refused_with_what_changed_and_the_ways_out(change: str) -> None:
    old, new, told = REFUSED[change]
    with pytest.raises(FingerprintError) as caught:
        judged(old, new)
    first, *lines = str(caught.value).splitlines()
    assert first == "app 'shop': the code does not fit the state it left"
    assert "\n".join(lines[:-4]) == f"  {told}"
    assert [line.split(":")[0].strip() for line in lines[-4:]] == [
        "put the code back as it was, or",
        "millstream reset shop",
        "another app id, as in App('shop-2'), app",
        "name= on a step, name",
    ]


def test_a_store_without_records_can_become_anything() -> None:
    known = prints(app_of(_sums))
    now = prints(app_of(_window(tumbling("60s"))))
    assert judge("shop", known, now, holding=()) == Verdict()


def test_what_was_never_written_down_is_taken_as_it_is() -> None:
    now = prints(app_of(_sums))
    assert judge("shop", None, now, holding={"w"}) == Verdict(came=("w",))


def test_a_store_that_was_left_for_a_while_is_not_taken_up_again() -> None:
    """Others have committed offsets meanwhile: what it holds lacks their rows."""
    with pytest.raises(FingerprintError, match=r"store 'w' is new, and its changelog shop-w-changelog holds records"):
        judge("shop", {}, prints(app_of(_sums)), holding={"w"})


def test_a_fingerprint_survives_being_written() -> None:
    for one in [*prints(app_of(_sums)).values(), *prints(app_of(_joined)).values()]:
        assert StoreFingerprint.from_bytes(one.to_bytes()) == one


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"format": 2}', b'{"format": 1, "store": "w"}', b"null"])
def test_a_description_that_cannot_be_read_says_the_way_out(value: bytes) -> None:
    with pytest.raises(FingerprintError, match="millstream reset"):
        StoreFingerprint.from_bytes(value)


def test_a_schema_tells_itself_in_its_own_words() -> None:
    schema = Schema.of({"user": "string", "ts": "datetime", "tags": pl.List(pl.String)})
    assert (schema.text(), schema.text(["ts"])) == ("user: string, ts: datetime, tags: List(String)", "ts: datetime")


# -- a worker


@pytest.fixture
async def broker() -> MemoryBroker:
    broker = MemoryBroker()
    await broker.create_topics([TopicSpec("clicks", 2)])
    await _click(broker, range(3))
    return broker


async def _click(broker: MemoryBroker, seconds: range) -> None:
    values = [{"user": f"u{s}", "page": "/", "price": 1.0, "ts": s * 1_000} for s in seconds]
    await send(broker, "clicks", 2, [Row(None, orjson.dumps(value)) for value in values])


async def _run(broker: MemoryBroker, app: App) -> None:
    await Worker(app, broker).run(until_end=True)


async def test_a_worker_refuses_before_it_joins_or_creates_anything(broker: MemoryBroker) -> None:
    await _run(broker, app_of(_sums))
    there, offsets = await broker.list_topics(), await broker.group_offsets("shop")
    for _ in range(2):
        with pytest.raises(FingerprintError, match="window tumbling 10s -> tumbling 1m"):
            await _run(broker, app_of(lambda app, clicks: (_sums(app, clicks, tumbling("1m")), _joined(app, clicks))))
    outside = {"joined", "views"}
    assert (set(await broker.list_topics()), await broker.group_offsets("shop")) == ({*there, *outside}, offsets)


async def test_code_that_goes_on_is_written_down(broker: MemoryBroker) -> None:
    """A store that went is not known any more, and is not taken up again."""
    more = app_of(lambda app, clicks: (_sums(app, clicks), _sums(app, clicks, tumbling("1m"), "minutes")))
    for app in (more, more, app_of(_sums)):
        await _run(broker, app)
        kept = await read_kept(broker, "shop")
        assert kept is not None
        assert kept.stores == prints(app)
    with pytest.raises(FingerprintError, match="store 'minutes' is new, and its changelog"):
        await _run(broker, more)


async def test_an_app_without_state_keeps_nothing(broker: MemoryBroker) -> None:
    await _run(broker, app_of(lambda app, clicks: clicks.to("copies")))
    assert await read_kept(broker, "shop") is None


async def test_after_its_changelog_was_deleted_the_code_may_be_another(broker: MemoryBroker) -> None:
    await _run(broker, app_of(_sums))
    await broker.delete_topics([changelog_topic("shop", "w")])
    changed = app_of(_window(tumbling("60s")))
    await _run(broker, changed)
    kept = await read_kept(broker, "shop")
    assert kept is not None
    assert kept.stores == prints(changed)


async def test_a_database_of_other_code_is_restored_from_the_changelog(broker: MemoryBroker) -> None:
    """As on a machine that was off while the app was reset and changed, with a broker that gives no topic ids."""
    databases = MemoryDatabases()
    await Worker(app_of(_sums), broker, databases=databases).run(until_end=True)
    database = databases.open("0/0")
    told = database.meta("digest/w")
    database.write({"w": StoreWrite([Changes.of([b"\x00foreign"], [b"not of this code"])])}, {"digest/w": b"another"})
    database.close()
    await Worker(app_of(_sums), broker, databases=databases).run(until_end=True)
    database = databases.open("0/0")
    assert (database.meta("digest/w"), database.store("w").get(b"\x00foreign")) == (told, None)


# -- the guide


PAGE = Path(__file__).parents[2] / "docs" / "guide" / "changing-code.md"


def test_the_guide_shows_what_is_told() -> None:
    """Of its three pipelines the second is refused over the first with that text, the third goes through."""
    blocks = [block for block in blocks_of(PAGE) if block.file or block.language == "text"]
    before, changed, told, named = [block.body for block in blocks]
    apps = [prints(pipeline_of(text)) for text in (before, changed, named)]
    with pytest.raises(FingerprintError) as caught:
        judge("shop", apps[0], apps[1], apps[0])
    assert f"{caught.value}\n" == told
    assert judge("shop", apps[0], apps[2], apps[0]) == Verdict(("minutes", "with-largest"), ("window_aggregate-1",))
    assert exit_code_of(caught.value) == 2
