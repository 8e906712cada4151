"""What a model says, understood: an answer and the passages it names, from JSON or from plain words; and what it cost.

No model is trusted to keep to the form it was asked for: JSON may stand between other words, numbers may be of passages that there are
not, "no answer" may come as `null`, as the sentence of the prompt, or as nothing.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from .document import Tokens
from .prompt import Prompt, cited, is_no_answer

ANSWER_SCHEMA: Final = {
    "type": "object",
    "properties": {
        "answer": {"type": ["string", "null"]},
        "sources": {"type": "array", "items": {"type": "integer"}},
    },
    "required": ["answer", "sources"],
    "additionalProperties": False,
}
"""JSON Schema of the reply, for endpoints that can be told so."""


def answer_in(content: str, prompt: Prompt) -> tuple[str | None, tuple[int, ...]]:
    """The answer (None: there is none), and the numbers of the passages it names, each once."""
    answer, listed = _from_json(content)
    passages = len(prompt.passages)
    if prompt.task == "order":
        answer = answer or "ranked"
    elif answer is None or is_no_answer(answer, prompt.no_answer):
        return None, ()
    known = [number for number in listed if type(number) is int and 1 <= number <= passages]
    return answer, tuple(dict.fromkeys([*cited(answer, passages), *known]))


def _from_json(content: str) -> tuple[str | None, list[Any]]:
    start, end = content.find("{"), content.rfind("}")
    try:
        body = orjson.loads(content[start : end + 1])
    except orjson.JSONDecodeError:
        return content.strip(), []
    if not isinstance(body, dict) or "answer" not in body:
        return content.strip(), []
    answer, sources = body["answer"], body.get("sources")
    return (
        answer.strip() if isinstance(answer, str) else None if answer is None else str(answer),
        sources if isinstance(sources, list) else [],
    )


def tokens_in(usage: Any, prompt: str, completion: str) -> Tokens:
    """The two counts of an endpoint's account; 0 where it keeps none."""
    counts = usage if isinstance(usage, dict) else {}
    asked, given = counts.get(prompt), counts.get(completion)
    return Tokens(asked if isinstance(asked, int) else 0, given if isinstance(given, int) else 0)


def text_of(parts: Any) -> str:
    """The texts of a list of `{"text": ...}`, one behind the other; "" for what is no such list."""
    texts = [part.get("text") for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
    return "".join(text for text in texts if isinstance(text, str))
