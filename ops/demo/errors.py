"""What ends the demo early.

Exception
|-- Differs        something came out otherwise than it must: exit status 1, and the text says what
`-- DemoUnusable   it cannot be shown here: the text says what to change (an OpsError, exit status 2)
"""

from __future__ import annotations

from ..errors import OpsError


class Differs(Exception):
    """A promise was not kept in this run."""


class DemoUnusable(OpsError):
    """The demo's files are missing, its folder is in use, or nothing may be written."""
