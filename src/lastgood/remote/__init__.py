"""Copies of checkpoints in S3, and whatever speaks it: made, proven, found, fetched, removed. Alone imports boto3.

What is decided is decided in `lastgood.cloud`.
"""

from lastgood.remote.fetching import fetch
from lastgood.remote.listing import find_copies, find_runs, read_bundle
from lastgood.remote.locking import Uploader
from lastgood.remote.probing import probe
from lastgood.remote.sending import send
from lastgood.remote.store import Store
from lastgood.remote.sweeping import remove_copy, sweep_abandoned
from lastgood.remote.verifying import Checked, verify_copy

__all__ = [
    "Checked",
    "Store",
    "Uploader",
    "fetch",
    "find_copies",
    "find_runs",
    "probe",
    "read_bundle",
    "remove_copy",
    "send",
    "sweep_abandoned",
    "verify_copy",
]
