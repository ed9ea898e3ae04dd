"""The tools of BFCL's multi-turn conversations: runs calls and the official checker. Only ever inside a `Sandbox`.

The benchmark runs a call by `eval` of its text. Here the text is parsed and what it says is done: a call of a method
that the conversation's classes have, with literal arguments or the results of such calls. It gives what `eval` gives,
messages of errors included, with one intended difference: there are no other names. `print(...)`, `open(...)` and the
like, which `eval` would run, get the answer that any unknown name gets.
"""

from __future__ import annotations

import ast
import copy
import importlib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from itool_pipeline.benchmarks.bfcl.multi_turn_cases import TOOL_FILES
from itool_pipeline.benchmarks.bfcl.official_code import OfficialMultiTurn, official_multi_turn
from itool_pipeline.calls.arithmetic import arithmetic_value
from itool_pipeline.calls.python_values import parsed_expression

MODEL_NAME = "itool"
_FORBIDDEN = ("kill", "exit", "quit", "remove", "unlink", "popen", "Popen", "run")
"""Names that the benchmark refuses to call, whatever they are."""


def prepare(bfcl_dir: str) -> Callable[[Any], Any]:
    """The work of the sandbox; imports all that a request can need.

    A request holds `world` and either `steps`, the calls of every step so far, answered by the last one's results;
    or `turns`, the calls of every step of every turn, and `ground_truth`, answered by the official verdict.
    """
    official = official_multi_turn(Path(bfcl_dir))
    for name in TOOL_FILES:
        importlib.import_module(official.execution.CLASS_FILE_PATH_MAPPING[name])

    def work(request: Any) -> Any:
        return _check(official, request) if "turns" in request else _last_results(official, request)

    return work


def _last_results(official: OfficialMultiTurn, request: Mapping[str, Any]) -> list[str]:
    world = World(official)
    results: list[str] = []
    for calls in request["steps"]:
        results, _ = world.execute(calls, **_arguments(request["world"]), model_name=MODEL_NAME)
    return results


def _check(official: OfficialMultiTurn, request: Mapping[str, Any]) -> dict[str, Any]:
    """The official verdict, its calls executed by us: `valid`, and `error_type` and `error_message` where it is not."""
    vars(official.checker)["execute_multi_turn_func_call"] = World(official).execute
    entry = request["world"]
    verdict = official.checker.multi_turn_checker(
        request["turns"], request["ground_truth"], entry, entry["id"].rsplit("_", 1)[0], MODEL_NAME
    )
    return {key: verdict.get(key, "") for key in ("valid", "error_type", "error_message")}


def _arguments(world: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "initial_config": world["initial_config"],
        "involved_classes": world["involved_classes"],
        "test_entry_id": world["id"],
        "long_context": "long_context" in world["id"],
    }


class World:
    """The instances that calls act on, made when they are first named and kept from step to step."""

    def __init__(self, official: OfficialMultiTurn) -> None:
        self._execution = official.execution
        self._instances: dict[str, Any] = {}

    def execute(
        self,
        func_call_list: Sequence[str],
        initial_config: Mapping[str, Any],
        involved_classes: Sequence[str],
        model_name: str,
        test_entry_id: str,
        long_context: bool = False,
        is_evaL_run: bool = False,
    ) -> tuple[list[str], dict[str, Any]]:
        """In the place of the benchmark's `execute_multi_turn_func_call`: same arguments, same answer.

        The results of the calls as text, in order, and the instances by class.
        """
        involved: dict[str, Any] = {}
        owners: dict[str, str] = {}
        for class_name in involved_classes:
            owner = f"{model_name}{'_eval' * is_evaL_run}_{test_entry_id}_{class_name}_instance"
            owner = re.sub(r"[-./:]", "_", owner)
            if owner not in self._instances:
                self._instances[owner] = self._made(class_name, initial_config, long_context)
            involved[class_name] = self._instances[owner]
            methods = inspect.getmembers(involved[class_name], predicate=inspect.ismethod)
            owners |= {name: owner for name, _ in methods if not name.startswith("_")}
        return [self._result(call, owners) for call in func_call_list], involved

    def _made(self, class_name: str, initial_config: Mapping[str, Any], long_context: bool) -> Any:
        if class_name not in TOOL_FILES:
            raise ValueError(f"{class_name!r} is not among the classes of the multi-turn conversations")
        module = importlib.import_module(self._execution.CLASS_FILE_PATH_MAPPING[class_name])
        instance = getattr(module, class_name)()
        if class_name not in self._execution.STATELESS_CLASSES:
            config = copy.deepcopy(initial_config.get(class_name, {}))
            instance._load_scenario(config, long_context=long_context)
        return instance

    def _result(self, call: str, owners: Mapping[str, str]) -> str:
        # The benchmark puts the instance before a method by a regular expression, which meets text in arguments too.
        call = self._execution._process_method_calls(call, owners)
        try:
            name = call.split("(")[0]
            name = name.split(".")[1] if "." in name else name
            if name in _FORBIDDEN:
                raise PermissionError(f"Function call {name} is not allowed.")
            return _as_text(self._value(parsed_expression(call.lstrip(" \t"))))
        except MemoryError:
            raise
        except Exception as error:
            return f"Error during execution: {error}"

    def _value(self, node: ast.expr) -> Any:
        """What the expression stands for, evaluated from left to right."""
        match node:
            case ast.Call(func=func, args=args, keywords=keywords):
                method = self._method(func)
                positional = [self._value(argument) for argument in args]
                named = {keyword.arg or "": self._value(keyword.value) for keyword in keywords}
                return method(*positional, **named)
            case ast.List(elts=items):
                return [self._value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self._value(item) for item in items)
            case ast.Dict(keys=keys, values=values):
                return {
                    self._value(key): self._value(value)
                    for key, value in zip(keys, values, strict=True)
                    if key is not None
                }
            case ast.Name(id=name):
                raise NameError(f"name {name!r} is not defined")
            case ast.BinOp() | ast.UnaryOp():
                return arithmetic_value(node)
        return ast.literal_eval(node)

    def _method(self, func: ast.expr) -> Callable[..., Any]:
        match func:
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if owner in self._instances:
                if name.startswith("_") or not inspect.ismethod(getattr(self._instances[owner], name, None)):
                    raise AttributeError(f"{type(self._instances[owner]).__name__!r} has no method {name!r}")
                method: Callable[..., Any] = getattr(self._instances[owner], name)
                return method
            case ast.Attribute(value=value):
                return self._method(value)
            case ast.Name(id=name):
                raise NameError(f"name {name!r} is not defined")
        raise TypeError(f"not the name of a function: {ast.unparse(func)}")


def _as_text(value: Any) -> str:
    if type(value) is str:
        return value
    if type(value) is dict:
        try:
            return json.dumps(value)
        except Exception:
            return str(value)
    return str(value)
