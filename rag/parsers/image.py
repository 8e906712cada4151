"""Pictures with text in them, by optical character recognition (RapidOCR on onnxruntime, its models in the wheel).

Nothing is downloaded and nothing leaves the machine. It reads printed Latin and Chinese script well, handwriting badly, and
takes two or three seconds a page on one core. What it does not do: say what a picture shows, find columns or tables.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from ..blocks import Blocks
from ..errors import ParseError, ParseLimitError, PartError
from ..parser import Limits, Parsed
from ..parts import extra


@dataclass(slots=True)
class Image:
    """`score_min`: how sure it must be of a line (0 to 1). The metadata has `width` and `height` in pixels.

    Needs the extra `ocr`. Raises PartError where it is missing.
    """

    score_min: float = 0.5
    pixels_max: int = 40_000_000
    """A picture of a few kilobytes may be one of gigabytes when it is unpacked."""
    side_pixels_max: int = 960
    """To find its lines a picture is looked at no larger than this; 1,600 finds smaller print and needs two gigabytes."""
    threads: int = 1
    _engine: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.score_min <= 1 or min(self.pixels_max, self.side_pixels_max, self.threads) < 1:
            raise ValueError("score_min must be 0 to 1, pixels_max, side_pixels_max and threads at least 1")

    def fingerprint(self) -> str:
        try:
            return f"image/1 rapidocr {metadata.version('rapidocr')} {self.score_min} {self.side_pixels_max}"
        except metadata.PackageNotFoundError:
            raise PartError("rapidocr is not installed; run: pip install 'millstream[ocr]'") from None

    def parse(self, content: bytes, content_type: str, limits: Limits) -> Parsed:
        """Raises ParseError: no picture, broken, without text; ParseLimitError: more than `pixels_max`, too much text."""
        limits.check_bytes(content)
        picture = self._opened(content)
        blocks = Blocks(limits)
        for line in self._lines(picture):
            blocks.add(line, "\n")
        if not blocks.chars:
            raise ParseError("no text was found in the picture")
        return blocks.parsed({"width": picture.width, "height": picture.height})

    def _opened(self, content: bytes) -> Any:
        """The size stands in the head and is looked at before anything is unpacked."""
        pillow = extra("PIL.Image", "ocr")
        try:
            picture = pillow.open(io.BytesIO(content))
            if picture.width * picture.height > self.pixels_max:
                raise ParseLimitError(
                    f"the picture has {picture.width} x {picture.height} pixels, at most {self.pixels_max} (pixels_max)"
                )
            return picture.convert("RGB")
        except ParseLimitError:
            raise
        except pillow.DecompressionBombError:
            raise ParseLimitError(f"the picture has more than {self.pixels_max} pixels (pixels_max)") from None
        except Exception as error:  # noqa: BLE001 - Pillow has a decoder for each format, and each fails in its own way
            raise ParseError(f"not a readable picture: {type(error).__name__}: {error}") from None

    def _lines(self, picture: Any) -> list[str]:
        engine = self._made()
        try:
            found = engine(extra("numpy").asarray(picture))
        except Exception as error:  # noqa: BLE001 - of the engine, of OpenCV, of onnxruntime
            if "alloc" in str(error).lower():
                raise MemoryError from None
            raise ParseError(f"the text in the picture cannot be read: {type(error).__name__}: {error}"[:500]) from None
        scored = zip(found.txts or (), found.scores or (), strict=True)
        return [text for text, score in scored if score >= self.score_min]

    def _made(self) -> Any:
        if self._engine is None:
            settings = {
                "Global.log_level": "critical",
                "EngineConfig.onnxruntime.intra_op_num_threads": self.threads,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "EngineConfig.onnxruntime.enable_cpu_mem_arena": False,
                "Det.limit_type": "max",  # the default blows small pictures up, and needs a gigabyte for it
                "Det.limit_side_len": self.side_pixels_max,
                "Rec.rec_batch_num": 1,
            }
            self._engine = extra("rapidocr", "ocr").RapidOCR(params=settings)
        return self._engine
