"""`millstream`: the command line. A subcommand is a file of `ops/commands/` that has an `app` of typer's.

Those files import nothing heavy at the top, so that `--help` and a typing error cost no more than typer itself.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys
import textwrap
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from . import commands
from .setting import did_you_mean

_COMPLETION = ("install_completion", "show_completion")
"""Options typer adds to each app that it takes for a whole program."""


class CommandsByFile(TyperGroup):
    """Finds a subcommand as the file of its name; there is no registry."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(module.name for module in pkgutil.iter_modules(commands.__path__) if module.name[0] != "_")

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"{commands.__name__}.{cmd_name}")
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        command.params = [one for one in command.params if one.name not in _COMPLETION]
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            names = self.list_commands(ctx)
            hint = did_you_mean(args[0], names, otherwise=f"; there are {', '.join(names)}")
            ctx.fail(f"no command {args[0]!r}{hint}")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=CommandsByFile,
    name="millstream",
    help="Kafka-native stream processing for live data and live answers.",
    epilog="Exit status: 0 done, 1 a fault, 2 usage or configuration, 3 the broker cannot be reached.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _every_command(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks (also: the variable MILLSTREAM_DEBUG=1).")
    ] = False,
) -> None:
    if debug:
        os.environ["MILLSTREAM_DEBUG"] = "1"


def main() -> None:
    """The entry point. Ends the process with one of the codes of `exit_codes.py`."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `millstream consume t | head`
        sys.exit(0)
    except Exception as error:  # noqa: BLE001 - the outermost edge: every error becomes a text and a code
        sys.exit(tell(error))


def tell(error: Exception) -> int:
    """Writes an error as one paragraph (and its traceback with --debug), and gives the exit code."""
    from .exit_codes import exit_code_of, is_known

    if os.environ.get("MILLSTREAM_DEBUG"):
        traceback.print_exception(error)
    sys.stderr.write(_paragraph(error, known=is_known(error)))
    return exit_code_of(error)


def _paragraph(error: Exception, *, known: bool) -> str:
    if known:
        text = str(error)
    else:
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        text = f"{type(error).__name__}: {error}{place}. This was not expected; --debug shows the traceback"
    lines = [textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False) for line in text.splitlines()]
    return f"error: {chr(10).join(lines)}\n"


if __name__ == "__main__":
    main()
