from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.faults import Code, Permanent
from workers.host.shim.bundle import INIT_DATA_ANNOTATION, PREFETCH_ANNOTATION, read_bundle


def test_the_digest_of_a_process_depends_on_what_it_says_and_not_on_how_it_is_written(tmp_path: Path) -> None:
    digests = set()
    for text in ('{"cwd":"/","args":["é",1]}', '{ "args": ["\\u00e9", 1], "cwd": "/" }'):
        annotations = '{"io.kubernetes.cri.container-type":"container","io.kubernetes.cri.sandbox-id":"p"}'
        (tmp_path / "config.json").write_text(f'{{"process": {text}, "annotations": {annotations}}}')
        digests.add(read_bundle(tmp_path).process_sha256)
    assert len(digests) == 1


def test_the_init_data_that_a_pod_asks_for_is_read(bundle: Callable[..., Path]) -> None:
    path = bundle("p", container_type="sandbox", sandbox_id="p")
    document = json.loads((path / "config.json").read_text())
    document["annotations"][INIT_DATA_ANNOTATION] = "ab" * 32
    (path / "config.json").write_text(json.dumps(document))
    assert read_bundle(path).init_data_sha256 == "ab" * 32


def prefetched(bundle: Callable[..., Path], text: str) -> tuple[str, ...]:
    path = bundle("p", container_type="sandbox", sandbox_id="p")
    document = json.loads((path / "config.json").read_text())
    document["annotations"][PREFETCH_ANNOTATION] = text
    (path / "config.json").write_text(json.dumps(document))
    return read_bundle(path).prefetch


def test_the_images_that_a_pod_wants_prefetched_are_read_each_once(bundle: Callable[..., Path]) -> None:
    assert prefetched(bundle, " a/b:1, c@sha256:00 ,,a/b:1") == ("a/b:1", "c@sha256:00")


@pytest.mark.parametrize("text", ["x" * 513, ",".join(f"image{number}" for number in range(17))])
def test_more_than_a_pod_has_use_for_is_refused(bundle: Callable[..., Path], text: str) -> None:
    with pytest.raises(Permanent) as refused:
        prefetched(bundle, text)
    assert refused.value.code is Code.INPUT


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"process": {}, "annotations": {}}',
        '{"process": {}, "annotations": {"KIND": "pod", "POD": "p"}}',
        '{"process": {}, "annotations": {"KIND": "sandbox", "POD": ""}}',
        '{"process": {}, "annotations": {"KIND": "sandbox", "POD": 7}}',
        '{"process": {}, "annotations": {"KIND": "sandbox", "POD": "p", "other": 7}}',
        '{"process": {}, "annotations": {"KIND": "sandbox", "POD": "p", "other": "\\ud800"}}',
        '{"process": "\\ud800", "annotations": {"KIND": "sandbox", "POD": "p"}}',
        '{"process": ' + "[" * 100_000,
    ],
    ids=[f"bundle-{number}" for number in range(11)],
)
def test_a_bundle_that_no_cri_made_is_refused(tmp_path: Path, text: str) -> None:
    names = {"KIND": "io.kubernetes.cri.container-type", "POD": "io.kubernetes.cri.sandbox-id"}
    for short, name in names.items():
        text = text.replace(short, name)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(Permanent) as refused:
        read_bundle(tmp_path)
    assert refused.value.code is Code.RUNTIME


def test_a_bundle_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Permanent):
        read_bundle(tmp_path / "gone")
