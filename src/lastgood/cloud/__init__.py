"""Copies in the cloud, as plain values: what they are called, what proves them, which are made, kept, or started from.

Pure: no disk, no clock, no network. `lastgood.remote` carries it out.
"""

from lastgood.cloud.addressing import Remote
from lastgood.cloud.choosing import (
    Choice,
    copy_as_answer,
    copy_of,
    may_be_copied,
    newest_copy,
    records_of,
    to_upload,
    waiting_for_proof,
)
from lastgood.cloud.keeping import CopiesPlan, plan_of_copies
from lastgood.cloud.words import Bundle, Capabilities, CloudCopy, CopyState, Found, Proof, Upload

__all__ = [
    "Bundle",
    "Capabilities",
    "Choice",
    "CloudCopy",
    "CopiesPlan",
    "CopyState",
    "Found",
    "Proof",
    "Remote",
    "Upload",
    "copy_as_answer",
    "copy_of",
    "may_be_copied",
    "newest_copy",
    "plan_of_copies",
    "records_of",
    "to_upload",
    "waiting_for_proof",
]
