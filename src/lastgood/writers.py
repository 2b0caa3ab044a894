"""Whether anybody still writes a file, and on what kind of filesystem a path lies. Linux."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import Final

# Where a lease says what every process on every container of this kernel does. On others it may mean something else.
_LOCAL: Final = frozenset({"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "f2fs", "zfs", "bcachefs"})
_NETWORK: Final = frozenset(
    {
        "nfs",
        "nfs4",
        "cifs",
        "smb3",
        "smbfs",
        "9p",
        "lustre",
        "ceph",
        "beegfs",
        "gpfs",
        "afs",
        "glusterfs",
        "virtiofs",
    }
)
_NETWORK_FUSE: Final = (
    "fuse.sshfs",
    "fuse.glusterfs",
    "fuse.juicefs",
    "fuse.s3fs",
    "fuse.gcsfuse",
    "fuse.rclone",
)


def is_open_for_writing(path: str) -> bool | None:
    """Whether any process holds the file open for writing or mapped shared; None where the kernel will not say.

    A read lease is refused with EAGAIN while a writer exists (fcntl(2), F_SETLEASE); it is given back at once. It needs
    the owner's uid or CAP_LEASE. A writer that comes meanwhile waits for microseconds; SIGIO must be ignored.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(handle, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    else:
        return False
    finally:
        os.close(handle)


def filesystem_of(path: str) -> str:
    """The kernel's name of the filesystem that holds `path`; "" where it cannot be found out."""
    real = os.path.realpath(path)
    try:
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            rows = [line.split() for line in mounts]
    except OSError:
        return ""
    # proc(5): the fifth field is the mount point; a lone "-" comes before the type. Later mounts hide earlier ones.
    holding = [(len(row[4]), place, row) for place, row in enumerate(rows) if _is_below(real, row[4])]
    if not holding:
        return ""
    row = max(holding)[2]
    return row[row.index("-") + 1]


def _is_below(path: str, mount_point: str) -> bool:
    plain = mount_point.replace("\\040", " ")
    return path == plain or path.startswith(plain.rstrip("/") + "/")


def is_local(filesystem: str) -> bool:
    """Whether the writer probe can be believed there."""
    return filesystem in _LOCAL


def is_network(filesystem: str) -> bool:
    """Whether others may write there unseen, and attributes may be minutes old."""
    return filesystem in _NETWORK or filesystem.startswith(_NETWORK_FUSE)
