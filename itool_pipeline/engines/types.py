"""What an engine is: the one door between the steps and whatever computes a language model."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from itool_pipeline.config import ComputeConfig
from itool_pipeline.core.fragments import FragmentRule
from itool_pipeline.core.policy import Policy


@dataclass(frozen=True, slots=True)
class Sampling:
    """How fragments are drawn. Log-probabilities are always those at temperature 1 over the whole vocabulary."""

    temperature: float = 1.5
    top_k: int = 50
    top_p: float = 1.0
    max_fragment_tokens: int = 32


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """All that an engine is made of.

    base       directory of the base model, as transformers saves it
    adapter    directory of a LoRA adapter on it, as peft saves it; None for the base model alone
    compute    where and in what precision; the steps hand the dtype on by name, never as `auto`
    sampling   how the search's fragments are drawn
    rule       where a fragment ends
    end_token  the end of the assistant's turn in the chat template; the engine also stops at those that the model's
               own configs name, and hands on this one for all of them
    name       the checkpoint in words, for messages only
    """

    base: Path
    adapter: Path | None
    compute: ComputeConfig
    sampling: Sampling
    rule: FragmentRule
    end_token: int
    name: str = field(default="", compare=False)


class Engine(Policy):
    """A language model as the steps see it: the search's policy, and whole answers for scoring."""

    @abstractmethod
    def answer_each(
        self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, until: str = ""
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        """(number of the prompt, its greedy answer) as they are done: at most `max_new_tokens` token ids, without the
        end of the turn. Prompts are begun in their order. Raises ValueError for an empty prompt.

        until  a text behind which an answer ends too; none where it is empty
        """

    def answer(self, prompts: Sequence[tuple[int, ...]], max_new_tokens: int, until: str = "") -> list[tuple[int, ...]]:
        """The same for all, in their order."""
        found = dict(self.answer_each(prompts, max_new_tokens, until))
        return [found[number] for number in range(len(prompts))]


class EngineMaker(Protocol):
    """Makes the engines of one name. It may keep what is slow to load for the next engine of the process."""

    def make(self, settings: EngineSettings, say: Callable[[str], None]) -> Engine:
        """An engine of these settings. Raises ActionableError when the model cannot be had; `say` hears of loading."""
        ...

    def release(self) -> None:
        """Give back the memory of all that is kept; engines that were made are not used afterwards."""
        ...
