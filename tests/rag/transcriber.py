"""An endpoint that transcribes, true to the protocol: multipart form in, JSON or an error out. On 127.0.0.1, in a thread."""

from __future__ import annotations

import io
import json
import threading
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SEGMENTS = [{"start": 0.0, "end": 2.5, "text": " Hello there."}, {"start": 2.5, "end": 6.0, "text": " How are you?"}]
HEARD = {"text": "Hello there. How are you?", "language": "english", "duration": 6.0, "segments": SEGMENTS}


def recording(seconds: float = 0.1) -> bytes:
    """Silence, as WAV."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(2 * int(8_000 * seconds)))
    return out.getvalue()


@dataclass
class Transcriber:
    """What it will say (status, body, headers), then `HEARD` for ever; what it was asked."""

    url: str = ""
    replies: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def transcribing(*replies: tuple[int, Any, dict[str, str]]) -> Iterator[Transcriber]:
    state = Transcriber(replies=list(replies))

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            state.asked.append(_form(self))
            status, body, headers = state.replies.pop(0) if state.replies else (200, HEARD, {})
            if (
                self.path != "/v1/audio/transcriptions"
                or "file" not in state.asked[-1]
                or "model" not in state.asked[-1]
            ):
                status, body = 400, {"error": {"message": "wrong request"}}
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in ({"content-length": str(len(data))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            """To nobody."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _form(request: BaseHTTPRequestHandler) -> dict[str, Any]:
    """Fields by name; of the file its name and content; and the key."""
    body = request.rfile.read(int(request.headers["content-length"]))
    form: Any = message_from_bytes(b"Content-Type: " + request.headers["content-type"].encode() + b"\r\n\r\n" + body)
    fields: dict[str, Any] = {"key": request.headers.get("authorization", "")}
    for part in form.get_payload():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        fields[name] = (part.get_filename(), content) if part.get_filename() else content.decode()
    return fields
