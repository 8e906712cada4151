"""`millstream evaluate`: how well questions are found and answered, in several configurations side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ...rag.evaluation.run import Judged
    from ...rag.evaluation.summary import Summary

app = typer.Typer(name="evaluate", help="Measure retrieval and answers on a set of questions.")


@app.command()
def evaluate(
    questions: Annotated[
        Path | None,
        typer.Argument(
            metavar="QUESTIONS.jsonl", help="A question a line; without it, the packaged example.", show_default=False
        ),
    ] = None,
    *,
    documents: Annotated[
        Path | None,
        typer.Option("--documents", metavar="FOLDER|FILE.jsonl", help="What is asked about.", show_default=False),
    ] = None,
    pipeline: Annotated[
        str | None,
        typer.Option("--pipeline", metavar="TARGET", help="Take the parts of this app.", show_default=False),
    ] = None,
    configurations: Annotated[
        list[str] | None,
        typer.Option(
            "--with",
            metavar="'[NAME:] SETTING=VALUE ...'",
            help="A configuration to measure; repeatable. As in --with 'strategy=fixed k=3' --with 'few: reranker=none'.",
            show_default=False,
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Fit the evidence of the posterior rule to these documents.")
    ] = False,
    judge: Annotated[bool, typer.Option("--judge", help="Have the model itself say which answers are right.")] = False,
    picture: Annotated[
        Path | None,
        typer.Option("--svg", metavar="FILE.svg", help="Draw right answers against cost.", show_default=False),
    ] = None,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            "--outcomes", metavar="FILE.jsonl", help="Write every answer with its scores.", show_default=False
        ),
    ] = None,
) -> None:
    """Measure how well questions are found and answered. No broker is needed: the documents are indexed in memory."""
    import asyncio

    from ..evaluation.plan import calibration, evaluated, indexed, plan_of
    from ..evaluation.table import as_calibration, as_table

    plan = plan_of(questions, documents, pipeline, configurations or [])

    async def work() -> None:
        corpus = await indexed(plan, _tell)
        try:
            if calibrate:
                typer.echo(as_calibration(await calibration(plan, corpus)), nl=False)
                return
            found = await evaluated(plan, corpus, _tell, judge=judge)
        finally:
            await corpus.embedder.close()
        typer.echo(as_table([one for one, _ in found]), nl=False)
        _write(found, picture, outcomes)

    asyncio.run(work())


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _write(found: list[tuple[Summary, list[Judged]]], picture: Path | None, outcomes: Path | None) -> None:
    from ..errors import InputError
    from ..evaluation.lines import as_lines
    from ..evaluation.svg import as_svg

    try:
        if picture is not None:
            picture.write_text(as_svg([one for one, _ in found]), encoding="utf-8")
        if outcomes is not None:
            outcomes.write_bytes(as_lines([(one.name, judged) for one, judged in found]))
    except OSError as error:
        raise InputError(f"{error.filename!r} cannot be written: {error.strerror}") from error
