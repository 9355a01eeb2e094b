"""The console in a real browser: ten thousand launches of a cluster's past, and one that happens while one looks."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.bus import ensure_streams, subjects
from orchestrator.bus.settings import BusSettings
from orchestrator.lifecycle import State
from tests.e2e.browser import Chromium, chromium
from tests.e2e.cluster import Cluster
from tests.nats import NatsServer, free_port
from tests.simulators import audit_logs, fleet
from tests.simulators.history import APP, History
from tests.simulators.oidc_provider import CLIENT, SECRET, OidcProvider
from tests.tables import TABLE
from tests.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

COMMAND = Path(sys.executable).with_name("enclave-cc")
LAUNCHES = 10_000
IN_DETAIL = 800


@dataclass
class Showing:
    """A console that runs, over a bus with a cluster's past, and the audit log of its last part."""

    folder: Path
    server: NatsServer
    url: str
    token: str
    past: list[fleet.Quick]

    @property
    def failed(self) -> str:
        """A launch that failed, with several attempts, and is in the audit log."""
        return next(h.pod for h in reversed(self.past) if len(h.raw) > 9 and h.raw[-2] and b"E-IMAGE-001" in h.raw[-2])

    @property
    def running(self) -> str:
        """One that runs."""
        return next(h.pod for h in reversed(self.past) if len(h.raw) == 11)

    def tell(self, history: History, stored: int = 0) -> None:
        """Store a history's messages from the `stored`-th on."""

        async def publish() -> None:
            async with await self.server.connect() as bus:
                for raw in history.raw[stored:]:
                    await bus.stream.publish(subjects.history(history.pod), raw)

        asyncio.run(publish())


def wait_until_ready(url: str) -> None:
    """Until the console has read every history up to now."""
    ends = time.monotonic() + 120
    while True:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{url}/ready", timeout=10):
            return
        assert time.monotonic() < ends
        time.sleep(0.1)


@contextmanager
def serving(config: Path, log_file: Path, *options: str) -> Iterator[tuple[str, str]]:
    """`enclave-cc console`: its address, and the readers' token; with `--orders`, the operators'."""
    command = [COMMAND, "console", "--config", config, "--listen", "127.0.0.1:0", *options]
    with log_file.open("ab") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        said = dict(process.stdout.readline().split() for _ in range(3 if "--orders" in options else 2))
        wait_until_ready(said["console"])
        yield said["console"], Path(said.get("orders", said["token"])).read_text().strip()
    finally:
        process.terminate()
        assert process.wait(10) in {0, -15}


@pytest.fixture(scope="module")
def showing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Showing]:
    folder = tmp_path_factory.mktemp("console")
    server = NatsServer(folder, sync="1m")
    server.start()
    began_ns = time.time_ns() - LAUNCHES * 3_000_000_000
    past = list(fleet.histories(LAUNCHES, began_ns, brief=LAUNCHES - IN_DETAIL))

    async def prepare() -> None:
        async with await server.connect() as bus:
            await ensure_streams(bus)
            await fleet.publish(bus, past)

    try:
        asyncio.run(prepare())
        audit_logs.write_messages(folder / "audit", audit_logs.messages(*past))
        audit_logs.write_policy(folder / "audit.policy")
        (folder / "client.toml").write_text(BusSettings(server.url).text())
        with serving(folder / "client.toml", folder / "console.log") as (url, token):
            yield Showing(folder, server, url, token, past)
    finally:
        server.kill()


@pytest.fixture
def window(showing: Showing) -> Iterator[Chromium]:
    """A browser that has signed in, and sees all launches."""
    with chromium() as window:
        window.sign_in(showing.url, showing.token)
        yield window


def addresses(showing: Showing) -> dict[str, str]:
    """Every page, by the name of its picture."""
    return {
        "launches": "/launches",
        "launches-failed": "/launches?state=failed",
        "launches-none": "/launches?text=nothing-is-called-so",
        "launch-failed": f"/launches/{showing.failed}",
        "launch-running": f"/launches/{showing.running}",
        "replay": f"/launches/{showing.failed}/replay?at=7",
        "audit": "/audit",
        "audit-entry": "/audit/28000",
        "nodes": "/nodes",
        "policies": "/policies",
        "help": "/help",
        "not-found": "/launches/nobody",
    }


