"""What can go wrong before and around a run, classed by what the caller should do.

OpsError
|-- SettingsError      a setting is unknown or wrong: change it where the text says it stands
|-- TargetError        the app to be run cannot be loaded: the text says what was looked for, and where
|-- PipelineFileError  a YAML pipeline is wrong: the text begins with file and line
|-- InputError         what a command was given cannot be used
`-- BackupError        a backup cannot be taken, read or trusted: the text says why

Each means "change something, trying again will not help", so the command line ends with 2 for all of them. What the
layers below raise keeps its class; `exit_codes.py` says what the command line makes of it.
"""

from __future__ import annotations


class OpsError(Exception):
    """Root of the tree above."""


class SettingsError(OpsError):
    """A setting is unknown or has a wrong value."""


class TargetError(OpsError):
    """`file.py:app`, `package.module:app` or `pipeline.yaml` gives no app."""


class PipelineFileError(OpsError):
    """A pipeline file says something that cannot be; the text begins with `file:line:`."""


class InputError(OpsError):
    """What a command was given (rows, a time, a name) is not what it needs."""


class BackupError(OpsError):
    """A backup cannot be taken, read or trusted."""
