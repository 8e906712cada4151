"""Tables in a pipeline file: the same graph as in Python, that they run, and what is said of mistakes."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from millstream import App, Driver, count, sum_
from millstream.ops.describe.outline import outline_of
from millstream.ops.errors import PipelineFileError
from millstream.ops.pipeline_yaml.build import pipeline_of
from millstream.workers.driver import Record

_FILE = """app: shop
topics:
  orders: {key: id, schema: {id: string, customer: string, price: float}, cleanup: compact}
  customers: {key: id, schema: {id: string, city: string}, cleanup: compact}
  cities: {key: city, schema: {city: string, name: string}}
  clicks: {key: user, schema: {user: string, page: string}}
streams:
  - table: orders
    join: {table: customers, on: customer, how: left, name: with-customers}
    where: price > 0
    with: {double: price * 2}
    as: joined
  - table: joined
    group_by: {by: city, name: by-city}
    aggregate: {n: count(), total: sum(price)}
    having: n > 1
    materialized: spent
    to: spent-by-city
  - from: clicks
    join: {table: customers, on: user, how: inner}
    as: located
  - from: located
    join: {global: cities, on: city, how: left}
    to: places
  - from: clicks
    group_by: user
    aggregate: {n: count()}
    as: clicked
  - table: clicked
    join: {table: customers, how: outer, suffix: _customer}
    select: [user, n, city]
    to: users
"""


def python() -> App:
    app = App("shop")
    orders = app.topic("orders", {"id": "string", "customer": "string", "price": "float"}, key="id", cleanup="compact")
    people = app.topic("customers", {"id": "string", "city": "string"}, key="id", cleanup="compact")
    cities = app.topic("cities", {"city": "string", "name": "string"}, key="city")
    joined = app.table(orders).join(app.table(people), on="customer", how="left", name="with-customers")
    joined = joined.filter(pl.col("price") > 0).with_columns(double=pl.col("price") * 2)
    grouped = joined.group_by("city", name="by-city").agg(n=count(), total=sum_("price"))
    grouped.filter(pl.col("n") > 1).materialized("spent").to("spent-by-city")
    clicks = app.stream(app.topic("clicks", {"user": "string", "page": "string"}, key="user"))
    located = clicks.join(app.table(people), on="user", how="inner")
    located.join(app.global_table(cities), on="city", how="left").to("places")
    clicked = clicks.group_by("user").agg(n=count())
    clicked.join(app.table(people), how="outer", suffix="_customer").select("user", "n", "city").to("users")
    return app


def described(app: App) -> dict[str, Any]:
    told = outline_of(app).as_json()
    for box in told["boxes"]:
        if box["what"] in {"table_filter", "with_columns", "select"}:
            box["details"] = sorted(box["details"])
    return told


def test_the_file_and_python_are_one_graph() -> None:
    assert described(pipeline_of(_FILE)) == described(python())


def test_the_file_runs() -> None:
    app = pipeline_of(_FILE)
    driver = Driver(app)
    driver.send("customers", [{"id": "ada", "city": "b"}, {"id": "eve", "city": "b"}])
    driver.send("cities", [{"city": "b", "name": "Berlin"}])
    driver.send("orders", [{"id": f"o{n}", "customer": "ada", "price": float(n)} for n in range(4)])
    driver.send("clicks", [{"user": "ada", "page": "p"}, {"user": "nobody", "page": "p"}])
    driver.commit()
    assert driver.table("spent-by-city") == {b"b": {"city": "b", "n": 3, "total": 6.0}}
    assert app.table("spent").get("b") == {"city": "b", "n": 3, "total": 6.0}
    assert driver.rows("places") == [{"user": "ada", "page": "p", "city": "b", "name": "Berlin"}]
    assert driver.table("users") == {
        b"ada": {"user": "ada", "n": 1, "city": "b"},
        b"eve": {"user": "eve", "n": None, "city": "b"},
        b"nobody": {"user": "nobody", "n": 1, "city": None},
    }
    driver.send_records("customers", [Record(b"ada", None, 9)])
    driver.commit()
    assert driver.table("spent-by-city") == {}


# What is written instead of what, and what is said.
_MISTAKES = """
- table: orders          | - tabel: orders              | 8: 'tabel' is not a key of a stream; keys are from
- table: orders          | - table: order               | 8: no topic and no table 'order'; did you mean 'orders'?
- table: joined          | - table: located             | 13: no topic and no table 'located'
where: price > 0         | window: {tumbling: 10s}      | 10: 'window' is not a key of a table
on: customer, how: left  | on: custmer, how: left       | 9: no column 'custmer'. Columns there are: id, customer, price
on: customer, how: left  | on: customer, how: outer     | 9: join: a foreign-key join is 'inner' or 'left'
on: customer, how: left  | on: customer, how: lef       | 9: 'how': expected one of inner, left, outer, got 'lef'; did you mean 'left'?
table: customers, on: customer | on: customer           | 9: a join of tables needs 'table'
table: customers, on: user | on: user                   | 20: a join with a table needs either 'table' or 'global'
{table: customers, on: user, how: inner} | {table: customers, on: user, how: outer} | 20: 'how': expected one of inner, left, got 'outer'
on: user, how: inner     | on: page2                    | 20: join: no column 'page2' for the table's key column 'id'; did you mean 'page'?
{table: customers, on: user, how: inner} | {table: customers} | 20: join: no column 'id' for the table's key column 'id'
global: cities           | global: citys                | 23: no topic 'citys'; did you mean 'cities'?
as: joined               | with: {id: price}            | 12: 'with' stands here twice
with: {double: price * 2} | with: {id: price}           | 11: with_columns: 'id' is of the table's key (id) and has to stay as it is
select: [user, n, city]  | select: [n, city]            | 31: select: 'user' is of the table's key (user) and has to stay as it is
    to: users            |                              | 29: a table needs 'to' (a topic), 'as' (a name for other entries)
to: users                | to: {topic: users, key: n}   | 32: a table is written by its key: give the topic's name alone
as: joined               | as: orders                   | 12: 'orders' is taken by another topic
as: clicked              | as: joined                   | 28: 'joined' is taken by another table
materialized: spent      | materialized: "a b"          | 17: step 'a b': a name has 1 to 100 characters
aggregate: {n: count(), total: sum(price)} | where: n > 1 | 13: 'aggregate' goes together with 'group_by'
- table: clicked         | - table: located             | 29: 'located' is a stream; tables are topics
{user: string, page      | {user: int, page             | 20: join: column 'user' is int, the table's key column 'id' is string; cast one
customers: {key: id,     | customers: {                 | 9: topic 'customers' is no table without a schema and key columns
"""


@pytest.mark.parametrize("line", [line for line in _MISTAKES.strip("\n").splitlines() if line])
def test_a_mistake_is_named_with_file_and_line(line: str) -> None:
    right, wrong, expected = line.split(" | ", 2)
    right, wrong = right.rstrip(), wrong.strip()
    assert right in _FILE
    with pytest.raises(PipelineFileError) as raised:
        pipeline_of(_FILE.replace(right, wrong, 1))
    assert str(raised.value).startswith(f"pipeline.yaml:{expected.strip()}")
