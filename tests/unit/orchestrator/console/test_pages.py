"""Every page says what the facts say, whole without JavaScript, whatever the facts contain."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator import events
from orchestrator.console.pages.guide import KEYS
from orchestrator.console.site import FOLDER
from orchestrator.faults import Code, Diagnosis
from orchestrator.lifecycle import TRANSITIONS
from tests.nats import until
from tests.simulators.history import (
    APP,
    MEASUREMENT,
    NODE,
    POD,
    SIDECAR,
    History,
    container_requested,
    image_decrypted,
    pod_requested,
)
from tests.unit.orchestrator.console.conftest import Browser

POINTS = {
    "verdict": "Verdict",
    "causes": "Likely causes",
    "timeline": "Timeline",
    "attempts": "Failed attempts",
    "waiting": "Waits for",
    "identity": "Identity",
    "evidence": "Evidence",
    "verdicts": "Policy verdicts",
    "containers": "Containers",
    "facts": "Who said what",
    "refused": "Passed over",
    "proof": "What this history proves",
    "related": "Related launches",
}
"""The sections of one launch's page; the failing check, the next action and the log's word stand inside of them."""

HOSTILE = "<script>alert(1)</script>'\"&{{7*7}}"


def failing() -> History:
    """A launch of two containers: one is retried and runs, the other fails for good."""
    history = History()
    history.up_to_attested()
    history.container()
    history.failed("decrypt_image", container=APP, attempt=1, temporary=True)
    history.decrypted(attempt=2)
    history.sealed()
    for step in (history.start, history.app_started, history.delivered, history.booted):
        step()
    history.container(SIDECAR)
    diagnosis = Diagnosis(
        Code.IMAGE_ALTERED, "layer 3, check 3: altered", "sha256:aaaa", "sha256:bbbb", "push the image again"
    )
    history.say(events.StepFailed.of("decrypt_image", diagnosis), container=SIDECAR, attempt=1)
    return history


def text_of(html: str) -> str:
    """What a person reads, blanks made one."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


async def test_one_page_answers_everything_that_is_asked_of_one_launch(browser: Browser) -> None:
    await browser.tell(failing())
    html = await browser.see(f"/launches/{POD}")
    for id_, title in POINTS.items():
        section = html[html.index(f'id="{id_}"') :]
        assert title in section[:900], id_
    text = text_of(html)
    for said in (
        "Failed after attested , in decrypt_image , attempt 1 of 5",
        "E-IMAGE-004 layer 3, check 3: altered",
        "Expected sha256:aaaa Got sha256:bbbb",
        "Next action push the image again",
        "teardown of redis, attempt 1 of 10",
        "decrypt_image attempt 1 of 5",
        MEASUREMENT.hex(),
        "as the host expected",
        "simulated",
        "signed by kbs:///default/image-public-key/owner",
        "48.2 MiB/s",
        "1,234 files, 43.9 MiB",
        "kbs:///default/image-key/redis",
        "the chain of 14 facts is whole",
        "that host facts (pids, exits, requests) are true",
        "There is no audit log here",
        "event key",
        NODE,
    ):
        assert said in text, said
    assert text.count("boot_app") == 2, "a row for each step of each container"


async def test_an_image_that_the_pod_had_sealed_is_not_told_as_one_of_no_bytes(browser: Browser) -> None:
    history = History()
    history.up_to_attested()
    history.container()
    history.say(replace(image_decrypted(), bytes=0), container=APP, attempt=1)
    await browser.tell(history)
    assert "Decrypted nothing: the pod had this image sealed" in text_of(await browser.see(f"/launches/{POD}"))


async def test_a_launch_under_way_says_whom_it_waits_for(browser: Browser) -> None:
    history = History()
    history.up_to_attested()
    history.container()
    await browser.tell(history)
    text = text_of(await browser.see(f"/launches/{POD}"))
    assert "decrypt_image of redis, attempt 1 of 5 by the pod’s agent enclave" in text
    assert "Attested: waits for decrypt_image" in text


