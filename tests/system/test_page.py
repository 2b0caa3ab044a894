"""The page in a real browser: what a person sees, by keyboard too, on a phone too."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, expect, sync_playwright

from lastgood.cloud import CopyState
from lastgood.findings import Verdict
from lastgood.records import Evidence
from service_process import serving
from service_world import REMOTE, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from service_process import ServiceInThread

pytestmark = pytest.mark.needs("chromium")

ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
PHONE: ViewportSize = {"width": 375, "height": 740}

expect.set_options(timeout=20_000)  # milliseconds; it looks again every few: a busy machine takes its time


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        yield made
        made.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A run with checkpoints of every kind, and a worker that goes on living."""
    made = World(tmp_path, real_clock=True)
    made.beat(heartbeat_at=made.now + timedelta(hours=1))
    made.save(1000)
    made.save(2000)
    made.save(3000, Verdict.PARTIAL)
    made.save(4000, Verdict.CORRUPT)
    made.save(5000, evidence=Evidence.QUIET)
    made.land(6000)
    made.log("checkpoint-6000 is landing")
    yield made
    made.catalog.close()


@pytest.fixture
def service(world: World) -> Iterator[ServiceInThread]:
    with serving(world) as made:
        yield made


@pytest.fixture
def page(browser: Browser, service: ServiceInThread) -> Iterator[Page]:
    """The page, open; it fails the test if the browser complained of anything."""
    complaints: list[str] = []
    made = browser.new_page()
    made.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    made.on("pageerror", lambda error: complaints.append(str(error)))
    made.goto(service.url)
    expect(made.locator("#content")).to_be_visible()
    yield made
    made.close()
    assert complaints == []


def test_the_answer_is_shown_first_and_why_newer_ones_are_not_it(page: Page, world: World) -> None:
    answer = page.locator("#answers article")
    expect(answer.locator("strong")).to_have_text("checkpoint-2000")
    expect(answer.locator(".badge").first).to_have_text("complete")
    expect(answer.locator("code").first).to_have_text(world.path(2000).rstrip("/"))
    expect(answer).to_contain_text("--resume_from_checkpoint")
    expect(answer).to_contain_text("checkpoint-4000 was passed over: it is corrupt")
    expect(answer).to_contain_text("checkpoint-6000 is landing")


def test_every_checkpoint_is_listed_with_its_verdict_in_words_and_shape(page: Page) -> None:
    rows = page.locator("tbody tr")
    expect(rows.locator("th")).to_have_text([f"checkpoint-{step}" for step in range(6000, 0, -1000)])
    shapes = {badge.inner_text(): badge.locator("path").get_attribute("d") for badge in rows.locator(".badge").all()}
    assert set(shapes) == {"complete", "partial", "corrupt", "not judged"}
    assert len(set(shapes.values())) == len(shapes)


def test_a_fresh_checkpoint_shows_up_by_itself(page: Page, world: World) -> None:
    world.save(7000)
    expect(page.locator("#answers strong")).to_have_text("checkpoint-7000")
    expect(page.locator("tbody tr").first).to_contain_text("checkpoint-7000")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_sticks_out_of_a_phones_screen(page: Page, scheme: Literal["light", "dark"]) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size(PHONE)
    expect(page.locator("tbody tr").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == (
        "rgb(246, 247, 249)" if scheme == "light" else "rgb(18, 22, 27)"
    )


def test_everything_can_be_reached_by_tab(page: Page) -> None:
    wanted = page.locator("a, button:visible, input:visible, [tabindex='0']:visible").count()
    page.evaluate("window.reached = new Set()")
    for _ in range(wanted + 1):
        page.keyboard.press("Tab")
        page.evaluate("document.activeElement !== document.body && window.reached.add(document.activeElement)")
    assert wanted >= 6
    assert page.evaluate("window.reached.size") == wanted


def test_what_has_the_focus_keeps_it_when_the_page_changes(page: Page, world: World) -> None:
    button = page.get_by_role("button").first
    button.focus()
    world.land(7000)
    expect(page.locator("tbody tr").first).to_contain_text("checkpoint-7000")
    expect(button).to_be_focused()


def test_a_path_is_copied_by_a_button(page: Page, service: ServiceInThread, world: World) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=service.url)
    page.get_by_role("button").first.click()
    expect(page.get_by_role("button").first).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == world.path(2000).rstrip("/")


