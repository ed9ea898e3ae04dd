"""Every table of itool.duckdb, declared once: of this are made its SQL, the files that fill it, and its document.

Rows belong to an artifact, because experiments share artifacts; `materializations` says which experiment has which.
"""

from __future__ import annotations

from itool_pipeline.store.table_types import ARTIFACT, Column, ColumnType, Table

TEXT, JSON, INTEGER, BIGINT, DOUBLE, BOOLEAN, TOKENS, TIME = ColumnType

EXPERIMENTS = Table(
    "experiments",
    "the experiments that were run here",
    (
        Column("experiment", TEXT, "its name"),
        Column("description", TEXT, "in the words of its file"),
        Column("config", JSON, "the whole config, defaults filled in"),
        Column("updated_at", TIME, "when a step of it last ended, UTC"),
    ),
    key=("experiment",),
)

MATERIALIZATIONS = Table(
    "materializations",
    "the latest artifact of each asset in each experiment",
    (
        Column("experiment", TEXT, "its name"),
        Column("asset", TEXT, "key of the asset, `iteration_1/pairs`"),
        Column("artifact", TEXT, "fingerprint of the artifact", required=True),
        Column("run_id", TEXT, "Dagster run that made or reused it last"),
        Column("made_by_run", TEXT, "Dagster run that made the artifact, perhaps for another experiment"),
        Column("reused", BOOLEAN, "whether the last run found the artifact made already"),
        Column("seconds", DOUBLE, "what making the artifact took, now or then"),
        Column("materialized_at", TIME, "when the last run made or reused it, UTC"),
        Column("metadata", JSON, "what the step reported of itself"),
    ),
    key=("experiment", "asset"),
)

LINEAGE = Table(
    "lineage",
    "what each artifact was made from, one row for each input",
    (
        Column("artifact", TEXT, "fingerprint of the artifact", required=True),
        Column("asset", TEXT, "its asset", required=True),
        Column("input_artifact", TEXT, "fingerprint of the input", required=True),
        Column("input_asset", TEXT, "the input's asset", required=True),
    ),
)

EXAMPLES = Table(
    "examples",
    "examples to train on, in the data's order, and the cases of benchmarks",
    (
        Column("example_id", TEXT, "unique within the data set"),
        Column("source", TEXT, "the data set, `bfcl` or `toolace`"),
        Column("category", TEXT, "the data set's own category"),
        Column("group_id", TEXT, "the same for near-duplicates, which never cross a split"),
        Column("language", TEXT, "of argument values: python, java, javascript"),
        Column("expects", TEXT, "of the right answer: calls (those in gold), any_call, no_call"),
        Column("question", TEXT, "last user turn"),
        Column("tools", JSON, "the candidate tools"),
        Column("messages", JSON, "the context, ending with the turn to be answered"),
        Column("response", TEXT, "the gold response"),
        Column("gold", JSON, "the calls expected in it, with the accepted values"),
        Column("tool_count", INTEGER, "number of candidate tools"),
        Column("tool_chars", INTEGER, "characters of the tool list as the prompt shows it"),
        Column("call_count", INTEGER, "calls in the gold response"),
        Column("part", TEXT, "train; held_out for a benchmark's case"),
        Column("prompt_tokens", INTEGER, "tokens of the prompt; NULL where the model's chat template refuses it"),
    ),
    made_by=("examples", "<benchmark>_cases"),
    key=("example_id",),
    file_columns=(
        Column("prompt_ids", TOKENS, "of the prompt; NULL where the model's chat template refuses it"),
        Column("response_ids", TOKENS, "of the gold response with its end token; NULL in cases, like what follows"),
        Column("grade_before_ids", TOKENS, "of the self-evaluation prompt before the candidate (Eq. 7)"),
        Column("grade_after_ids", TOKENS, "of the same after it"),
        Column("grade_option_ids", TOKENS, "of its four options, best first"),
        Column("tokenised_alone", BOOLEAN, "whether the response's tokens are those of its text by itself"),
    ),
)

