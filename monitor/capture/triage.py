"""What never leaves the kernel: a classic BPF program, assembled here, that a capturing socket is given.

The instructions are those of the kernel's Documentation/networking/filter.rst; their codes are in linux/bpf_common.h
and linux/filter.h. A load from behind a packet's end ends the program and drops the packet.
"""

import struct
from collections.abc import Iterable, Sequence
from itertools import count, islice
from typing import NamedTuple

from monitor.segments import CONTROL_FLAGS

# Link types as capture files number them; the registry is draft-ietf-opsawg-pcaplinktype.
LINKTYPE_ETHERNET = 1
LINKTYPE_RAW = 101

MOST_INSTRUCTIONS = 4096  # BPF_MAXINSNS
# With so many, a program takes the kernel less than 10 KiB. Before Linux 6.7 net.core.optmem_max allows a socket
# 20 KiB, for the old program and the new one while they are exchanged.
MOST_SETTLED_KEYS = 512
ACCEPT_BYTES = 0xFFFFFFFF

_LDX_IMMEDIATE, _LDX_MEMORY = 0x01, 0x61
_LD_IMMEDIATE, _LD_MEMORY, _LD_LENGTH = 0x00, 0x60, 0x80
_LDW_ABSOLUTE, _LDH_ABSOLUTE, _LDB_ABSOLUTE = 0x20, 0x28, 0x30
_LDW_X, _LDH_X, _LDB_X = 0x40, 0x48, 0x50  # at X + k
_STORE, _STORE_X = 0x02, 0x03
_ADD, _AND, _MULTIPLY, _SHIFT_LEFT, _SHIFT_RIGHT = 0x04, 0x54, 0x24, 0x64, 0x74
_ADD_X, _SUBTRACT_X, _XOR_X = 0x0C, 0x1C, 0xAC
_JUMP, _EQUAL, _GREATER, _AT_LEAST, _ANY_BIT, _GREATER_X = 0x05, 0x15, 0x25, 0x35, 0x45, 0x2D
_RETURN, _X_TO_A = 0x06, 0x87

_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM
_FARTHEST_BRANCH = 255

# The program's scratch memory: offsets into the packet, and what else is needed twice.
_NETWORK, _TRANSPORT, _PAYLOAD, _END, _VERSION, _HASH = range(6)

_IPV4, _IPV6 = 0x0800, 0x86DD
_VLAN_TAGS = (0x8100, 0x88A8, 0x9100)
# What can have TCP inside: as `monitor.frames.headers` has it, to which the tests compare this.
# MPLS, PPPoE, bridged Ethernet, NSH, 802.1ah, and 0x9200 for a tag.
_CARRIER_ETHERTYPES = (0x8847, 0x8848, 0x8864, 0x6558, 0x894F, 0x88E7, 0x9200)
_FIRST_ETHERTYPE, _LLC_SNAP = 0x0600, 0xAAAA  # IEEE 802.3: below is a length
_TCP, _UDP = 6, 17
_IPV6_BYTES = 40
_FRAGMENT = 0x3FFF  # MF and the offset
# IPv4, IPv6, GRE, Ethernet and MPLS in IP; and the extension headers of IPv6: hop-by-hop options, routing, fragment,
# authentication, destination options.
_CARRIER_PROTOCOLS = (4, 41, 47, 97, 137, 0, 43, 44, 51, 60)
# VXLAN, VXLAN as Linux first had it, VXLAN-GPE, GENEVE, MPLS in UDP, GTP-U, L2TP.
_CARRIER_PORTS = (4789, 8472, 4790, 6081, 6635, 2152, 1701)
_DUMP_COMMANDS = (0x12, 0x15, 0x1E)  # COM_BINLOG_DUMP, COM_REGISTER_SLAVE, COM_BINLOG_DUMP_GTID

_BUCKET_KEYS = 8
_MIX = 0x9E3779B1  # odd and without pattern: 2**32 over the golden ratio
_WORD = (1 << 32) - 1


class Instruction(NamedTuple):
    """One `struct sock_filter`: both jumps are counted from the next instruction."""

    code: int
    if_true: int
    if_false: int
    k: int


class _Branch(NamedTuple):
    """A comparison of A, with the labels to go on at; "" is the next instruction."""

    code: int
    k: int
    then: str
    otherwise: str


