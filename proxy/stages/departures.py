"""A replica that hangs up where its login should go on.

It says nothing to Binlock, so what is known of those that do is said for it. MariaDB from 11.4 on verifies certificates
by default. Without a CA it lets the password vouch for the certificate: the source's last OK is to hold a hash over
both (MDEV-31855), and the certificate that it hashes is its own, not Binlock's. Such a replica leaves behind that OK,
or already where it is asked for a plugin that has no such hash.
"""

from __future__ import annotations

from proxy.outcomes import Reason, SessionRefused, Stage

_GIVE_IT_THE_CA = (
    "MariaDB 11.4 and later does so where it has no CA to verify Binlock's certificate with: set MASTER_SSL_CA "
    "(a client: --ssl-ca)"
)


def left_before_login() -> SessionRefused:
    """The TLS handshake was complete, and no login came."""
    return SessionRefused(
        Stage.TLS,
        Reason.REPLICA_REJECTED_CERTIFICATE,
        "the replica left behind the TLS handshake, without a login: MariaDB does so where Binlock's certificate does "
        "not have the name that it connects to, or is of an authority that it does not trust",
    )


def left_when_asked(plugin: str, *, is_encrypted: bool, for_password: bool) -> SessionRefused:
    """The source has asked for more.

    Args:
        plugin: the one that it asked for.
        is_encrypted: whether the replica leg is TLS.
        for_password: whether the replica was to send its password, which a plaintext leg needs a key for.
    """
    detail = (
        f"the replica left when the source asked for {plugin}; a replica does so that does not have the plugin, and "
        "MariaDB's does when it is asked for a third one"
    )
    if is_encrypted:
        detail += f". {_GIVE_IT_THE_CA}"
    elif for_password:
        detail = (
            f"the replica left when the source asked for its password ({plugin}); on a plaintext leg it asks for a key "
            "only where it may: set GET_SOURCE_PUBLIC_KEY=1 (a client: --get-server-public-key)"
        )
    return SessionRefused(Stage.AUTHENTICATION, Reason.REPLICA_LEFT_AFTER_LOGIN, detail)


def left_when_accepted() -> SessionRefused:
    """The source has said OK, and no command came over TLS."""
    return SessionRefused(
        Stage.AUTHENTICATION,
        Reason.REPLICA_LEFT_AFTER_LOGIN,
        f"the replica left when the source had accepted its login. {_GIVE_IT_THE_CA}",
    )