async def test_what_is_held_says_until_when_and_an_order_who_gave_it_and_why(browser: Browser) -> None:
    history = History()
    history.up_to_attested(hold_seconds=60)
    history.container()
    history.failed("decrypt_image", container=APP)
    await browser.tell(history)
    text = text_of(await browser.see(f"/launches/{POD}"))
    assert "enclave-cc resume of redis: what failed is held until 00:01:00" in text
    history.resume(APP)
    await browser.tell(history)
    text = text_of(await browser.see(f"/launches/{POD}"))
    assert "resume of redis: the key broker is back by host-worker/node-a , signed by an operator’s key" in text
    assert "what failed is held" not in text


async def test_the_timeline_is_drawn_as_svg_by_the_server(browser: Browser) -> None:
    await browser.tell(failing())
    html = await browser.see(f"/launches/{POD}")
    assert html.count('class="lane"') == 11
    assert html.count('class="mark"') == 2
    assert 'class="span enclave failed"' in html


async def test_a_launch_that_was_stopped_before_it_was_done_says_so_and_what_to_do(browser: Browser) -> None:
    history = History()
    history.up_to_sealed()
    history.stop()
    history.torn_down()
    await browser.tell(history)
    text = text_of(await browser.see(f"/launches/{POD}"))
    assert "Gone: it was stopped (removed by containerd)" in text
    assert "E-STOP-001 the launch was stopped before it was done" in text
    assert "Find who asked for the stop" in text
    assert "stop : removed by containerd by host-worker/node-a , the host’s word, message 8" in text


async def test_a_forged_fact_is_named_as_that(browser: Browser) -> None:
    history = History()
    history.up_to_attested()
    history.container()
    history.say(events.FsSealed("cd" * 32, 1, 1, "s"), container=APP, attempt=1, signed=False)
    await browser.tell(history)
    text = text_of(await browser.see(f"/launches/{POD}"))
    assert "E-FACT-001" in text
    assert "forged: the signature does not verify" in text
    assert "not proved" not in text


async def test_a_broken_history_is_shown_up_to_where_it_breaks(browser: Browser) -> None:
    history = failing()
    history.raw[6] = history.raw[5]
    await browser.tell(history)
    for address in (f"/launches/{POD}", f"/launches/{POD}/replay"):
        text = text_of(await browser.see(address))
        assert "container-requested" in text
    text = text_of(await browser.see(f"/launches/{POD}"))
    assert "E-BUS-003 the history&#39;s chain breaks at message 6" in text