class _Jump(NamedTuple):
    to: str


class Assembler:
    """Collects instructions, branches and labels, in the order in which they stand. All jumps go forward."""

    def __init__(self) -> None:
        self._items: list[Instruction | _Branch | _Jump | str] = []

    def do(self, code: int, k: int = 0) -> None:
        """Adds an instruction."""
        self._items.append(Instruction(code, 0, 0, k))

    def branch(self, code: int, k: int, then: str = "", otherwise: str = "") -> None:
        """Adds a comparison of A with `k`, or with X. Labels may be any distance ahead; "" goes on with the next."""
        self._items.append(_Branch(code, k, then, otherwise))

    def switch(self, values: Iterable[int], then: str) -> None:
        """Adds jumps to `then` if A is one of the values."""
        for value in values:
            self.branch(_EQUAL, value, then)

    def jump(self, to: str) -> None:
        """Adds a jump."""
        self._items.append(_Jump(to))

    def label(self, name: str) -> None:
        """Names the next instruction."""
        self._items.append(name)

    def assemble(self) -> list[Instruction]:
        """The program. A branch reaches 255 instructions far; where that is too short, a jump is put behind it.

        Raises:
            ValueError: it is longer than the kernel takes, or a label is missing.
        """
        # From the last instruction to the first, so that every label is placed before somebody jumps to it. A place is
        # how many instructions there are from it to the end.
        program: list[Instruction] = []
        places: dict[str, int] = {}
        for item in reversed(self._items):
            match item:
                case str():
                    places[item] = len(program)
                case Instruction():
                    program.append(item)
                case _Jump(to):
                    program.append(Instruction(_JUMP, 0, 0, len(program) - _placed(places, to)))
                case _Branch():
                    places[""] = len(program)
                    for label in (item.then, item.otherwise):
                        # Two instructions of slack: the other label may need a jump too.
                        if (distance := len(program) - _placed(places, label)) > _FARTHEST_BRANCH - 2:
                            program.append(Instruction(_JUMP, 0, 0, distance))
                            places[label] = len(program)
                    here = len(program)
                    program.append(
                        Instruction(item.code, here - places[item.then], here - places[item.otherwise], item.k)
                    )
        if len(program) > MOST_INSTRUCTIONS:
            raise ValueError(f"the filter would have {len(program)} instructions; the kernel takes {MOST_INSTRUCTIONS}")
        return program[::-1]


def packed(program: Iterable[Instruction]) -> bytes:
    """The program as an array of `struct sock_filter`."""
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def hash_of(key: bytes, seed: int) -> int:
    """What the program looks a direction's key up by: 31 bits, so that comparisons stay short in the kernel."""
    mixed = seed
    for (word,) in struct.iter_unpack("!I", key):
        mixed = ((mixed ^ word) * _MIX) & _WORD
    return mixed >> 1


def reject_all() -> list[Instruction]:
    """The program that lets nothing through."""
    return [Instruction(_RETURN, 0, 0, 0)]


def assemble_triage(
    ports: frozenset[int] | None,
    *,
    settled: Iterable[bytes],
    sample_1_in: int,
    with_openings: bool,
    link_type: int = LINKTYPE_ETHERNET,
    seed: int = 0,
) -> list[Instruction]:
    """The program that lets through what user space has to see.

    That is all that may have TCP inside which only user space finds (fragments, tunnels, extension headers), and TCP
    from or to the ports. Of a settled direction only: SYN, FIN and RST; what could be a dump command; and one in
    `sample_1_in` of the packets with payload, at random.

    Settled directions are known by a hash. A flow that is not settled and has the hash of one that is gets the same
    treatment: it is thinned to one packet in `sample_1_in`, and never goes unseen. Another seed hits another flow.

    Args:
        ports: None for any.
        settled: keys as in `monitor.segments`, the busiest first; no more than `MOST_SETTLED_KEYS` are used.
        sample_1_in: 1 for every packet that has payload.
        with_openings: whether SYN, FIN and RST without payload are let through. Without, a SYN flood or a port scan
            ends in the kernel, and new connections are joined at their first payload.
        link_type: `LINKTYPE_ETHERNET`, where one or two VLAN tags may stand in the frame; or `LINKTYPE_RAW`.
        seed: 32 bits for the hash.

    Raises:
        ValueError: too many ports, no such link type, or a sample of none.
    """
    if sample_1_in < 1:
        raise ValueError(f"a sample of one in {sample_1_in} is none")
    hashes = sorted({hash_of(key, seed) for key in islice(settled, MOST_SETTLED_KEYS)})
    into = Assembler()
    _find_network(into, link_type)
    _find_transport_ipv4(into)
    _find_transport_ipv6(into)
    _sort_protocols(into)
    _check_tcp(into, ports, with_openings)
    if hashes:
        _hash_key(into, seed)
        _search(into, hashes)
        _thin(into, sample_1_in)
    into.label("accept")
    into.do(_RETURN, ACCEPT_BYTES)
    into.label("drop")
    into.do(_RETURN, 0)
    return into.assemble()


