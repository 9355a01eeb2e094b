"""Numbers and times as people read them. Pure.

Zone: host. May import: the standard library.
"""

from __future__ import annotations

import time
from typing import Final

_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")


def duration(nanoseconds: int) -> str:
    """`0.4 ms`, `451 ms`, `1.25 s`, `3 min 04 s`, `2 h 05 min`, `3 d 04 h`; a dash for 0, which stands for unknown."""
    if nanoseconds <= 0:
        return "–"
    if nanoseconds < 10_000_000:
        return f"{nanoseconds / 1e6:.1f} ms"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1e6:.0f} ms"
    seconds = nanoseconds / 1e9
    if seconds < 60:
        return f"{seconds:.2f} s"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600:02d} h"


def ago(at_ns: int, now_ns: int) -> str:
    """`just now`, `12 s ago`, `4 min ago`, `3 h ago`, `2 d ago`: one unit, for a list."""
    seconds = (now_ns - at_ns) // 10**9
    if not at_ns:
        return "–"
    if seconds < 2:
        return "just now"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def instant(at_ns: int) -> str:
    """`2026-01-01 00:00:00.250 UTC`."""
    seconds, rest = divmod(at_ns, 10**9)
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(seconds))}.{rest // 10**6:03d} UTC" if at_ns else "–"


def clock(at_ns: int) -> str:
    """The time of day alone: `00:00:00.250`."""
    return instant(at_ns)[11:23] if at_ns else "–"


def machine_time(at_ns: int) -> str:
    """RFC 3339, for the `datetime` of a `<time>`."""
    return instant(at_ns).replace(" UTC", "Z").replace(" ", "T") if at_ns else ""


def size(count: int) -> str:
    """`512 B`, `39.1 MiB`."""
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def rate(count: int, nanoseconds: int) -> str:
    """Bytes and the time that they took as `48.2 MiB/s`."""
    return f"{size(int(count * 10**9 / nanoseconds))}/s" if nanoseconds > 0 else "–"


def percent(share: float) -> str:
    """0 to 1 as `42 %`; what is less than half of one stands as `<1 %`."""
    if share <= 0:
        return "–"
    return f"{share * 100:.0f} %" if share >= 0.005 else "<1 %"


def short(identifier: str, length: int = 12) -> str:
    """The beginning of a long id or digest, its algorithm left out."""
    return identifier.rpartition(":")[2][:length]


def sentence(text: str) -> str:
    """With a capital at its beginning; codes and names in it stay as they are."""
    return text[:1].upper() + text[1:]


def counted(number: int, one: str, many: str = "") -> str:
    """`1 launch`, `2 launches`, `10,000 launches`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