@pytest.mark.parametrize(
    ("name", "width", "dark"),
    [("light", 1280, False), ("dark", 1280, True), ("narrow", 360, False), ("narrow-dark", 360, True)],
)
def test_every_page_loads_without_a_complaint_and_without_a_barrier(
    showing: Showing, name: str, width: int, *, dark: bool
) -> None:
    with chromium(width, 740 if width < 600 else 900, dark=dark) as window:
        window.open(f"{showing.url}/login")
        window.picture(f"login-{name}")
        assert (window.complaints(), window.barriers()) == ([], [])
        window.sign_in(showing.url, showing.token)
        for page, address in addresses(showing).items():
            window.open(showing.url + address)
            window.picture(f"{page}-{name}")
            complaints = [said for said in window.complaints() if page != "not-found" or "404" not in said]
            assert complaints == [], page
            assert window.barriers() == [], page
            assert window.overflow() <= 0, page


def test_ten_thousand_launches_are_listed_and_filtered(
    showing: Showing, window: Chromium, record_property: Callable[[str, object], None]
) -> None:
    """How long each takes, from the click to the last pixel, is told and not judged: a busy machine is no defect."""
    for query in ("", "?state=failed", "?text=redis+node-a", "?node=node-b&namespace=payments", "?page=200"):
        window.open(f"{showing.url}/launches{query}")
        assert len(window.all("#result tbody tr")) > 0, query
        spent = window.run(
            "const [n] = performance.getEntriesByType('navigation');"
            "return [n.responseEnd - n.startTime, n.domComplete - n.startTime]"
        )
        for column, milliseconds in zip(("answered", "shown"), spent, strict=True):
            told = (f"{LAUNCHES:,} launches in the console", query or "all", column, f"{milliseconds:.0f} ms")
            record_property(TABLE, told)


def test_filters_pages_and_a_launch_are_reached_by_clicking(showing: Showing, window: Chromium) -> None:
    window.follow(".groups .failed")
    assert "state=failed" in window.driver.current_url
    assert {word.text for word in window.all(".state-word")} == {"failed"}
    window.follow("[rel=next]")
    assert "51–" in window.text(".paging")
    window.find("#text").send_keys("e-image-001")
    window.find(".filters button").click()
    window.until(lambda: "E-IMAGE-001" in window.text("#result"))
    window.follow("#result .name")
    assert "E-IMAGE-001" in window.text("#verdict")
    assert window.complaints() == []


def test_a_launch_is_followed_live_on_the_list_and_on_its_page(showing: Showing, window: Chromium) -> None:
    history = History("fe" * 32)
    history.requested()
    window.run("window.unreloaded = true")
    showing.tell(history)
    window.until(lambda: "requested" in window.text(f"#r-{history.pod}"))
    stored = len(history.raw)
    for step in (history.sandboxed, history.agent_up, history.attested, history.container):
        step()
    showing.tell(history, stored)
    window.until(lambda: "attested" in window.text(f"#r-{history.pod}"))
    assert window.run("return window.unreloaded"), "the page was fetched, not loaded again"
    window.until(lambda: "live" in window.text("#pulse"))

    window.follow(f"#r-{history.pod} .name")
    window.until(lambda: "waits for decrypt_image" in window.text("#verdict"))
    window.run("window.unreloaded = true")
    stored = len(history.raw)
    history.failed("decrypt_image", container=APP)
    showing.tell(history, stored)
    window.until(lambda: "E-RUNTIME-001" in window.text("#verdict"))
    window.until(lambda: window.find("#causes"))
    window.until(lambda: "failed" in window.text("#title"))
    assert window.run("return window.unreloaded")
    assert window.complaints() == []


