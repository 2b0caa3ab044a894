"""The shapes on the wire. Answers are made by `rendering` and `lastgood.resume`; a test holds the two together."""

from lastgood_service.schemas.base import FindingShape, Problem, Shape
from lastgood_service.schemas.checkpoints import Checkpoint, CheckpointDetail, CheckpointPage, ResumePoint
from lastgood_service.schemas.cloud import CloudCopyShape, CloudShape, CopyPage, CopyShape
from lastgood_service.schemas.keeping import HoldShape, PlanShape, Retention
from lastgood_service.schemas.leases import Leased
from lastgood_service.schemas.log import EventPage, EventShape, RequestShape
from lastgood_service.schemas.runs import Alive, Ready, Runs, RunShape, StatusShape

__all__ = [
    "Alive",
    "Checkpoint",
    "CheckpointDetail",
    "CheckpointPage",
    "CloudCopyShape",
    "CloudShape",
    "CopyPage",
    "CopyShape",
    "EventPage",
    "EventShape",
    "FindingShape",
    "HoldShape",
    "Leased",
    "PlanShape",
    "Problem",
    "Ready",
    "RequestShape",
    "ResumePoint",
    "Retention",
    "RunShape",
    "Runs",
    "Shape",
    "StatusShape",
]
