"""What a person reads of copies in the cloud, and of the stores that they lie in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from lastgood.cloud import CopyState, Proof, Upload, copy_as_answer
from lastgood.rendering import aligned, local_time, size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from lastgood.cloud import Capabilities, CloudCopy, Found, Remote
    from lastgood.remote import Checked

_HEAD: Final = ("RUN", "NAME", "STEP", "VERDICT", "SIZE", "SAVED", "PROOF")
_TRIED: Final = (
    ("keeps_crc64", "keeps the digest (CRC64NVME) of a whole file"),
    ("refuses_wrong_crc64", "refuses a file whose bytes have another digest"),
    ("keeps_crc64_of_parts", "keeps the digest of a file that is sent in parts"),
    ("refuses_wrong_crc64_of_parts", "refuses parts whose bytes have another digest"),
    ("etag_is_md5", "says the MD5 of a whole file (ETag)"),
    ("etag_is_md5_of_parts", "says the MD5 of a file that is sent in parts"),
    ("refuses_wrong_md5", "refuses bytes with another MD5 (Content-MD5)"),
    ("puts_only_new", "refuses to write over what is there (If-None-Match)"),
    ("one_winner", "lets one alone succeed where several write at once"),
    ("replaces_known", "replaces only what it is told to (If-Match)"),
    ("lists_parts", "lists unfinished uploads, and their parts"),
    ("reads_ranges", "gives back part of a file (Range)"),
)
_PROOFS: Final = {
    Proof.FULL_OBJECT: "the store keeps the digest that was judged, and refuses other bytes",
    Proof.PARTS_MD5: "the store says the MD5 of what it received",
    Proof.READ_BACK: "the store says nothing of the bytes: each one is read back after it was sent",
}
_RULE: Final = (
    "give the bucket a lifecycle rule with AbortIncompleteMultipartUpload: what nobody finishes is paid for, and "
    "lastgood clears away its own alone"
)


# --- copies ---


def copy_as_json(copy: CloudCopy, remote: Remote) -> dict[str, Any]:
    """As the service says it."""
    return copy_as_answer(Upload(0, copy, CopyState.PROVEN), remote)


def broken_in(found: Found, remote: Remote) -> list[dict[str, Any]]:
    return [{"url": remote.url(key), "state": "broken", "error": why} for key, why in found.broken.items()]


def found_as_json(found: Found, remote: Remote) -> list[dict[str, Any]]:
    return [*(copy_as_json(copy, remote) for copy in found.copies), *broken_in(found, remote)]


def listed(found: Found, remote: Remote, *, terminal: bool) -> str:
    """A table on a terminal; otherwise a line each, parted by tabs, with exact numbers. What is broken stands last."""
    lines: Iterable[str]
    if terminal:
        lines = aligned([_HEAD, *map(_row, found.copies)]) if found.copies else ()
    else:
        lines = map("\t".join, map(_exact_row, found.copies))
    return "\n".join([*lines, *map(broken_line, broken_in(found, remote))])


def _row(copy: CloudCopy) -> tuple[str, ...]:
    saved = local_time(copy.saved_at.isoformat())
    return (copy.run, copy.name, str(copy.step), copy.verdict.value, size(copy.bytes), saved, str(copy.proof or "none"))


def _exact_row(copy: CloudCopy) -> tuple[str, ...]:
    saved = copy.saved_at.isoformat(timespec="seconds")
    return (copy.run, copy.name, str(copy.step), copy.verdict.value, str(copy.bytes), saved, str(copy.proof or "none"))


def broken_line(broken: dict[str, Any]) -> str:
    return f"{click.style('✗', fg='red')} {broken['error']}"


def checked_as_json(found: Checked, url: str) -> dict[str, Any]:
    about = {"run": found.copy.run, "name": found.copy.name, "step": found.copy.step}
    return {"url": url, **about, "good": found.good, "problems": list(found.problems), "unread": found.unread}


def checked(told: Mapping[str, Any]) -> str:
    """One copy, and what is wrong with it."""
    if not told["good"]:
        return "\n".join((f"{_mark(good=False)} {told['url']}", *(f"    {problem}" for problem in told["problems"])))
    if not told["unread"]:
        return f"{_mark(good=True)} {told['url']}: good"
    how_many = f"the store says nothing of the bytes of {told['unread']} files: only --read tells"
    return f"{_mark(good=True)} {told['url']}: all there; {how_many}"


# --- stores ---


def is_strong(able: Capabilities) -> bool:
    """Copies can be proven there, and come back, and no COMMIT is written over."""
    return able.reads_ranges and able.conditional


def store(able: Capabilities, url: str, address: str) -> str:
    """What it was seen to do, and what follows from that."""
    return "\n".join(_store_lines(able, url, address))


def store_as_json(able: Capabilities, url: str, address: str) -> dict[str, Any]:
    return {
        "check": "s3",
        "ok": is_strong(able),
        "url": url,
        "address": address,
        "able": {name: getattr(able, name) for name, _words in _TRIED},
        "aborts_abandoned": able.aborts_abandoned,
        "remarks": dict(able.remarks),
        "proof": {"whole": able.proof(parts=False).value, "parts": able.proof(parts=True).value},
        "commit_protected": able.conditional,
        "resumes_uploads": able.lists_parts,
    }


def _store_lines(able: Capabilities, url: str, address: str) -> Iterator[str]:
    yield click.style(f"{url} at {address}", bold=True)
    for name, words in _TRIED:
        remark = f": {able.remarks[name]}" if name in able.remarks else ""
        yield f"  {_mark(good=getattr(able, name))} {words}{remark}"
    unknown = ": it does not say" if able.aborts_abandoned is None else ""
    yield f"  {_mark(good=able.aborts_abandoned)} clears away abandoned parts, by a rule of the bucket{unknown}"
    yield ""
    for good, words in consequences(able):
        yield f"  {_mark(good=good)} {words}"
    if not able.aborts_abandoned:
        yield f"  {click.style('!', fg='yellow')} {_RULE}"


def consequences(able: Capabilities) -> Sequence[tuple[bool, str]]:
    """What follows for copies, and whether it is as it should be."""
    whole, parts = able.proof(parts=False), able.proof(parts=True)
    found = [
        (True, f"whole files are proven by {whole.value}: {_PROOFS[whole]}"),
        (True, f"files in parts are proven by {parts.value}: {_PROOFS[parts]}"),
    ]
    if not able.reads_ranges:
        found.append((False, "nothing can be fetched or read back: part of a file cannot be asked for"))
    if able.conditional:
        found.append((True, "COMMIT is protected: of several that send the same copy one alone succeeds"))
    else:
        found.append((False, "COMMIT is not protected: let no two machines send copies of the same run"))
    if able.lists_parts:
        found.append((True, "an interrupted upload goes on where it stopped"))
    else:
        found.append((False, "an interrupted upload begins again with the file that was under way"))
    return found


def _mark(*, good: bool | None) -> str:
    if good is None:
        return click.style("?", fg="yellow")
    return click.style("✓", fg="green") if good else click.style("✗", fg="red")
