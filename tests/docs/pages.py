"""Pages of documentation as what can be run: fenced blocks with a language, a file's name and words.

```python file=shop.py     written to the file, and imported
```python                  run as a script, with the files before it importable
```yaml file=shop.yaml     written to the file; every yaml block must be a pipeline
```json record=queries     must be a record of that topic of a document pipeline
```toml                    must be a settings file
```console                 `$ ` lines run in bash one after another; lines between them must be in what they print
```console fails           the last command must end with another status than 0
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^```(?P<head>\w[^\n]*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    language: str
    words: tuple[str, ...]
    body: str
    line: int

    @property
    def file(self) -> str | None:
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    def commands(self) -> list[tuple[str, list[str]]]:
        """Of a console block: each command with the lines it must print."""
        found: list[tuple[str, list[str]]] = []
        for line in self.body.splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            elif line.strip():
                found[-1][1].append(line)
        return found


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    blocks = []
    for fence in _FENCE.finditer(text):
        language, *words = fence["head"].split()
        blocks.append(Block(language, tuple(words), fence["body"], text[: fence.start()].count("\n") + 1))
    return blocks


def needs_broker(blocks: list[Block]) -> bool:
    commands = [command for block in blocks if block.language == "console" for command, _ in block.commands()]
    return any(command.startswith("millstream broker start") for command in commands)
