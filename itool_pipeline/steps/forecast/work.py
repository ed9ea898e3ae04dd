"""What each step does with the model: tokens, and the FLOP that they need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from itool_pipeline.config import (
    ContinuedSft,
    Experiment,
    Grpo,
    MctsConfig,
    NoGrades,
    OptimizerConfig,
    RejectionSampling,
    SearchConfig,
)
from itool_pipeline.config.training import ReferenceLoss
from itool_pipeline.steps.asset_graph import passes_on, step_kind
from itool_pipeline.steps.forecast.flops import ModelSize, chain_work, forward_flops, training_flops
from itool_pipeline.steps.forecast.material import NONE, Find, Items, Material

# Measured in finished searches of the demo's model, by docs/results.md: of the nodes that a tree may have, 33 of 90 by
# the paper's search, 10.5 of 96 where only what is sound is expanded; 6.5 tokens a node.
NODES_OF_LIMIT = {"all": 0.37, "sound": 0.11}
FRAGMENT_TOKENS = 6.5
# Kept pairs of a tree, measured there too: 102 of 54 trees by gold, 13 and 18 of 36 by Q alone.
PAIRS_A_TREE = {"gold": 1.9, "any": 0.45}
PAIR_TOKENS = 25
"""Path and both fragments of a pair beyond what its tree's other pairs have, in the demo."""


@dataclass(frozen=True, slots=True)
class StepWork:
    """Tokens that a step reads as prompts, generates and trains on (in all epochs), and the FLOP of all together.

    row  tokens of the longest text in it
    """

    reads: float = 0.0
    generates: float = 0.0
    trains: float = 0.0
    flops: float = 0.0
    row: float = 0.0

    def __add__(self, other: StepWork) -> StepWork:
        return StepWork(
            self.reads + other.reads,
            self.generates + other.generates,
            self.trains + other.trains,
            self.flops + other.flops,
            max(self.row, other.row),
        )


def read_and_answered(size: ModelSize, items: Items, generated: float, *, scored: bool = False) -> StepWork:
    """Prompts read, each beginning that they share once, and `generated` tokens after each.

    scored  the tokens after the prompts are there already, and are read too
    """
    before = round(items.prompt * (1 - items.distinct))
    read = chain_work(round(items.prompt) - before, before) * items.count
    after = chain_work(round(generated), round(items.prompt), round(generated)) * items.count
    tokens = items.count * generated
    reads = items.count * items.prompt + (tokens if scored else 0)
    flops = forward_flops(size, read + after)
    return StepWork(reads, 0 if scored else tokens, 0, flops, items.prompt + generated)