SPLITS = Table(
    "splits",
    "where each example to train on goes",
    (
        Column("example_id", TEXT, "the example"),
        Column("group_id", TEXT, "its group of near-duplicates"),
        Column(
            "split",
            TEXT,
            "train, validation; unseen: not in split.warmup_fraction; unused: not in split.train_fraction",
            required=True,
        ),
        Column("difficulty", TEXT, "easy, medium, hard (Section 3.1)", required=True),
    ),
    made_by=("splits",),
    key=("example_id",),
)

QUARANTINE = Table(
    "quarantine",
    "rows of the sources that are no examples",
    (
        Column("source", TEXT, "the data set"),
        Column("position", TEXT, "file and line, or row and turn"),
        Column("reason", TEXT, "why it is no example"),
        Column("excerpt", TEXT, "how it begins"),
    ),
    made_by=("examples", "<benchmark>_cases"),
    key=("source", "position"),
)

BUFFER = Table(
    "buffer",
    "the replay buffer under the newest policy (Section 3.2)",
    (
        Column("example_id", TEXT, "the buffered example"),
        Column("perplexity", DOUBLE, "of the gold response under the newest policy (Eq. 4)"),
        Column("response_tokens", INTEGER, "tokens of the gold response, the end of the turn included"),
        Column("right_share", DOUBLE, "of right ones among the drawn answers (select_by: mistakes), else NULL"),
        Column("mistakes", JSON, "type of mistake (Fig. 3) → number of the drawn answers that make it, else NULL"),
        Column("mistake", TEXT, "the most frequent of these; NULL where all answers are right, or none was drawn"),
        Column("rank", INTEGER, "hardest first, from 0"),
        Column("selected", BOOLEAN, "whether it is searched in this iteration"),
    ),
    made_by=("iteration_k/replay_buffer",),
    key=("example_id",),
)

THOUGHTS = Table(
    "thoughts",
    "what the model thought before it answered (prompt.thinking); empty where it does not think",
    (
        Column("subject_id", TEXT, "the buffered example, or the benchmark's case"),
        Column("round", TEXT, "`answers`, or the round of a conversation"),
        Column("thoughts", TEXT, "without the tags around them"),
        Column("tokens", INTEGER, "drawn for them, those of the closing tag included"),
        Column("closed", BOOLEAN, "whether the model ended them itself, and not prompt.max_thinking_tokens"),
    ),
    made_by=("iteration_k/replay_buffer", "<benchmark>/*"),
    key=("subject_id", "round"),
)

TREES = Table(
    "trees",
    "one row for each search tree",
    (
        Column("tree_id", TEXT, "the same as its example's id"),
        Column("example_id", TEXT, "the example that was searched", required=True),
        Column("policy", TEXT, "artifact of the policy that searched"),
        Column("root_outcome", DOUBLE, "O of the empty response"),
        Column("root_self_evaluation", DOUBLE, "C of the empty response"),
        Column("node_count", INTEGER, "nodes, the root included"),
        Column("iterations", INTEGER, "of the search; without MCTS, responses drawn"),
        Column("max_depth", INTEGER, "fragments on the longest way down"),
        Column("terminal_count", INTEGER, "nodes whose response is complete or as long as it may get"),
        Column("best_value", DOUBLE, "highest Q of the root's children; NULL without any"),
    ),
    made_by=("iteration_k/trees",),
    key=("tree_id",),
)

