"""What can go wrong between a document and an answer, classed by what the caller should do.

RagError
|-- PartError            a part, an option or an extra that is not there: stop; the text says what to change
|-- MessageError         a record does not have its topic's shape: dead letter (a query: an answer with `error`)
|-- ParseError           a document cannot be read: status `failed`, its last version stays and is stale
|   `-- ParseLimitError      it is too large, too slow or too hungry: the same; raise the limit named, or leave it out
|-- FilterError          a query's filter is wrong: that query alone is answered with `error`
|   `-- UndecidedError       it cannot be evaluated on this document: which does not match
|-- EmbeddingError       no vectors for these texts: the document fails, the question is answered with `error`
|-- ModelError           a language model or a reranker gave no usable answer: the question is answered with `error`
|   |-- ModelUnavailableError  no answer in the time and tries allowed: asking again later may help
|   |   |-- RateLimitedError       our own limit: too many wait already; raise it, or ask less
|   |   `-- CircuitOpenError       the endpoint has failed too often and is let alone for a while; nobody was asked
|   `-- ModelRefusedError      the endpoint refuses this request (key, model, size): asking again will not help
|-- AnswerError          the pipeline answered with an error; the text is what it said
|-- BusyError            too much is under way already: ask again later
|-- NotFreshError        the index did not reach the position asked for in time: ask again later
|-- IndexUnavailableError  the store of a remote index cannot be reached, or takes too long: ask again later
`-- IndexDamagedError    a saved index cannot be used: throw it away and build it anew
"""

from __future__ import annotations


class RagError(Exception):
    """Root of the tree above."""


class PartError(RagError):
    """A part, one of its options, or the extra it needs is missing or wrong."""


class MessageError(RagError):
    """A record of one of the document pipeline's topics does not have its shape."""


class ParseError(RagError):
    """A document cannot be turned into text."""


class ParseLimitError(ParseError):
    """A document goes beyond a limit in bytes, pages, characters, time or memory."""


class FilterError(RagError):
    """A metadata filter does not parse, or takes too long."""


class UndecidedError(FilterError):
    """A metadata filter cannot be evaluated on the names of one document."""


class EmbeddingError(RagError):
    """Texts could not be embedded."""


class ModelError(RagError):
    """A language model (or a reranker that is a model) gave no usable answer."""


class ModelUnavailableError(ModelError):
    """The model's endpoint did not answer within the time and the tries allowed."""


class RateLimitedError(ModelUnavailableError):
    """The rate limit set for the endpoint lets this request go too late, or too many wait."""


class CircuitOpenError(ModelUnavailableError):
    """The endpoint has failed so often that it is not asked for a while."""


class ModelRefusedError(ModelError):
    """The model's endpoint refuses the request as it is."""


class AnswerError(RagError):
    """The pipeline answered with an error; the text is what it said."""


class BusyError(RagError):
    """As much as is allowed is waited for already."""


class NotFreshError(RagError):
    """The index did not reach the position a query asked for within the time allowed."""


class IndexUnavailableError(RagError):
    """A remote index does not answer; what was to be written to it is kept, and tried again."""


class IndexDamagedError(RagError):
    """A saved index cannot be read, or is not the one the checkpoint names."""
