"""compose.yaml as a person uses it, on a real engine: what the containers may do, and serve, and that they come back.

`docker kill` counts as a person's wish, after which the engine starts nothing again: here the processes are killed.
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import httpx
import pytest

import images
from builders import make_hf_checkpoint
from engine import Engine, engine
from running import wait_for

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    *(
        pytest.mark.needs(tool)
        for tool in ("dockerd", "docker compose", "docker buildx", "mmdebstrap", "iptables", "ip")
    ),
    pytest.mark.timeout(900),
]

UID: Final = 10001  #: of whoever trains; no default, so that none can pass for it
EVERYBODY: Final = ("worker", "service", "trainer")
# Health is asked for more often, so that nobody waits for half a minute here.
OVERRIDE: Final = """
services:
  worker: {healthcheck: {interval: 2s}}
  service: {healthcheck: {interval: 2s}}
"""


@dataclass(frozen=True)
class Stack:
    """One `docker compose` project in a clone of the repository, with its own settings."""

    engine: Engine
    clone: Path
    project: str
    port: int
    checkpoints: Path

    @classmethod
    def of(cls, engine: Engine, clone: Path, project: str, *, uid: int, port: int) -> Stack:
        checkpoints = clone / f"output-{project}"
        checkpoints.mkdir()
        os.chown(checkpoints, uid, uid)
        text = (clone / ".env.example").read_text(encoding="utf-8")
        chosen = {"UID": uid, "GID": uid, "PORT": port, "CHECKPOINTS": f"./{checkpoints.name}", "PIP_NO_INDEX": 1}
        for name, value in {**chosen, "EPOCHS": 1000, "SAVE_EVERY": 10}.items():
            text, found = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert found == 1, f".env.example lacks {name}"
        (clone / f"{project}.env").write_text(text)
        (clone / "override.yaml").write_text(OVERRIDE)
        return cls(engine, clone, project, port, checkpoints)

    @property
    def _named(self) -> tuple[str, ...]:
        files = ("-f", "compose.yaml", "-f", "override.yaml")
        return ("compose", "-p", self.project, "--env-file", f"{self.project}.env", *files, "--profile", "demo")

    def compose(self, *arguments: str) -> str:
        return self.engine.docker(*self._named, *arguments, folder=self.clone)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A container of its own, beside those that are up."""
        return self.engine.run(*self._named, "run", "--rm", "--no-deps", "-T", *arguments, folder=self.clone)

    def exec(self, service: str, *command: str) -> subprocess.CompletedProcess[str]:
        return self.engine.run(*self._named, "exec", "-T", service, *command, folder=self.clone)

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def state(self, service: str) -> dict[str, Any]:
        return self.engine.inspect(self.container(service))

    def pid(self, service: str) -> int:
        """Of the container's first process; 0 while there is none."""
        return int(self.state(service)["State"]["Pid"])

    def kill(self, service: str) -> None:
        """Its process, from outside, as the system does when memory runs out. Until the engine has started it again."""
        killed, before = self.pid(service), self.state(service)["RestartCount"]
        os.kill(killed, signal.SIGKILL)
        wait_for(f"the {service} to come back", lambda: self.pid(service) not in (0, killed), 60)
        assert self.state(service)["RestartCount"] > before

    def ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        return self.engine.ask(method, f"http://127.0.0.1:{self.port}{path}", **content)

    def latest(self) -> dict[str, Any]:
        """The answer; empty where there is none, or nobody answers just now."""
        try:
            response = self.ask("GET", "/checkpoints/latest")
        except httpx.HTTPError:
            return {}
        answer: dict[str, Any] = response.json() if response.is_success else {}
        return answer

    def wait_for_step(self, above: int) -> dict[str, Any]:
        """The first answer with a later step."""
        answer: dict[str, Any] = {}

        def is_later() -> bool:
            answer.update(self.latest())
            return bool(answer.get("step", 0) > above)

        wait_for(f"a step above {above}", is_later, 180)
        return answer


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    with engine() as made:
        yield made


@pytest.fixture(scope="module")
def clone(docker: Engine) -> Path:
    folder = docker.place / "clone"
    folder.mkdir()
    images.sources(folder, docker)
    return folder


