"""Orders from a launch's page: who may give them, that they are signed facts, and what is refused."""

from __future__ import annotations

import pytest

from orchestrator.bus import Bus, Histories
from orchestrator.bus.operator_key import OperatorKey
from orchestrator.console.gate import COOKIE
from orchestrator.console.orders import Orders, Possible
from orchestrator.console.roles import Identity, Role
from orchestrator.console.sessions import Sessions, Token
from orchestrator.events import Recorded, ResumeRequested, StopRequested
from orchestrator.faults import Code, Permanent
from orchestrator.lifecycle import State
from tests.simulators.history import APP, OPERATOR, POD, EventKey, History
from tests.unit.orchestrator.console.conftest import Browser, Starter

FORM = {"reason": "the broker is back"}


def held() -> History:
    """A launch whose container failed, and is held."""
    history = History()
    history.up_to_attested(hold_seconds=60)
    history.container()
    history.failed("decrypt_image", container=APP)
    return history


@pytest.fixture
async def operator(start: Starter, orders: Orders) -> Browser:
    """Somebody who entered by the operators' token."""
    browser = await start(orders)
    browser.token = browser.token_file.with_name("token-operator").read_text().strip()
    await browser.enter()
    return browser


async def test_an_operator_resumes_what_is_held_and_the_history_says_who_and_why(operator: Browser, bus: Bus) -> None:
    await operator.tell(held())
    page = await operator.see(f"/launches/{POD}")
    assert f'action="/launches/{POD}/resume"' in page
    assert f'name="container" value="{APP}"' in page
    answer = await operator.http.post(f"/launches/{POD}/resume", data={**FORM, "container": APP})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/launches/{POD}")
    histories = Histories(bus)
    (last,) = (message for message in (await histories.read(POD))[-1:] if isinstance(message, Recorded))
    assert isinstance(last.fact.body, ResumeRequested)
    assert last.fact.actor == "operator/local operator (console)"
    assert (last.fact.body.reason, last.fact.body.operator) == (FORM["reason"], OPERATOR.public)
    launch = await histories.launch(POD)
    assert launch.containers[APP].progress.state is not State.FAILED
    assert launch.ignored == ()


async def test_an_order_that_can_no_longer_be_followed_is_refused_and_changes_nothing(
    operator: Browser, bus: Bus
) -> None:
    await operator.tell(held())
    for status in (303, 409):
        answer = await operator.http.post(f"/launches/{POD}/resume", data={**FORM, "container": APP})
        assert answer.status_code == status
    assert "E-REPLAY" in answer.text
    assert [m for m in await Histories(bus).read(POD) if _is(m, ResumeRequested)][1:] == []


async def test_an_operator_stops_a_launch_once(operator: Browser, bus: Bus) -> None:
    history = History()
    history.up_to_attested(hold_seconds=60)
    await operator.tell(history)
    assert f'action="/launches/{POD}/resume"' not in await operator.see(f"/launches/{POD}")
    for _ in range(2):
        assert (await operator.http.post(f"/launches/{POD}/stop", data=FORM)).status_code == 303
    stops = [m for m in await Histories(bus).read(POD) if _is(m, StopRequested)]
    assert len(stops) == 1
    assert (await Histories(bus).launch(POD)).progress.state is State.STOPPING


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501])
async def test_an_order_without_a_reason_is_none(operator: Browser, bus: Bus, reason: str) -> None:
    history = held()
    await operator.tell(history)
    answer = await operator.http.post(f"/launches/{POD}/stop", data={"reason": reason})
    assert answer.status_code == 400
    assert "1 to 500 characters" in answer.text
    assert len(await Histories(bus).read(POD)) == len(history.raw)


async def test_a_reader_sees_no_form_and_gives_no_order(start: Starter, orders: Orders, bus: Bus) -> None:
    reader = await start(orders)
    await reader.enter()
    history = held()
    await reader.tell(history)
    assert "Give an order" not in await reader.see(f"/launches/{POD}")
    for order in ("resume", "stop"):
        assert (await reader.http.post(f"/launches/{POD}/{order}", data=FORM)).status_code == 403
    assert len(await Histories(bus).read(POD)) == len(history.raw)


async def test_another_sites_form_gives_no_order(operator: Browser, bus: Bus) -> None:
    history = held()
    await operator.tell(history)
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        answer = await operator.http.post(f"/launches/{POD}/stop", data=FORM, headers=headers)
        assert answer.status_code == 403
    assert len(await Histories(bus).read(POD)) == len(history.raw)


async def test_a_launch_that_does_not_name_the_consoles_key_takes_no_order(operator: Browser, bus: Bus) -> None:
    history = held()
    await operator.tell(history)
    other = EventKey()
    orders = Orders(Histories(bus), OperatorKey(other.public, other.sign))
    with pytest.raises(Permanent, match="takes no orders from the key") as refused:
        await orders.stop(POD, Identity("ada", Role.OPERATOR, "oidc"), "a test")
    assert refused.value.code is Code.NOT_ALLOWED
    assert orders.possible(await Histories(bus).launch(POD)) == Possible()
    assert len(await Histories(bus).read(POD)) == len(history.raw)


async def test_a_console_without_an_operators_settings_knows_no_operator(browser: Browser) -> None:
    token = browser.token_file
    assert not token.with_name("token-operator").exists()
    forged = Sessions({Role.OPERATOR: Token(browser.token)}).begin(Identity("eve", Role.OPERATOR, "token"))
    answer = await browser.http.post(f"/launches/{POD}/stop", data=FORM, headers={"cookie": f"{COOKIE}={forged}"})
    assert answer.status_code in {303, 401}, "nobody: to the door"


def test_a_readers_token_makes_no_operators_session() -> None:
    reader, operator = Token("r" * 43), Token("o" * 43)
    eve = Identity("eve", Role.OPERATOR, "token")
    forged = Sessions({Role.OPERATOR: reader}).begin(eve)
    sessions = Sessions({Role.READER: reader, Role.OPERATOR: operator})
    assert sessions.who(forged).role is Role.NOBODY
    assert sessions.who(sessions.begin(eve)) == eve


def _is(message: object, kind: type) -> bool:
    return isinstance(message, Recorded) and isinstance(message.fact.body, kind)
