"""The second door, through a provider that is as strict as one should be, and every way of coming back wrongly."""

from __future__ import annotations

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie

import httpx2
import pytest
from joserfc.jwk import ECKey

from orchestrator.console.oidc import Provider
from orchestrator.console.orders import Orders
from orchestrator.faults import Code, Permanent
from tests.nats import free_port
from tests.simulators.oidc_provider import CLIENT, SECRET, OidcProvider
from tests.unit.orchestrator.console.conftest import Browser, Starter

READERS = frozenset({"ops", "ada@example.com"})


@pytest.fixture
async def provider() -> AsyncIterator[OidcProvider]:
    port = free_port()
    async with OidcProvider(f"http://127.0.0.1:{port}/login/oidc/callback").running() as provider:
        yield provider


@pytest.fixture
async def stranger(start, provider: OidcProvider) -> Browser:
    asked = Provider(provider.issuer, CLIENT, provider.redirect, READERS, SECRET)
    return await start(provider=asked, address=provider.redirect.split("/")[2])


async def go(browser: Browser) -> httpx2.Response:
    """To the provider and back, as a browser would."""
    away = await browser.http.get("/login/oidc?next=/nodes")
    assert away.status_code == 303, away.text
    back = await browser.http.get(away.headers["location"])
    assert back.status_code == 302, back.text
    return await browser.http.get(back.headers["location"])


async def test_who_the_provider_knows_enters_and_goes_where_they_wanted(stranger: Browser) -> None:
    answer = await go(stranger)
    assert answer.status_code == 200
    assert 'content="0; url=/nodes"' in answer.text, "a page of ours leads on, so that the strict cookie is sent"
    assert "ada" in await stranger.see("/nodes")


async def test_the_door_is_offered_beside_the_token(stranger: Browser) -> None:
    assert "Sign in with localhost" in await stranger.see("/login?next=/nodes")
    assert "/login/oidc?next=/nodes" in await stranger.see("/login?next=/nodes")


async def test_without_a_provider_there_is_no_such_door(start) -> None:
    browser = await start()
    assert "Sign in with" not in await browser.see("/login")
    assert (await browser.http.get("/login/oidc")).status_code == 404


async def test_the_errand_is_for_this_browser_and_comes_back_from_elsewhere(stranger: Browser) -> None:
    away = await stranger.http.get("/login/oidc")
    cookie = SimpleCookie(away.headers["set-cookie"])["enclave_cc_oidc"]
    assert (cookie["samesite"], cookie["httponly"], cookie["path"]) == ("lax", True, "/login/oidc")
    address = (await stranger.http.get(away.headers["location"])).headers["location"]
    stranger.http.cookies.clear()
    assert (await stranger.http.get(address)).status_code == 403, "somebody else's link must not sign anybody in"


@pytest.mark.parametrize(
    "forged",
    [
        {"iss": "http://evil.example"},
        {"aud": "another"},
        {"aud": ["another"]},
        {"azp": "another"},
        {"nonce": "another"},
        {"exp": 1},
        {"exp": None},
        {"iat": 4_000_000_000},
        {"sub": None},
    ],
    ids=str,
)
async def test_an_id_token_that_is_not_of_this_sign_in_is_refused(
    stranger: Browser, provider: OidcProvider, forged: dict[str, object]
) -> None:
    provider.forged = forged
    answer = await go(stranger)
    assert answer.status_code == 403
    assert (await stranger.http.get("/launches")).status_code == 401


async def test_an_id_token_under_another_key_is_refused(stranger: Browser, provider: OidcProvider) -> None:
    provider.signing = ECKey.generate_key("P-256", {"kid": "k1", "use": "sig", "alg": "ES256"})
    assert (await go(stranger)).status_code == 403


@pytest.mark.parametrize(
    ("claims", "enters"),
    [
        ({"groups": ["ops"]}, True),
        ({"groups": ["dev"]}, False),
        ({"groups": "ops"}, False),
        ({"groups": []}, False),
        ({"email": "ada@example.com", "email_verified": True}, True),
        ({"email": "ada@example.com", "email_verified": False}, False),
        ({"email": "ada@example.com"}, False),
    ],
    ids=str,
)
async def test_only_those_who_may_read_enter(
    stranger: Browser, provider: OidcProvider, claims: dict[str, object], *, enters: bool
) -> None:
    provider.user = {"sub": "u-17", **claims}
    assert (await go(stranger)).status_code == (200 if enters else 403)


@pytest.mark.parametrize(
    ("claims", "may"),
    [
        ({"groups": ["ops", "on-call"]}, True),
        ({"groups": ["on-call"]}, True),
        ({"groups": ["ops"]}, False),
        ({"groups": ["ops"], "email": "on-call", "email_verified": False}, False),
    ],
    ids=str,
)
async def test_who_is_in_an_operators_group_may_order(
    start: Starter, provider: OidcProvider, orders: Orders, claims: dict[str, object], *, may: bool
) -> None:
    asked = Provider(provider.issuer, CLIENT, provider.redirect, READERS, SECRET, operators=frozenset({"on-call"}))
    stranger = await start(orders, provider=asked, address=provider.redirect.split("/")[2])
    provider.user = {"sub": "u-17", **claims}
    assert (await go(stranger)).status_code == 200
    answer = await stranger.http.post("/launches/a1/stop", data={"reason": "a test"})
    assert answer.status_code == 403
    assert ("takes no orders from the key" in answer.text) is may


async def test_a_code_is_of_no_use_with_another_state_or_twice(stranger: Browser) -> None:
    away = await stranger.http.get("/login/oidc")
    address = (await stranger.http.get(away.headers["location"])).headers["location"]
    kept = stranger.http.cookies.get("enclave_cc_oidc")
    assert (await stranger.http.get(address.replace("state=", "state=x"))).status_code == 403
    assert (await stranger.http.get(address + "&iss=http://evil.example")).status_code in {200, 403}
    stranger.http.cookies.clear()
    assert kept is not None
    again = await stranger.http.get(address, headers={"cookie": f"enclave_cc_oidc={kept}"})
    assert again.status_code == 403, "the provider takes a code once"


async def test_another_issuers_answer_is_refused(stranger: Browser) -> None:
    away = await stranger.http.get("/login/oidc")
    address = (await stranger.http.get(away.headers["location"])).headers["location"]
    mixed = address.replace("iss=http%3A%2F%2Flocalhost", "iss=http%3A%2F%2Felsewhere")
    assert mixed != address
    assert (await stranger.http.get(mixed)).status_code == 403


async def test_a_provider_that_is_away_is_told_as_that(start) -> None:
    gone = Provider(f"http://localhost:{free_port()}", CLIENT, "http://127.0.0.1/cb", frozenset({"*"}))
    browser = await start(provider=gone)
    assert "does not answer" in await browser.see("/login/oidc", status=503)


def test_a_provider_that_anybody_between_could_speak_for_is_refused() -> None:
    with pytest.raises(Permanent) as refused:
        Provider("http://sso.example", CLIENT, "https://console.example/cb", frozenset({"*"}))
    assert refused.value.code is Code.INPUT
