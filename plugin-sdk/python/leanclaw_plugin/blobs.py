"""Bytes that the host holds: bodies of requests and files of tools. A blob given to the host is gone for the plugin."""

from dataclasses import dataclass
from typing import Any

from . import _bridge
from .failure import failing

_host = _bridge.host("blobs")

_READ_BYTES = 64 * 1024
_WRITE_BYTES = 256 * 1024


@dataclass
class File:
    """A file that a tool made; text is written as UTF-8."""

    media_type: str
    data: bytes | str


def create(media_type: str, data: bytes | str) -> Any:
    """Hands bytes to the host; returns its blob."""
    content = data.encode() if isinstance(data, str) else bytes(data)
    writer = _host.Writer(media_type)
    for start in range(0, len(content), _WRITE_BYTES):
        failing(writer.write, content[start : start + _WRITE_BYTES])
    return failing(_host.Writer.finish, writer)


def lower_file(file: Any) -> Any:
    """A File or a host blob, as a host blob."""
    return create(file.media_type, file.data) if isinstance(file, File) else file


def read_all(blob: Any) -> bytes:
    """Reads a host blob to its end and releases it."""
    content = bytearray()
    with blob:
        while (chunk := failing(blob.read, _READ_BYTES)) is not None:
            content += chunk
    return bytes(content)