@pytest.fixture(scope="module")
def stack(docker: Engine, clone: Path) -> Iterator[Stack]:
    """All three, up and healthy, for somebody whose uid is none of the usual ones."""
    made = Stack.of(docker, clone, "lastgood", uid=UID, port=8484)
    try:
        made.compose("up", "--detach", "--build", "--wait", "--wait-timeout", "120")
        print(docker.docker("images", "--format", "{{.Repository}} {{.Size}}", "lastgood-*"))
        yield made
        print(made.compose("logs", "--no-color", "--tail", "20"))
    finally:
        made.compose("down", "--volumes", "--timeout", "2")


@pytest.fixture
def idle_stack(stack: Stack) -> Iterator[Stack]:
    """The same, while nobody trains: that takes a core, and what does not need it has to wait."""
    job = stack.pid("trainer")
    os.kill(job, signal.SIGSTOP)  # `docker pause` fails now and then on a busy machine: "unable to freeze"
    yield stack
    os.kill(job, signal.SIGCONT)


@pytest.mark.parametrize("service", EVERYBODY)
def test_it_runs_as_the_user_of_env_without_any_capability(stack: Stack, service: str) -> None:
    status = stack.exec(service, "cat", "/proc/1/status").stdout
    found = dict(re.findall(r"^(Uid|Gid|Cap\w+|NoNewPrivs):\s+(\S+)", status, re.MULTILINE))
    capabilities = {name: value for name, value in found.items() if name.startswith("Cap")}
    assert (found["Uid"], found["Gid"], found["NoNewPrivs"]) == (str(UID), str(UID), "1")
    assert len(capabilities) == 5
    assert set(capabilities.values()) == {"0" * 16}


@pytest.mark.parametrize(
    ("service", "writable", "closed"),
    [
        ("worker", ["/tmp", "/state", "/checkpoints"], ["/", "/venv", "/home"]),
        ("service", ["/tmp", "/state"], ["/", "/checkpoints"]),
        ("trainer", ["/tmp", "/checkpoints"], ["/", "/state"]),
    ],
)
def test_it_can_write_where_it_has_to_and_nowhere_else(
    stack: Stack, service: str, writable: list[str], closed: list[str]
) -> None:
    for folder in writable:
        assert stack.exec(service, "sh", "-c", f"touch {folder}/.probe && rm {folder}/.probe").returncode == 0, folder
    for folder in closed:
        assert "Read-only file system" in stack.exec(service, "touch", f"{folder}/.probe").stderr, folder


@pytest.mark.parametrize(("service", "there"), [("worker", False), ("service", False), ("trainer", True)])
def test_torch_is_in_the_trainer_alone(stack: Stack, service: str, there: bool) -> None:
    done = stack.exec(service, "python", "-c", "import importlib.util as u; print(u.find_spec('torch') is not None)")
    assert done.stdout.strip() == str(there)


def test_the_service_is_found_on_loopback_alone_and_the_worker_nowhere(stack: Stack) -> None:
    assert {address for address, port in stack.engine.listening() if port == stack.port} == {"127.0.0.1"}
    assert stack.engine.listening(stack.pid("worker")) == set()


def test_the_token_is_for_its_owner_alone(stack: Stack) -> None:
    assert stack.exec("service", "stat", "-c", "%a %u", "/state", "/state/token").stdout.split("\n")[:2] == [
        f"700 {UID}",
        f"600 {UID}",
    ]


def test_reading_is_open_and_changing_anything_needs_the_token_which_the_trainer_has(stack: Stack) -> None:
    assert stack.ask("GET", "/status").status_code == 200
    assert stack.ask("POST", "/checkpoints/landed", json={"run": "demo", "name": "checkpoint-1"}).status_code == 401
    says = (
        "import os; from lastgood.client import Service, token_from; s = os.environ; "
        "Service(s['LASTGOOD_URL'], token_from(s['LASTGOOD_TOKEN_FILE']))"
        ".post('/checkpoints/landed', {'run': 'demo', 'name': 'checkpoint-10'})"
    )
    stack.wait_for_step(0)
    done = stack.exec("trainer", "python", "-c", says)
    assert done.returncode == 0, done.stderr


