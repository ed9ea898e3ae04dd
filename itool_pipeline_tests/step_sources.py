"""What a step is made of: every definition of the package that its function can reach, as read out of the sources.

A definition is a function, a class or a constant at the top of a module. It reaches what it names: itself, through an
import (also one inside a function, also of the whole module), in an annotation, or as the text of a module's name,
which is how other processes are started. What is handed in is reached by the annotation that says what it is; of an
implementation behind a protocol only what is named somewhere is.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

HASH_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Module:
    """A module's definitions by name, what its imports are called in it, and its statements that define nothing."""

    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, str] = field(default_factory=dict)
    loose: list[ast.stmt] = field(default_factory=list)


@dataclass(frozen=True)
class PackageSources:
    """The sources of a package. What lies in the modules or packages `left_out` is never reached."""

    root: Path
    left_out: frozenset[str] = frozenset()
    _read: dict[str, tuple[str, list[str]]] = field(default_factory=dict, compare=False)

    @cached_property
    def modules(self) -> dict[str, Module]:
        """Dotted name → what is in it."""
        return {_dotted_name(path, self.root): read_module(path, self.root) for path in sorted(self.root.rglob("*.py"))}

    def reached(self, roots: Iterable[str]) -> dict[str, str]:
        """Definition → hash, for `roots` and all that they reach; a root is `package.module.name`, or a method of it.

        A root that is a method stands for itself and what it asks of `self`, not for its class. A method that its
        class inherits reaches nothing. Raises KeyError for a root that is not there.
        """
        waiting = [found for root in roots for found in self._roots(root)]
        hashes: dict[str, str] = {}
        while waiting:
            name = waiting.pop()
            if name not in hashes:
                if name not in self._read:
                    self._read[name] = self._definition(name)
                hashes[name], uses = self._read[name]
                waiting += uses
        return hashes

    def _definition(self, name: str) -> tuple[str, list[str]]:
        """Its hash, and the definitions that it uses."""
        module, statements = self._statements(name)
        loose = [f"{module}."] if self.modules[module].loose else []
        return hash_of(statements), [
            *self._named_in(module, statements),
            *self._asked_of_self(name, statements),
            *loose,
        ]

    def _statements(self, name: str) -> tuple[str, list[ast.stmt]]:
        """The module that a definition is in, and its statements; a name that ends with a dot has the loose ones."""
        module, rest = self._split(name)
        if rest == [""]:
            return module, self.modules[module].loose
        statements = self.modules[module].definitions[rest[0]]
        return module, _members(statements)[rest[1]] if rest[1:] else statements

    def _split(self, dotted: str) -> tuple[str, list[str]]:
        """The longest beginning that is a module ('' when none is), and the names that follow."""
        parts = dotted.split(".")
        for length in range(len(parts), 0, -1):
            if (module := ".".join(parts[:length])) in self.modules:
                return module, parts[length:]
        return "", parts

    def _roots(self, dotted: str) -> list[str]:
        module, rest = self._split(dotted)
        if len(rest) < 2:
            found = self._resolved(dotted)
            if not found:
                raise KeyError(f"there is no {dotted}")
            return found
        members = _members(self.modules[module].definitions[rest[0]])
        return [dotted] if rest[1] in members else []

    def _resolved(self, dotted: str) -> list[str]:
        """The definitions that a dotted name means: one, those of a whole module, or none."""
        module, rest = self._split(dotted)
        if not module or self._is_left_out(module):
            return []
        content = self.modules[module]
        if not rest:
            return [f"{module}.{name}" for name in content.definitions]
        if rest[0] in content.definitions:
            return [f"{module}.{rest[0]}"]
        target = content.imports.get(rest[0], "")
        return self._resolved(".".join([target, *rest[1:]])) if target and target != dotted else []

    def _is_left_out(self, module: str) -> bool:
        parts = module.split(".")
        return any(".".join(parts[:length]) in self.left_out for length in range(1, len(parts) + 1))

    def _named_in(self, module: str, statements: list[ast.stmt]) -> Iterator[str]:
        for kind, text in (mention for statement in statements for mention in _mentions(statement)):
            yield from self._resolved(text if kind == "text" else f"{module}.{text}")

    def _asked_of_self(self, name: str, statements: list[ast.stmt]) -> Iterator[str]:
        """For a method alone: the methods and fields of its class that it uses."""
        module, rest = self._split(name)
        if len(rest) < 2:
            return
        members = _members(self.modules[module].definitions[rest[0]])
        used = {text.split(".")[1] for s in statements for _, text in _mentions(s) if text.startswith("self.")}
        yield from (f"{module}.{rest[0]}.{member}" for member in sorted(used & members.keys()))


def read_module(path: Path, root: Path) -> Module:
    """What is in the module; `root` is the folder of its package."""
    module, tree = Module(), ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:  # `import a.b` binds a
                first = alias.name.split(".")[0]
                module.imports[alias.asname or first] = alias.name if alias.asname else first
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            module.imports.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
    for statement in _that_count(tree.body):
        names = _defined_by(statement)
        for name in names:
            module.definitions.setdefault(name, []).append(statement)
        if not names:
            module.loose.append(statement)
    return module


def hash_of(statements: Iterable[ast.stmt]) -> str:
    """Of what the statements do: neither formatting, comments, docstrings nor imports matter."""
    text = repr([_canonical(statement) for statement in statements])
    return hashlib.sha256(text.encode()).hexdigest()[:HASH_CHARACTERS]


def hash_of_all(definitions: Mapping[str, str]) -> str:
    """Of a step's definitions, wherever they lie: a definition that moves changes nothing."""
    return hashlib.sha256(" ".join(sorted(definitions.values())).encode()).hexdigest()[:HASH_CHARACTERS]


def _canonical(node: Any) -> Any:
    """The tree in lists and texts, the same in every Python: empty fields, of which newer ones have more, are left."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return [type(node).__name__, *([name, _canonical(value)] for name, value in fields)]
    if isinstance(node, list):
        return [_canonical(item) for item in _that_count(node)]
    return repr(node)


def _that_count(body: Iterable[Any]) -> list[Any]:
    """Without imports, whose targets are followed, and without texts that stand alone, which are for people."""
    prose = (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body)
    return [
        n for n, said in zip(body, prose, strict=True) if not said and not isinstance(n, ast.Import | ast.ImportFrom)
    ]


def _defined_by(statement: ast.stmt) -> list[str]:
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [statement.name]
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return [node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)]


def _members(statements: Iterable[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """The methods and fields of a class, by name."""
    members: dict[str, list[ast.stmt]] = {}
    for statement in (inner for outer in statements if isinstance(outer, ast.ClassDef) for inner in outer.body):
        for name in _defined_by(statement):
            members.setdefault(name, []).append(statement)
    return members


def _mentions(node: ast.AST) -> Iterator[tuple[str, str]]:
    """("name", dotted name) and ("text", name of a module or of what is in it), in their order."""
    if isinstance(node, ast.Name | ast.Attribute) and (chain := _chain(node)):
        yield "name", chain
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        if re.fullmatch(r"\w+(\.\w+)+(:\w+)?", node.value):
            yield "text", node.value.replace(":", ".")
    else:
        for child in ast.iter_child_nodes(node):
            yield from _mentions(child)


def _chain(node: ast.AST) -> str:
    """`a.b.c` as a text; '' for an attribute of anything but a name."""
    if isinstance(node, ast.Name):
        return node.id
    before = _chain(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{before}.{node.attr}" if before and isinstance(node, ast.Attribute) else ""


def _dotted_name(path: Path, root: Path) -> str:
    parts = (root.name, *path.relative_to(root).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