def test_the_slider_moves_through_time_by_mouse_keys_and_links(showing: Showing, window: Chromium) -> None:
    window.open(f"{showing.url}/launches/{showing.failed}/replay?at=3")
    window.run("window.unreloaded = true")
    assert "agent-up" in window.text("#said")
    slider = window.find("#at")
    slider.send_keys("\ue014")  # arrow right
    window.until(lambda: "attested" in window.text("#said"))
    window.until(lambda: "?at=4" in window.driver.current_url)
    window.run("const s = document.querySelector('#at'); s.value = 6; s.dispatchEvent(new Event('input'))")
    window.until(lambda: "step-failed" in window.text("#said"))
    window.find(".stepper [rel=prev]").click()
    window.until(lambda: "container-requested" in window.text("#said"))
    window.run("document.activeElement.blur()")
    window.press("l")
    window.until(lambda: "message 6" in window.text("#stepper"))
    window.press("h")
    window.until(lambda: "message 5" in window.text("#stepper"))
    window.until(lambda: window.find("#at").get_attribute("value") == "5")
    assert window.run("return window.unreloaded"), "moving in time loads no page"
    assert window.complaints() == []
    window.picture("replay-moved")


def test_one_moves_by_keys_and_can_turn_them_off(showing: Showing, window: Chromium) -> None:
    window.press("j", "j", "k")
    rows = window.all("#result tbody tr")
    assert window.driver.switch_to.active_element == rows[0].find_element("css selector", "a")
    first = rows[0].get_attribute("id")
    window.press("l")
    window.until(lambda: window.find("#verdict"))
    assert first is not None
    assert first.removeprefix("r-") in window.driver.current_url
    window.press("h")
    window.until(lambda: window.find("#result"))
    window.press("/")
    assert window.driver.switch_to.active_element.get_attribute("id") == "text"
    window.press("?")
    assert window.find("#text").get_attribute("value") == "?", "in a field a key is a letter"
    window.run("document.activeElement.blur()")
    window.press("?")
    window.until(lambda: window.find("#keys-toggle"))
    window.find("#keys-toggle").click()
    window.until(lambda: "off" in window.text("#keys-toggle"))
    window.open(f"{showing.url}/launches")
    window.press("j")
    assert window.driver.switch_to.active_element.tag_name == "body"


