"""`binlock-monitor`: run, read. The only module of the monitor that prints or exits."""

from __future__ import annotations

import argparse
import functools
import ipaddress
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from monitor.files.recordings import RecordingError
from monitor.options import make_parser, ports_of
from monitor.reading import read_flows
from monitor.reporting.logs import log_event, log_packet_defect, set_up_logging
from monitor.reporting.masking import Masking, MaskKeyError
from monitor.reporting.report import Report, flow_fields, printable
from monitor.verdicts import Flow, Verdict
from supervision.notifier import Notifier, SupervisionError
from supervision.sockets import handed_over_sockets

if TYPE_CHECKING:
    from endpoint.tls import TlsFiles

# Of smaller files the end is there before a person would ask.
_PROGRESS_FROM_BYTES = 16 << 20


class ExitCode(IntEnum):
    """What the program exits with."""

    OK = 0
    FAILED = 1
    UNUSABLE = 2
    INTERRUPTED = 130


class _Unusable(Exception):  # noqa: N818
    """What was asked for cannot be done; the text says why."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    arguments = make_parser().parse_args(argv)
    try:
        return int(_run(arguments) if arguments.command == "run" else _read(arguments))
    except (_Unusable, MaskKeyError, SupervisionError) as error:
        print(f"binlock-monitor: {printable(str(error))}", file=sys.stderr)
        return ExitCode.UNUSABLE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def _masking(arguments: argparse.Namespace) -> Masking:
    if arguments.mask_key_file is not None:
        return Masking.from_file(arguments.mask_key_file)
    return Masking.fresh() if arguments.mask else Masking()


def _tls_files(arguments: argparse.Namespace) -> TlsFiles | None:
    """The endpoint's files.

    Raises:
        _Unusable: some are missing, or it can be reached from elsewhere without.
    """
    named = (arguments.tls_certificate, arguments.tls_key, arguments.tls_ca)
    if all(named):
        from endpoint.tls import TlsFiles  # noqa: PLC0415 - as in `_run`

        certificate, key, ca = named
        return TlsFiles(certificate=certificate, key=key, ca=ca, crl=tuple(arguments.tls_crl))
    if any((*named, arguments.tls_crl)):
        raise _Unusable("--tls-certificate, --tls-key and --tls-ca go together, and --tls-crl with them")
    host, port = arguments.listen
    if not (_is_loopback(host) or arguments.unsafe_listen):
        raise _Unusable(
            f"--listen {host}:{port} can be reached from other machines, and the addresses it shows with it; listen on "
            "127.0.0.1, add --tls-certificate, --tls-key and --tls-ca, or say --unsafe-listen"
        )
    return None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _run(arguments: argparse.Namespace) -> ExitCode:
    # First of all: what nobody took would be mistaken for one of our own.
    handed_over = handed_over_sockets(os.environ)
    # Loaded here, as it takes a while and needs more than `read` does.
    try:
        import trio  # noqa: PLC0415

        from endpoint.tls import TlsFileError  # noqa: PLC0415
        from monitor.capture.interfaces import CaptureError, InterfaceCapture  # noqa: PLC0415
        from monitor.capture.privileges import PrivilegeError, drop_privileges  # noqa: PLC0415
        from monitor.service import Monitor, Settings  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise _Unusable(f"{error.name} is not installed: install binlock[monitor]") from error

    set_up_logging(arguments.log_level, arguments.log_format)
    ports = ports_of(arguments)
    captures = [
        InterfaceCapture(
            name,
            ports=ports,
            buffer_bytes=arguments.buffer_mib << 20,
            promiscuous=not arguments.no_promiscuous,
            on_error=log_packet_defect,
        )
        for name in dict.fromkeys(arguments.interface)
    ]
    settings = Settings(
        ports=ports,
        listen=arguments.listen,
        user=arguments.user,
        masking=_masking(arguments),
        tls=_tls_files(arguments),
    )
    notifier = Notifier.from_environment(
        os.environ, lambda error: log_event(logging.WARNING, "notify_failed", detail=str(error))
    )
    monitor = Monitor(settings, captures, notifier=notifier, handed_over=handed_over)
    try:
        monitor.open(drop_privileges)
    except (CaptureError, PrivilegeError, SupervisionError, TlsFileError) as error:
        raise _Unusable(str(error)) from error
    except OSError as error:
        raise _Unusable("cannot listen on {}:{}: {}".format(*arguments.listen, error)) from error
    trio.run(monitor.run)
    return ExitCode.OK


def _read(arguments: argparse.Namespace) -> ExitCode:
    ports, masking = ports_of(arguments), _masking(arguments)
    report = Report(masking)
    complaints: list[str] = []
    defects: list[Exception] = []
    for file in arguments.file:

        def take(flow: Flow, file: Path = file) -> None:
            if arguments.json:
                print(json.dumps({"file": str(file), **flow_fields(flow, masking)}))
                report.counts[flow.verdict] += 1
            else:
                report.add(str(file), flow)

        with _progress(file) as note_progress:
            try:
                read_flows(file, ports, take, note_progress, defects.append)
            except RecordingError as error:
                complaints.append(str(error))
    if not arguments.json:
        for line in report.lines(is_coloured=_is_coloured(), has_file_column=len(arguments.file) > 1):
            print(line)
    sys.stdout.flush()
    for complaint in complaints:
        print(f"binlock-monitor: {printable(complaint)}", file=sys.stderr)
    for defect in defects:
        print(f"binlock-monitor: a packet was lost to a defect, please report it: {defect!r}", file=sys.stderr)
    # What was found stands, whatever could not be read besides.
    if defects or any(report.counts[Verdict(name)] for name in arguments.fail_on):
        return ExitCode.FAILED
    return ExitCode.UNUSABLE if complaints else ExitCode.OK


def _is_coloured() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR")


@contextmanager
def _progress(file: Path) -> Iterator[functools.partial[None]]:
    """Says how far it is, where a person waits for it."""
    is_shown = sys.stderr.isatty() and file.is_file() and file.stat().st_size >= _PROGRESS_FROM_BYTES
    name = printable(file.name)

    def say(packets: int) -> None:
        if is_shown:
            print(f"\r{name}: {packets / 1e6:.1f} million packets", end="", file=sys.stderr, flush=True)

    try:
        yield functools.partial(say)
    finally:
        if is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