async def test_what_a_fact_says_is_never_markup(browser: Browser) -> None:
    history = History()
    history.say(replace(pod_requested(), name=HOSTILE, namespace=HOSTILE))
    history.sandboxed()
    history.agent_up()
    history.attested()
    history.say(replace(container_requested(), image=HOSTILE, name=HOSTILE), container=APP)
    diagnosis = Diagnosis(Code.IMAGE_NOT_FOUND, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    history.say(events.StepFailed.of("decrypt_image", diagnosis), container=APP, attempt=1)
    await browser.tell(history)
    for address in ("/launches", f"/launches/{POD}", f"/launches/{POD}/replay", "/nodes", "/policies"):
        html = await browser.see(address)
        assert "<script>alert" not in html, address
        assert "49" not in re.findall(r"alert\(1\)[^<]{0,60}", html)[0:1], address
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in await browser.see(f"/launches/{POD}")


async def test_the_list_filters_by_what_its_address_says(browser: Browser) -> None:
    running, failed = History("aa" * 32), failing()
    running.up_to_booted()
    await browser.tell(running, failed)
    both = await browser.see("/launches")
    assert both.count("data-row") == 2
    for query, pods in (
        ("state=failed", {POD}),
        ("state=running", {"aa" * 32}),
        ("state=app-booted", {"aa" * 32, POD}),
        ("code=E-IMAGE-004", {POD}),
        ("text=redis-0+e-image", {POD}),
        ("text=aaaa", {"aa" * 32}),
        (f"node={NODE}&namespace=payments", {POD, "aa" * 32}),
        ("node=elsewhere", set()),
    ):
        html = await browser.see(f"/launches?{query}")
        assert set(re.findall(r'id="r-(\w+)"', html)) == pods, query
    assert "No launch is like this" in await browser.see("/launches?node=elsewhere")


async def test_a_cluster_without_launches_says_how_one_comes(browser: Browser) -> None:
    assert "runtime handler" in await browser.see("/launches")
    assert "No node has said anything" in await browser.see("/nodes")
    assert "Nothing was judged yet" in await browser.see("/policies")


async def test_replay_shows_the_launch_after_each_message(browser: Browser) -> None:
    history = failing()
    await browser.tell(history)
    last = len(history.raw)
    for at, said in (
        (1, "message 1 of 14"),
        (2, "requested sandbox"),
        (4, "agent-up attested"),
        (6, "attempt 1 2"),
        (last, "E-IMAGE-004 layer 3"),
    ):
        html = await browser.see(f"/launches/{POD}/replay?at={at}")
        assert said in text_of(html), (at, said)
        assert f'value="{at}"' in html
        assert html.count('aria-current="step"') == 1
    assert "E-IMAGE-004" in text_of(await browser.see(f"/launches/{POD}/replay")).partition("What this message")[0]
    assert 'max="14" value="14"' in await browser.see(f"/launches/{POD}/replay")


@pytest.mark.parametrize("at", ["0", "-1", "x", "999", "", "9" * 40, "٣", "1.5"])
async def test_a_time_that_is_none_is_the_nearest(browser: Browser, at: str) -> None:
    await browser.tell(failing())
    html = await browser.see(f"/launches/{POD}/replay?at={at}")
    assert re.search(r'value="(1|14)"', html)


async def test_what_is_not_there_is_told_as_that(browser: Browser) -> None:
    for address in ("/launches/nobody", "/launches/no.body", "/launches/a%2Fb", "/nowhere", "/static/none", "/audit/x"):
        await browser.see(address, status=404)
    for address in ("/launches/%00", "/launches/" + "a" * 400):
        await browser.see(address, status=404)
    assert (await browser.http.post("/launches")).status_code == 405


async def test_nodes_and_workers_are_those_that_spoke(browser: Browser) -> None:
    await browser.tell(failing())
    text = text_of(await browser.see("/nodes"))
    assert f"{NODE}" in text
    assert "host-worker" in text
    assert "simulated CPU" in text
    assert MEASUREMENT.hex()[:16] in text


async def test_policies_are_told_in_the_words_of_those_who_enforced_them(browser: Browser) -> None:
    history = History()
    history.up_to_sealed()
    history.start()
    history.app_started()
    diagnosis = Diagnosis(Code.CONFIG_PROCESS_DENIED, "the launch policy does not admit args[1]", "a", "b", "c")
    history.say(events.StepFailed.of("deliver_config", diagnosis), container=APP, attempt=1)
    await browser.tell(history)
    text = text_of(await browser.see("/policies"))
    assert "affirmed: TCB UpToDate, simulated" in text
    assert "signed by kbs:///default/image-public-key/owner kbs:///default/security-policy/image 1" in text
    assert "refused E-CONFIG-001 the launch policy does not admit args[1]" in text


async def test_a_bus_that_is_away_is_told_and_the_list_goes_on(browser: Browser, server) -> None:
    await browser.tell(failing())
    server.kill()

    async def noticed() -> bool:
        return "The bus does not answer" in await browser.see("/launches")

    await until(noticed)
    text = text_of(await browser.see(f"/launches/{POD}", status=503))
    assert "E-BUS-001" in text
    assert "see whether nats-server runs" in text
    html = await browser.see("/launches")
    assert "The bus does not answer" in html
    assert html.count("data-row") == 1


async def test_the_help_names_the_keys_that_the_script_knows(browser: Browser) -> None:
    script = (FOLDER / "static/console.js").read_text()
    table = script[script.index("const KEYS = {") :].partition("};")[0]
    assert re.findall(r'^  "?([^":]+)"?: \(', table, re.MULTILINE) == [key for key, _ in KEYS]
    text = text_of(await browser.see("/help"))
    for row in TRANSITIONS:
        assert f"{row.target} {row.name} {row.zone}" in text


def test_the_script_stays_small() -> None:
    assert len((FOLDER / "static/console.js").read_text().splitlines()) <= 150


def test_every_template_is_a_page_or_a_part_of_one() -> None:
    sources = "".join(path.read_text() for path in FOLDER.rglob("*.py")) + "".join(
        path.read_text() for path in (FOLDER / "templates").glob("*.html")
    )
    unused = [path.name for path in (FOLDER / "templates").glob("*.html") if f'"{path.name}"' not in sources]
    assert unused == []


def test_the_documentation_names_every_point(repository: Path) -> None:
    page = (repository / "docs/operations/console.md").read_text()
    for title in POINTS.values():
        assert title in page, title
