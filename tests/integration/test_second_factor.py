"""MySQL's second factor by a token: the challenge goes to the client, the answer to the source, on every pair of legs.

The command-line client wants a token of hardware, so the client here speaks the protocol by itself. The server is real.
"""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import trio

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.integration.authentication_table import LEGS, WEBAUTHN
from tests.integration.authenticator import Authenticator
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import PASSWORD
from tests.integration.logins import AT_ONCE_SECONDS, Stand
from tests.proxy.fakes import REPLICA_CAPABILITIES, FakeReplica, PacketPeer
from wire.capabilities import Capability
from wire.results import OK_HEADER, ErrPacket

PASSWORDS = {"empty": "", "ordinary": PASSWORD, "long": "p" * 200}
CAPABILITIES = REPLICA_CAPABILITIES | Capability.CLIENT_MULTI_FACTOR_AUTHENTICATION


@dataclass(frozen=True)
class Tokens:
    """A stand, and the token of each of its accounts."""

    stand: Stand
    of_account: dict[str, Authenticator]


def as_account(source: Server, account: str, password: str, statement: str) -> str:
    """Runs a statement as an account whose second factor is still to be registered; returns the first value."""
    words = [*Flavour.MYSQL_9_7.client("mysql"), "--no-defaults", "--batch", "--skip-column-names", f"--user={account}"]
    words += [f"--plugin-dir={Flavour.MYSQL_9_7.bundle().path('usr/lib/mysql/plugin')}", f"--password={password}"]
    words += [f"--socket={source.socket_path}", f"--execute={statement}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=AT_ONCE_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    # The server breaks lines of base64, the client writes a line's end as an escape.
    return done.stdout.split("\t")[0].replace("\\n", "")


@pytest.fixture(scope="module")
def tokens(
    start_pair: Callable[[Flavour], Pair], pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Tokens]:
    folder = tmp_path_factory.mktemp("webauthn")
    options = {
        "plugin-load-add": "authentication_webauthn.so",
        "authentication-webauthn-rp-id": "source.example",
        "ssl-ca": str(pki.authority.ca),
        "ssl-cert": str(pki.source.certificate),
        "ssl-key": str(pki.source.key),
    }
    held = {}
    with Server(folder / "source", Flavour.MYSQL_9_7, server_id=1, options=options) as source:
        for kind, password in PASSWORDS.items():
            account = f"webauthn_{kind}"
            source.sql(f"CREATE USER %s@'%%' IDENTIFIED {WEBAUTHN.created_as}", account, password)
            held[account] = Authenticator()
            challenge = as_account(source, account, password, "ALTER USER USER() 2 FACTOR INITIATE REGISTRATION")
            answer = held[account].register(challenge)
            finish = f"ALTER USER USER() 2 FACTOR FINISH REGISTRATION SET CHALLENGE_RESPONSE AS '{answer}'"
            as_account(source, account, password, finish)
        pair = Pair(source, start_pair(Flavour.MYSQL_9_7).replica)
        stand = Stand(folder / "proxy", pair, pki, list(held))
        with stand.proxy:
            yield Tokens(stand, held)


async def log_in(
    tokens: Tokens, pki: Pki, legs: str, account: str, password: str, *, token: Authenticator
) -> tuple[bytes, int]:
    """The source's last word, and how many challenges came before it."""
    challenges: list[bytes] = []

    def answer(challenge: bytes) -> bytes:
        challenges.append(challenge)
        return token.assertion(challenge)

    context = None
    if legs.startswith("tls"):
        context = ssl.create_default_context(cafile=pki.authority.ca)
        context.load_cert_chain(pki.replica.certificate, pki.replica.key)
        context.check_hostname = False
    with trio.fail_after(AT_ONCE_SECONDS):
        peer = PacketPeer(await trio.open_tcp_stream("127.0.0.1", tokens.stand.port(legs)))
        client = FakeReplica(
            peer, tls=context, account=account.encode(), password=password.encode(), capabilities=CAPABILITIES,
            second_factor=answer,
        )  # fmt: skip
        try:
            return await client.log_in(), len(challenges)
        finally:
            await peer.close()


@pytest.mark.parametrize("legs", LEGS)
@pytest.mark.parametrize("kind", PASSWORDS)
async def test_a_second_factor_is_asked_for_and_answered(tokens: Tokens, pki: Pki, legs: str, kind: str) -> None:
    account = f"webauthn_{kind}"
    tokens.stand.pair.cool_down()
    for _cache in ("cold", "warm"):
        token = tokens.of_account[account]
        last, challenges = await log_in(tokens, pki, legs, account, PASSWORDS[kind], token=token)
        assert (last[0], challenges) == (OK_HEADER, 1)


@pytest.mark.parametrize("peer", dict(WEBAUTHN.refused_peers), ids=lambda flavour: flavour.value)
def test_a_client_that_knows_one_factor_is_refused_at_once(tokens: Tokens, peer: Flavour) -> None:
    answer = tokens.stand.client("tls-unix", "webauthn_ordinary", PASSWORD, flavour=peer)
    assert not answer.is_in
    assert "ERROR 1045 " in answer.shown


@pytest.mark.parametrize("legs", LEGS)
async def test_with_another_token_nobody_gets_in(tokens: Tokens, pki: Pki, legs: str) -> None:
    last, challenges = await log_in(tokens, pki, legs, "webauthn_ordinary", PASSWORD, token=Authenticator())
    assert (ErrPacket.parse(last).code, challenges) == (1045, 1)


@pytest.mark.parametrize("legs", LEGS)
async def test_after_a_wrong_password_no_second_factor_is_asked_for(tokens: Tokens, pki: Pki, legs: str) -> None:
    token = tokens.of_account["webauthn_ordinary"]
    last, challenges = await log_in(tokens, pki, legs, "webauthn_ordinary", "wrong", token=token)
    assert (ErrPacket.parse(last).code, challenges) == (1045, 0)
