"""Every command. Exit codes: 0 good, 1 judged and found wanting, 2 could not be done."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from lastgood import __version__, rendering
from lastgood.errors import LastgoodError, NoCheckpointsYet, NoneAcceptable, Unreachable
from lastgood.facts import Level, report_as_json
from lastgood.findings import Severity, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lastgood.client import Service
    from lastgood.facts import Report
    from lastgood.settings import Settings

GOOD, WANTING, NOT_DONE = 0, 1, 2
_FOLLOW_EVERY: Final = 1.0


def main() -> None:
    """The program's entry: errors of ours become one line and exit code 2."""
    try:
        code = commands(standalone_mode=False)
    except LastgoodError as error:
        _complain(str(error))
        code = WANTING if isinstance(error, NoneAcceptable | NoCheckpointsYet) else NOT_DONE
    except click.ClickException as error:
        error.show()
        code = NOT_DONE
    except (click.Abort, KeyboardInterrupt):
        code = NOT_DONE
    except BrokenPipeError:  # whoever read our output has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = GOOD
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def commands() -> None:
    """Watches the folder a training job saves into, and answers: which is the last good checkpoint?"""


@commands.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option("--host", help="Address on which the service listens (default 127.0.0.1).")
@click.option("--port", type=int, help="Port on which the service listens (default 8484; 0 takes a free one).")
def up(folders: tuple[str, ...], host: str | None, port: int | None) -> int:
    """Watch DIR... and serve the answer, until Ctrl-C."""
    from lastgood.supervisor import run_both

    flags = {"roots": tuple(os.path.abspath(folder) for folder in folders), "host": host, "port": port}
    return run_both(_settings(**flags))


@commands.command()
@click.option("--check", is_flag=True, help="Run nothing; tell by the exit code whether one is at work.")
def worker(*, check: bool) -> int:
    """Run the watching process alone."""
    if not check:
        _become("lastgood_worker")
    from lastgood.alive import trouble_of_worker
    from lastgood.catalog import worker_in

    state_dir = _settings().state_dir
    return _well(trouble_of_worker(worker_in(state_dir), state_dir, datetime.now(UTC)))


@commands.command()
@click.option("--check", is_flag=True, help="Run nothing; tell by the exit code whether one answers.")
def service(*, check: bool) -> int:
    """Run the answering process alone."""
    if not check:
        _become("lastgood_service")
    from lastgood.alive import trouble_of_service

    settings = _settings()
    return _well(trouble_of_service(settings.host, settings.port))


@commands.command()
@click.argument("where", required=False, metavar="[DIR|URL]")
@click.option("--run", help="Which run, where there are several.")
@click.option("--accept", type=click.Choice(["complete", "partial"]), help="The least verdict to take.")
@click.option("--require", default="", help="Components that must be there, such as optimizer,rng.")
@click.option("--world-size", type=click.IntRange(1), help="Only what was saved by this many processes.")
@click.option("--max-step", type=click.IntRange(0), help="Nothing later than this step.")
@click.option("--strict", is_flag=True, help="Refuse warnings as well.")
@click.option("--wait", type=click.FloatRange(0, 600), default=0.0, help="Seconds to wait for a newer one in work.")
@click.option("--quick", is_flag=True, help="Where nobody watches DIR: by headers alone, not every byte.")
@click.option("--or-none", is_flag=True, help="Print nothing, and succeed, where nothing has been saved yet.")
@click.option("--json", "as_json", is_flag=True, help="The whole answer, as JSON.")
def latest(
    where: str | None, *, run: str | None, wait: float, quick: bool, or_none: bool, as_json: bool, **wishes: Any
) -> int:
    """Print the path of the last good checkpoint.

    In a script: CKPT=$(lastgood latest ./output --or-none) || exit 1
    """
    from lastgood import client

    settings = _settings()
    wanted = _wishes(settings, **wishes)
    try:
        if where and not where.startswith(("http://", "https://")):
            level = Level.QUICK if quick else Level.FULL
            found = client.latest_in(
                where, _service(settings), wanted, run=run, wait=wait, root=settings.root, level=level
            )
        else:
            found = client.latest_from_service(_service(settings, where), run, wanted, wait)
    except Unreachable as error:
        raise Unreachable(
            f"{error}; start one with `lastgood up DIR`, or ask about a folder: lastgood latest DIR"
        ) from error
    except NoCheckpointsYet:
        if or_none:
            return GOOD
        raise
    found = {**found, "path": client.rebased(found, settings.root)}
    click.echo(json.dumps(found) if as_json else found["path"])
    for warning in found["warnings"]:
        _complain(f"warning: {warning['message']}")
    return GOOD


