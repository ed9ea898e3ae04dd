"""YAML as it stands in config files, whoever wrote it: plain values of a bounded size, or a sentence of what is wrong.

PyYAML takes `1e-6` for a string where people mean a number, and the last of two equal keys without a word. An alias may
stand inside of what it stands for, and a few that stand in each other unfold to more than any memory.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MAX_DEPTH = 50
MAX_VALUES = 100_000
"""Keys and values, with those that aliases stand for counted as often as they stand."""


class UnreadableYaml(ValueError):
    """The text is no YAML, or none that a config is."""


def read_yaml(text: str) -> Any:
    """What the text says: mappings, lists, text, numbers, dates. Raises UnreadableYaml."""
    try:
        value = yaml.load(text, Loader=_Loader)
    except RecursionError:
        raise UnreadableYaml(_TOO_DEEP) from None
    except (yaml.YAMLError, ValueError) as error:  # a date or number of a right form and a wrong value is a ValueError
        raise UnreadableYaml(str(error)) from error
    _count(value, 0)
    return value


def write_yaml(content: Any) -> str:
    """Text that `read_yaml` reads as the same; keys stay in their order."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


_TOO_DEEP = f"it is nested more than {MAX_DEPTH} deep, or an alias stands inside of what it stands for"


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"the key {twice[0]!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes text that the loader would take for a number in quotes."""


for _yaml in (_Loader, _Dumper):
    _yaml.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def _count(value: Any, depth: int, before: int = 0) -> int:
    """`before`, and the keys and values in `value`. Raises UnreadableYaml as soon as there are too many."""
    if depth >= MAX_DEPTH:
        raise UnreadableYaml(_TOO_DEEP)
    if before >= MAX_VALUES:
        raise UnreadableYaml(f"it has more than {MAX_VALUES:,} values, unfolded")
    count = before + 1
    if isinstance(value, dict):
        value = [*value, *value.values()]
    for inner in value if isinstance(value, list | tuple | set) else ():
        count = _count(inner, depth + 1, count)
    return count
