"""Null padding: a table gives every row the keys of all rows, and those that a row did not have are null there.

What is null and cannot mean anything is taken out of schemas and arguments: a keyword or a property that is null, an
argument that its tool does not have. A null that the schema allows is a value.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from itool_pipeline.data.conversations.known_keys import Keys

NULLS_OF_TOOLS = "nulls of padding left out of tools"
NULL_ARGUMENTS = "null arguments left out that their tools do not take"

_MAPS = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SCHEMAS = ("items", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames")
_BOUNDS = ("type", "enum", "const", "properties", "items")
"""Keywords that say what a value is. Without any of them it may be null."""
_NULL_WORDS = ("any", "null", "none", "nonetype", "optional")
"""Parts of types, also of those that data sets write as Python does, that null is of."""


def schema_without_padding(parameters: Keys, changes: Counter[str]) -> dict[str, Any]:
    """The schema of a tool's parameters without nulls that say nothing; how many there were is counted."""
    cleaned, count = _clean_schema(parameters)
    if "properties" in parameters:
        cleaned.setdefault("properties", {})
    changes[NULLS_OF_TOOLS] += count
    return cleaned


def arguments_without_padding(arguments: Keys, parameters: Keys, changes: Counter[str]) -> dict[str, Any]:
    """The arguments without nulls that the tool with these parameters does not take; how many there were is counted.

    A null goes where the schema has no such parameter, or has one that may be left out and is never null.
    """
    cleaned, count = _clean_object(arguments, parameters, parameters, closed=True)
    changes[NULL_ARGUMENTS] += count
    return cleaned


def _clean_schema(schema: Keys) -> tuple[dict[str, Any], int]:
    cleaned: dict[str, Any] = {}
    count = 0
    required = schema.get("required")
    for key, value in schema.items():
        new, more = value, 0
        if key in _MAPS and isinstance(value, Mapping):
            new, more = _clean_map(value, required if key == "properties" and isinstance(required, list) else [])
        elif key in _LISTS and isinstance(value, list):
            pairs = [_clean_schema(item) if isinstance(item, Mapping) else (item, 0) for item in value]
            new, more = [pair[0] for pair in pairs], sum(pair[1] for pair in pairs)
        elif key in _SCHEMAS and isinstance(value, Mapping) and not _is_padding(value):
            new, more = _clean_schema(value)
        padding = new == {} if key in _MAPS and value else _is_padding(new)
        if padding and not (key == "const" and _means_null(schema)):
            count += max(more, 1)
            continue
        cleaned[key] = new
        count += more
    return cleaned, count


def _clean_map(schemas: Keys, required: list[Any]) -> tuple[dict[str, Any], int]:
    """Schemas by name. One that is null and required is of anything."""
    cleaned: dict[str, Any] = {}
    count = 0
    for name, schema in schemas.items():
        if _is_padding(schema) and schema != {"const": None}:
            count += 1
            if name in required:
                cleaned[name] = {}
        else:
            cleaned[name], more = _clean_schema(schema) if isinstance(schema, Mapping) else (schema, 0)
            count += more
    return cleaned, count


def _is_padding(value: Any) -> bool:
    """Whether a value is null, or an object of nothing but padding."""
    return value is None or (isinstance(value, dict) and bool(value) and all(map(_is_padding, value.values())))


def _means_null(schema: Keys) -> bool:
    """Whether `const: null` is meant: nothing else is said, or null among it."""
    others = [key for key, value in schema.items() if value is not None]
    return not others or schema.get("type") == "null"


def _clean_value(value: Any, schema: Keys, root: Keys) -> tuple[Any, int]:
    if isinstance(value, dict):
        return _clean_object(value, schema, root)
    if isinstance(value, list):
        items: Keys = next((v["items"] for v in _variants(schema, root) if isinstance(v.get("items"), Mapping)), {})
        pairs = [_clean_value(item, items, root) for item in value]
        return [pair[0] for pair in pairs], sum(pair[1] for pair in pairs)
    return value, 0


def _clean_object(value: Keys, schema: Keys, root: Keys, *, closed: bool = False) -> tuple[dict[str, Any], int]:
    """An object by its schema. Where that names no property, any is allowed unless it is `closed`."""
    properties, required, others = _named_properties(schema, root)
    if others is True or not (properties or others or closed):
        return dict(value), 0
    cleaned: dict[str, Any] = {}
    count = 0
    for key, item in value.items():
        inner = properties.get(key, others if isinstance(others, Mapping) else None)
        if not isinstance(inner, Mapping):
            kept, more = item, int(_is_padding(item))
            goes = bool(more)
        else:
            kept, more = _clean_value(item, inner, root)
            goes = kept is None or (kept == {} and _is_padding(item))
            goes = goes and key not in required and not _allows_null(inner, root)
            more = 1 if goes else more
        count += more
        if not goes:
            cleaned[key] = kept
    return cleaned, count


def _named_properties(schema: Keys, root: Keys) -> tuple[dict[str, Any], set[str], Any]:
    """Properties by name, the names of those that are required, and the schema of any other; True where it is any."""
    properties: dict[str, Any] = {}
    required: set[str] = set()
    others: Any = None
    for variant in _variants(schema, root):
        if isinstance(named := variant.get("properties"), Mapping):
            properties = {**named, **properties}
        if isinstance(needed := variant.get("required"), list):
            required |= set(map(str, needed))
        others = others or variant.get("additionalProperties")
    return properties, required, True if others == {} else others


def _variants(schema: Keys, root: Keys) -> list[Keys]:
    """The schema and all that it is made of: what it refers to, and its alternatives."""
    found: list[Keys] = []
    waiting: list[Any] = [schema]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, Mapping) and all(one is not other for other in found):
            found.append(one)
            alternatives = (one.get(key) for key in ("anyOf", "oneOf", "allOf"))
            waiting += [
                _referred(one, root),
                *(item for items in alternatives if isinstance(items, list) for item in items),
            ]
    return found


def _referred(schema: Keys, root: Keys) -> Keys | None:
    """What `$ref: "#/$defs/name"` names within the tool, or `#`, which is all of it."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found: Any = root
    for part in reference.split("/")[1:]:
        found = found.get(part.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _allows_null(schema: Keys, root: Keys) -> bool:
    """Whether null is a value by the schema, as JSON Schema and OpenAPI (`nullable`) have it."""
    variants = _variants(schema, root)
    return any(map(_names_null, variants)) or not any(key in one for one in variants for key in _BOUNDS)


def _names_null(schema: Keys) -> bool:
    kinds, options = schema.get("type"), schema.get("enum")
    words = re.findall(r"[a-z]+", str(kinds or "").lower())
    among = isinstance(options, list) and None in options
    constant = "const" in schema and schema["const"] is None
    return schema.get("nullable") is True or among or constant or any(word in _NULL_WORDS for word in words)
