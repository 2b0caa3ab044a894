"""Whether a file or folder lets this process in; where not, whose it is, and as whom one would have to run."""

from __future__ import annotations

import os
import stat


def why_closed(what: str, path: str, *, write: bool) -> str | None:
    """In one line, with both ways out; None where it lets us in, or is not there at all.

    Of a filesystem that is mounted read-only nothing is said: that is nobody's mistake.
    """
    closed = _closed_part(path, os.R_OK | os.X_OK | (os.W_OK if write else 0))
    if closed is None:
        return None
    place, wanted = closed
    found = os.stat(place)
    name = f"{what} {path}" if place == path else f"{what} {path} cannot be reached: {place}"
    return (
        f"{name} belongs to {found.st_uid}:{found.st_gid} and cannot be {_done(place, wanted)} by {_us()}; "
        f"{_ways_out(place, found, wanted)}"
    )


def can_write_in(folder: str) -> bool:
    """Whether we may write in it, or in a folder that lies right in it."""
    try:
        inner = [entry.path for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        inner = []
    return any(os.access(path, os.W_OK | os.X_OK) for path in (folder, *inner))


def _closed_part(path: str, wanted: int) -> tuple[str, int] | None:
    """The path, or the folder above it that lets us no further; and what it was to let us do."""
    try:
        is_folder = stat.S_ISDIR(os.stat(path).st_mode)
    except PermissionError:
        parent = os.path.dirname(os.path.abspath(path))
        return _closed_part(parent, os.X_OK) or (parent, os.X_OK)
    except OSError:
        return None
    if not is_folder:
        wanted &= ~os.X_OK
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        wanted &= ~os.W_OK
    return None if os.access(path, wanted) else (path, wanted)


def _done(place: str, wanted: int) -> str:
    """The first of the wanted things that is refused, as a participle."""
    if wanted == os.X_OK:
        return "entered"
    return "written" if os.access(place, wanted & ~os.W_OK) else "read"


def _us() -> str:
    without = " without the capabilities to pass over owners" if os.getuid() == 0 else ""
    return f"us, {os.getuid()}:{os.getgid()}{without}"


def _ways_out(place: str, found: os.stat_result, wanted: int) -> str:
    if found.st_uid == os.getuid():
        return f"it is ours, and lacks the right: chmod u+rwX {place}"
    give = f"give it to us with: chown -R {os.getuid()}:{os.getgid()} {place}"
    if (found.st_mode >> 6) & wanted != wanted:
        return f"its owner may not either: {give} and chmod u+rwX {place}"
    owner = f'user: "{found.st_uid}:{found.st_gid}" (UID={found.st_uid} and GID={found.st_gid} in .env)'
    return f"run as its owner, in compose.yaml {owner}, or {give}"
