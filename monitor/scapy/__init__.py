"""The one door to scapy.

scapy looks for the package cryptography as soon as it is imported, and would load it, and OpenSSL with it. The monitor
handles no secret and is to have no such code in its process, so that package is hidden while scapy makes up its mind;
scapy then does without. Nothing that is used here needs it.

Importing scapy takes a quarter of a second, which most captures do not need: whoever imports this package from inside
a function does so for that reason.
"""

import sys
from typing import Any, cast

_hidden = "cryptography"
if _hidden in sys.modules:
    from scapy import config
else:
    # None in this table makes an import fail (the import system's reference, "The module cache").
    sys.modules[_hidden] = cast("Any", None)
    try:
        from scapy import config
    finally:
        del sys.modules[_hidden]
config.conf.crypto_valid = False
config.conf.crypto_valid_advanced = False

from monitor.scapy.certificates import certificate_not_after  # noqa: E402 - after the preparation
from monitor.scapy.dissection import Dissector  # noqa: E402

__all__ = ["Dissector", "certificate_not_after"]
