"""What the comments of the proto files promise about answers: read from the files, so that none can be forgotten."""

import re
from collections.abc import Iterator

from google.protobuf.message import Message

from tests.helpers.paths import ROOT

_FIELD = re.compile(r"^\s*(?:repeated |optional )?[\w.<>, ]+ (\w+) = \d+;")


def promised_fields() -> set[tuple[str, str]]:
    """Return message and name of each field whose comment says "Never empty" or "Always present"."""
    found = set()
    for path in sorted((ROOT / "proto").rglob("*.proto")):
        message, comment = "", ""
        for line in path.read_text().splitlines():
            if started := re.match(r"message (\w+)", line):
                message, comment = started[1], ""
            elif line.strip().startswith("//"):
                comment += line
            elif field := _FIELD.match(line):
                if re.search("Never empty|Always present", comment):
                    found.add((message, field[1]))
                comment = ""
            elif not line.strip():
                comment = ""
    return found


def broken_promises(answer: Message) -> list[str]:
    """Return the promised fields that are empty in an answer or in a message inside of it."""
    return sorted(_broken(answer, promised_fields()))


def _broken(message: Message, promised: set[tuple[str, str]]) -> Iterator[str]:
    name = message.DESCRIPTOR.name
    present = {field.name: value for field, value in message.ListFields()}
    for field in message.DESCRIPTOR.fields:
        if (name, field.name) in promised and field.name not in present:
            yield f"{name}.{field.name}"
        if field.message_type is not None and field.name in present:
            value = present[field.name]
            for each in [value] if isinstance(value, Message) else value:
                yield from _broken(each, promised)
