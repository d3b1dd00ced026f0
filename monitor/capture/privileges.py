"""Gives up what was needed to open the sockets, for good.

capabilities(7), credentials(7) and prctl(2) describe what is done; the numbers are those of linux/prctl.h and
linux/capability.h. The C library has no portable wrapper for some of it, so that it is called by way of ctypes.
"""

import ctypes
import os
import pwd
import struct
from pathlib import Path

_PR_SET_DUMPABLE, _PR_GET_DUMPABLE = 4, 3
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_SETPCAP = 8
_MOST_CAPABILITIES = 64

_LIBC = ctypes.CDLL(None, use_errno=True)


class PrivilegeError(Exception):
    """Something could not be given up, or is left; the text says what. Nothing should be done with it."""


def drop_privileges(user: str = "nobody") -> None:
    """Becomes a user without capabilities, who cannot gain any by whatever is started, nor be looked into.

    A process that is not root's stays the same user's. To be called before there are threads: capabilities are a
    thread's own.

    Args:
        user: whom root becomes.

    Raises:
        PrivilegeError: no such user, not possible, or not all is gone.
    """
    target = _account(user) if os.geteuid() == 0 else None
    try:
        may_bound = bool(_effective_capabilities() & 1 << _CAP_SETPCAP)
        if may_bound:
            _empty_bounding_set()
        if target is not None:
            os.setgroups([])
            os.setresgid(target.pw_gid, target.pw_gid, target.pw_gid)
            os.setresuid(target.pw_uid, target.pw_uid, target.pw_uid)
        _clear_capabilities()
        _prctl("forbid new privileges", _PR_SET_NO_NEW_PRIVS, 1)
        _prctl("forbid core dumps and tracing", _PR_SET_DUMPABLE, 0)
    except OSError as error:
        hint = f"; in a user namespace, {user} must be mapped" if target is not None else ""
        raise PrivilegeError(f"cannot give up privileges: {error.strerror}{hint}") from error
    left = [problem for task in _statuses() for problem in _left(task, target, may_bound)]
    if _LIBC.prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) != 0:
        left.append("it can be dumped and traced")
    if left:
        raise PrivilegeError(f"privileges are left: {'; '.join(dict.fromkeys(left))}")


def _account(user: str) -> pwd.struct_passwd:
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f"there is no user {user} to become") from None
    if account.pw_uid == 0 or account.pw_gid == 0:
        raise PrivilegeError(f"{user} is root, or of its group: that gives up nothing")
    return account


def _statuses() -> list[dict[str, str]]:
    """What /proc says of each thread, as in proc_pid_status(5)."""
    return [
        {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}
        for text in (path.read_text() for path in Path("/proc/self/task").glob("*/status"))
    ]


def _left(status: dict[str, str], target: pwd.struct_passwd | None, bounded: bool) -> list[str]:
    """What a thread still has that it should not."""
    wanted = dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapAmb", *(["CapBnd"] * bounded)), "0" * 16)
    wanted["NoNewPrivs"] = "1"
    if target is not None:
        wanted["Uid"] = "\t".join([str(target.pw_uid)] * 4)
        wanted["Gid"] = "\t".join([str(target.pw_gid)] * 4)
        wanted["Groups"] = ""
    return [f"{name} is {status.get(name)}" for name, value in wanted.items() if status.get(name) != value]


def _effective_capabilities() -> int:
    data = ctypes.create_string_buffer(24)
    _check("read the capabilities", _LIBC.capget(_capability_header(), data))
    low, _, _, high, _, _ = struct.unpack("=6I", data)
    return int(high << 32 | low)


def _clear_capabilities() -> None:
    """Empties the effective, the permitted and the inheritable set, and thereby the ambient set too."""
    _check("clear the capabilities", _LIBC.capset(_capability_header(), ctypes.create_string_buffer(24)))


def _capability_header() -> ctypes.Array[ctypes.c_char]:
    """A `struct __user_cap_header_struct` for the calling thread."""
    return ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)


def _empty_bounding_set() -> None:
    for capability in range(_MOST_CAPABILITIES):
        # -1 from the first that this kernel does not know.
        if _LIBC.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
            _prctl("empty the bounding set", _PR_CAPBSET_DROP, capability)


def _prctl(doing: str, option: int, argument: int) -> None:
    _check(doing, _LIBC.prctl(option, *(ctypes.c_ulong(value) for value in (argument, 0, 0, 0))))


def _check(doing: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{doing}: {os.strerror(number)}")
