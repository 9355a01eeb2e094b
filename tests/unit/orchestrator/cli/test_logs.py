"""`enclave-cc logs`: a container's log, opened with the owner's key against the history of its launch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deploy.cli import enclave_cc
from orchestrator import events
from orchestrator.bus import subjects
from orchestrator.output.recipient import RecipientKey
from orchestrator.replay import bundle
from schemas.sealed_output import StreamWriter
from tests.simulators.history import APP, POD, History
from workers.enclave.boot.output import OutputSeal
from workers.enclave.output import seal_for

AT = "2026-11-23T21:04:24.123456789Z"


@dataclass(frozen=True)
class Launch:
    """An exported launch whose container was sealed for `key` in a file."""

    file: Path
    key: Path
    seal: OutputSeal

    def log(self, *written: tuple[str, str], ended: bool = True) -> str:
        """As containerd writes it down."""
        writers = {stream: StreamWriter(self.seal.key, self.seal.head, stream) for stream in self.seal.streams}
        raws = [(stream, writers[stream].text(text.encode())) for stream, text in written]
        raws += [(stream, writer.end()) for stream, writer in writers.items() if ended]
        return "".join(f"{AT} {stream} F {line}\n" for stream, raw in raws for line in raw.decode().splitlines())

    def logs(self, *words: str, given: str | None = None) -> Result:
        return CliRunner().invoke(enclave_cc, ["logs", str(self.file), "redis", *words], input=given)

    def opened(self, log: str, *words: str) -> Result:
        return self.logs("--key", str(self.key), "--file", "-", *words, given=log)


def exported(folder: Path, *, seal: OutputSeal | None, running: bool) -> Path:
    made = History(POD)
    made.up_to_attested()
    made.container()
    made.decrypted()
    made.sealed()
    made.start()
    made.app_started()
    sealed = {"output_key_ids": ("id",), "output_head_sha256": hashlib.sha256(seal.head).hexdigest()} if seal else {}
    made.say(events.ConfigDelivered("ef" * 32, "allowed", "ab" * 32, **sealed), container=APP, attempt=1)
    made.booted()
    if not running:
        made.exited()
    stored = list(enumerate(made.raw, 1))
    raw = bundle.encode(bundle.export(POD, subjects.history(POD), "payments/redis-0", stored, AT))
    path = folder / "launch.jsonl"
    path.write_bytes(raw)
    return path


def launch(folder: Path, *, running: bool = False) -> Launch:
    key = RecipientKey.generate()
    seal = seal_for([key.public], POD, APP, 1, terminal=False)
    assert seal is not None
    (folder / "key").write_bytes(key.write())
    return Launch(exported(folder, seal=seal, running=running), folder / "key", seal)


def test_what_was_written_is_told_line_by_line_with_its_stream_and_time(tmp_path: Path) -> None:
    made = launch(tmp_path)
    shown = made.opened(made.log(("stdout", "one\ntw"), ("stderr", "bad \x1b[31m\n"), ("stdout", "o\nlast")))
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines() == [
        f"{AT} stdout one",
        f"{AT} stderr bad \N{REPLACEMENT CHARACTER}[31m",
        f"{AT} stdout two",
        f"{AT} stdout last",
    ]


def test_show_says_that_an_output_is_sealed_and_for_whom(tmp_path: Path) -> None:
    shown = CliRunner().invoke(enclave_cc, ["show", str(launch(tmp_path).file)])
    assert "output     sealed for id" in shown.stdout


def test_bare_is_every_byte_and_json_a_document_a_record(tmp_path: Path) -> None:
    made = launch(tmp_path)
    log = made.log(("stdout", "\x1b[1mbold\r\n"), ("stdout", "rest"))
    assert made.opened(log, "--bare").stdout_bytes == b"\x1b[1mbold\r\nrest"
    told = [json.loads(line) for line in made.opened(log, "--json").stdout.splitlines()]
    assert told[0] == {"version": 1, "at": AT, "stream": "stdout", "text": "\x1b[1mbold\r\n", "finding": None}


def test_what_kubectl_prints_can_be_piped_in(tmp_path: Path) -> None:
    made = launch(tmp_path)
    bare = "".join(line.split(" ", 3)[3] for line in made.log(("stderr", "words\n")).splitlines(keepends=True))
    shown = made.opened(bare)
    assert (shown.exit_code, shown.stdout) == (0, "stderr words\n")


def test_a_loss_a_forgery_and_a_missing_end_are_told_beside_what_is_read(tmp_path: Path) -> None:
    made = launch(tmp_path)
    log = made.log(("stdout", "one\n"), ("stdout", "two\n"), ("stdout", "three\n"), ended=False)
    lost = "".join(line for line in log.splitlines(keepends=True) if ".text.1." not in line)
    shown = made.opened(f"{lost}{AT} stdout F root password?\n")
    assert shown.exit_code == 4
    assert shown.stdout.splitlines() == [f"{AT} stdout one", f"{AT} stdout three"]
    codes = [word for word in shown.stderr.replace(": ", " ").split() if word.startswith("E-OUTPUT")]
    assert codes == ["E-OUTPUT-003", "E-OUTPUT-002", "E-OUTPUT-005", "E-OUTPUT-005"]
    assert "password" not in shown.stderr
    as_json = [json.loads(line) for line in made.opened(lost, "--json").stdout.splitlines()]
    assert next(each["finding"]["code"] for each in as_json if each["finding"]) == "E-OUTPUT-003"


def test_of_a_workload_that_runs_no_end_is_missing(tmp_path: Path) -> None:
    made = launch(tmp_path, running=True)
    shown = made.opened(made.log(("stdout", "one\n"), ended=False))
    assert (shown.exit_code, shown.stdout) == (0, f"{AT} stdout one\n")


def test_following_ends_with_the_output(tmp_path: Path) -> None:
    made = launch(tmp_path, running=True)
    (tmp_path / "0.log").write_text(made.log(("stdout", "one\n")))
    shown = made.logs("--key", str(made.key), "--file", str(tmp_path / "0.log"), "--follow")
    assert (shown.exit_code, shown.stdout) == (0, f"{AT} stdout one\n")


def test_the_kubelets_file_of_this_start_is_found_by_its_head(tmp_path: Path) -> None:
    made, other = launch(tmp_path), seal_for([RecipientKey.generate().public], POD, "other", 1, terminal=False)
    assert other is not None
    pod = made.logs("--log-dir", str(tmp_path), "--key", str(made.key))
    assert (pod.exit_code, "there is no log of this container" in pod.stderr) == (3, True)
    folder = Path(pod.stderr.partition("a file in ")[2].splitlines()[0])
    folder.mkdir(parents=True)
    later = Launch(made.file, made.key, other)
    for number, text in ((9, made.log(("stdout", "mine\n"))), (10, later.log(("stdout", "later\n")))):
        (folder / f"{number}.log").write_text(text)
    shown = made.logs("--log-dir", str(tmp_path), "--key", str(made.key))
    assert (shown.exit_code, shown.stdout) == (0, f"{AT} stdout mine\n")


def test_without_the_key_or_with_another_nothing_is_opened(tmp_path: Path) -> None:
    made = launch(tmp_path)
    log = made.log(("stdout", "one\n"))
    without = made.logs("--file", "-", given=log)
    assert (without.exit_code, without.stdout) == (2, "")
    assert "--key FILE, the private key of one of id" in without.stderr
    (tmp_path / "other").write_bytes(RecipientKey.generate("P-256").write())
    (tmp_path / "public").write_bytes(RecipientKey.read(made.key).public.encode())
    other = made.logs("--file", "-", "--key", str(tmp_path / "other"), given=log)
    assert (other.exit_code, other.stdout) == (1, "")
    assert "E-OUTPUT-001" in other.stderr
    assert made.logs("--file", "-", "--key", str(tmp_path / "public"), given=log).exit_code == 2
    assert made.logs("--file", "-", "--key", str(tmp_path / "absent"), given=log).exit_code == 3


def test_an_output_that_is_not_sealed_is_printed_as_it_is(tmp_path: Path) -> None:
    plain = Launch(exported(tmp_path, seal=None, running=False), tmp_path, OutputSeal(b"", (), b""))
    shown = plain.logs("--file", "-", given=f"{AT} stdout P one \n{AT} stderr F bad\n{AT} stdout F line\n")
    assert shown.stdout.splitlines() == [f"{AT} stderr bad", f"{AT} stdout one line"]
    assert shown.exit_code == 0


@pytest.mark.parametrize(("asked", "code"), [("redis", 2), ("none", 3), (APP[:5], 2)])
def test_a_container_is_meant_by_its_name_or_the_beginning_of_its_id(tmp_path: Path, asked: str, code: int) -> None:
    made = launch(tmp_path)
    # 2: it was found, and a key is asked for.
    assert CliRunner().invoke(enclave_cc, ["logs", str(made.file), asked, "--file", "-"], input="").exit_code == code
