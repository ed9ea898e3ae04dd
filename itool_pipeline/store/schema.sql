-- Tables of itool.duckdb.
--
-- Rows belong to an artifact: `artifact` is its fingerprint, because experiments share artifacts. `materializations`
-- says which experiment has which artifact. Only the two small tables that are updated in place have primary keys;
-- for the others the loader checks that an artifact's keys are unique, which is faster than an index.

CREATE TABLE experiments (
    experiment VARCHAR PRIMARY KEY,
    description VARCHAR,
    config JSON,
    updated_at TIMESTAMP                -- UTC
);

CREATE TABLE materializations (         -- the latest of each asset in each experiment
    experiment VARCHAR,
    asset VARCHAR,
    artifact VARCHAR NOT NULL,
    run_id VARCHAR,                     -- Dagster run that made or reused it last
    made_by_run VARCHAR,                -- Dagster run that made the artifact, perhaps for another experiment
    reused BOOLEAN,
    seconds DOUBLE,                     -- what making the artifact took, now or then
    materialized_at TIMESTAMP,          -- UTC
    metadata JSON,
    PRIMARY KEY (experiment, asset)
);

CREATE TABLE lineage (                  -- what each artifact was made from
    artifact VARCHAR NOT NULL,
    asset VARCHAR NOT NULL,
    input_artifact VARCHAR NOT NULL,
    input_asset VARCHAR NOT NULL
);

CREATE TABLE examples (                 -- of the asset `splits`
    artifact VARCHAR NOT NULL,
    example_id VARCHAR NOT NULL,
    source VARCHAR,
    category VARCHAR,
    group_id VARCHAR,                   -- the same for near-duplicates, which never cross a split
    language VARCHAR,                   -- of argument values
    expects VARCHAR,                    -- of the right answer: calls (those in gold), any_call, no_call
    question VARCHAR,                   -- last user turn
    tools JSON,
    messages JSON,
    response VARCHAR,                   -- gold
    gold JSON,                          -- the calls expected in it, with the accepted values
    tool_count INTEGER,
    tool_chars INTEGER,
    call_count INTEGER,
    part VARCHAR,                       -- train, held_out
    split VARCHAR,                      -- train, validation; NULL when held out
    difficulty VARCHAR,                 -- easy, medium, hard
    in_buffer BOOLEAN                   -- drawn for the replay buffer
);

CREATE TABLE quarantine (               -- of `examples` and `api_bank_cases`: rows of the sources that are no examples
    artifact VARCHAR NOT NULL,
    source VARCHAR NOT NULL,
    position VARCHAR NOT NULL,          -- file and line, or row and turn
    reason VARCHAR,
    excerpt VARCHAR
);

CREATE TABLE buffer (                   -- of iteration_k/replay_buffer
    artifact VARCHAR NOT NULL,
    example_id VARCHAR NOT NULL,
    perplexity DOUBLE,                  -- of the gold response under the newest policy
    response_tokens INTEGER,
    rank INTEGER,                       -- hardest first
    selected BOOLEAN
);

CREATE TABLE trees (                    -- of iteration_k/trees
    artifact VARCHAR NOT NULL,
    tree_id VARCHAR NOT NULL,
    example_id VARCHAR NOT NULL,
    policy VARCHAR,                     -- artifact of the policy that searched
    root_outcome DOUBLE,
    root_self_evaluation DOUBLE,
    node_count INTEGER,
    iterations INTEGER,                 -- of the search; without MCTS, responses drawn
    max_depth INTEGER,
    terminal_count INTEGER,
    best_value DOUBLE
);

CREATE TABLE nodes (                    -- of iteration_k/trees
    artifact VARCHAR NOT NULL,
    tree_id VARCHAR NOT NULL,
    node_id INTEGER NOT NULL,
    parent_id INTEGER,                  -- NULL at the root
    depth INTEGER,
    fragment VARCHAR,
    token_ids INTEGER[],
    prefix VARCHAR,                     -- the response before the fragment
    prior DOUBLE,
    visits INTEGER,
    value DOUBLE,                       -- V
    action_value DOUBLE,                -- Q of the step into this node
    reward DOUBLE,                      -- r of the step into this node
    outcome DOUBLE,                     -- O
    self_evaluation DOUBLE,             -- C
    terminal BOOLEAN,
    correct BOOLEAN                     -- verdict at a terminal node, else NULL
);