NODES = Table(
    "nodes",
    "one row for each node of each search tree, parents before children",
    (
        Column("tree_id", TEXT, "its tree"),
        Column("node_id", INTEGER, "index in its tree, 0 at the root"),
        Column("parent_id", INTEGER, "its parent's index; NULL at the root"),
        Column("depth", INTEGER, "fragments from the root to here"),
        Column("fragment", TEXT, "text of the step into this node"),
        Column("token_ids", TOKENS, "of the fragment as sampled, the end-of-turn token included"),
        Column("prefix", TEXT, "the response before the fragment"),
        Column("prior", DOUBLE, "p(a | s) of the step into this node (Eq. 5)"),
        Column("visits", INTEGER, "N"),
        Column("value", DOUBLE, "V (Eq. 8)"),
        Column("action_value", DOUBLE, "Q of the step into this node (Eq. 9)"),
        Column("reward", DOUBLE, "r of the step into this node"),
        Column("outcome", DOUBLE, "O (Eq. 6)"),
        Column("self_evaluation", DOUBLE, "C (Eq. 7)"),
        Column("terminal", BOOLEAN, "whether the response is complete or as long as it may get"),
        Column("correct", BOOLEAN, "verdict at a terminal node, else NULL"),
        Column("flawed", BOOLEAN, "whether something of the response is wrong for good, so that no way on is right"),
        Column("given", BOOLEAN, "whether the step is the gold answer's and was not drawn (search.guide)"),
    ),
    made_by=("iteration_k/trees",),
    key=("tree_id", "node_id"),
)

PAIRS = Table(
    "pairs",
    "every preference pair that came into question, kept or refused (App. B.1)",
    (
        Column("pair_id", TEXT, "tree/parent/chosen-rejected: a node may have several pairs"),
        Column("tree_id", TEXT, "its tree", required=True),
        Column("node_id", INTEGER, "the parent of both"),
        Column("chosen_node", INTEGER, "the child that is preferred"),
        Column("rejected_node", INTEGER, "the child that is not"),
        Column("prefix", TEXT, "the response before the two"),
        Column("chosen", TEXT, "text of the preferred fragment"),
        Column("rejected", TEXT, "text of the other"),
        Column("chosen_q", DOUBLE, "Q of the preferred child"),
        Column("rejected_q", DOUBLE, "Q of the other"),
        Column("q_difference", DOUBLE, "the first minus the second"),
        Column("similarity", DOUBLE, "of the two texts, 1 for equal ones"),
        Column("kept", BOOLEAN, "whether it is trained on"),
        Column("reason", TEXT, "kept, or what refused it: untrue, similar, close, low, unbalanced, over_limit"),
    ),
    made_by=("iteration_k/pairs",),
    key=("pair_id",),
    file_columns=(
        Column("prefix_ids", TOKENS, "token ids of the prefix as they were sampled"),
        Column("chosen_ids", TOKENS, "token ids of the preferred fragment"),
        Column("rejected_ids", TOKENS, "token ids of the other"),
    ),
)

RIGHT_ANSWERS = Table(
    "right_answers",
    "every distinct right answer in a tree: what rejection sampling trains on",
    (
        Column("tree_id", TEXT, "its tree"),
        Column("node_id", INTEGER, "the first node that it ends in"),
        Column("answer", TEXT, "the whole response"),
        Column("given", BOOLEAN, "whether any of its steps was given and not drawn (search.guide)"),
    ),
    made_by=("iteration_k/pairs",),
    key=("tree_id", "node_id"),
    file_columns=(Column("answer_ids", TOKENS, "token ids of the whole response as sampled, with its end"),),
)

CHECKPOINTS = Table(
    "checkpoints",
    "one row for each training",
    (
        Column("stage", TEXT, "the asset that was trained"),
        Column("parent_artifact", TEXT, "the checkpoint it started from"),
        Column("examples", INTEGER, "examples or pairs trained on; 0 when nothing was trained"),
        Column("steps", INTEGER, "optimizer steps"),
        Column("train_loss", DOUBLE, "of the last step"),
        Column("validation_loss", DOUBLE, "of the step whose weights were kept"),
        Column("best_step", INTEGER, "the step whose weights were kept; 0: those of the checkpoint before"),
        Column(
            "right_answers",
            JSON,
            "[step, right, examples] of each policy that answered the validation examples (keep: most_right)",
        ),
        Column("trainable_parameters", BIGINT, "of the adapter"),
        Column("seconds", DOUBLE, "what the training took"),
        Column("losses", JSON, "the curve: train, and validation as [step, loss]"),
    ),
    made_by=("warmup/*", "iteration_k/policy"),
    key=(ARTIFACT,),
)

