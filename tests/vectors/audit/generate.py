"""Writes the vectors of the audit log's formats from their specifications alone: a second hand, sharing no code.

    python tests/vectors/audit/generate.py

makes `vectors.json` beside this file, the same bytes each time. Trees are RFC 6962's recursive definitions, spelled
out. Each vector is right (`fails` empty) or has exactly one thing wrong, and names the class of failure, which is the
stable code's name: a check that fails for another reason than the intended one hides the one that is missing.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HERE = Path(__file__).parent
Json = dict[str, object]


def sha(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


# --- RFC 6962 section 2.1, as written ---------------------------------------------------------------------------------


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(leaves: list[bytes]) -> bytes:
    if not leaves:
        return sha()
    if len(leaves) == 1:
        return sha(b"\0", leaves[0])
    k = split(len(leaves))
    return sha(b"\1", mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], *, complete: bool) -> list[bytes]:
    if m == len(leaves):
        return [] if complete else [mth(leaves)]
    k = split(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], complete=complete), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], complete=False), mth(leaves[:k])]


LEAVES = [f"leaf {number}".encode() for number in range(64)]
SHAPES = ((0, 1), (1, 2), (2, 3), (4, 5), (3, 7), (7, 8), (12, 13), (16, 17), (40, 63))
GROWTHS = ((1, 2), (2, 3), (3, 4), (4, 7), (6, 8), (7, 8), (8, 9), (5, 13), (16, 17))


def altered_path(proof: list[bytes]) -> Iterator[tuple[str, list[bytes]]]:
    """A path with one thing wrong."""
    for at, part in enumerate(proof):
        for bit in (0, 255):
            broken = bytearray(part)
            broken[bit // 8] ^= 1 << bit % 8
            yield f"bit {bit} of hash {at} is flipped", [*proof[:at], bytes(broken), *proof[at + 1 :]]
        yield f"hash {at} is left out", proof[:at] + proof[at + 1 :]
        yield f"hash {at} stands twice", [*proof[:at], part, *proof[at:]]
        yield f"hash {at} is one byte short", [*proof[:at], part[:-1], *proof[at + 1 :]]
        yield f"hash {at} is one byte long", [*proof[:at], part + b"\0", *proof[at + 1 :]]
    if len(proof) > 1:
        yield "the hashes stand in reverse", proof[::-1]
        yield "there is none", []
    yield "garbage stands before it", [sha(b"garbage"), *proof]
    yield "garbage stands after it", [*proof, sha(b"garbage")]
    yield "the empty tree's root stands after it", [*proof, sha()]


def inclusion() -> Iterator[Json]:
    for index, size in SHAPES:
        leaves = LEAVES[:size]
        right: Json = {
            "entry": leaves[index].hex(),
            "index": index,
            "size": size,
            "root": mth(leaves).hex(),
            "path": [part.hex() for part in path(index, leaves)],
        }

        def vector(name: str, right: Json = right, fails: str = "AUDIT_INCLUSION", **wrong: object) -> Json:
            where = f"entry {right['index']} of {right['size']}: "
            return {"name": where + name, "fails": fails, **right, **wrong}

        yield vector("right", fails="")
        yield vector("another entry", entry=b"another".hex())
        yield vector("the entry has a byte more", entry=(leaves[index] + b"\0").hex())
        yield vector("the entry is empty", entry="")
        yield vector("the entry is a node", entry=(sha(b"left") + sha(b"right")).hex())
        for name, other in (("one less", index - 1), ("one more", index + 1), ("its last bit flipped", index ^ 1)):
            yield vector(f"the index is {name}", index=other)
        yield vector("the index is the size", index=size)
        yield vector("the index is far outside", index=index + (1 << 62))
        yield vector("the index is negative", index=-1)
        yield vector("the size is doubled", size=size * 2)
        if size > 1:
            yield vector("the size is halved", size=size // 2 if index != 0 or size // 2 != 1 else 0)
        yield vector("the size is 0", size=0)
        yield vector("the size is negative", size=-size)
        yield vector("the root is the empty tree's", root=sha().hex())
        yield vector("the root is of one entry less", root=mth(leaves[:-1]).hex())
        yield vector("the root is short", root=mth(leaves)[:-1].hex())
        if size > 1:
            yield vector("the root is the leaf's hash", root=sha(b"\0", leaves[index]).hex())
        for name, other in altered_path(path(index, leaves)):
            yield vector(f"path: {name}", path=[part.hex() for part in other])


def consistency() -> Iterator[Json]:
    for old, new in GROWTHS:
        leaves = LEAVES[:new]
        proof = subproof(old, leaves, complete=True)
        right: Json = {
            "old": old,
            "old_root": mth(leaves[:old]).hex(),
            "size": new,
            "root": mth(leaves).hex(),
            "path": [part.hex() for part in proof],
        }

        def vector(name: str, right: Json = right, fails: str = "AUDIT_FORK", **wrong: object) -> Json:
            return {"name": f"from {right['old']} to {right['size']}: {name}", "fails": fails, **right, **wrong}

        yield vector("right", fails="")
        yield vector("the roots are swapped", old_root=right["root"], root=right["old_root"])
        yield vector("the sizes are swapped", fails="AUDIT_ROLLBACK", old=new, size=old)
        yield vector("the sizes are equal", size=old)
        yield vector("the old root is the empty tree's", old_root=sha().hex())
        yield vector("the old root is of another history", old_root=mth([b"other", *leaves[1:old]]).hex())
        yield vector("the new root is of another history", root=mth([b"other", *leaves[1:]]).hex())
        yield vector("the new root leaves the last out", root=mth(leaves[:-1]).hex())
        yield vector("the old size is one less", old=old - 1)
        yield vector("the new size is doubled", size=new * 2)
        for name, other in altered_path(proof):
            yield vector(f"proof: {name}", path=[part.hex() for part in other])
    empty, root = sha().hex(), mth(LEAVES[:5]).hex()
    same: Json = {"path": [], "size": 5, "root": root}
    yield {"name": "from nothing", "fails": "", "old": 0, "old_root": empty, **same}
    yield {"name": "no news", "fails": "", "old": 5, "old_root": root, **same}
    yield {"name": "from nothing, with a root", "fails": "AUDIT_FORK", "old": 0, "old_root": root, **same}
    garbage = {**same, "path": [sha(b"garbage").hex()]}
    yield {"name": "from nothing, with a proof", "fails": "AUDIT_FORK", "old": 0, "old_root": empty, **garbage}
    yield {"name": "no news, with a proof", "fails": "AUDIT_FORK", "old": 5, "old_root": root, **garbage}


# --- c2sp.org/signed-note, tlog-checkpoint, tlog-cosignature ----------------------------------------------------------


class Key:
    """An Ed25519 key from a word."""

    def __init__(self, name: str, kind: int) -> None:
        self.name, self.kind = name, kind
        self.private = Ed25519PrivateKey.from_private_bytes(sha(f"key {name}".encode()))
        self.public = self.private.public_key().public_bytes_raw()
        self.id = sha(name.encode(), b"\n", bytes([kind]), self.public)[:4]

    @property
    def vkey(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64(bytes([self.kind]) + self.public)}"

    def line(self, text: str, time: int = 1_767_225_600) -> str:
        if self.kind == 1:
            raw = self.private.sign(text.encode())
        else:
            raw = struct.pack(">Q", time) + self.private.sign(f"cosignature/v1\ntime {time}\n{text}".encode())
        return f"— {self.name} {b64(self.id + raw)}\n"


LOG, ONE, TWO, STRANGER = Key("log.example/audit", 1), Key("one.example", 4), Key("two.example", 4), Key("x.example", 1)
OTHER = Key("log.example/audit", 1)
OTHER.private = Ed25519PrivateKey.from_private_bytes(sha(b"another key"))
OTHER.public = OTHER.private.public_key().public_bytes_raw()
POLICY = f"log {LOG.vkey}\nwitness one {ONE.vkey}\nwitness two {TWO.vkey}\ngroup both all one two\nquorum both\n"


def checkpoints() -> Iterator[Json]:
    root = b64(mth(LEAVES[:5]))
    text = f"log.example/audit\n5\n{root}\n"
    log, one, two = LOG.line(text), ONE.line(text), TWO.line(text)

    def vector(name: str, fails: str, note: str | bytes) -> Json:
        raw = note if isinstance(note, bytes) else note.encode()
        return {"name": name, "fails": fails, "note": b64(raw)}

    def signed(body: str) -> str:
        return f"{body}\n{LOG.line(body)}{ONE.line(body)}{TWO.line(body)}"

    yield vector("right", "", signed(text))
    yield vector("right, the witnesses first", "", f"{text}\n{two}{one}{log}")
    yield vector("right, with a stranger's line", "", signed(text) + STRANGER.line(text))
    yield vector("right, with a line of another algorithm", "", signed(text) + f"— y.example {b64(bytes(2425))}\n")
    yield vector("right, a cosignature at time 0", "", f"{text}\n{log}{ONE.line(text, 0)}{two}")
    yield vector("right, of size 0", "", signed(f"log.example/audit\n0\n{b64(sha())}\n"))
    yield vector("right, of the largest size", "", signed(f"log.example/audit\n{2**63 - 1}\n{root}\n"))
    for name, note in (
        ("the log's line is gone", f"{text}\n{one}{two}"),
        ("only a witness's line is left", f"{text}\n{one}"),
        ("only a stranger's line is left", f"{text}\n{STRANGER.line(text)}"),
        ("the log's line has another key", f"{text}\n{OTHER.line(text)}{one}{two}"),
        ("the log's line has another name", f"{text}\n{log.replace('audit', 'audio')}{one}{two}"),
        ("the log signed another size", f"{text}\n{LOG.line(text.replace('5', '6', 1))}{one}{two}"),
        ("a witness cosigned another root", f"{text}\n{log}{ONE.line(text.replace(root, b64(sha())))}{two}"),
        ("a cosignature's time is another", f"{text}\n{log}{restamped(one)}{two}"),
        ("a cosignature's time is past 2^63", f"{text}\n{log}{ONE.line(text, 2**63)}{two}"),
        ("a cosignature is cut", f"{text}\n{log}{resized(one, -1)}{two}"),
        ("a cosignature has a byte more", f"{text}\n{log}{resized(one, 1)}{two}"),
        ("a cosignature is one byte", f"{text}\n{log}{resized(one, -71)}{two}"),
        ("the log's signature has a byte more", f"{text}\n{resized(log, 1)}{one}{two}"),
        ("the origin is another's, who signed", signed("x.example\n5\n" + root + "\n")),
    ):
        yield vector(name, "AUDIT_SIGNATURE", note)
    for name, note in (
        ("one witness is missing", f"{text}\n{log}{one}"),
        ("one witness stands twice", f"{text}\n{log}{one}{one}"),
        ("one witness stands twice, at two times", f"{text}\n{log}{one}{ONE.line(text, 7)}"),
        ("both witnesses are missing", f"{text}\n{log}"),
    ):
        yield vector(name, "AUDIT_QUORUM", note)
    for name, body in (
        ("the size has a leading zero", f"log.example/audit\n05\n{root}\n"),
        ("the size has a sign", f"log.example/audit\n+5\n{root}\n"),
        ("the size is negative", f"log.example/audit\n-5\n{root}\n"),
        ("the size has an underscore", f"log.example/audit\n1_0\n{root}\n"),
        ("the size has a blank", f"log.example/audit\n 5\n{root}\n"),
        ("the size is in other digits", f"log.example/audit\n٥\n{root}\n"),
        ("the size is 2^63", f"log.example/audit\n{2**63}\n{root}\n"),
        ("the size has a thousand digits", f"log.example/audit\n{'9' * 1000}\n{root}\n"),
        ("the size is empty", f"log.example/audit\n\n{root}\n"),
        ("the size is hexadecimal", f"log.example/audit\n0x5\n{root}\n"),
        ("the root is short", f"log.example/audit\n5\n{b64(bytes(31))}\n"),
        ("the root is long", f"log.example/audit\n5\n{b64(bytes(33))}\n"),
        ("the root has stray bits", f"log.example/audit\n5\n{root[:-2]}{chr(ord(root[-2]) + 1)}=\n"),
        ("the root has no padding", f"log.example/audit\n5\n{root[:-1]}\n"),
        ("the root is base64url", f"log.example/audit\n5\n{b64(bytes([251] * 32)).replace('+', '-')}\n"),
        ("the root has garbage in it", f"log.example/audit\n5\n{root[:4]}!!{root[4:]}\n"),
        ("the root is of no entry, the size not 0", f"log.example/audit\n0\n{root}\n"),
        ("the origin is empty", f"\n5\n{root}\n"),
        ("the origin has a blank", f"log example/audit\n5\n{root}\n"),
        ("there is a line more", f"log.example/audit\n5\n{root}\nextension\n"),
        ("there is a line less", "log.example/audit\n5\n"),
    ):
        yield vector(name, "AUDIT_FORMAT", signed(body))
    for name, raw in (
        ("there is nothing", b""),
        ("there is only a newline", b"\n"),
        ("there is no signature", f"{text}\n".encode()),
        ("there is no empty line", f"{text}{log}{one}{two}".encode()),
        ("the last newline is missing", signed(text).encode()[:-1]),
        ("there is a byte after it", signed(text).encode() + b"x"),
        ("there is an empty line after it", signed(text).encode() + b"\n"),
        ("the lines end in CR LF", signed(text).replace("\n", "\r\n").encode()),
        ("there is a tab in it", f"{text}\n{log.replace(' log', chr(9) + 'log')}{one}{two}".encode()),
        ("there is a NUL in it", signed(text).encode() + b"\xe2\x80\x94 z\0 AAAAAAAA\n"),
        ("it is not UTF-8", signed(text).encode() + b"\xe2\x80\x94 z\xff AAAAAAAA\n"),
        ("a dash is a hyphen", f"{text}\n{log.replace('—', '-')}{one}{two}".encode()),
        ("a name has a plus", f"{text}\n{log}{one}{two}— a+b {b64(bytes(68))}\n".encode()),
        ("a name is empty", f"{text}\n{log}{one}{two}—  {b64(bytes(68))}\n".encode()),
        ("a name has a wide blank", f"{text}\n{log}{one}{two}— a\u2003b {b64(bytes(68))}\n".encode()),
        ("a line has a word more", f"{text}\n{log}{one}{two}— a b {b64(bytes(68))}\n".encode()),
        ("a signature is not base64", f"{text}\n{log}{one}{two}— a !!!!\n".encode()),
        ("a signature has stray bits", f"{text}\n{log}{one}{two}— a AAAAAAAAAB==\n".encode()),
        ("a signature is only a key id", f"{text}\n{log}{one}{two}— a {b64(bytes(4))}\n".encode()),
        ("there are too many signatures", (signed(text) + STRANGER.line(text) * 100).encode()),
        ("it is too long", (text + "\n" + "x" * 100_000).encode()),
    ):
        yield vector(name, "AUDIT_FORMAT", raw)


def resized(line: str, by: int) -> str:
    head, _, encoded = line.rstrip("\n").rpartition(" ")
    raw = base64.b64decode(encoded)
    return f"{head} {b64(raw + bytes(by) if by > 0 else raw[:by])}\n"


def restamped(line: str) -> str:
    head, _, encoded = line.rstrip("\n").rpartition(" ")
    raw = base64.b64decode(encoded)
    return f"{head} {b64(raw[:4] + struct.pack('>Q', 1) + raw[12:])}\n"


# --- c2sp.org/tlog-proof ----------------------------------------------------------------------------------------------


def proofs() -> Iterator[Json]:
    leaves, index = LEAVES[:5], 2
    text = f"log.example/audit\n5\n{b64(mth(leaves))}\n"
    note = f"{text}\n{LOG.line(text)}{ONE.line(text)}{TWO.line(text)}"
    hashes = [b64(part) for part in path(index, leaves)]
    header = "c2sp.org/tlog-proof@v1"

    def vector(name: str, fails: str, *lines: str, entry: bytes = leaves[index], end: str = note) -> Json:
        proof = "\n".join((*lines, "", end))
        return {"name": name, "fails": fails, "proof": b64(proof.encode()), "entry": entry.hex()}

    yield vector("right", "", header, "index 2", *hashes)
    yield vector("right, with extra data", "", header, "extra YWdl", "index 2", *hashes)
    yield vector("right, with empty extra data", "", header, "extra ", "index 2", *hashes)
    yield vector("another entry", "AUDIT_INCLUSION", header, "index 2", *hashes, entry=b"another")
    yield vector("another index", "AUDIT_INCLUSION", header, "index 3", *hashes)
    yield vector("an index outside", "AUDIT_INCLUSION", header, "index 5", *hashes)
    yield vector("a hash less", "AUDIT_INCLUSION", header, "index 2", *hashes[:-1])
    yield vector("a hash more", "AUDIT_INCLUSION", header, "index 2", *hashes, hashes[0])
    yield vector("no hash", "AUDIT_INCLUSION", header, "index 2")
    yield vector("the log did not sign", "AUDIT_SIGNATURE", header, "index 2", *hashes, end=f"{text}\n{ONE.line(text)}")
    yield vector("no quorum", "AUDIT_QUORUM", header, "index 2", *hashes, end=f"{text}\n{LOG.line(text)}")
    for name, lines in (
        ("another version", ("c2sp.org/tlog-proof@v2", "index 2", *hashes)),
        ("no header", ("index 2", *hashes)),
        ("no index", (header, *hashes)),
        ("the index has a leading zero", (header, "index 02", *hashes)),
        ("the index has a sign", (header, "index +2", *hashes)),
        ("the index is empty", (header, "index ", *hashes)),
        ("the extra data stand after the index", (header, "index 2", "extra YWdl", *hashes)),
        ("the extra data stand twice", (header, "extra YWdl", "extra YWdl", "index 2", *hashes)),
        ("the extra data are not base64", (header, "extra !", "index 2", *hashes)),
        ("a hash is not base64", (header, "index 2", "!" * 44, *hashes[1:])),
        ("a hash is short", (header, "index 2", b64(bytes(31)), *hashes[1:])),
        ("a blank stands after a hash", (header, "index 2", hashes[0] + " ", *hashes[1:])),
        ("there are 64 hashes", (header, "index 2", *hashes[:1] * 64)),
        ("an empty line stands among the hashes", (header, "index 2", hashes[0], "", *hashes[1:])),
    ):
        yield vector(name, "AUDIT_FORMAT", *lines)
    yield vector("no checkpoint", "AUDIT_FORMAT", header, "index 2", *hashes, end="")


# --- c2sp.org/tlog-policy, tlog-tiles ---------------------------------------------------------------------------------


def policies() -> Iterator[Json]:
    log, one, two = f"log {LOG.vkey}\n", f"witness one {ONE.vkey}\n", f"witness two {TWO.vkey}\n"
    members = log + one + two

    def vector(name: str, fails: str, policy: str | bytes) -> Json:
        return {"name": name, "fails": fails, "policy": b64(policy if isinstance(policy, bytes) else policy.encode())}

    for name, policy in (
        ("both witnesses", POLICY),
        ("no witness", f"{log}quorum none\n"),
        ("one witness", f"{members}quorum two\n"),
        ("any of two", f"{members}group g any one two\nquorum g\n"),
        ("one of two", f"{members}group g 1 one two\nquorum g\n"),
        ("a group of groups", f"{members}group a all one\ngroup b any two\ngroup g 2 a b\nquorum g\n"),
        ("addresses, comments and blanks", f"# x\n\n \t{log[:-1]}\thttps://log.example \n{one}  # y\nquorum  one\n"),
        ("the witnesses first", f"{one}{two}{log}quorum one\n"),
        ("names that are not ASCII", f"{log}witness gr\u00fcn {ONE.vkey}\nquorum gr\u00fcn\n"),
    ):
        yield vector(name, "", policy)
    for name, policy in (
        ("no quorum", members),
        ("two quorums", f"{members}quorum one\nquorum one\n"),
        ("the quorum is unknown", f"{members}quorum three\n"),
        ("the quorum comes first", f"quorum one\n{members}"),
        ("the last newline is missing", f"{members}quorum one"),
        ("an unknown word", f"{members}mirror x\nquorum one\n"),
        ("a witness is called none", f"{log}witness none {ONE.vkey}\nquorum none\n"),
        ("a name twice", f"{members}witness one {STRANGER.vkey}\nquorum one\n"),
        ("a witness's key twice", f"{members}witness three {ONE.vkey}\nquorum one\n"),
        ("a log's key twice", f"{log}{log}quorum none\n"),
        ("a witness is the log itself", f"{log}witness me {as_type(LOG, 4)}\nquorum me\n"),
        ("a log's key has a witness's type", f"log {as_type(LOG, 4)}\nquorum none\n"),
        ("a witness's key has a log's type", f"{log}witness one {as_type(ONE, 1)}\nquorum one\n"),
        ("a key's id is another's", f"log {LOG.vkey.replace(LOG.id.hex(), '00000000')}\nquorum none\n"),
        ("a key's id is in capitals", f"log {LOG.vkey.replace(LOG.id.hex(), LOG.id.hex().upper())}\nquorum none\n"),
        ("a key of an unknown type", f"log {as_type(LOG, 9)}\nquorum none\n"),
        ("a key is short", f"log {LOG.name}+{LOG.id.hex()}+{b64(b'1' + LOG.public[:-1])}\nquorum none\n"),
        ("a group without members", f"{members}group g any\nquorum g\n"),
        ("a threshold of 0", f"{members}group g 0 one two\nquorum g\n"),
        ("a threshold of 3 in 2", f"{members}group g 3 one two\nquorum g\n"),
        ("a threshold with a zero before", f"{members}group g 01 one two\nquorum g\n"),
        ("a threshold in words", f"{members}group g two one two\nquorum g\n"),
        ("a member twice", f"{members}group g 2 one one\nquorum g\n"),
        ("a member of two groups", f"{members}group a any one\ngroup g 1 one two\nquorum g\n"),
        ("a member defined later", f"{log}group g any one\n{one}quorum g\n"),
        ("a group of itself", f"{members}group g any g\nquorum g\n"),
        ("none as a member", f"{members}group g any none\nquorum g\n"),
        ("two addresses", f"{log[:-1]} https://a https://b\nquorum none\n"),
        ("lines end in CR LF", POLICY.replace("\n", "\r\n")),
        ("a NUL in a comment", f"{log}quorum none\n# \0\n"),
        ("nothing", ""),
    ):
        yield vector(name, "AUDIT_FORMAT", policy)


def as_type(key: Key, kind: int) -> str:
    other = Key(key.name, kind)
    return other.vkey


def tile_paths() -> Iterator[Json]:
    def vector(fails: str, text: str, *tile: int) -> Json:
        return {"name": text or "nothing", "fails": fails, "path": text, "tile": list(tile)}

    yield vector("", "tile/0/000", 0, 0, 256)
    yield vector("", "tile/0/000.p/1", 0, 0, 1)
    yield vector("", "tile/7/999.p/255", 7, 999, 255)
    yield vector("", "tile/1/x001/000", 1, 1000, 256)
    yield vector("", "tile/2/x001/x234/067", 2, 1_234_067, 256)
    yield vector("", "tile/entries/x001/x234/067.p/8", -1, 1_234_067, 8)
    for wrong in (
        "", "tile", "tile/0", "tile/0/", "tile/0/0", "tile/0/00", "tile/0/0000", "tile/00/000", "tile/-1/000",
        "tile/8/000", "tile/64/000", "tile/0/x000/000", "tile/0/x000/x001/000", "tile/0/001/000", "tile/0/x001",
        "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/", "tile/0/000.p", "tile/0/000/",
        "/tile/0/000", "tile/0/../000", "tile/entries/٠٠٠", "tile/data/000", "tile/0/000\n", "tile/0/0_0",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/000",
    ):  # fmt: skip
        yield vector("AUDIT_FORMAT", wrong)


def main() -> None:
    """Writes the file."""
    sections: dict[str, Callable[[], Iterator[Json]]] = {
        "inclusion": inclusion,
        "consistency": consistency,
        "checkpoints": checkpoints,
        "proofs": proofs,
        "policies": policies,
        "tile_paths": tile_paths,
    }
    head: Json = {"policy": POLICY, "log": LOG.vkey, "witnesses": [ONE.vkey, TWO.vkey]}
    parts = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    for name, make in sections.items():  # a line a vector, so that a change can be read
        lines = ",\n".join(json.dumps(vector, ensure_ascii=False) for vector in make())
        parts.append(f"{json.dumps(name)}: [\n{lines}\n]")
    (HERE / "vectors.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main()