@commands.command()
@click.argument("paths", nargs=-1, required=True, metavar="PATH...")
@click.option("-v", "--verbose", is_flag=True, help="Every file with its digest, and every remark.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option(
    "--level",
    type=click.Choice(["quick", "full", "deep"]),
    default="full",
    help="Headers alone; every byte (default); or the real loaders as well, in a process of their own.",
)
@click.option("--accept", type=click.Choice(["complete", "partial"]), default="complete", help="What counts as good.")
@click.option("--manifest", metavar="FILE", help="Hold its bytes against this manifest.")
@click.option("--previous", metavar="FILE", help="Hold it against the manifest of the checkpoint before it.")
@click.option("--digest", type=click.Choice(["crc64nvme", "sha256"]), help="The digest of each file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line and path.")
def verify(paths: tuple[str, ...], *, verbose: bool, strict: bool, accept: str, as_json: bool, **how: Any) -> int:
    """Judge the checkpoints at PATH..., here and now. No service is needed."""
    options = _reading(paths, **how)
    verdicts: list[Verdict] = []
    worst = GOOD
    for path in paths:
        try:
            report = _judged(path, options)
        except LastgoodError as error:
            _complain(str(error))
            worst = NOT_DONE
            continue
        verdicts.append(report.verdict)
        colour = rendering.takes_colour(sys.stdout, os.environ)
        shown = rendering.report(report, verbose=verbose, colour=colour)
        click.echo(json.dumps(report_as_json(report)) if as_json else shown)
        if len(paths) > 1 and not as_json:
            click.echo()
        worst = max(worst, _exit_code(report, accept=accept, strict=strict))
    if len(paths) > 1 and not as_json:
        click.echo(rendering.summary(verdicts, len(paths) - len(verdicts)))
    return worst


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="The whole object, as JSON.")
def status(*, as_json: bool) -> int:
    """What is watched, what is handed out, what is in work."""
    found = _service(_settings()).get("/status")
    click.echo(json.dumps(found) if as_json else rendering.status(found))
    return GOOD if found["ready"] else WANTING


@commands.command()
@click.option("-f", "--follow", is_flag=True, help="Go on printing what happens.")
@click.option("--since", type=click.IntRange(0), default=0, help="Only events after this id.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def events(*, follow: bool, since: int, as_json: bool) -> int:
    """What happened, oldest first."""
    service = _service(_settings())
    while True:
        found = service.get("/events", {"since": since, "limit": 500})
        for event in found["items"]:
            click.echo(json.dumps(event) if as_json else rendering.event(event))
            since = event["id"]
        if found["items"]:
            continue
        if not follow:
            return GOOD
        time.sleep(_FOLLOW_EVERY)


def _reading(
    paths: tuple[str, ...], *, level: str, manifest: str | None, previous: str | None, digest: str | None
) -> dict[str, Any]:
    """What `lastgood.verify.verify` is to be called with."""
    from lastgood.manifest import algorithm_of, read_manifest

    if len(paths) > 1 and (manifest or previous):
        raise click.UsageError("--manifest and --previous speak of one checkpoint: name one PATH")
    own = read_manifest(manifest) if manifest else None
    options = {
        "level": Level(level),
        "manifest": own,
        "previous": read_manifest(previous) if previous else None,
    }
    if options["level"] is Level.QUICK:
        return options  # it reads no byte that settings could be about, and they take a while to load
    settings = _settings()
    # Only digests by the same algorithm can be compared.
    chosen = digest or algorithm_of(own) or settings.digest
    return {**options, "digest": chosen, "threads": settings.verify_threads}


def _judged(path: str, options: Mapping[str, Any]) -> Report:
    """The report, with a bar on a terminal for as long as it takes."""
    from lastgood.progress import progress_bar
    from lastgood.verify import verify as judge

    with progress_bar(path, sys.stderr) as on_bytes:
        return judge(path, **options, on_bytes=on_bytes)


def _settings(**flags: Any) -> Settings:
    # pydantic takes a fifth of a second to import: whoever only verifies does not wait for it.
    from lastgood.settings import read_settings
    from lastgood.settings_file import settings_text

    given = {name: value for name, value in flags.items() if value is not None}
    return read_settings(os.environ, settings_text(), given)


def _service(settings: Settings, url: str | None = None) -> Service:
    from lastgood.client import service_of

    return service_of(settings, url)


def _wishes(settings: Settings, *, require: str, accept: str | None, **others: Any) -> Any:
    from lastgood.client import components_named
    from lastgood.resume import Wishes

    components = components_named(require.split(","))
    return Wishes(accept=Verdict(accept or settings.accept), require=components, **others)


def _exit_code(report: Report, *, accept: str, strict: bool) -> int:
    good = report.verdict in (Verdict.COMPLETE, Verdict(accept))
    if strict and any(finding.severity is Severity.WARNING for finding in report.findings):
        good = False
    if report.verdict is Verdict.UNREADABLE:
        return NOT_DONE
    return GOOD if good else WANTING


def _become(module: str) -> NoReturn:
    """The process itself, not a child of ours: signals, and the first process of a container, are its own."""
    os.execv(sys.executable, [sys.executable, "-P", "-m", module])


def _well(trouble: str | None) -> int:
    if trouble is None:
        return GOOD
    _complain(trouble)
    return WANTING


def _complain(message: str) -> None:
    click.echo(f"lastgood: {message}", err=True)