CREATE TABLE pairs (                    -- of iteration_k/pairs
    artifact VARCHAR NOT NULL,
    pair_id VARCHAR NOT NULL,           -- tree/parent/chosen-rejected: a node may have several pairs
    tree_id VARCHAR NOT NULL,
    node_id INTEGER,                    -- the parent of both
    chosen_node INTEGER,
    rejected_node INTEGER,
    prefix VARCHAR,                     -- the response before the two
    chosen VARCHAR,
    rejected VARCHAR,
    chosen_q DOUBLE,
    rejected_q DOUBLE,
    q_difference DOUBLE,
    similarity DOUBLE,
    kept BOOLEAN,
    reason VARCHAR                      -- kept, or the filter that refused it: similar, close, low, over_limit
);

CREATE TABLE checkpoints (              -- of warmup/* and iteration_k/policy, one row each
    artifact VARCHAR NOT NULL,
    stage VARCHAR,
    parent_artifact VARCHAR,            -- the checkpoint it started from
    examples INTEGER,
    steps INTEGER,
    train_loss DOUBLE,
    validation_loss DOUBLE,
    best_step INTEGER,
    trainable_parameters BIGINT,
    seconds DOUBLE,
    losses JSON                         -- the curve
);

CREATE TABLE scores (                   -- of bfcl/* and api_bank/*, one row for each category
    artifact VARCHAR NOT NULL,
    checkpoint VARCHAR NOT NULL,        -- base, warmup, iteration_1, …
    checkpoint_artifact VARCHAR,
    benchmark VARCHAR NOT NULL,
    category VARCHAR NOT NULL,          -- a name beginning with `overall` is an aggregate, not a category of cases
    correct INTEGER,
    total INTEGER,
    accuracy DOUBLE,
    low DOUBLE,                         -- 95% Wilson interval
    high DOUBLE
);

CREATE TABLE cases (                    -- of bfcl/* and api_bank/*, one row for each test case
    artifact VARCHAR NOT NULL,
    checkpoint VARCHAR NOT NULL,
    checkpoint_artifact VARCHAR,
    benchmark VARCHAR NOT NULL,
    category VARCHAR,
    case_id VARCHAR NOT NULL,
    output VARCHAR,
    correct BOOLEAN,
    error_type VARCHAR,                 -- the checker's own
    error VARCHAR,
    mistake VARCHAR,                    -- the paper's type of error (Fig. 3)
    function VARCHAR,
    parameter VARCHAR,
    expected VARCHAR,
    got VARCHAR
);

CREATE TABLE aggregate_scores (         -- of bfcl/*: overall scores by the benchmark's rules
    artifact VARCHAR NOT NULL,
    checkpoint VARCHAR NOT NULL,
    checkpoint_artifact VARCHAR,
    benchmark VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,              -- v3 (the paper's), v4
    part VARCHAR NOT NULL,              -- overall, overall_partial, non_live, live, multi_turn, …
    accuracy DOUBLE,                    -- NULL when anything that it is made of was not evaluated
    missing VARCHAR                     -- what was not
);

CREATE TABLE comparisons (              -- of the report: two checkpoints on the same cases
    artifact VARCHAR NOT NULL,
    benchmark VARCHAR NOT NULL,
    first_checkpoint VARCHAR NOT NULL,
    second_checkpoint VARCHAR NOT NULL,
    cases INTEGER,
    first_correct INTEGER,
    second_correct INTEGER,
    gained INTEGER,                     -- cases that only the second has right
    lost INTEGER,                       -- cases that only the first has right
    difference DOUBLE,                  -- accuracy of the second minus that of the first
    low DOUBLE,                         -- 95% interval by paired bootstrap
    high DOUBLE,
    p_value DOUBLE                      -- McNemar's exact test, two-sided
);
