"""The HTTP door of a document pipeline: questions, documents, standing questions; and the routes that others' clients call.

It holds no state: what comes in goes to topics, what comes back is read from topics (`rag/topics_transport.py`), so any number of
gateways may stand before any number of workers. Where it knows the pipeline it looks chunks up in an index of its own, which is a
view of a compacted topic like that of a worker (docs/decisions).
"""
