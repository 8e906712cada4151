"""What the command line ends with, by the class of the error.

    0  done
    1  a fault: of the pipeline's code, of the disk, or of Millstream
    2  usage or configuration: change what the text names; trying again will not help
    3  the broker cannot be reached: trying again later may help
    130, 143  stopped at once by a second Ctrl-C or SIGTERM

`millstream broker` has codes of its own from 3 on (see `millstream broker --help`).
"""

from __future__ import annotations

from typing import Final

FAULT: Final = 1
CONFIGURATION: Final = 2
BROKER_UNREACHABLE: Final = 3


def exit_code_of(error: BaseException) -> int:
    """The code for an error that ends a command."""
    from ..rag.errors import PartError
    from ..state.errors import FormatError, LockedError
    from ..topics.errors import BrokerUnavailableError, ConfigurationError, DuplicateMemberError
    from ..workers.errors import PlanError
    from .errors import OpsError

    if isinstance(error, BrokerUnavailableError):
        return BROKER_UNREACHABLE
    wrong = (OpsError, ConfigurationError, PlanError, PartError, LockedError, FormatError, DuplicateMemberError)
    return CONFIGURATION if isinstance(error, wrong) else FAULT


def is_known(error: BaseException) -> bool:
    """Whether the error's text says all there is to say; of any other the place in the code is needed too."""
    from ..rag.errors import RagError
    from ..state.errors import StateError
    from ..topics.errors import TopicsError
    from ..workers.errors import InvariantError, WorkersError
    from .errors import OpsError

    ours = (OpsError, TopicsError, WorkersError, StateError, RagError)
    return isinstance(error, ours) and not isinstance(error, InvariantError)
