"""iteration_k/policy by GRPO: on the prompts of the examples that were searched, in place of preferences.

Torch is imported where it is used: it takes seconds, and Dagster loads the steps' modules to draw the graph.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from itool_pipeline.config import Grpo
from itool_pipeline.core.reward import ResponseState, outcome_of
from itool_pipeline.engines.factory import release_engines
from itool_pipeline.steps.asset_graph import policy_before
from itool_pipeline.steps.computing import settled
from itool_pipeline.steps.display import loss_plot
from itool_pipeline.steps.held_back import held_back
from itool_pipeline.steps.judging import search_judge
from itool_pipeline.steps.live import live
from itool_pipeline.steps.models import ADAPTER, chat, weights_dir
from itool_pipeline.steps.thoughts import each_problem_thought_out
from itool_pipeline.steps.trained import Trained, finish, unchanged
from itool_pipeline.steps.training_run import first_adapter, training_seed
from itool_pipeline.steps.tree_rows import generated_tokens
from itool_pipeline.steps.workspace import Workspace
from itool_pipeline.store.artifacts import Step
from itool_pipeline.training.job import GrpoJob, TrainingResult


def by_grpo(ws: Workspace, k: int, step: Step, config: Grpo) -> dict[str, Any]:
    """Make the policy of iteration k by GRPO from the policy before; the artifact's metadata.

    Examples that validate preferences are left out here too, and answers stand behind what was thought about the
    example before they were searched. A training that was killed begins again.
    """
    from itool_pipeline.training.grpo import train_by_grpo

    before, e = policy_before(k), ws.experiment
    searched = generated_tokens(ws, k)
    problems = {p.example.id: p for p in each_problem_thought_out(ws, k, searched.keys() - held_back(ws))}
    room = e.preference.max_tokens - e.search.max_response_tokens
    prompts = {key: problem.prompt for key, problem in problems.items() if len(problem.prompt) <= room}
    budget = sum(searched.values()) if config.budget == "search" else config.budget
    if not prompts or not budget:
        return unchanged(ws, step, before, "no example was searched that could be trained on")
    own, template, judge = settled(ws, step.parts), chat(ws), search_judge(ws)

    def reward(name: str, token_ids: tuple[int, ...], finished: bool) -> float:
        text = template.text(token_ids)
        state = ResponseState(problems[name], token_ids, text, finished, truncated=not finished)
        return outcome_of(state, judge, e.search.outcome).value

    job = GrpoJob(
        base_model=weights_dir(ws).absolute(),
        compute=own.experiment.compute,
        quantization=e.preference.quantization,
        adapter=first_adapter(ws, before),
        loss=config,
        drawing=e.search,
        end_token=template.end_token,
        budget=budget,
        optimizer=e.preference.optimizer,
        seed=training_seed(ws, step.asset),
        out=(step.work / ADAPTER).absolute(),
    )
    ws.say(f"GRPO on {len(prompts)} prompts from {before}, until {budget} tokens are generated")
    release_engines()
    with live(ws, step.asset, step.parts, begins_anew=True) as told:
        result = train_by_grpo(job, prompts, reward, ws.progress("generated tokens"), told.metrics)
    plot = loss_plot(step.work / "reward.png", result.rewards, (), step.asset, "mean reward")
    steps = len(result.losses)
    as_others = TrainingResult(result.losses, (), steps, steps, result.examples, result.trainable_parameters)
    return {
        **finish(ws, step, before, Trained(as_others)),
        "overlong_refused": len(problems) - len(prompts),
        "search_tokens": sum(searched.values()),
        "token_budget": budget,
        "generated_tokens": result.generated_tokens,
        "first_reward": result.rewards[0],
        "last_reward": result.rewards[-1],
        "mean_equal_rewards": fmean(result.equal_rewards),
        "reward": plot,
    }
