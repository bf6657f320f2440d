"""HTTP headers between the host's list of records and a small mapping without case."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass
class HeaderRecord:
    """A header as the host reads it."""

    name: str
    value: bytes


class Headers(Mapping[str, str]):
    """Names without case; several values of one name are joined with ``, ``."""

    def __init__(self, pairs: "Mapping[str, str] | Iterable[tuple[str, str]]" = ()) -> None:
        items = pairs.items() if isinstance(pairs, Mapping) else pairs
        self._pairs = [(name.lower(), str(value)) for name, value in items]

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return ", ".join(values)

    def __iter__(self) -> Iterator[str]:
        return iter(dict(self._pairs))

    def __len__(self) -> int:
        return len(dict(self._pairs))

    def get_all(self, name: str) -> list[str]:
        """Every value of one name, apart."""
        return [value for found, value in self._pairs if found == name.lower()]

    def add(self, name: str, value: str) -> None:
        """Adds a header beside those that are there."""
        self._pairs.append((name.lower(), value))

    def records(self) -> list[HeaderRecord]:
        """The host's form."""
        return [HeaderRecord(name, value.encode()) for name, value in self._pairs]

    @classmethod
    def from_records(cls, records: "list[Any]") -> "Headers":
        """From the host's form; bytes that are not UTF-8 are replaced."""
        return cls([(record.name, bytes(record.value).decode(errors="replace")) for record in records])
