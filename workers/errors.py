"""What can go wrong in a pipeline, classed by what the caller should do.

WorkersError
|-- PlanError           the pipeline cannot be run as written: change it; the text names the step
|   `-- FingerprintError    the code was changed under its state; the text says what changed and the ways out
|-- NotHereError        a table was asked for what this process does not have: ask another worker, or later
|-- UserFunctionError   a function of the user's failed and the policy is `fail`
`-- InvariantError      a fault in Millstream itself: stop, and report it
"""

from __future__ import annotations


class WorkersError(Exception):
    """Root of the tree above."""


class PlanError(WorkersError):
    """The graph cannot be run as it is written."""


class FingerprintError(PlanError):
    """The graph was changed, and the state it left does not fit it any more."""


class NotHereError(WorkersError):
    """What was asked for is not in this process, or not now."""


class UserFunctionError(WorkersError):
    """A function of the user's raised, and the policy says to stop."""


class InvariantError(WorkersError):
    """Something that must never be was seen."""
