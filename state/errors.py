"""What can go wrong with local state, classed by what the caller should do.

StateError
|-- LockedError       another process holds the data directory: stop
|-- FormatError       the directory was written by another version or application: stop; the text says the way out
|-- CorruptStoreError move the store aside and restore it from its changelog
`-- DiskError         full or unwritable: the task stops, nothing was half written
"""

from __future__ import annotations


class StateError(Exception):
    """Root of the tree above."""


class LockedError(StateError):
    """Another process uses the data directory."""


class FormatError(StateError):
    """The data directory is of another format version or another application."""


class CorruptStoreError(StateError):
    """The files of a store cannot be read."""


class DiskError(StateError):
    """The disk is full or cannot be written."""
