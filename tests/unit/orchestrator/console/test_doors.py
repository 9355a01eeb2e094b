"""Who may enter the console, and what a page elsewhere cannot make a browser do."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from orchestrator.audit.storage import Folder
from orchestrator.console.app import PAGES
from orchestrator.console.gate import COOKIE, local_address
from orchestrator.console.ledger import Ledger
from orchestrator.console.roles import Identity, Role
from orchestrator.console.serve import Settings
from orchestrator.console.sessions import LIFETIME, Seal, Sessions, Token
from orchestrator.faults import Code, Permanent
from tests.unit.orchestrator.console.conftest import Browser

TOKEN = Token("t" * 43)
ADA = Identity("ada", Role.READER, "oidc")


async def test_without_a_session_every_page_leads_to_the_door(stranger: Browser) -> None:
    for page in PAGES:
        if page.role is Role.NOBODY or page.method != "GET":
            continue
        address = page.path.replace("{pod}", "a1").replace("{index}", "0")
        answer = await stranger.http.get(address, headers={"accept": "text/html"})
        assert (answer.status_code, answer.headers["location"][:12]) == (303, "/login?next="), address
        assert (await stranger.http.get(address)).status_code == 401, address


async def test_only_an_operators_pages_change_more_than_the_askers_own_session() -> None:
    changing = {page for page in PAGES if page.method != "GET"}
    assert {page.path for page in changing if page.role < Role.OPERATOR} == {"/login", "/logout"}
    assert {page for page in PAGES if page.role is Role.OPERATOR} <= changing


async def test_the_token_opens_and_leads_to_where_one_wanted_to_go(stranger: Browser) -> None:
    answer = await stranger.http.post("/login", data={"token": stranger.token, "next": "/nodes?x=1"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/nodes?x=1")
    cookie = answer.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict"} <= set(cookie.split("; "))
    assert "Secure" not in cookie, "over plain HTTP on loopback a secure cookie would never come back"
    assert "Launches" in await stranger.see("/launches")


async def test_behind_tls_the_cookie_is_sent_over_tls_only(start) -> None:
    browser = await start(url="https://console.example")
    answer = await browser.http.post("/login", data={"token": browser.token}, headers={"host": "console.example"})
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize("given", ["", "x", "t" * 43, "é" * 20, "a" * 9000])
async def test_what_is_not_the_token_is_refused_and_told_apart_by_nothing(stranger: Browser, given: str) -> None:
    answer = await stranger.http.post("/login", data={"token": given})
    assert answer.status_code in {403, 413}
    assert "set-cookie" not in answer.headers
    assert len(given) < 9 or given not in answer.text


async def test_a_form_that_another_site_sends_is_refused(stranger: Browser) -> None:
    for headers in (
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "https://evil.example"},
    ):
        answer = await stranger.http.post("/login", data={"token": stranger.token}, headers=headers)
        assert answer.status_code == 403, headers
        assert "set-cookie" not in answer.headers


async def test_a_name_that_was_made_to_point_here_is_not_answered(stranger: Browser) -> None:
    answer = await stranger.http.get("/login", headers={"host": "evil.example"})
    assert answer.status_code == 400


async def test_leaving_takes_the_session_back(browser: Browser) -> None:
    answer = await browser.http.post("/logout")
    assert answer.headers["location"] == "/login"
    assert (await browser.http.get("/launches")).status_code == 401


async def test_every_answer_forbids_what_we_do_not_use(browser: Browser) -> None:
    for address in ("/launches", "/login", "/nowhere", "/static/console.js", "/live?pod=" + "x" * 3):
        async with browser.http.stream("GET", address) as answer:
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["x-content-type-options"] == "nosniff"
    assert (await browser.http.get("/launches")).headers["cache-control"] == "no-store"


async def test_no_page_holds_an_inline_script_or_style(browser: Browser) -> None:
    for address in ("/launches", "/nodes", "/policies", "/audit", "/help", "/login"):
        text = await browser.see(address)
        assert "<style" not in text
        assert " style=" not in text
        assert " onclick" not in text
        assert text.count("<script") == text.count('<script src="/static/console.js"')


def test_a_token_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "console/token"
    first = Token.of_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) == 43
    assert first.opens(path.read_text())
    assert Token.of_file(path).opens(path.read_text())
    assert path.read_text().strip() not in repr(first)


@pytest.mark.parametrize(("mode", "text"), [(0o640, "t" * 43), (0o604, "t" * 43), (0o600, "short"), (0o600, "")])
def test_a_token_file_that_others_may_read_or_that_holds_none_is_refused(tmp_path: Path, mode: int, text: str) -> None:
    path = tmp_path / "token"
    path.write_text(text)
    path.chmod(mode)
    with pytest.raises(Permanent) as refused:
        Token.of_file(path)
    assert refused.value.code is Code.INPUT
    assert text not in refused.value.diagnostics() or not text


def test_a_session_says_who_holds_it_until_its_time_is_over() -> None:
    now = [1000.0]
    sessions = Sessions({Role.READER: TOKEN}, lambda: now[0])
    cookie = sessions.begin(ADA)
    assert sessions.who(cookie) == ADA
    now[0] += LIFETIME - 1
    assert sessions.who(cookie) == ADA
    now[0] += 1
    assert sessions.who(cookie).role is Role.NOBODY


def test_an_altered_cookie_or_one_of_another_token_is_nobodys() -> None:
    sessions = Sessions({Role.READER: TOKEN})
    cookie = sessions.begin(ADA)
    assert Sessions({Role.READER: Token("u" * 43)}).who(cookie).role is Role.NOBODY
    for place in range(0, len(cookie), 3):
        altered = cookie[:place] + ("A" if cookie[place] != "A" else "B") + cookie[place + 1 :]
        assert sessions.who(altered) in {Identity("", Role.NOBODY, ""), ADA}
        if altered.partition(".")[0] != cookie.partition(".")[0]:
            assert sessions.who(altered).role is Role.NOBODY
    for garbage in ("", ".", "a.b", "=.=", cookie + "x" * 5000, cookie.replace(".", "")):
        assert sessions.who(garbage).role is Role.NOBODY


def test_what_was_sealed_for_one_purpose_is_nothing_for_another() -> None:
    errand = Seal(TOKEN.derive("oidc")).close([1, "ada", int(Role.OPERATOR), "oidc"], 60)
    assert Sessions({Role.READER: TOKEN, Role.OPERATOR: TOKEN}).who(errand).role is Role.NOBODY


@pytest.mark.parametrize(
    "elsewhere",
    [
        "https://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil",
        "javascript:alert(1)",
        "",
        "/\tx",
        "/a\\b",
    ],
)
def test_nobody_is_sent_away_by_a_link_to_our_login(elsewhere: str) -> None:
    assert local_address(elsewhere) == "/launches"


def test_a_path_of_ours_is_gone_to() -> None:
    assert local_address("/launches/a1?at=3") == "/launches/a1?at=3"


@pytest.mark.parametrize("address", ["0.0.0.0:8640", "192.0.2.1:8640", "[::]:8640", "console.example:443"])
def test_sessions_do_not_cross_a_network_in_the_clear(address: str, tmp_path: Path) -> None:
    with pytest.raises(Permanent) as refused:
        Settings(address, tmp_path / "token", Ledger(Folder(tmp_path), tmp_path)).check()
    assert refused.value.code is Code.INPUT
    Settings(address, tmp_path / "token", Ledger(Folder(tmp_path), tmp_path), certificate="c.pem", key="k.pem").check()


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:1", "[::1]:65535", "127.3.2.1:8080"])
def test_loopback_needs_no_certificate(address: str, tmp_path: Path) -> None:
    Settings(address, tmp_path / "token", Ledger(Folder(tmp_path), tmp_path)).check()


@pytest.mark.parametrize("address", ["", ":80", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-1"])
def test_what_is_no_address_is_told_as_that(address: str, tmp_path: Path) -> None:
    with pytest.raises(Permanent) as refused:
        _ = Settings(address, tmp_path / "token", Ledger(Folder(tmp_path), tmp_path)).port
    assert refused.value.code is Code.INPUT


def test_the_cookie_has_a_name_of_its_own() -> None:
    assert COOKIE.isascii()
