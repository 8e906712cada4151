"""A codec by its name: `json` is the object `CODEC` of `topics/codecs/json.py`. There is no registry to edit."""

from __future__ import annotations

import difflib
import pkgutil
from importlib import import_module
from typing import cast

from . import codecs
from .codec import Codec
from .errors import ConfigurationError


def codec_names() -> list[str]:
    """The codecs there are, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(codecs.__path__))


def codec_named(name: str) -> Codec:
    """The codec of that name. Raises ConfigurationError, naming those there are and the closest one."""
    names = codec_names()
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigurationError(f"no codec {name!r}{hint} Codecs: {', '.join(names)}")
    return cast(Codec, import_module(f"{codecs.__name__}.{name}").CODEC)
