"""Hold the entries of an annotation file to the JSON Schema of the package, with messages that name the rule."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

SCHEMA = Path(__file__).with_name("anyword.schema.json")
_KINDS = {"language": "unknown_language", "color": "wrong_color", "polygon": "polygon_degenerate"}


class SchemaFault(NamedTuple):
    """One rule that an entry breaks: kind of problem, path of the field in the entry, and what is wrong."""

    kind: str
    path: tuple[str | int, ...]
    what: str

    @property
    def field(self) -> str:
        """The path as annotations[0].polygon."""
        return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path).lstrip(".")


@functools.cache
def load_schema() -> dict:
    """The JSON Schema of annotation files."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


def languages() -> list[str]:
    """The names of languages that the schema knows."""
    return load_schema()["$defs"]["annotation"]["properties"]["language"]["enum"]


@functools.cache
def _validator():
    from jsonschema import Draft202012Validator

    schema = load_schema()
    return Draft202012Validator({"$ref": "#/$defs/entry", "$defs": schema["$defs"]})


def schema_faults(entry: Any) -> Iterator[SchemaFault]:
    """The rules that an entry of data_list breaks, in the order of the fields' names; of each field the first."""
    seen = set()
    try:
        errors = sorted(_validator().iter_errors(entry), key=lambda e: [str(p) for p in e.absolute_path])
    except (RecursionError, ValueError):  # it puts the value into its message
        return  # the reader tells more
    for error in errors:
        fault = _fault(error)
        if fault.path not in seen:
            seen.add(fault.path)
            yield fault


def _fault(error) -> SchemaFault:
    path = tuple(error.absolute_path)
    if error.validator == "required":
        name = error.message.split("'")[1]
        rule = error.schema["properties"][name]["description"]
        return SchemaFault("malformed_field", (*path, name), f"the field is missing; it must be {rule}")
    rule = error.schema.get("description") or f"of the type {error.validator_value}"
    if error.validator == "enum":
        rule += f" ({', '.join(error.validator_value)})"
    return SchemaFault(_kind(path, error), path, f"must be {rule}, got {_short(error.instance)}")


def kind_of(field: str) -> str:
    """The kind of problem for a ``field``, as annotations[0].color, that the reader refuses."""
    name = field.split(".")[-1].split("[")[0] if field.startswith("annotations[") else ""
    return {"color": "wrong_color", "polygon": "polygon_degenerate"}.get(name, "malformed_field")


def _kind(path: tuple, error) -> str:
    """The kind of problem for a broken rule at ``path``."""
    name = path[2] if len(path) > 2 and path[0] == "annotations" else ""
    if name == "language" and error.validator != "enum" or name == "polygon" and len(path) > 3:
        return "malformed_field"
    if name == "polygon" and error.validator != "anyOf":
        return "malformed_field"
    return _KINDS.get(name, "malformed_field")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