def test_it_is_not_answered_under_another_name(stack: Stack) -> None:
    assert stack.ask("GET", "/status", headers={"Host": "elsewhere.example"}).status_code == 403


def test_what_the_trainer_saves_is_judged_and_served_under_the_path_that_the_trainer_sees(stack: Stack) -> None:
    answer = stack.wait_for_step(0)
    assert (answer["run"], answer["verdict"], answer["exact_resume"]) == ("demo", "complete", True)
    assert stack.exec("trainer", "test", "-d", answer["path"]).returncode == 0
    assert (stack.checkpoints / answer["relative_path"]).is_dir()


@pytest.mark.parametrize("service", ["worker", "service"])
def test_one_that_is_killed_comes_back_and_the_answers_go_on(stack: Stack, service: str) -> None:
    before = stack.wait_for_step(0)
    stack.kill(service)
    stack.wait_for_step(before["step"])
    wait_for("it to be well", lambda: stack.state(service)["State"]["Health"]["Status"] == "healthy", 150)


def test_a_job_that_is_killed_comes_back_and_goes_on_from_the_last_good_checkpoint(stack: Stack) -> None:
    before = stack.wait_for_step(0)
    stack.kill("trainer")
    starts: list[int] = []

    def has_begun() -> bool:
        starts[:] = map(int, re.findall(r"goes on at step (\d+)", stack.engine.said(stack.container("trainer"))))
        return bool(starts)

    wait_for("it to go on", has_begun, 120)
    assert starts[-1] >= before["step"]
    stack.wait_for_step(starts[-1])


def test_a_job_that_is_stopped_saves_first_and_goes_on_from_that_very_step(stack: Stack) -> None:
    stack.wait_for_step(0)
    stack.compose("stop", "trainer")
    said = stack.engine.said(stack.container("trainer"))
    (saved,) = re.findall(r"stopped by a signal: step (\d+) is saved", said)
    assert (stack.checkpoints / "demo" / f"checkpoint-{saved}").is_dir()
    stack.compose("start", "trainer")
    wait_for("it to go on", lambda: f"goes on at step {saved} " in stack.engine.said(stack.container("trainer")), 120)


@pytest.mark.parametrize(
    ("service", "folder", "done"), [("worker", "/checkpoints", "written"), ("service", "/state", "read")]
)
@pytest.mark.parametrize(
    ("user", "us"), [("1234:1234", "1234:1234"), ("0:0", "0:0 without the capabilities to pass over owners")]
)
def test_another_user_is_told_whose_the_folder_is_and_which_user_line_would_fit(
    idle_stack: Stack, service: str, folder: str, done: str, user: str, us: str
) -> None:
    ended = idle_stack.run("--user", user, service)
    (line,) = (line for line in ended.stderr.splitlines() if line.startswith("lastgood"))
    assert ended.returncode == 2
    assert f"{folder} belongs to {UID}:{UID} and cannot be {done} by us, {us}; run as its owner" in line
    assert f'in compose.yaml user: "{UID}:{UID}"' in line
    assert f"chown -R {user} {folder}" in line


def test_a_folder_that_docker_made_is_roots_and_the_line_says_so(idle_stack: Stack) -> None:
    done = idle_stack.run("--volume", f"{idle_stack.clone}/made-by-docker:/checkpoints", "worker")
    assert done.returncode == 2
    assert f"/checkpoints belongs to 0:0 and cannot be written by us, {UID}:{UID}" in done.stderr
    assert 'user: "0:0" (UID=0 and GID=0 in .env)' in done.stderr


@pytest.mark.usefixtures("idle_stack")
def test_root_without_capabilities_does_where_the_job_is_roots(docker: Engine, clone: Path) -> None:
    stack = Stack.of(docker, clone, "roots", uid=0, port=8485)
    make_hf_checkpoint(stack.checkpoints / "llama/checkpoint-100", 100)
    try:
        stack.compose("up", "--detach", "--build", "--wait", "--wait-timeout", "120", "worker", "service")
        assert stack.wait_for_step(0)["name"] == "checkpoint-100"
        assert "CapEff:\t0000000000000000" in stack.exec("worker", "cat", "/proc/1/status").stdout
    finally:
        stack.compose("down", "--volumes", "--timeout", "2")