def trained(size: ModelSize, items: Items, optimizer: OptimizerConfig, validation: Items) -> StepWork:
    """Prompts and answers of all epochs; what the prompts of an optimizer step begin with is computed once in it.

    Validated is before the first step and after each epoch, or more often where `validate_every` says so.
    """
    if not items.count:
        return StepWork()
    steps = -(-items.count // optimizer.batch_size)
    once = items.common * (1 - steps / items.count)
    answer, length = round(items.answer), round(items.longest)
    row = chain_work(length - round(once), round(once), answer) * (items.count * optimizer.epochs)
    checked = 1 + max(optimizer.epochs, steps * optimizer.epochs // optimizer.validate_every)
    held = chain_work(round(validation.longest), 0, round(validation.answer)) * (validation.count * checked)
    flops = training_flops(size, row) + forward_flops(size, held)
    return StepWork(0, 0, items.count * items.longest * optimizer.epochs, flops, items.longest)


def tree_limit(search: SearchConfig) -> int:
    """Nodes that a tree may have: each iteration expands its leaf and `simulation` below it."""
    if not isinstance(search, MctsConfig):
        return search.responses
    return search.iterations * (1 + search.simulation) * search.width


def expected_nodes(search: SearchConfig) -> float:
    """Nodes that a tree has in the mean, as searches had that were measured; whole responses are never fewer."""
    return NODES_OF_LIMIT[search.expand] * tree_limit(search) if isinstance(search, MctsConfig) else search.responses


def searched(e: Experiment, size: ModelSize, material: Material, trees: float) -> StepWork:
    """Trees over so many of the buffer's examples: prompts, drawn fragments, gold answers, and grades."""
    s, items, nodes = e.search, material.buffer.part(trees), expected_nodes(e.search)
    if isinstance(s, MctsConfig):
        fragment = min(FRAGMENT_TOKENS, s.max_fragment_tokens)
        found = read_and_answered(size, items, nodes * s.samples / s.width * fragment)
        if s.guide == "gold":
            found += read_and_answered(size, Items(trees, 0, items.answer), items.answer, scored=True)
    else:
        fragment = min(items.answer, s.max_response_tokens)
        found = read_and_answered(size, items, nodes * fragment)
    if not isinstance(s.self_evaluation, NoGrades):  # every node's text once more, behind the prompt that grades
        found += read_and_answered(size, items, nodes * (fragment + material.grade), scored=True)
    return found


def selected(e: Experiment, material: Material) -> float:
    """Examples that are searched in an iteration."""
    return material.buffer.count * e.replay_buffer.top_fraction


def step_work(e: Experiment, size: ModelSize, material: Material, asset: str, find: Find) -> StepWork | None:
    """What the step does with the model; None for one that does nothing with it. Thoughts are taken to be as long as
    they may get.

    find  what is there already: an iteration's pairs say how many they are
    """
    if not e.prompt.thinking:
        return _work(e, size, material, asset, find)
    most, kind = e.prompt.max_thinking_tokens, step_kind(asset)
    cases = {name: items.behind(most) for name, items in material.cases.items()}
    found = _work(e, size, replace(material, buffer=material.buffer.behind(most), cases=cases), asset, find)
    if found is None or kind not in ("replay_buffer", "scores"):
        return found
    thought_about = material.buffer if kind == "replay_buffer" else material.cases[asset.partition("/")[0]]
    return found + read_and_answered(size, thought_about, most)


def _work(e: Experiment, size: ModelSize, material: Material, asset: str, find: Find) -> StepWork | None:
    kind, (group, _, name) = step_kind(asset), asset.partition("/")
    if kind == "warmup":
        items = NONE if passes_on(e, asset) else material.stages[name]
        return trained(size, items, e.warmup.optimizer, material.validation)
    if kind == "replay_buffer":
        return _buffered(e, size, material)
    if kind == "trees":
        return searched(e, size, material, selected(e, material))
    if kind == "policy":
        pairs = find(f"{group}/pairs")
        return _policy(e, size, material, pairs.manifest.metadata if pairs else {})
    if kind == "scores":
        return _scored(e, size, material.cases[group], group, name)
    return None


def _buffered(e: Experiment, size: ModelSize, material: Material) -> StepWork:
    items = material.buffer
    found = read_and_answered(size, items, items.answer, scored=True)
    if e.replay_buffer.select_by == "mistakes":
        found += read_and_answered(size, items, e.replay_buffer.answers * items.answer)
    return found


def _scored(e: Experiment, size: ModelSize, cases: Items, benchmark: str, checkpoint: str) -> StepWork:
    """The base model is taken to talk to the limit, the others to be as brief as gold answers are."""
    longest = getattr(e.evaluation, benchmark).max_new_tokens
    return read_and_answered(size, cases, longest if checkpoint == "base" else min(cases.answer, longest))


def _policy(e: Experiment, size: ModelSize, material: Material, found: Mapping[str, Any]) -> StepWork:
    """`found`: the metadata of the iteration's pairs where they are there."""
    config, buffer = e.preference, material.buffer
    loss, optimizer, held = config.loss, config.optimizer, material.validation
    trees = float(found.get("trees", selected(e, material)))
    if isinstance(loss, ContinuedSft):
        return trained(size, material.trained, optimizer, held)
    if isinstance(loss, RejectionSampling):
        right = float(found.get("right_answers", trees * loss.answers_per_tree))
        return trained(size, buffer.part(right), optimizer, held)
    if isinstance(loss, Grpo):
        budget = searched(e, size, material, trees).generates if loss.budget == "search" else loss.budget
        return _by_grpo(size, buffer, budget)
    most = float("inf") if e.pairs.max_pairs is None else e.pairs.max_pairs
    pairs = float(found.get("kept", min(most, trees * PAIRS_A_TREE[e.pairs.truth])))
    own = min(trees, float(found.get("trees_with_pairs", trees)), pairs)
    return _preferred(e, size, material, pairs, own)


def _preferred(e: Experiment, size: ModelSize, material: Material, pairs: float, trees: float) -> StepWork:
    """A row for each tree that has pairs, and for each gold answer that is rehearsed; `batch_size` counts pairs."""
    config, everything = e.preference, material.trained
    alone = max(0.0, everything.count - trees) if config.rehearse else 0.0
    gold = everything.answer if config.gold_weight else 0.0
    rows, branches = trees + alone, pairs * PAIR_TOKENS
    if not rows:
        return StepWork()
    source = everything if config.rehearse else material.buffer
    items = Items(rows, source.prompt, gold + branches / rows, source.distinct, source.common)
    held = Items(material.validation.count, items.prompt, items.answer)
    # Steps are of pairs and lone answers, and rows are fewer.
    optimizer = config.optimizer
    sized = optimizer.model_copy(update={"batch_size": max(1, round(optimizer.batch_size * rows / (pairs + alone)))})
    found = trained(size, items, sized, held)
    if isinstance(config.loss, ReferenceLoss):
        found += StepWork(flops=forward_flops(size, chain_work(round(items.longest), 0, round(items.answer)) * rows))
    return found


def _by_grpo(size: ModelSize, items: Items, budget: float) -> StepWork:
    """So many tokens generated in answers like gold ones, and each answer trained on with its prompt."""
    answers = items.part(budget / max(items.answer, 1))
    drawn = read_and_answered(size, answers, items.answer)
    row = chain_work(round(items.longest), 0, round(items.answer)) * answers.count
    return drawn + StepWork(0, 0, answers.count * items.longest, training_flops(size, row), items.longest)
