"""Secrets that the host uses for the plugin without showing them.

Needs ``credentials`` in the world and the secret with ``"hmac": true`` in the manifest's ``permissions.secrets``.
"""

from . import _bridge
from .failure import failing

_host = _bridge.host("credentials")


def exists(name: str) -> bool:
    """Whether an admin has set the secret."""
    return _host.exists(name)


def hmac_sha256(name: str, message: bytes) -> bytes:
    """32 bytes."""
    return failing(_host.hmac_sha256, name, message)


def verify_hmac_sha256(name: str, message: bytes, tag: bytes) -> bool:
    """Compares in constant time."""
    return failing(_host.verify_hmac_sha256, name, message, tag)
