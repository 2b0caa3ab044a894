"""Whether a watched folder is still the one we know: a marker in it, and the device it lies on."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

from lastgood import naming
from lastgood.catalog import Root

if TYPE_CHECKING:
    from datetime import datetime


def why_frozen(known: Root | None, path: str) -> str | None:
    """Why nothing may be concluded from the root at the moment; None where it is the one we know, or a new one."""
    try:
        device = os.stat(path).st_dev
    except OSError as error:
        return f"{path} cannot be looked at: {error.strerror}"
    if known is None:
        return None
    if not known.marker:  # none could be written: an empty folder on another device is a mount point without its disk
        unmounted = known.device not in (0, device) and not os.listdir(path)
        return f"{path} is empty, and lies on another device than before: is its disk mounted?" if unmounted else None
    if device != known.device and _marker_text(path) != known.marker:
        return f"{path} lies on another device than before: is its disk mounted?"
    text = _marker_text(path)
    if text is None:
        marker = os.path.join(path, naming.ROOT_MARKER)
        return f"{marker} is gone: was the disk unmounted? If you emptied the folder on purpose: touch {marker}"
    if text not in ("", known.marker):
        return f"{path} is another folder than before (its {naming.ROOT_MARKER} differs)"
    return None


def mark_root(known: Root | None, path: str, now: datetime) -> Root:
    """The root with its marker in place. Where none can be written, the marker is "", and nothing guards the root."""
    device = os.stat(path).st_dev
    text = _marker_text(path)
    if not text:
        text = (known.marker if known else "") or uuid.uuid4().hex
        try:
            with open(os.path.join(path, naming.ROOT_MARKER), "w", encoding="ascii") as marker:
                marker.write(text + "\n")
        except OSError:
            text = ""
    return Root(path, text, device, None, (known.known_since if known else None) or now)


def _marker_text(path: str) -> str | None:
    try:
        with open(os.path.join(path, naming.ROOT_MARKER), encoding="ascii", errors="replace") as marker:
            return marker.read(64).strip()
    except OSError:
        return None
