"""A machine for classic BPF, as the kernel's filter.rst describes it, that takes nothing on trust."""

from collections.abc import Sequence

from monitor.capture.triage import Instruction

WORD = 0xFFFFFFFF
RANDOM = 0xFFFFF000 + 56
SIZES = {0x00: 4, 0x08: 2, 0x10: 1}


class BadProgramError(Exception):
    """The program did what the kernel's checker or the machine does not have."""


def run(program: Sequence[Instruction], packet: bytes, *, drawn: int = 0) -> int:
    """What the program returns; `drawn` is the random number that it may ask for."""
    a = x = 0
    memory: dict[int, int] = {}
    at = 0
    # No instruction jumps back, so that none runs twice.
    while at < len(program):
        code, if_true, if_false, k = program[at]
        at += 1
        match code & 0x07:
            case 0x00:  # LD
                loaded = load(code, k, x, memory, packet, drawn)
                if loaded is None:
                    return 0
                a = loaded
            case 0x01 if code == 0x01:
                x = k
            case 0x01 if code == 0x61:
                x = memory[k]
            case 0x02 | 0x03 if k < 16:
                memory[k] = a if code == 0x02 else x
            case 0x04:
                a = calculate(code & 0xF0, a, x if code & 0x08 else k)
            case 0x05 if code == 0x05:
                at += k
            case 0x05:
                at += byte(if_true if compare(code & 0xF0, a, x if code & 0x08 else k) else if_false)
            case 0x06 if code == 0x06:
                return k
            case 0x07 if code == 0x87:
                a = x
            case _:
                raise BadProgramError(f"instruction {code:#x}")
    raise BadProgramError("it does not end")


def byte(distance: int) -> int:
    if distance > 255:
        raise BadProgramError("a branch does not reach so far")
    return distance


def load(code: int, k: int, x: int, memory: dict[int, int], packet: bytes, drawn: int) -> int | None:
    """None from behind the packet's end."""
    match code & 0xE0:
        case 0x00:
            return k
        case 0x60:
            return memory[k]
        case 0x80:
            return len(packet)
        case 0x20 if k == RANDOM:
            return drawn
        case 0x20 | 0x40:
            size = SIZES[code & 0x18]
            start = k if code & 0xE0 == 0x20 else x + k
            if start + size > len(packet):
                return None
            return int.from_bytes(packet[start : start + size])
        case _:
            raise BadProgramError(f"load {code:#x}")


def calculate(operation: int, a: int, operand: int) -> int:
    match operation:
        case 0x00:
            return (a + operand) & WORD
        case 0x10:
            return (a - operand) & WORD
        case 0x20:
            return (a * operand) & WORD
        case 0x50:
            return a & operand
        case 0x60:
            return (a << operand) & WORD
        case 0x70:
            return a >> operand
        case 0xA0:
            return a ^ operand
        case _:
            raise BadProgramError(f"operation {operation:#x}")


def compare(operation: int, a: int, operand: int) -> bool:
    match operation:
        case 0x10:
            return a == operand
        case 0x20:
            return a > operand
        case 0x30:
            return a >= operand
        case 0x40:
            return bool(a & operand)
        case _:
            raise BadProgramError(f"comparison {operation:#x}")
