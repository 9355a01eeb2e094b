"""Looking for a canary on a whole machine: what was looked through, and where it was.

A canary is text that holds a random mark and stands nowhere else. The search looks for the mark: as it is, in hex, in
base64 at each of its three alignments, in UTF-16, and all of these again in what unpacks from any gzip or zstd stream
that begins anywhere in what it reads. It says how much it has read, because a search that looked nowhere finds nothing.
"""

from __future__ import annotations

import base64
import fcntl
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nats.js.errors import NotFoundError

from orchestrator.bus import Bus
from tests.e2e.unpacking import GZIP, ZSTD, Gunzip, Unpacker, Unzstd

PIECE = 4 << 20
DEEPEST = 3
"""Packed within packed within packed: an image in an archive in a backup."""

MOST_UNPACKED = 1 << 30
"""Bytes of one stream; what is longer is told as unread."""

NS_GET_PARENT = 0xB702
"""ioctl_ns(2)."""

WRITABLE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) rw.. ")
"""A line of /proc/PID/maps, proc_pid_maps(5). What a process cannot write, it was given as a file."""


@dataclass(frozen=True, slots=True)
class Found:
    """The mark in one form in one place, with the bytes that follow it."""

    where: str
    form: str
    context: bytes


@dataclass(slots=True)
class Searched:
    """One place: how many things were read in it and how many bytes of them, what was found, what could not be read."""

    place: str
    items: int = 0
    bytes: int = 0
    found: list[Found] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Mark:
    """A text that stands nowhere before `made`, in seconds since 1970. Its first letter has a letter in hex too."""

    text: str = field(default_factory=lambda: f"m{secrets.token_hex(16)}")
    made: float = field(default_factory=time.time)

    def __str__(self) -> str:
        return self.text


def forms(mark: str) -> dict[bytes, str]:
    """How `mark` may be written, each with its name; without what a neighbour would change."""
    raw = mark.encode()
    written = {raw: "plain", raw.hex().encode(): "hex", raw.hex().upper().encode(): "HEX"}
    written[mark.encode("utf-16-le")[:-1]] = "UTF-16"  # of either byte order
    for before in range(3):
        digits = base64.b64encode(bytes(before) + raw)
        written[digits[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]] = f"base64+{before}"
    return written


class Sieve:
    """Finds the mark in bytes that come in pieces, and in what they unpack to."""

    def __init__(self, mark: str, depth: int = DEEPEST) -> None:
        self.found: dict[str, bytes] = {}
        self.gave_up = False
        self._mark = mark
        self._forms = forms(mark)
        self._overlap = max(map(len, self._forms)) - 1
        self._depth = depth
        self._tail = b""
        self._streams: list[_Stream] = []

    def feed(self, piece: bytes) -> None:
        """The next bytes."""
        self._streams = [stream for stream in self._streams if stream.feed(piece)]
        window = self._tail + piece
        for written, form in self._forms.items():
            at = window.find(written)
            if at >= 0:
                self.found.setdefault(form, window[at : at + len(written) + 40])
        if self._depth:
            # A magic number that lay wholly in the tail was met in the window before this one.
            self._streams += self._opened(window, GZIP, Gunzip, len(self._tail) - len(GZIP) + 1)
            self._streams += self._opened(window, ZSTD, Unzstd, len(self._tail) - len(ZSTD) + 1)
        self._tail = window[-self._overlap :]

    def _opened(self, window: bytes, magic: bytes, unpacker: Callable[[], Unpacker], start: int) -> Iterator[_Stream]:
        at = window.find(magic, max(start, 0))
        while at >= 0:
            stream = _Stream(unpacker(), self)
            if stream.feed(window[at:]):
                yield stream
            at = window.find(magic, at + 1)

    def inner(self) -> Sieve:
        """A sieve for what one packed stream holds; it finds into this one."""
        inner = Sieve(self._mark, self._depth - 1)
        inner.found = self.found
        return inner


class _Stream:
    """One packed stream in the bytes of `outer`."""

    def __init__(self, unpacker: Unpacker, outer: Sieve) -> None:
        self._unpacker = unpacker
        self._outer = outer
        self._inner = outer.inner()
        self._left = MOST_UNPACKED

    def feed(self, piece: bytes) -> bool:
        """Whether the stream goes on. A pebble of packed bytes may unpack to a mountain, so it is fed in pebbles."""
        for at in range(0, len(piece), 1 << 16):
            try:
                unpacked = self._unpacker.feed(piece[at : at + (1 << 16)])
            except ValueError:
                return False
            self._left -= len(unpacked)
            if self._left < 0:
                self._outer.gave_up = True
                return False
            self._inner.feed(unpacked)
            self._outer.gave_up |= self._inner.gave_up
        return True


