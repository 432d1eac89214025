"""Which sections and keys a configuration may have: those of ./daemon.toml, which shows all, the ones without a default commented out."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

FILE = Path(__file__).resolve().parent.parent / "daemon.toml"
# What is in these is not the daemon's to know.
FREE = {"policy.parameters", "shadow.parameters", "cluster.announce_map"}


def sections() -> dict[str, dict[str, bool]]:
    """Each section's keys, by its whole name ("" is the top), and whether it is a list of tables."""
    known, lists, section = {"": []}, set(), ""
    for line in FILE.read_text().splitlines():
        if begins := re.match(r"#?(\[\[?)([\w.]+)\]\]?$", line):
            section = begins[2]
            known.setdefault(section, [])
            if begins[1] == "[[":
                lists.add(section)
        elif key := re.match(r"(?:# ?)?(\w+) = ", line):
            known[section].append(key[1])
    return {name: {"keys": keys, "list": name in lists} for name, keys in known.items()}


def unknown(text: str) -> Iterator[str]:
    """Names in a configuration that daemon.toml does not have."""
    yield from foreign(tomllib.loads(text), "", sections())


def foreign(table: dict, within: str, known: dict) -> Iterator[str]:
    for key, value in table.items():
        name = f"{within}.{key}" if within else key
        if name in FREE:
            continue
        if name in known:
            for part in value if isinstance(value, list) else [value]:
                yield from foreign(part, name, known)
        elif key not in known[within]["keys"]:
            yield name


def schema() -> dict:
    """The same as a JSON schema: what it says of a configuration are its names, and no types."""
    known = sections()
    closed = {"type": "object", "additionalProperties": False}
    tables = {name: closed | {"properties": {key: {} for key in part["keys"]}} for name, part in known.items()}
    for name in sorted(known, key=lambda name: name.count("."), reverse=True):
        if not name:
            continue
        within, _, key = name.rpartition(".")
        table = {"type": "object"} if name in FREE else tables[name]
        tables[within]["properties"][key] = {"type": "array", "items": table} if known[name]["list"] else table
    return tables[""]
