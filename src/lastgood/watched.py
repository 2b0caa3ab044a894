"""What the service says of the folders that it watches: under which name it knows one that we see."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from lastgood import resume
from lastgood.discovery import discover, require_folder, saved_otherwise
from lastgood.errors import LastgoodError, NotReady, RunAmbiguous, Unreachable
from lastgood.placing import is_below

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lastgood.calling import Service
    from lastgood.settings import Settings

_CLOUD_UNKNOWN: Final = "cloud-unknown"
_NO_WORKER: Final = frozenset({"worker-never-started", "worker-silent"})


def run_watched_as(service: Service, folder: str, run: str | None, root: str) -> str:
    """The name under which the service watches the folder's run. Unreachable where it does not watch it at all."""
    status = service.get("/status")
    try:
        roots = _roots_in(status)
        paths = {str(entry["name"]): str(entry["path"]) for entry in status["runs"]}
        elsewhere = {str(entry["name"]) for entry in status["runs"] if entry.get("branches") == []}
        obstacles = [obstacle for obstacle in status["obstacles"] if obstacle["message"]]
    except (AttributeError, KeyError, TypeError):
        raise Unreachable(f"what answers at {service.url} is not lastgood") from None
    there = _as_watched(folder, root, roots)
    if not any(is_below(there, path) for path in roots):
        raise Unreachable(f"the service at {service.url} does not watch {folder}")
    below = sorted(name for name, path in paths.items() if is_below(path, there))
    if run is not None and run not in below:
        wanted = os.path.realpath(os.path.join(there, run))
        below = [name for name in below if os.path.realpath(paths[name]) == wanted]
    elif run is not None:
        return run
    # What lies in the cloud alone counts where nothing lies here.
    below = [name for name in below if name not in elsewhere] or below
    if len(below) > 1:
        raise RunAmbiguous(f"{folder} holds several runs: {', '.join(below)}; name one with --run", runs=below)
    if not below:
        own = [obstacle for obstacle in obstacles if not obstacle.get("root") or is_below(there, obstacle["root"])]
        if not any(obstacle["code"] == _CLOUD_UNKNOWN for obstacle in own):
            own += _unknown_copies(status)
        raise _not_seen(service, only_run_folder(folder, run), own)
    return below[0]


def is_at_work_on(service: Service, folder: str, root: str) -> bool | None:
    """Whether a worker that lives watches the folder; None where no service tells."""
    try:
        status = service.get("/status")
        roots = _roots_in(status)
        codes = {obstacle["code"] for obstacle in status["obstacles"]}
    except (LastgoodError, AttributeError, KeyError, TypeError):
        return None
    there = _as_watched(folder, root, roots)
    return not codes & _NO_WORKER and any(is_below(there, path) for path in roots)


def roots_above(service: Service, folder: str, settings: Settings) -> Sequence[str]:
    """The watched folders, as they lie here, where this folder lies below one of them: its place is its run's name."""
    try:
        told = _roots_in(service.get("/status"))
    except (Unreachable, AttributeError, KeyError, TypeError):
        told = []
    here = [settings.root] if settings.root and len(told) < 2 else told
    for roots in (here, settings.roots):
        if any(is_below(folder, root) for root in roots):
            return [os.path.abspath(root) for root in roots]
    return []


def run_here(folder: str) -> str | None:
    """The path, below the folder, of the only run that lies there; None where there are none, or several."""
    runs = {candidate.run for candidate in discover(folder).candidates}
    return runs.pop() if len(runs) == 1 else None


def _unknown_copies(status: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Why it cannot be said that nothing was saved: it may lie in the cloud alone, where nobody has looked yet."""
    cloud = status.get("cloud")
    if cloud is None or cloud.get("listed_at") is not None:
        return []
    why = f": {cloud['trouble']}" if cloud.get("trouble") else ""
    return [{"code": _CLOUD_UNKNOWN, "message": f"the copies in the cloud are not known yet{why}"}]


def _roots_in(status: Mapping[str, Any]) -> list[str]:
    return [str(path) for path in (status["watch"] or {}).get("roots", ())]


def _not_seen(service: Service, run_folder: str, obstacles: list[Mapping[str, Any]]) -> LastgoodError:
    """Why the service lists nothing there. That nothing was saved must be true: a job would start from scratch."""
    if obstacles:
        return NotReady("; ".join(str(obstacle["message"]) for obstacle in obstacles), obstacles=obstacles)
    if any(not candidate.copy for candidate in discover(run_folder).candidates):
        return Unreachable(f"the service at {service.url} has not seen yet what lies in {run_folder}")
    return resume.nothing_saved(saved_otherwise(run_folder), f"in {run_folder}")


def _as_watched(folder: str, root: str, roots: list[str]) -> str:
    """Where the watcher sees the folder."""
    if root and len(roots) == 1 and is_below(folder, root):
        return os.path.normpath(os.path.join(roots[0], os.path.relpath(folder, root)))
    return folder


def only_run_folder(folder: str, run: str | None) -> str:
    """Where the checkpoints of a run below the folder lie; of the only one, where none is named."""
    if run is not None:
        named = os.path.normpath(os.path.join(folder, run))
        require_folder(named)
        return named
    runs = sorted({candidate.run for candidate in discover(folder).candidates})
    if len(runs) > 1:
        raise RunAmbiguous(f"{folder} holds several runs: {', '.join(runs)}; name one with --run", runs=runs)
    return os.path.normpath(os.path.join(folder, runs[0])) if runs else folder
