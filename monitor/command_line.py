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
from monitor.reading import read_flows
from monitor.reporting.logs import log_event, log_packet_defect, set_up_logging
from monitor.reporting.masking import Masking, MaskKeyError
from monitor.reporting.report import Report, flow_fields, printable
from monitor.verdicts import Flow, Verdict
from supervision.notifier import Notifier, SupervisionError
from supervision.sockets import handed_over_sockets

if TYPE_CHECKING:
    from endpoint.tls import TlsFiles

_DEFAULT_PORT = 3306
_DEFAULT_LISTEN = "127.0.0.1:9308"
_DEFAULT_BUFFER_MIB = 64
_LARGEST_BUFFER_MIB = 1024
# Of smaller files the end is there before a person would ask.
_PROGRESS_FROM_BYTES = 16 << 20

_VERDICTS = """\
verdicts:
  tls                    encrypted: TLS records were seen, not only a request for them
  plaintext-replication  a replica reads a source's binlog unencrypted
  plaintext-client       MySQL in the clear that is not replication
  not-mysql              something else
  undecided              too little was seen to say; never a guess
"""
_EXIT_CODES = """\
exit codes:
  0    done
  1    a flow has a verdict of --fail-on; or failed
  2    the command line, a file or an interface cannot be used, or it is not permitted
  130  interrupted
"""
_RUN_EXAMPLES = """\
examples:
  binlock-monitor run --interface eth0
  binlock-monitor run --interface lo --interface eth1 --port 3306 --port 3307
  binlock-monitor run --interface mirror0 --port any
  binlock-monitor run --interface eth0 --listen 0.0.0.0:9308 --tls-certificate m.crt --tls-key m.key --tls-ca ca.crt

Opening an interface takes root or CAP_NET_RAW; afterwards it runs as --user, without capabilities.
Findings are lines on standard error. The endpoint answers /metrics, /healthz, /readyz, /flows and /status; / is a page.
SIGTERM and SIGINT end it in order, with exit code 0.
"""
_READ_EXAMPLES = """\
examples:
  binlock-monitor read capture.pcap
  binlock-monitor read --json *.pcapng.gz | jq 'select(.verdict == "plaintext-replication")'
  binlock-monitor read --port 3306 --port 3307 --fail-on plaintext-replication capture.pcap
  binlock-monitor read --mask capture.pcap > for-the-supplier.txt
"""


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
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.command(arguments))
    except (_Unusable, MaskKeyError, SupervisionError) as error:
        print(f"binlock-monitor: {printable(str(error))}", file=sys.stderr)
        return ExitCode.UNUSABLE
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="binlock-monitor",
        description="Tells which MySQL and MariaDB connections on the wire replicate in the clear, and which are "
        "encrypted.",
        epilog=f"{_VERDICTS}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands)
    _add_read(commands)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    details: str,
    epilog: str,
) -> argparse.ArgumentParser:
    added = commands.add_parser(
        name,
        help=summary,
        description=details,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    added.add_argument(
        "--port",
        action="append",
        type=_port,
        metavar="N",
        help=f"a port of servers; may be given more than once; any: every TCP flow (default: {_DEFAULT_PORT})",
    )
    added.add_argument("--mask", action="store_true", help="show pseudonyms instead of addresses, fresh ones each run")
    added.add_argument(
        "--mask-key-file",
        type=Path,
        metavar="F",
        help="mask with the key in this file, so that an address has the same pseudonym in each run",
    )
    return added


def _add_run(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    run = _add(
        commands,
        "run",
        "watch interfaces until SIGTERM",
        "Watches interfaces and reports each flow's verdict, in the log and as metrics.",
        f"{_RUN_EXAMPLES}\n{_VERDICTS}",
    )
    run.add_argument(
        "--interface",
        action="append",
        required=True,
        metavar="IF",
        help="an interface to watch, such as eth0 or lo; may be given more than once",
    )
    run.add_argument(
        "--listen",
        type=_listen_address,
        default=_listen_address(_DEFAULT_LISTEN),
        metavar="HOST:PORT",
        help=f"where the HTTP endpoint answers; an IPv6 address in brackets (default: {_DEFAULT_LISTEN})",
    )
    run.add_argument(
        "--unsafe-listen",
        action="store_true",
        help="let it answer elsewhere than on loopback without TLS, where anyone may read which addresses replicate",
    )
    tls = run.add_argument_group(
        "TLS of the endpoint, which then asks for a client certificate",
        "PEM files, read before privileges are given up; on a change and on SIGHUP again, with the rights of --user",
    )
    tls.add_argument("--tls-certificate", type=Path, metavar="F", help="what it shows, the issuers behind it")
    tls.add_argument("--tls-key", type=Path, metavar="F", help="the certificate's key, without a passphrase")
    tls.add_argument("--tls-ca", type=Path, metavar="F", help="whose certificates it lets in")
    tls.add_argument(
        "--tls-crl",
        action="append",
        default=[],
        type=Path,
        metavar="F",
        help="a CRL; with any, each authority must have one; may be given more than once",
    )
    run.add_argument(
        "--user",
        default="nobody",
        metavar="NAME",
        help="whom to run as once the interfaces are open; an empty name changes nothing (default: %(default)s)",
    )
    run.add_argument(
        "--buffer-mib",
        type=_buffer_mib,
        default=_DEFAULT_BUFFER_MIB,
        metavar="N",
        help=f"kernel memory for packets of each interface, 1 to {_LARGEST_BUFFER_MIB} MiB (default: %(default)s)",
    )
    run.add_argument(
        "--no-promiscuous",
        action="store_true",
        help="look only at frames for this host; a mirror port needs the others",
    )
    run.add_argument(
        "--log-format", choices=("json", "text"), default="json", help="of the log lines (default: %(default)s)"
    )
    run.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="the least level that is logged; debug adds undecided and not-mysql flows (default: %(default)s)",
    )
    run.set_defaults(command=_run)


def _add_read(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    read = _add(
        commands,
        "read",
        "judge the flows of capture files",
        "Reads capture files (pcap, pcapng, either in gzip) and says of each flow what it was.",
        f"{_READ_EXAMPLES}\n{_VERDICTS}\n{_EXIT_CODES}",
    )
    read.add_argument("file", nargs="+", type=Path, metavar="FILE", help="a capture file; - is standard input")
    read.add_argument("--json", action="store_true", help="one JSON object a line for each flow, instead of a table")
    read.add_argument(
        "--fail-on",
        action="append",
        default=[],
        choices=[verdict.value for verdict in Verdict],
        metavar="VERDICT",
        help="exit with 1 if any flow has this verdict; may be given more than once",
    )
    read.set_defaults(command=_read)


def _port(text: str) -> int | None:
    if text == "any":
        return None
    if text.isascii() and text.isdigit() and 0 < int(text) < 1 << 16:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is neither a port, 1 to 65535, nor any")


def _listen_address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if (
        not host
        or (":" in host and not is_bracketed)
        or not (port.isascii() and port.isdigit() and int(port) < 1 << 16)
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT; an IPv6 address stands in brackets")
    return host.strip("[]"), int(port)


def _buffer_mib(text: str) -> int:
    if text.isascii() and text.isdigit() and 0 < int(text) <= _LARGEST_BUFFER_MIB:
        return int(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {_LARGEST_BUFFER_MIB}")


def _ports(arguments: argparse.Namespace) -> frozenset[int] | None:
    given = arguments.port or [_DEFAULT_PORT]
    return None if None in given else frozenset(given)


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
    ports = _ports(arguments)
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
    ports, masking = _ports(arguments), _masking(arguments)
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
