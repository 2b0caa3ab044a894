"""From what stopped us to what goes over the wire."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from lastgood import errors
from lastgood.errors import LastgoodError, Refusal
from lastgood_service import openapi, schemas
from lastgood_service.exception_handlers import PROBLEMS, problem_of
from lastgood_service.sharing import Shared
from service_world import World, problem

if TYPE_CHECKING:
    from starlette.testclient import TestClient


def _all_below(kind: type[LastgoodError]) -> set[type[LastgoodError]]:
    return {kind}.union(*(_all_below(sub) for sub in kind.__subclasses__()))


def test_every_refusal_has_its_row() -> None:
    missing = _all_below(Refusal) - {Refusal} - PROBLEMS.keys()
    assert not missing


def test_a_refusal_keeps_its_code_over_the_wire() -> None:
    for code, kind in errors.REFUSALS.items():
        assert PROBLEMS[kind].code == code


@pytest.mark.parametrize("kind", PROBLEMS)
def test_every_error_becomes_a_well_formed_problem(kind: type[LastgoodError]) -> None:
    error: Any = kind("reading", "/data", OSError(5, "I/O")) if kind is errors.CannotTell else kind("no")
    shown = schemas.Problem.model_validate_json(problem_of(error).body)
    assert re.fullmatch(r"[a-z-]+", shown.code)
    assert shown.type == f"urn:lastgood:problem:{shown.code}"
    assert shown.status == problem_of(error).status


def test_details_never_hide_what_the_standard_asks_for() -> None:
    shown = schemas.Problem.model_validate_json(problem_of(errors.Unknown("no", status=200, runs=["a"])).body)
    assert shown.status == 404
    assert shown.model_extra == {"runs": ["a"]}


def test_an_address_that_is_not_there_is_a_problem(client: TestClient) -> None:
    assert problem(client.get("/nowhere"))["code"] == "no-such-address"
    assert problem(client.get("/docs"))["code"] == "no-such-address"
    assert problem(client.get("/redoc"))["code"] == "no-such-address"


@pytest.mark.parametrize(
    ("address", "taken"),
    [("/status", "GET, HEAD"), ("/checkpoints/1", "DELETE, GET, HEAD"), ("/retention/apply", "POST")],
)
def test_a_method_that_is_not_taken_is_a_problem_that_names_those_that_are(
    world: World, client: TestClient, address: str, taken: str
) -> None:
    answer = client.put(address, headers=world.authorized)
    assert (problem(answer)["status"], answer.headers["allow"]) == (405, taken)


def test_a_body_that_is_no_json_is_a_problem(world: World, client: TestClient) -> None:
    headers = {**world.authorized, "Content-Type": "application/json"}
    assert problem(client.post("/checkpoints/landed", content=b"{", headers=headers))["code"] == "invalid"


def test_what_nobody_foresaw_is_logged_and_not_told(
    world: World, client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(**_: Any) -> None:
        raise ZeroDivisionError("the secret of the house")

    monkeypatch.setattr(world.catalog, "events", break_down)
    answer = client.get("/events")
    assert (problem(answer)["status"], problem(answer)["code"]) == (500, "internal")
    assert "secret" not in answer.text
    assert "the secret of the house" in caplog.text
    assert "content-security-policy" in answer.headers


def test_a_disk_that_does_not_answer_is_said_so(
    world: World, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.save(100)

    async def time_out(_: Any) -> None:
        raise errors.CannotTell("reading", "llama", TimeoutError(110, "Connection timed out"))

    client.get("/livez")
    monkeypatch.setattr(Shared, "_run", time_out)
    assert problem(client.get("/checkpoints/latest"))["code"] == "cannot-tell"


# --- the document ---


@pytest.fixture
def document(client: TestClient) -> dict[str, Any]:
    made: dict[str, Any] = client.get("/openapi.json").json()
    return made


def _operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for path in document["paths"].values() for operation in path.values()]


def test_the_document_names_every_operation_once_and_readably(document: dict[str, Any]) -> None:
    assert sorted(operation["operationId"] for operation in _operations(document)) == [
        "apply_retention",
        "declare_landed",
        "end_lease",
        "get_checkpoint",
        "get_metrics",
        "get_request",
        "get_retention",
        "get_run",
        "get_status",
        "is_alive",
        "is_ready",
        "latest_checkpoint",
        "list_checkpoints",
        "list_copies",
        "list_events",
        "list_runs",
        "pin_checkpoint",
        "probe_store",
        "pull_checkpoint",
        "push_checkpoint",
        "remove_checkpoint",
        "renew_lease",
        "report_outcome",
        "take_lease",
        "undo_checkpoint",
        "unpin_checkpoint",
        "verify_checkpoint",
    ]


def test_the_document_declares_every_error_as_a_problem(document: dict[str, Any]) -> None:
    for operation in _operations(document):
        refusals = {s: r for s, r in operation["responses"].items() if s.startswith(("4", "5"))}
        assert {"401", "403", "422"} <= refusals.keys()
        for refusal in refusals.values():
            schema = refusal["content"]["application/problem+json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}


def test_the_document_refers_to_nothing_that_is_not_in_it(document: dict[str, Any]) -> None:
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')))
    assert named <= document["components"]["schemas"].keys()


def test_the_examples_in_the_document_are_examples(document: dict[str, Any]) -> None:
    for name in ("Problem", "ResumePoint", "Leased", "Retention", "CopyPage"):
        shape = getattr(schemas, name)
        (example,) = document["components"]["schemas"][name]["examples"]
        shape.model_validate(example)


def test_what_every_route_can_refuse_is_worded(document: dict[str, Any]) -> None:
    assert set(openapi.problems(404, 409, 503)) <= openapi._WHEN.keys()
