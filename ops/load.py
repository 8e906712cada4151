"""From what stands on the command line to an app: `file.py:app`, `package.module:app`, or `pipeline.yaml`.

The object behind the colon (default `app`) is an `App`, or a function without arguments that gives one. A file is executed
under a name of its own, so that it shadows nothing, with its folder importable as it is for `python file.py`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from ..workers.app import App
from ..workers.settings import AppSettings
from .errors import TargetError
from .feed import FolderFeed
from .setting import did_you_mean

DEFAULT_NAME: Final = "app"
YAML_SUFFIXES: Final = (".yaml", ".yml")


def load_app(target: str) -> App:
    """Raises TargetError (PipelineFileError for YAML), saying what was looked for and what there is."""
    return load(target)[0]


def gateway_options(target: str) -> dict[str, object]:
    """What a pipeline file says of its gateway, as settings of a run; of anything else nothing."""
    file = Path(split_target(target)[0])
    if file.suffix not in YAML_SUFFIXES or not file.is_file():
        return {}
    from .pipeline_yaml.gateway import gateway_of_file

    return gateway_of_file(file)


def app_or_name(text: str) -> tuple[App | None, AppSettings]:
    """The app of a target with its settings; of a mere name, settings by default. Raises TargetError, PlanError."""
    app = load_app(text) if is_target(text) else None
    return app, app.settings if app else AppSettings.of(text)


def load(target: str) -> tuple[App, list[FolderFeed]]:
    """As `load_app`, with the folders that a pipeline file wants watched."""
    place, name = split_target(target)
    if Path(place).suffix in YAML_SUFFIXES:
        from .pipeline_yaml.build import load_pipeline

        if not Path(place).is_file():
            raise TargetError(f"no file {place!r}{_near(Path(place))}")
        return load_pipeline(Path(place))
    module = _module_of_file(Path(place)) if place.endswith(".py") else _module_named(place)
    return _app_of(module, name or DEFAULT_NAME, target), []


def split_target(target: str) -> tuple[str, str]:
    """File or module, and the name behind the last colon ("" where none was given)."""
    before, colon, after = target.rpartition(":")
    if colon and after.isidentifier() and not (len(before) == 1 and before.isalpha()):
        return before, after
    return target, ""


def is_target(text: str) -> bool:
    """Whether a text names code or a pipeline file, and is not just an app's name."""
    place, name = split_target(text)
    return bool(name) or Path(place).suffix in {".py", *YAML_SUFFIXES}


def _module_of_file(file: Path) -> ModuleType:
    if not file.is_file():
        raise TargetError(f"no file {str(file)!r}{_near(file)}")
    resolved = file.resolve()
    digest = hashlib.sha256(str(resolved).encode()).hexdigest()[:8]
    name = f"_millstream_{resolved.stem}_{digest}"
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise TargetError(f"{str(file)!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    if str(resolved.parent) not in sys.path:
        sys.path.insert(0, str(resolved.parent))
    sys.modules[name] = module  # dataclasses and pickle look a class's module up
    with _told(str(file), resolved):
        spec.loader.exec_module(module)
    return module


def _module_named(name: str) -> ModuleType:
    if "/" in name or not all(part.isidentifier() for part in name.split(".")):
        raise TargetError(
            f"{name!r} is neither a Python file, nor a module, nor a pipeline; "
            "write file.py, file.py:name, package.module:name or pipeline.yaml"
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise TargetError(
            f"no module {name!r} in {Path.cwd()} or among the installed packages; is it a file: {name}.py?"
        )
    with _told(name, Path(found.origin or name)):
        return importlib.import_module(name)


@contextmanager
def _told(what: str, file: Path) -> Iterator[None]:
    """Whatever a user's module raises while it is imported, with the line of that module."""
    try:
        yield
    except SyntaxError as error:
        raise TargetError(f"{error.filename or what}:{error.lineno}: {error.msg}") from error
    except SystemExit as error:
        raise TargetError(
            f"{what} ends the process while it is imported; guard that by `if __name__ == '__main__':`"
        ) from error
    except Exception as error:
        frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename == str(file)]
        line = f":{frames[-1].lineno}" if frames else ""
        raise TargetError(f"{what}{line}: {type(error).__name__}: {error}") from error


def _app_of(module: ModuleType, name: str, target: str) -> App:
    found = vars(module).get(name)
    if found is None:
        there = [key for key, value in vars(module).items() if isinstance(value, App)]
        hint = f"; did you mean {_with_name(target, there[0])}?" if there else did_you_mean(name, _public(module))
        raise TargetError(f"{target}: no object {name!r}{hint or f'. It should be an App, as in {name} = App(...)'}")
    if isinstance(found, App):
        return found
    if callable(found):
        return _made_by(found, name, target)
    raise TargetError(f"{target}: {name!r} is {type(found).__name__}, not an App or a function that gives one")


def _made_by(factory: Any, name: str, target: str) -> App:
    try:
        needed = [
            one.name
            for one in inspect.signature(factory).parameters.values()
            if one.default is one.empty and one.kind not in {one.VAR_POSITIONAL, one.VAR_KEYWORD}
        ]
    except (TypeError, ValueError):
        needed = []
    if needed:
        raise TargetError(f"{target}: {name}() must need no arguments, it asks for {', '.join(needed)}")
    with _told(f"{target}: {name}()", Path(inspect.getsourcefile(factory) or "")):
        made = factory()
    if not isinstance(made, App):
        raise TargetError(f"{target}: {name}() gave {type(made).__name__}, not an App")
    return made


def _public(module: ModuleType) -> list[str]:
    return [name for name in vars(module) if not name.startswith("_")]


def _with_name(target: str, name: str) -> str:
    return f"{split_target(target)[0]}:{name}"


def _near(file: Path) -> str:
    """A file of a similar name beside the one that is not there."""
    folder = file.parent
    if not folder.is_dir():
        return f": there is no folder {str(folder)!r}"
    return did_you_mean(file.name, [one.name for one in folder.iterdir()], otherwise=f" in {folder.resolve()}")