_CHECKPOINT = (
    Column("checkpoint", TEXT, "base, warmup, iteration_1, …", required=True),
    Column("checkpoint_artifact", TEXT, "fingerprint of the checkpoint"),
    Column("benchmark", TEXT, "its name in the section `evaluation`", required=True),
)
"""Which checkpoint was asked on which benchmark: the first columns of every scoring's rows."""

SCORES = Table(
    "scores",
    "one row for each category of cases, for each checkpoint",
    (
        *_CHECKPOINT,
        Column("category", TEXT, "the benchmark's own category"),
        Column("correct", INTEGER, "cases answered correctly"),
        Column("total", INTEGER, "cases"),
    ),
    made_by=("<benchmark>/*",),
    key=("checkpoint", "benchmark", "category"),
)

CASES = Table(
    "cases",
    "one row for each test case, for each checkpoint",
    (
        *_CHECKPOINT,
        Column("category", TEXT, "the benchmark's own category"),
        Column("case_id", TEXT, "the benchmark's own id"),
        Column("output", TEXT, "what the model said"),
        Column("should_call", BOOLEAN, "whether a right answer calls a function; NULL for a conversation"),
        Column("calls", BOOLEAN, "whether the model's answer begins a call, right or wrong; NULL for a conversation"),
        Column("correct", BOOLEAN, "the verdict"),
        Column("error_type", TEXT, "the checker's own"),
        Column("error", TEXT, "the checker's own words"),
        Column("mistake", TEXT, "the paper's type of error (Fig. 3)"),
        Column("function", TEXT, "the function that failed"),
        Column("parameter", TEXT, "the parameter to blame, where one is"),
        Column("expected", TEXT, "what was wanted there"),
        Column("got", TEXT, "what the model gave"),
    ),
    made_by=("<benchmark>/*",),
    key=("checkpoint", "benchmark", "case_id"),
)

AGGREGATE_SCORES = Table(
    "aggregate_scores",
    "numbers over many cases, by the benchmark's own rules",
    (
        *_CHECKPOINT,
        Column("rule", TEXT, "the benchmark's own"),
        Column("part", TEXT, "what is counted by it"),
        Column("accuracy", DOUBLE, "NULL when anything that it is made of was not evaluated"),
        Column("missing", TEXT, "what was not"),
        Column("correct", INTEGER, "where it is a plain share: of these"),
        Column("total", INTEGER, "out of these; both NULL for a mean of shares"),
    ),
    made_by=("<benchmark>/*",),
    key=("checkpoint", "benchmark", "rule", "part"),
)

COMPARISONS = Table(
    "comparisons",
    "two checkpoints on the same cases",
    (
        Column("benchmark", TEXT, "its name in the section `evaluation`"),
        Column("first_checkpoint", TEXT, "the earlier"),
        Column("second_checkpoint", TEXT, "the later"),
        Column("cases", INTEGER, "cases that both answered"),
        Column("first_correct", INTEGER, "cases that the first has right"),
        Column("second_correct", INTEGER, "cases that the second has right"),
        Column("gained", INTEGER, "cases that only the second has right"),
        Column("lost", INTEGER, "cases that only the first has right"),
        Column("difference", DOUBLE, "accuracy of the second minus that of the first"),
        Column("low", DOUBLE, "lower end of its 95% interval by paired bootstrap"),
        Column("high", DOUBLE, "upper end"),
        Column("p_value", DOUBLE, "McNemar's exact test, two-sided"),
    ),
    made_by=("report",),
    key=("benchmark", "first_checkpoint", "second_checkpoint"),
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        EXPERIMENTS,
        MATERIALIZATIONS,
        LINEAGE,
        EXAMPLES,
        SPLITS,
        QUARANTINE,
        BUFFER,
        THOUGHTS,
        TREES,
        NODES,
        PAIRS,
        RIGHT_ANSWERS,
        CHECKPOINTS,
        SCORES,
        CASES,
        AGGREGATE_SCORES,
        COMPARISONS,
    )
}
"""All of them by name."""
