"""What `binlock-monitor` can be told on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from monitor.verdicts import Verdict

_DEFAULT_PORT = 3306
_DEFAULT_LISTEN = "127.0.0.1:9308"
_DEFAULT_BUFFER_MIB = 64
_LARGEST_BUFFER_MIB = 1024

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


def make_parser() -> argparse.ArgumentParser:
    """Makes the parser; what it parsed has the command's name as `command`."""
    parser = argparse.ArgumentParser(
        prog="binlock-monitor",
        description="Tells which MySQL and MariaDB connections on the wire replicate in the clear, and which are "
        "encrypted.",
        epilog=f"{_VERDICTS}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
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


def ports_of(arguments: argparse.Namespace) -> frozenset[int] | None:
    """The ports of servers; None for every TCP flow."""
    given = arguments.port or [_DEFAULT_PORT]
    return None if None in given else frozenset(given)
