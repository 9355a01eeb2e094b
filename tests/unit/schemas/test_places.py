"""Names that host and enclaves agree on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.places import (
    AGENT_PORT,
    BUS_DOOR,
    CONTAINER_FILE,
    HTTP_DOOR,
    INIT_DATA,
    POD_FILE,
    STORE,
    STORES,
    is_store_of,
    offered_at,
    store_name,
)

IDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,20}", fullmatch=True)


def test_the_ports_are_three_and_none_that_a_workload_is_likely_to_want() -> None:
    ports = {BUS_DOOR, HTTP_DOOR, AGENT_PORT}
    assert len(ports) == 3
    assert all(61000 < port < 65536 for port in ports)


def test_no_place_lies_over_or_below_another() -> None:
    places = [POD_FILE, INIT_DATA, STORES, CONTAINER_FILE, STORE, offered_at("/data")]
    assert len(set(places)) == len(places)
    assert not [(a, b) for a in places for b in places if a != b and b.startswith(f"{a}/")]


def test_an_offered_mounts_place_is_the_same_on_both_sides_of_the_border_for_ever() -> None:
    assert offered_at("/etc/hosts") == "/run/enclave-cc/host/4a666ea3a3b04a24"


@given(st.text(), st.text())
def test_two_destinations_have_two_places_directly_below_one_directory(one: str, other: str) -> None:
    try:
        places = offered_at(one), offered_at(other)
    except UnicodeEncodeError:
        return
    assert (places[0] == places[1]) == (one == other)
    assert all(place.count("/") == 4 for place in places)


@given(IDS, IDS, st.integers(1, 999))
def test_a_store_is_of_the_container_that_it_is_named_for_and_of_no_other(one: str, other: str, attempt: int) -> None:
    name = store_name(one, attempt)
    assert is_store_of(name, one)
    assert is_store_of(f"{name}.partial", one)
    assert one == other or not is_store_of(name, other)


@given(st.text(max_size=10), IDS)
def test_a_name_that_the_agent_makes_up_is_no_containers(name: str, container: str) -> None:
    assert not is_store_of(f"{container}{name}", container) or name[1:].removesuffix(".partial").isdecimal()
    assert not is_store_of(f"../{container}.1", container)
