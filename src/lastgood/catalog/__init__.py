"""What is remembered: SQLite in WAL mode, through SQLAlchemy. The one place where worker and service meet.

The worker alone writes checkpoints, events and its own row; the service adds requests.
"""

from lastgood.catalog.reading import Catalog, worker_in
from lastgood.catalog.rows import Event, Place, Request, Root, Run, Sighting, WorkerStatus
from lastgood.catalog.store import SCHEMA_VERSION
from lastgood.catalog.writing import WorkerCatalog

__all__ = [
    "SCHEMA_VERSION",
    "Catalog",
    "Event",
    "Place",
    "Request",
    "Root",
    "Run",
    "Sighting",
    "WorkerCatalog",
    "WorkerStatus",
    "worker_in",
]