def test_a_proof_that_was_downloaded_is_verified_offline(showing: Showing, window: Chromium) -> None:
    window.open(f"{showing.url}/launches/{showing.failed}")
    window.find(".title a[href$=proof]").click()
    proof = window.downloaded(".proof.zip")
    verify = [COMMAND, "audit", "verify", proof, "--policy", showing.folder / "audit.policy"]
    told = subprocess.run(verify, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert f"entries about {showing.failed}" in told.stdout
    altered = bytearray(proof.read_bytes())
    altered[len(altered) // 2] ^= 1
    proof.write_bytes(altered)
    assert subprocess.run(verify, capture_output=True, check=False).returncode == 4


def test_without_scripts_every_page_is_whole(showing: Showing) -> None:
    with chromium(scripts=False) as window:
        window.sign_in(showing.url, showing.token)
        for address in addresses(showing).values():
            window.open(showing.url + address)
            assert window.text("main"), address
        window.open(f"{showing.url}/launches")
        window.find("#text").send_keys("e-image-004")
        window.find(".filters button").click()
        window.until(lambda: "1–" in window.text(".paging") and "E-IMAGE-004" in window.text("#result"))
        window.open(f"{showing.url}/launches/{showing.failed}/replay?at=2")
        window.until(lambda: "sandbox-created" in window.text("#said"))
        window.follow("[rel=next]")
        window.until(lambda: "agent-up" in window.text("#said"))
        window.find("#at").send_keys("\ue014")
        window.find(".slider button").click()
        window.until(lambda: "attested" in window.text("#said"))
        window.follow(".who button")
        window.until(lambda: "Sign in" in window.text("main"))


def test_what_a_launch_says_runs_nowhere(showing: Showing, window: Chromium) -> None:
    history = History("ab" * 32)
    evil = "<img src=x onerror=document.title='broken'><script>document.title='broken'</script>"
    history.say(fleet.replace(fleet.pod_requested(), name=evil, namespace="&lt;b&gt;"))
    showing.tell(history)
    for address in (f"/launches?text={history.pod[:8]}", f"/launches/{history.pod}", f"/launches/{history.pod}/replay"):
        window.open(showing.url + address)
        window.until(lambda: evil in window.text("main"))
        assert "broken" not in window.driver.title.split("·")[-1]
        assert window.complaints() == [], address


def test_a_session_through_an_openid_provider_on_another_site(showing: Showing) -> None:
    port = free_port()
    secret = showing.folder / "client.secret"
    secret.write_text(SECRET)
    provider = OidcProvider(f"http://127.0.0.1:{port}/login/oidc/callback")
    options = ["--listen", f"127.0.0.1:{port}", "--url", f"http://127.0.0.1:{port}", "--oidc-issuer", provider.issuer]
    options += ["--oidc-client", CLIENT, "--oidc-secret-file", str(secret), "--oidc-reader", "ops"]

    def sign_in(url: str) -> str:
        with chromium() as window:
            window.open(f"{url}/nodes")
            window.follow(".door a.button")
            window.until(lambda: window.find(".main-nav"))
            assert window.driver.current_url == f"{url}/nodes"
            assert window.complaints() == []
            return window.text(".who-name")

    async def through_provider() -> str:
        async with provider.running():
            with serving(showing.folder / "client.toml", showing.folder / "console.log", *options) as (url, _):
                return await asyncio.to_thread(sign_in, url)

    assert asyncio.run(through_provider()) == "ada"


def test_a_wrong_token_is_told_and_is_written_nowhere(showing: Showing) -> None:
    with chromium() as window:
        window.open(f"{showing.url}/login")
        window.find("#token").send_keys("not-the-token-of-this-console")
        window.follow(".door button")
        assert "not the token" in window.text("[role=alert]")
        assert window.barriers() == []
    log = (showing.folder / "console.log").read_text()
    assert "login refused" in log
    assert not re.search(f"not-the-token|{re.escape(showing.token)}", log)


def test_a_real_launch_is_seen_as_it_happens_and_its_proof_verifies(cluster: Cluster) -> None:
    reference = cluster.publish_web("console:1")
    config = cluster.layout.client_config
    with serving(config, config.parent / "console.log") as (url, token), chromium() as window:
        window.sign_in(url, token)
        window.run("window.unreloaded = true")
        with cluster.launched(reference, "shown") as launched:
            row = f"#r-{launched.pod.id}"
            window.until(lambda: "app-booted" in window.text(row))
            assert window.run("return window.unreloaded")
            window.follow(f"{row} .name")
            window.until(lambda: "every container runs" in window.text("#verdict"))
            window.until(lambda: window.open(window.driver.current_url) or window.find(".title a[href$=proof]"))
            window.picture("launch-real")
            assert (window.complaints(), window.barriers()) == ([], [])
            window.find(".title a[href$=proof]").click()
            proof = window.downloaded(".proof.zip")
            verify = [COMMAND, "audit", "verify", proof, "--config", config]
            told = subprocess.run(verify, capture_output=True, text=True, check=False)
            assert told.returncode == 0, told.stdout + told.stderr
            window.open(f"{url}/audit")
            assert "believed under the policy" in window.text("#checkpoint")
            assert window.complaints() == []
        window.open(f"{url}/launches/{launched.pod.id}")
        window.until(lambda: "gone" in window.text("#verdict").lower())


def test_an_operator_stops_a_launch_from_its_page(cluster: Cluster) -> None:
    reference = cluster.publish_web("console:2")
    config = cluster.layout.client_config
    orders = ("--orders", str(cluster.layout.operator_config))
    with (
        serving(config, config.parent / "console.log", *orders) as (url, token),
        cluster.launched(reference, "unwanted") as launched,
        chromium() as window,
    ):
        window.sign_in(url, token)
        window.open(f"{url}/launches/{launched.pod.id}")
        window.until(lambda: "every container runs" in window.text("#verdict"))
        window.picture("launch-orders")
        assert (window.complaints(), window.barriers()) == ([], [])
        window.find("#stop-reason").send_keys("it was a test")
        window.follow("#order button")
        for told in ("stop: it was a test", "operator/local operator (console)"):
            window.until(lambda told=told: told in window.text("#orders"))
        assert window.complaints() == []
        eventually(lambda: cluster.launch_of(launched.pod.id).progress.state is State.GONE)
