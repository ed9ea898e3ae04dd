"""BFCL's own decoders and checkers, imported from the unzipped wheel without its hundred requirements."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from itool_pipeline.benchmarks.bfcl.literal_arithmetic import evaluate_answer, evaluate_literals
from itool_pipeline.errors import ActionableError

PACKAGE = "bfcl_eval"
MODEL_NAME = "itool"
"""Under this name the checkers find our model's only setting: names of functions keep their dots."""

_importing = threading.Lock()


class OfficialCodeError(ActionableError):
    """The pinned BFCL package cannot be the one that this process scores with."""


@dataclass(frozen=True, slots=True)
class OfficialFunctions:
    """What the evaluation runner of the benchmark calls for one case of a single-turn category."""

    decode: Callable[..., Any]
    is_call_format: Callable[[Any], bool]
    is_empty: Callable[[Any], bool]
    check: Callable[..., dict[str, Any]]
    language: Callable[[str], Any]
    return_format: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class OfficialMultiTurn:
    """What the benchmark's multi-turn generation and evaluation are made of.

    decode        a model's answer → its calls as text; raises for an answer that holds no list of calls
    is_empty      whether such a list asks for nothing
    step_limit    after so many steps with calls in a turn the whole conversation ends
    added_tools   the user turn that hands over held-back tools, with a place for `functions`
    execution, checker   the modules that run calls and judge conversations
    """

    decode: Callable[[str], list[str]]
    is_empty: Callable[[list[Any]], bool]
    step_limit: int
    added_tools: str
    execution: ModuleType
    checker: ModuleType


def official_functions(bfcl_dir: Path, syntax: str = "python") -> OfficialFunctions:
    """Import them. The folder itself is left as it is and `sys.path` too. `syntax` names how answers write calls.

    Raises OfficialCodeError when another copy of `bfcl_eval` has been imported by this process.
    """
    with _importing:
        _import_package(bfcl_dir)
        enums = importlib.import_module(f"{PACKAGE}.constants.enums")
        decoders = importlib.import_module(f"{PACKAGE}.model_handler.utils")
        utils = importlib.import_module(f"{PACKAGE}.utils")
        checker = importlib.import_module(f"{PACKAGE}.eval_checker.ast_eval.ast_checker")
        handler = _handler(syntax)
    _disarm(decoders)
    return OfficialFunctions(
        decode=handler.decode_ast if handler else decoders.default_decode_ast_prompting,
        is_call_format=utils.is_function_calling_format_output,
        is_empty=utils.is_empty_output,
        check=checker.ast_checker,
        language=enums.Language,
        return_format=enums.ReturnFormat,
    )


def official_multi_turn(bfcl_dir: Path, syntax: str = "python") -> OfficialMultiTurn:
    """Import them too. Nothing that `execution` offers may run in this process: it evaluates text.

    Raises OfficialCodeError as `official_functions` does.
    """
    with _importing:
        _import_package(bfcl_dir)
        decoders = importlib.import_module(f"{PACKAGE}.model_handler.utils")
        prompts = importlib.import_module(f"{PACKAGE}.constants.default_prompts")
        folder = f"{PACKAGE}.eval_checker.multi_turn_eval"
        execution = importlib.import_module(f"{folder}.multi_turn_utils")
        checker = importlib.import_module(f"{folder}.multi_turn_checker")
        handler = _handler(syntax)
    _disarm(decoders)
    return OfficialMultiTurn(
        decode=(lambda text: handler.decode_execute(text, False))
        if handler
        else decoders.default_decode_execute_prompting,
        is_empty=execution.is_empty_execute_response,
        step_limit=prompts.MAXIMUM_STEP_LIMIT,
        added_tools=prompts.DEFAULT_USER_PROMPT_FOR_ADDITIONAL_FUNCTION_PROMPTING,
        execution=execution,
        checker=checker,
    )


HANDLERS = {
    "hermes": ("qwen_fc", "QwenFCHandler"),
    "llama3_json": ("llama_3_1", "LlamaHandler_3_1"),
}
"""Syntax → module and class of the benchmark's handler for models that write it; Python has the default functions."""


def _handler(syntax: str) -> Any:
    """The benchmark's handler, of which only what decodes answers can be used; None for Python."""
    if syntax not in HANDLERS:
        return None
    file, name = HANDLERS[syntax]
    folder = f"{PACKAGE}.model_handler.local_inference"
    importlib.import_module(folder)
    sys.modules.setdefault(f"{folder}.base_oss_handler", _stand_in(f"{folder}.base_oss_handler", OSSHandler=object))
    module = sys.modules.get(f"{folder}.{file}")
    if module is None:
        with _overrides_at_hand():
            module = importlib.import_module(f"{folder}.{file}")
        known = {*vars(module), "self", "result", "language", "has_tool_call_tag"}
        setattr(module, "eval", lambda text: evaluate_answer(text, known))  # noqa: B010
    kind = getattr(module, name)
    return kind.__new__(kind)


@contextmanager
def _overrides_at_hand() -> Iterator[None]:
    """Handlers mark methods by a decorator of a package that does nothing else for them."""
    if importlib.util.find_spec("overrides") is not None:
        yield
        return
    sys.modules["overrides"] = _stand_in("overrides", override=lambda method: method)
    try:
        yield
    finally:
        del sys.modules["overrides"]


def _stand_in(name: str, **content: Any) -> ModuleType:
    """A module in the place of one with requirements that we do without."""
    module = ModuleType(name)
    vars(module).update(content)
    return module


def _import_package(bfcl_dir: Path) -> None:
    folder = (bfcl_dir / PACKAGE).resolve()
    if PACKAGE in sys.modules:
        present = Path(str(sys.modules[PACKAGE].__file__)).resolve().parent
        if present != folder:
            raise OfficialCodeError(
                f"{PACKAGE} is already imported from {present}; its scores would not be the pinned ones. Score in "
                "a process that does not import it."
            )
        return
    spec = importlib.util.spec_from_file_location(
        PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not folder.is_dir():
        raise OfficialCodeError(f"{folder} is not the package {PACKAGE}. Delete {bfcl_dir}: it is fetched again.")
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    spec.loader.exec_module(package)
    sys.modules[f"{PACKAGE}.constants.model_config"] = _model_config()
    with _scratch_project_root():
        importlib.import_module(f"{PACKAGE}.constants.eval_config")


def _model_config() -> ModuleType:
    """In the place of the module that imports every vendor's SDK: all that the checkers read of it."""
    configs = {MODEL_NAME: SimpleNamespace(underscore_to_dot=False)}
    return _stand_in(f"{PACKAGE}.constants.model_config", MODEL_CONFIG_MAPPING=configs)


@contextmanager
def _scratch_project_root() -> Iterator[None]:
    """`constants.eval_config` makes three folders when it is imported; they belong nowhere in our storage."""
    variable = "BFCL_PROJECT_ROOT"
    before = os.environ.get(variable)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ[variable] = scratch
        try:
            yield
        finally:
            os.environ.pop(variable)
            if before is not None:
                os.environ[variable] = before


def _disarm(decoders: ModuleType) -> None:
    """The decoder evaluates arithmetic in arguments; give it an `eval` that runs nothing."""
    known = {*vars(decoders), "value"}

    def harmless_eval(text: str) -> Any:
        return evaluate_literals(text, known)

    setattr(decoders, "eval", harmless_eval)  # noqa: B010