def test_a_dead_worker_and_a_degraded_watch_are_said(page: Page, world: World) -> None:
    watch = {"mode": "polling", "degraded": True, "reason": "no events come", "roots": [world.root]}
    world.beat(heartbeat_at=world.now - timedelta(minutes=5), watch=watch)
    expect(page.locator("#alerts")).to_contain_text("has said nothing since")
    expect(page.locator("#alerts")).to_contain_text("no events come")
    expect(page.locator("#answers")).to_contain_text("Last known")


def test_whether_the_resume_point_is_in_the_cloud_is_told(browser: Browser, world: World) -> None:
    (point,) = (record.id for record in world.catalog.records() if record.name == "checkpoint-2000")
    world.listed(trouble="Access Denied")
    with serving(world, remote=REMOTE) as service:
        page = browser.new_page(viewport=PHONE)
        page.goto(service.url)
        answer = page.locator("#answers > article")
        expect(answer).to_contain_text("copy in the cloud not yet")
        expect(answer).to_contain_text("in the cloud no copies")
        expect(answer).to_contain_text("still to be copied 2")
        expect(page.locator("#alerts")).to_contain_text("The cloud has trouble: Access Denied")
        sent = {"kind": "send", "run": "llama", "name": "checkpoint-2000", "checkpoint_id": point}
        errand = sent | {"bytes_done": 400, "bytes_total": 1000, "bytes_per_second": 1}
        world.beat(heartbeat_at=world.now + timedelta(hours=1), cloud={"errand": errand})
        world.copy(2000, of=point, state=CopyState.SENDING)
        expect(answer).to_contain_text("copy in the cloud being copied, 40 %")
        expect(page.locator("#work")).to_contain_text("Copying llama / checkpoint-2000")
        world.copy(2000, of=point, committed_at=world.now - timedelta(minutes=5))
        expect(answer).to_contain_text("copy in the cloud proven 5 min ago")
        expect(answer).to_contain_text("in the cloud 1 proven copy, 1.00 kB")
        world.copy(9000, run="only-there", bytes=10**9)
        page.get_by_text("1 run is in the cloud alone").click()
        expect(page.get_by_role("button", name="Copy lastgood pull only-there")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.close()


def test_names_from_disk_are_text_and_nothing_else(page: Page, world: World) -> None:
    world.save(100, run="<img src=x onerror=alert(1)>")
    expect(page.locator("#answers")).to_contain_text("<img src=x onerror=alert(1)>")
    assert page.locator("#answers img").count() == 0


def test_a_service_that_went_away_is_said_to_have(browser: Browser, world: World) -> None:
    with serving(world) as service:
        page = browser.new_page()
        page.goto(service.url)
        expect(page.locator("#answers strong")).to_have_text("checkpoint-2000")
        service.end()
        expect(page.locator("#alerts")).to_contain_text("The service cannot be reached")
        expect(page.locator("#answers strong")).to_have_text("checkpoint-2000")
        page.close()


def test_the_token_is_asked_for_where_reads_need_it(browser: Browser, world: World) -> None:
    with serving(world, host="0.0.0.0") as service:
        page = browser.new_page()
        page.goto(service.url)
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-wrong")).to_be_visible()
        page.keyboard.type((world.folder / "state" / "token").read_text().strip())
        page.keyboard.press("Enter")
        expect(page.locator("#answers strong")).to_have_text("checkpoint-2000")
        assert page.evaluate("localStorage.length") == 0
        page.close()
