"""Messages that people wrote, handed to the host. Needs ``inbox`` in the world and in the manifest's permissions."""

from . import _bridge
from .failure import failing
from .messages import Inbound, lower_inbound

_host = _bridge.host("inbox")


def submit(message: Inbound) -> str:
    """Returns after the message is stored: accepted, duplicate, pairing-required, denied, throttled."""
    return failing(_host.submit, lower_inbound(message))
