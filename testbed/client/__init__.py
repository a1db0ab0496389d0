"""A client of the Kubernetes API: requests, watches, and informers that keep a copy of what they watch.

Objects are plain dicts, as decoded from JSON. It speaks to any Kubernetes API server.
"""

from testbed.client.errors import AlreadyExists, ApiError, Conflict, Gone, Invalid, NotFound, Unreachable
from testbed.client.informer import Informer, key_of
from testbed.client.rest import Client, Event, Listing

__all__ = [
    "AlreadyExists",
    "ApiError",
    "Client",
    "Conflict",
    "Event",
    "Gone",
    "Informer",
    "Invalid",
    "Listing",
    "NotFound",
    "Unreachable",
    "key_of",
]