class Search:
    """A search of this machine for one mark. Each method looks through one kind of place."""

    def __init__(self, mark: Mark) -> None:
        self._mark = mark.text
        # Clocks of files and processes tick in hundredths.
        self._since = mark.made - 1

    def folders(self, place: str, tops: Collection[Path], *, but: Collection[Path] = ()) -> Searched:
        """Every regular file below `tops` and what is mounted there, and the names of all; nothing below `but`.

        Files that vanish meanwhile are nobody's loss.
        """
        return self._folders(place, tops, but, lambda _: True)

    def changed_files(self, place: str, tops: Collection[Path], *, but: Collection[Path] = ()) -> Searched:
        """As `folders`, but only files that changed since the mark was made, and nothing mounted below `tops`."""
        devices = {top.stat().st_dev for top in tops}

        def wanted(path: str) -> bool:
            status = os.lstat(path)
            return status.st_dev in devices and (not stat.S_ISREG(status.st_mode) or status.st_ctime >= self._since)

        return self._folders(place, tops, but, wanted)

    def _folders(
        self, place: str, tops: Collection[Path], but: Collection[Path], wanted: Callable[[str], bool]
    ) -> Searched:
        searched = Searched(place)
        skipped = {str(path) for path in but} | _namespace_files()

        def looked_at(path: str) -> bool:
            try:
                return path not in skipped and wanted(path)
            except OSError:  # gone
                return False

        for top in tops:
            for folder, names, files in os.walk(top):
                names[:] = [name for name in names if looked_at(f"{folder}/{name}")]
                self._look(searched, f"the names in {folder}", [os.fsencode("\n".join((*names, *files)))])
                for name in files:
                    if looked_at(f"{folder}/{name}"):
                        self._file(searched, f"{folder}/{name}")
        return searched

    def processes(self, place: str, file: str, pids: Iterable[int]) -> Searched:
        """`/proc/PID/<file>` (`cmdline`, `environ`) of processes.

        A process older than the mark that not even root may read (a virtual machine's own first one) is left out.
        """
        searched = Searched(place)
        for pid in pids:
            if _started(pid) >= self._since or _is_readable(pid):
                self._file(searched, f"/proc/{pid}/{file}")
        return searched

    def memory(self, place: str, pids: Iterable[int]) -> Searched:
        """Everything that processes have in memory and may write."""
        searched = Searched(place)
        for pid in pids:
            try:
                self._look(searched, f"the memory of {pid} {_name(pid)}", _memory(pid))
                searched.items += 1
            except (ProcessLookupError, FileNotFoundError):
                continue
            except OSError as error:
                searched.unread.append(f"the memory of {pid}: {error}")
        return searched

    async def messages(self, place: str, bus: Bus, streams: Iterable[str]) -> Searched:
        """Every message that `streams` store: subject, headers and payload."""
        searched = Searched(place)
        for stream in streams:
            state = (await bus.stream.stream_info(stream)).state
            for sequence in range(state.first_seq, state.last_seq + 1) if state.messages else ():
                try:
                    message = await bus.stream.get_msg(stream, sequence)
                except NotFoundError:  # done, or deleted
                    continue
                said = [str(message.subject).encode(), repr(message.headers or {}).encode(), message.data or b""]
                self._look(searched, f"{stream} {sequence} {message.subject}", said)
                searched.items += 1
        return searched

    def _file(self, searched: Searched, path: str) -> None:
        try:
            # A FIFO would be waited for, a device is no file.
            if stat.S_ISREG(os.lstat(path).st_mode):
                self._look(searched, path, _pieces(path))
                searched.items += 1
        except (FileNotFoundError, ProcessLookupError):
            return
        except OSError as error:
            searched.unread.append(f"{path}: {error}")

    def _look(self, searched: Searched, where: str, pieces: Iterable[bytes]) -> None:
        sieve = Sieve(self._mark)
        for piece in pieces:
            searched.bytes += len(piece)
            sieve.feed(piece)
        searched.found += [Found(where, form, context) for form, context in sieve.found.items()]
        if sieve.gave_up:
            searched.unread.append(f"{where}: it unpacks to more than {MOST_UNPACKED} bytes")


def all_pids() -> list[int]:
    """Every process there is now."""
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def pid_namespaces(pid: int) -> list[int]:
    """The process's pid namespace (its inode), the one it was made in, and so on up to this test's own.

    Empty for a process that is gone.
    """
    try:
        descriptor = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return []
    found = []
    while True:
        found.append(os.fstat(descriptor).st_ino)
        try:
            parent = fcntl.ioctl(descriptor, NS_GET_PARENT)
        except OSError:
            return found
        finally:
            os.close(descriptor)
        descriptor = parent


def _pieces(path: str) -> Iterator[bytes]:
    with Path(path).open("rb", buffering=0) as file:
        while piece := file.read(PIECE):
            yield piece


def _memory(pid: int) -> Iterator[bytes]:
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if not (region := WRITABLE.match(line)):
                continue
            at, end = int(region[1], 16), int(region[2], 16)
            while at < end:
                try:
                    piece = os.pread(memory.fileno(), min(PIECE, end - at), at)
                except OSError:  # unmapped since
                    break
                at += len(piece)
                yield piece
                if not piece:
                    break


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def _is_readable(pid: int) -> bool:
    try:
        with suppress(FileNotFoundError, ProcessLookupError):
            Path(f"/proc/{pid}/environ").read_bytes()
    except PermissionError:
        return False
    return True


def _started(pid: int) -> float:
    """When the process began, in seconds since 1970; 0 for one that is gone. Source: proc_pid_stat(5), field 22."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def _namespace_files() -> set[str]:
    """Mount points of namespaces: regular files by their mode, which cannot be read."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return {line.split()[4] for line in lines if line.partition(" - ")[2].startswith("nsfs ")}