def _placed(places: dict[str, int], label: str) -> int:
    if label not in places:
        raise ValueError(f"there is no label {label} ahead")
    return places[label]


def _find_network(into: Assembler, link_type: int) -> None:
    """Goes on at `ipv4` or `ipv6` with the offset of the IP header in X."""
    if link_type == LINKTYPE_ETHERNET:
        _find_ethertype(into)
    elif link_type == LINKTYPE_RAW:
        into.do(_LDX_IMMEDIATE, 0)
    else:
        raise ValueError(f"there is no triage for link type {link_type}")
    into.label("ip")
    into.do(_LDB_X, 0)
    into.do(_SHIFT_RIGHT, 4)
    into.branch(_EQUAL, 4, "ipv4")
    into.branch(_EQUAL, 6, "ipv6", "drop")


def _find_ethertype(into: Assembler) -> None:
    """Goes on at `ip`."""
    for tags in range(3):
        into.label(f"tags {tags}")
        into.do(_LDX_IMMEDIATE, 14 + 4 * tags)
        into.do(_LDH_ABSOLUTE, 12 + 4 * tags)
        into.switch((_IPV4, _IPV6), "ip")
        # Three tags are user space's.
        into.switch(_VLAN_TAGS, f"tags {tags + 1}" if tags < 2 else "accept")
        into.switch(_CARRIER_ETHERTYPES, "accept")
        into.branch(_AT_LEAST, _FIRST_ETHERTYPE, "drop")
        into.do(_LDH_ABSOLUTE, 14 + 4 * tags)
        into.branch(_EQUAL, _LLC_SNAP, "accept", "drop")


def _find_transport_ipv4(into: Assembler) -> None:
    """Goes on at `protocol` with A the protocol; RFC 791, section 3.1."""
    into.label("ipv4")
    into.do(_STORE_X, _NETWORK)
    into.do(_LDH_X, 6)
    into.branch(_ANY_BIT, _FRAGMENT, "accept")
    into.do(_LDH_X, 2)
    _store_end(into, "ipv4", 0)
    into.do(_LDB_X, 0)
    into.do(_AND, 0x0F)
    into.do(_SHIFT_LEFT, 2)
    into.do(_ADD_X)
    into.do(_STORE, _TRANSPORT)
    into.do(_LD_IMMEDIATE, 4)
    into.do(_STORE, _VERSION)
    into.do(_LDB_X, 9)
    into.jump("protocol")


def _find_transport_ipv6(into: Assembler) -> None:
    """As the other; RFC 8200, section 3."""
    into.label("ipv6")
    into.do(_STORE_X, _NETWORK)
    into.do(_LDH_X, 4)
    _store_end(into, "ipv6", _IPV6_BYTES)
    into.do(_X_TO_A)
    into.do(_ADD, _IPV6_BYTES)
    into.do(_STORE, _TRANSPORT)
    into.do(_LD_IMMEDIATE, 6)
    into.do(_STORE, _VERSION)
    into.do(_LDB_X, 6)


def _store_end(into: Assembler, name: str, header_bytes: int) -> None:
    """Where the packet ends, for Ethernet pads it. A is the header's length field, 0 in a segment over 64 KiB."""
    into.branch(_EQUAL, 0, f"{name} jumbo")
    into.do(_ADD, header_bytes)
    into.do(_ADD_X)
    into.jump(f"{name} end")
    into.label(f"{name} jumbo")
    into.do(_LD_LENGTH)
    into.label(f"{name} end")
    into.do(_STORE, _END)


def _sort_protocols(into: Assembler) -> None:
    """Goes on at `tcp`."""
    into.label("protocol")
    into.branch(_EQUAL, _TCP, "tcp")
    into.switch(_CARRIER_PROTOCOLS, "accept")
    into.branch(_EQUAL, _UDP, "", "drop")
    into.do(_LDX_MEMORY, _TRANSPORT)
    for offset in (0, 2):
        into.do(_LDH_X, offset)
        into.switch(_CARRIER_PORTS, "accept")
    into.jump("drop")


def _check_tcp(into: Assembler, ports: frozenset[int] | None, with_openings: bool) -> None:
    """Goes on behind itself if there may be more to ask, with the offset of the TCP header in X."""
    into.label("tcp")
    into.do(_LDX_MEMORY, _TRANSPORT)
    if ports is not None:
        for offset in (0, 2):
            into.do(_LDH_X, offset)
            into.switch(sorted(ports), "watched")
        into.jump("drop")
    into.label("watched")
    into.do(_LDB_X, 12)
    into.do(_AND, 0xF0)
    into.do(_SHIFT_RIGHT, 2)
    into.do(_ADD_X)
    into.do(_STORE, _PAYLOAD)
    into.do(_LDB_X, 13)
    if with_openings:
        into.branch(_ANY_BIT, CONTROL_FLAGS, "accept")
        return
    into.branch(_ANY_BIT, CONTROL_FLAGS, "", "no control")
    into.do(_LDX_MEMORY, _PAYLOAD)
    into.do(_LD_MEMORY, _END)
    into.branch(_GREATER_X, 0, "accept", "drop")
    into.label("no control")


def _hash_key(into: Assembler, seed: int) -> None:
    """Leaves `hash_of` the packet's key in A."""
    into.do(_LD_MEMORY, _VERSION)
    into.branch(_EQUAL, 6, "hash ipv6")
    into.do(_LD_IMMEDIATE, seed)
    _mix_words(into, [(_NETWORK, offset) for offset in (12, 16)])
    into.jump("hash ports")
    into.label("hash ipv6")
    into.do(_LD_IMMEDIATE, seed)
    _mix_words(into, [(_NETWORK, offset) for offset in range(8, 40, 4)])
    into.label("hash ports")
    _mix_words(into, [(_TRANSPORT, 0)])
    into.do(_SHIFT_RIGHT, 1)


def _mix_words(into: Assembler, words: Sequence[tuple[int, int]]) -> None:
    for base, offset in words:
        into.do(_STORE, _HASH)
        into.do(_LDX_MEMORY, base)
        into.do(_LDW_X, offset)
        into.do(_LDX_MEMORY, _HASH)
        into.do(_XOR_X)
        into.do(_MULTIPLY, _MIX)


def _search(into: Assembler, hashes: Sequence[int]) -> None:
    """Goes on at `settled` if A is one of the sorted hashes, and accepts otherwise.

    A binary search for a bucket, which is searched one by one: fewer instructions than a tree down to each hash.
    """
    numbers = count()

    def search(low: int, high: int) -> None:
        if high - low <= _BUCKET_KEYS:
            into.switch(hashes[low:high], "settled")
            into.do(_RETURN, ACCEPT_BYTES)
            return
        middle = (low + high) // 2
        right = f"from {next(numbers)}"
        into.branch(_GREATER, hashes[middle - 1], right)
        search(low, middle)
        into.label(right)
        search(middle, high)

    search(0, len(hashes))


def _thin(into: Assembler, sample_1_in: int) -> None:
    """Lets some packets of a settled direction through; `_check_tcp` has let its control packets through."""
    into.label("settled")
    into.do(_LDX_MEMORY, _PAYLOAD)
    into.do(_LD_MEMORY, _END)
    into.branch(_GREATER_X, 0, "", "drop")
    into.do(_SUBTRACT_X)
    into.branch(_AT_LEAST, 5, "", "sample")
    into.do(_LDB_X, 3)
    into.branch(_EQUAL, 0, "", "sample")
    into.do(_LDB_X, 4)
    into.switch(_DUMP_COMMANDS, "accept")
    into.label("sample")
    if sample_1_in > 1:
        into.do(_LDW_ABSOLUTE, _RANDOM)
        into.branch(_AT_LEAST, (1 << 32) // sample_1_in, "drop")
