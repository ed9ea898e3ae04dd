-- Views for people. Recreated whenever this file changes.

-- k of an asset `iteration_k/…`; NULL for any other.
CREATE OR REPLACE MACRO iteration_of(asset) AS TRY_CAST(regexp_extract(asset, '^iteration_(\d+)', 1) AS INTEGER);

-- Position of a checkpoint on the way from the base model to the last iteration, from its name or its asset key.
CREATE OR REPLACE MACRO checkpoint_sequence(name) AS CASE
    WHEN name IN ('base', 'base_model') THEN 0
    WHEN name = 'warmup/easy' THEN 1
    WHEN name = 'warmup/medium' THEN 2
    WHEN name = 'warmup' OR name LIKE 'warmup/%' THEN 3
    ELSE 3 + iteration_of(name)
END;

-- 95% Wilson interval of `correct` out of `total`; [0, 1] when nothing was counted, for then the middle is NULL, which
-- greatest and least pass over.
CREATE OR REPLACE MACRO wilson_middle(correct, total) AS
    (correct / nullif(total, 0) + 1.96 ^ 2 / (2 * total)) / (1 + 1.96 ^ 2 / total);
CREATE OR REPLACE MACRO wilson_half_width(correct, total) AS
    1.96 / (1 + 1.96 ^ 2 / total)
    * sqrt(correct / nullif(total, 0) * (1 - correct / nullif(total, 0)) / total + 1.96 ^ 2 / (4 * total ^ 2));
CREATE OR REPLACE MACRO wilson_low(correct, total) AS
    greatest(0.0, wilson_middle(correct, total) - wilson_half_width(correct, total));
CREATE OR REPLACE MACRO wilson_high(correct, total) AS
    least(1.0, wilson_middle(correct, total) + wilson_half_width(correct, total));

-- Whether a step brings the answer on: it is the gold answer's own, or the answer is right after it, or its outcome is
-- above that of the state before it. `correct` is NULL before the end; of nodes that are not there the answer is NULL.
CREATE OR REPLACE MACRO step_advances(given, correct, outcome, outcome_before) AS
    coalesce(given, false) OR coalesce(correct, false) OR outcome > outcome_before;

-- Whether a pair is true, by whether the three states are flawed and whether the chosen step advances: after a prefix
-- without a flaw, a step that brings the answer on, and no flaw, is preferred to one that brings a flaw.
CREATE OR REPLACE MACRO true_by_gold(flawed_before, chosen_flawed, rejected_flawed, advances) AS
    NOT flawed_before AND NOT chosen_flawed AND advances AND rejected_flawed;

-- Figures of one scored artifact. Which experiment has it, the views further below say.
CREATE OR REPLACE VIEW category_scores AS
SELECT
    artifact,
    checkpoint,
    benchmark,
    category,
    correct / nullif(total, 0) AS accuracy,
    correct,
    total,
    wilson_low(correct, total) AS low,
    wilson_high(correct, total) AS high,
    checkpoint_artifact
FROM scores;

-- Every case counts once: the share of right cases over all categories.
CREATE OR REPLACE VIEW benchmark_scores AS
WITH sums AS (
    SELECT
        artifact,
        checkpoint,
        checkpoint_artifact,
        benchmark,
        sum(correct)::BIGINT AS right_cases,
        sum(total)::BIGINT AS all_cases
    FROM scores
    GROUP BY ALL
)
SELECT
    artifact,
    checkpoint,
    benchmark,
    right_cases / nullif(all_cases, 0) AS accuracy,
    right_cases AS correct,
    all_cases AS total,
    wilson_low(right_cases, all_cases) AS low,
    wilson_high(right_cases, all_cases) AS high,
    checkpoint_artifact
FROM sums;

CREATE OR REPLACE VIEW category_errors AS
SELECT artifact, category, coalesce(mistake, 'unclassified') AS mistake, count(*) AS cases
FROM cases
WHERE NOT correct
GROUP BY ALL;

CREATE OR REPLACE VIEW benchmark_errors AS
SELECT artifact, mistake, sum(cases)::BIGINT AS cases
FROM category_errors
GROUP BY ALL;

-- Functions, and parameters where one is to blame, with the number of cases that fail by them.
CREATE OR REPLACE VIEW benchmark_failures AS
SELECT artifact, function, parameter, mistake, count(*) AS cases
FROM cases
WHERE NOT correct AND function <> ''
GROUP BY ALL;

-- Whether to call at all, whatever is called. `precision`: of the answers that call, those that should; `recall`: of the
-- cases that want a call, those that get one; `abstention`: of the others, those that get none.
CREATE OR REPLACE VIEW benchmark_calling AS
WITH counts AS (
    SELECT
        artifact,
        checkpoint,
        checkpoint_artifact,
        benchmark,
        count(*) FILTER (calls AND should_call) AS rightly,
        count(*) FILTER (calls) AS calling,
        count(*) FILTER (should_call) AS to_call,
        count(*) FILTER (NOT calls AND NOT should_call) AS left_alone,
        count(*) FILTER (NOT should_call) AS to_leave
    FROM cases
    WHERE should_call IS NOT NULL
    GROUP BY ALL
)
SELECT
    artifact,
    checkpoint,
    benchmark,
    rightly / nullif(calling, 0) AS precision,
    wilson_low(rightly, calling) AS precision_low,
    wilson_high(rightly, calling) AS precision_high,
    rightly / nullif(to_call, 0) AS recall,
    wilson_low(rightly, to_call) AS recall_low,
    wilson_high(rightly, to_call) AS recall_high,
    left_alone / nullif(to_leave, 0) AS abstention,
    wilson_low(left_alone, to_leave) AS abstention_low,
    wilson_high(left_alone, to_leave) AS abstention_high,
    rightly,
    calling,
    to_call,
    left_alone,
    to_leave,
    checkpoint_artifact
FROM counts;

-- Every step of each search, by which signals it is judged, and what is true of it by each of two truths (NULL: nothing):
-- `no_flaw`       after a state without a flaw: whether the next has none
-- `right_answer`  above complete answers that were found: whether a right one is among them, strictly below the step
CREATE OR REPLACE VIEW tree_steps AS
WITH RECURSIVE answered AS (
    SELECT artifact, tree_id, parent_id AS node_id, correct
    FROM nodes
    WHERE correct IS NOT NULL AND parent_id IS NOT NULL
    UNION
    SELECT n.artifact, n.tree_id, n.parent_id, a.correct
    FROM answered AS a
    JOIN nodes AS n ON n.artifact = a.artifact AND n.tree_id = a.tree_id AND n.node_id = a.node_id
    WHERE n.parent_id IS NOT NULL
),
below AS (
    SELECT artifact, tree_id, node_id, bool_or(correct) AS right_answer
    FROM answered
    GROUP BY ALL
)
SELECT
    n.artifact,
    n.tree_id,
    n.parent_id,
    n.node_id,
    n.outcome,
    n.self_evaluation,
    n.reward,
    n.action_value,
    n.prior,
    n.value,
    CASE WHEN NOT parent.flawed THEN NOT n.flawed END AS no_flaw,
    below.right_answer
FROM nodes AS n
JOIN nodes AS parent ON parent.artifact = n.artifact AND parent.tree_id = n.tree_id AND parent.node_id = n.parent_id
LEFT JOIN below ON below.artifact = n.artifact AND below.tree_id = n.tree_id AND below.node_id = n.node_id;

-- How well each signal tells true steps from false ones: the share of (true, false) pairs of steps in which it ranks the
-- true one higher, ties counted half, among all steps of an iteration (the AUC, by Mann and Whitney's ranks) and among
-- children of one node.
--
-- What a signal is made of, it tells by construction. O is the gold answer's agreement, and so is a flaw: by `no_flaw`
-- O is circular, and so, in that part of them that is O, are r, Q and V. By `right_answer` it is Q and V, which average
-- the verdicts of the answers below. C and the prior know nothing of the gold answer: theirs is evidence by either.
-- Artifact and truth are told apart by a number, and so are the children of one node: that is half the time of texts.
CREATE OR REPLACE VIEW tree_signals AS
WITH steps AS (UNPIVOT tree_steps ON no_flaw, right_answer INTO NAME truth VALUE is_true),
judged AS MATERIALIZED (
    SELECT
        hash(artifact, truth) AS of_truth,
        hash(artifact, truth, tree_id, parent_id) AS fork,
        is_true,
        outcome,
        self_evaluation,
        reward,
        action_value,
        prior,
        value
    FROM steps
),
-- A rank and a cumulative share count the steps below, and those below and level; half their sum is the midrank. One sort
-- at a time: all signals in one take more memory than the database is given.
ranked AS (
    SELECT of_truth, is_true, 'outcome' AS signal, rank() OVER w AS above, cume_dist() OVER w AS upto
    FROM judged WINDOW w AS (PARTITION BY of_truth ORDER BY outcome)
    UNION ALL
    SELECT of_truth, is_true, 'self_evaluation', rank() OVER c, cume_dist() OVER c
    FROM judged WINDOW c AS (PARTITION BY of_truth ORDER BY self_evaluation)
    UNION ALL
    SELECT of_truth, is_true, 'reward', rank() OVER r, cume_dist() OVER r
    FROM judged WINDOW r AS (PARTITION BY of_truth ORDER BY reward)
    UNION ALL
    SELECT of_truth, is_true, 'action_value', rank() OVER q, cume_dist() OVER q
    FROM judged WINDOW q AS (PARTITION BY of_truth ORDER BY action_value)
    UNION ALL
    SELECT of_truth, is_true, 'prior', rank() OVER p, cume_dist() OVER p
    FROM judged WINDOW p AS (PARTITION BY of_truth ORDER BY prior)
    UNION ALL
    SELECT of_truth, is_true, 'value', rank() OVER v, cume_dist() OVER v
    FROM judged WINDOW v AS (PARTITION BY of_truth ORDER BY value)
),
overall AS (
    SELECT
        of_truth,
        signal,
        count(*) FILTER (is_true) AS true_steps,
        count(*) FILTER (NOT is_true) AS false_steps,
        true_steps * false_steps AS pairs,
        (sum(above) FILTER (is_true) + count(*) * sum(upto) FILTER (is_true)) / 2 - true_steps * (true_steps + 1) / 2
            AS higher
    FROM ranked
    GROUP BY of_truth, signal
),
forks AS (
    SELECT of_truth, count(*) FILTER (is_true) AS true_steps, count(*) FILTER (NOT is_true) AS false_steps
    FROM judged
    GROUP BY of_truth, fork
),
divided AS (
    SELECT
        of_truth,
        sum(true_steps)::BIGINT AS true_steps,
        sum(false_steps)::BIGINT AS false_steps,
        sum(true_steps * false_steps)::BIGINT AS pairs
    FROM forks
    WHERE true_steps > 0 AND false_steps > 0
    GROUP BY of_truth
),
siblings AS (
    SELECT
        a.of_truth,
        sum((sign(a.outcome - b.outcome) + 1) / 2) AS outcome,
        sum((sign(a.self_evaluation - b.self_evaluation) + 1) / 2) AS self_evaluation,
        sum((sign(a.reward - b.reward) + 1) / 2) AS reward,
        sum((sign(a.action_value - b.action_value) + 1) / 2) AS action_value,
        sum((sign(a.prior - b.prior) + 1) / 2) AS prior,
        sum((sign(a.value - b.value) + 1) / 2) AS value
    FROM judged AS a
    JOIN judged AS b ON b.fork = a.fork
    WHERE a.is_true AND NOT b.is_true
    GROUP BY a.of_truth
),
told AS (
    SELECT of_truth, 'all' AS among, signal, true_steps, false_steps, pairs, higher FROM overall
    UNION ALL
    SELECT of_truth, 'siblings', signal, true_steps, false_steps, pairs, higher
    FROM (
        UNPIVOT siblings ON outcome, self_evaluation, reward, action_value, prior, value INTO NAME signal VALUE higher
    )
    JOIN divided USING (of_truth)
)
SELECT
    artifacts.artifact,
    truths.truth,
    told.among,
    told.signal,
    told.higher / nullif(told.pairs, 0) AS auc,
    told.true_steps,
    told.false_steps,
    told.pairs
FROM (SELECT DISTINCT artifact FROM nodes) AS artifacts
CROSS JOIN (VALUES ('no_flaw'), ('right_answer')) AS truths (truth)
JOIN told ON told.of_truth = hash(artifacts.artifact, truths.truth);

CREATE OR REPLACE VIEW benchmark_aggregates AS
SELECT
    * EXCLUDE (checkpoint_artifact),
    CASE WHEN total IS NOT NULL THEN wilson_low(correct, total) END AS low,
    CASE WHEN total IS NOT NULL THEN wilson_high(correct, total) END AS high,
    checkpoint_artifact
FROM aggregate_scores;

-- What each experiment has now. `stale`: something upstream was made anew since, and this was not.
CREATE OR REPLACE VIEW experiment_artifacts AS
WITH RECURSIVE stale AS (
    SELECT mine.experiment, mine.asset
    FROM materializations AS mine
    JOIN lineage ON lineage.artifact = mine.artifact
    JOIN materializations AS input ON input.experiment = mine.experiment AND input.asset = lineage.input_asset
    WHERE input.artifact <> lineage.input_artifact
    UNION
    SELECT mine.experiment, mine.asset
    FROM stale
    JOIN materializations AS mine ON mine.experiment = stale.experiment
    JOIN lineage ON lineage.artifact = mine.artifact AND lineage.input_asset = stale.asset
)
SELECT m.*, stale.asset IS NOT NULL AS stale
FROM materializations AS m
LEFT JOIN stale ON stale.experiment = m.experiment AND stale.asset = m.asset;

-- Every example of an experiment; those to train on with where they go. The replay buffer has the same members in every
-- iteration, and none where no iteration was made.
CREATE OR REPLACE VIEW experiment_examples AS
WITH divided AS (
    SELECT m.experiment, lineage.input_artifact AS examples_artifact, splits.*
    FROM materializations AS m
    JOIN lineage ON lineage.artifact = m.artifact
    JOIN splits ON splits.artifact = m.artifact
),
buffered AS (
    SELECT DISTINCT m.experiment, buffer.example_id
    FROM materializations AS m
    JOIN buffer ON buffer.artifact = m.artifact
)
SELECT
    m.experiment,
    m.asset,
    e.*,
    d.split,
    d.difficulty,
    b.example_id IS NOT NULL AS in_buffer,
    m.stale
FROM experiment_artifacts AS m
JOIN examples AS e ON e.artifact = m.artifact
LEFT JOIN divided AS d
    ON d.experiment = m.experiment AND d.examples_artifact = e.artifact AND d.example_id = e.example_id
LEFT JOIN buffered AS b ON b.experiment = d.experiment AND b.example_id = d.example_id;

-- The artifacts that the pairs of each artifact come from. The search reads no splits: they come to it by the replay
-- buffer, whose examples it searches.
CREATE OR REPLACE VIEW pair_origins AS
SELECT
    made.artifact AS pairs_artifact,
    made.input_artifact AS trees_artifact,
    min(searched.input_artifact) FILTER (searched.input_asset = 'examples') AS examples_artifact,
    min(divided.input_artifact) FILTER (searched.input_asset LIKE '%/replay_buffer') AS splits_artifact
FROM lineage AS made
LEFT JOIN lineage AS searched ON searched.artifact = made.input_artifact
LEFT JOIN lineage AS divided ON divided.artifact = searched.input_artifact AND divided.input_asset = 'splits'
WHERE made.input_asset LIKE '%/trees'
GROUP BY made.artifact, made.input_artifact;

-- Pairs by what was decided of them, and what the gold answer says: `true_pairs` are those of the macro `true_by_gold`.
-- Every other pair is in one of the columns after it; in none where its tree is not there. `no_gain`: but for the chosen
-- step, which brings nothing on, it is a true pair.
CREATE OR REPLACE VIEW pair_truths AS
WITH judged AS (
    SELECT
        p.artifact,
        p.reason,
        parent.flawed AS before,
        chosen.flawed AS chosen,
        rejected.flawed AS rejected,
        step_advances(chosen.given, chosen.correct, chosen.outcome, parent.outcome) AS advances
    FROM pairs AS p
    LEFT JOIN pair_origins AS o ON o.pairs_artifact = p.artifact
    LEFT JOIN nodes AS parent
        ON parent.artifact = o.trees_artifact AND parent.tree_id = p.tree_id AND parent.node_id = p.node_id
    LEFT JOIN nodes AS chosen
        ON chosen.artifact = o.trees_artifact AND chosen.tree_id = p.tree_id AND chosen.node_id = p.chosen_node
    LEFT JOIN nodes AS rejected
        ON rejected.artifact = o.trees_artifact AND rejected.tree_id = p.tree_id AND rejected.node_id = p.rejected_node
)
SELECT
    artifact,
    reason,
    count(*) AS pairs,
    count(*) FILTER (true_by_gold(before, chosen, rejected, advances)) AS true_pairs,
    true_pairs / pairs AS true_share,
    wilson_low(true_pairs, pairs) AS low,
    wilson_high(true_pairs, pairs) AS high,
    count(*) FILTER (before) AS after_flaw,
    count(*) FILTER (NOT before AND chosen AND rejected) AS both_flawed,
    count(*) FILTER (NOT before AND NOT chosen AND NOT rejected) AS none_flawed,
    count(*) FILTER (NOT before AND chosen AND NOT rejected) AS wrong_way,
    count(*) FILTER (NOT before AND NOT chosen AND NOT advances AND rejected) AS no_gain
FROM judged
GROUP BY artifact, reason;

-- One row for each pair and each experiment that has it: where the pair comes from. LATERAL looks up the nodes of the
-- pairs that are asked for; a plain join makes a hash table of all nodes first.
CREATE OR REPLACE VIEW pair_lineage AS
SELECT
    m.experiment,
    m.asset,
    p.artifact,
    p.pair_id,
    p.kept,
    p.reason,
    p.prefix,
    p.chosen,
    p.rejected,
    p.chosen_q,
    p.rejected_q,
    p.q_difference,
    p.similarity,
    p.tree_id,
    p.node_id,
    p.chosen_node,
    p.rejected_node,
    parent.depth AS node_depth,
    parent.visits AS node_visits,
    parent.value AS node_value,
    chosen_node.visits AS chosen_visits,
    rejected_node.visits AS rejected_visits,
    chosen_node.prior AS chosen_prior,
    rejected_node.prior AS rejected_prior,
    chosen_node.given AS chosen_given,
    chosen_node.flawed AS chosen_flawed,
    rejected_node.flawed AS rejected_flawed,
    parent.flawed AS node_flawed,
    step_advances(chosen_node.given, chosen_node.correct, chosen_node.outcome, parent.outcome) AS chosen_advances,
    true_by_gold(parent.flawed, chosen_node.flawed, rejected_node.flawed, chosen_advances) AS true_by_gold,
    t.artifact AS trees_artifact,
    t.node_count,
    t.example_id,
    e.category,
    d.difficulty,
    e.question,
    e.response AS gold_response,
    t.policy AS policy_artifact,
    (
        SELECT min(lineage.input_asset)
        FROM lineage
        WHERE lineage.artifact = t.artifact AND lineage.input_artifact = t.policy
    ) AS policy_asset,
    policy.made_by_run AS policy_run,
    m.made_by_run,
    m.run_id,
    m.materialized_at,
    m.stale
FROM experiment_artifacts AS m
JOIN pairs AS p ON p.artifact = m.artifact
LEFT JOIN pair_origins AS o ON o.pairs_artifact = p.artifact
LEFT JOIN trees AS t ON t.artifact = o.trees_artifact AND t.tree_id = p.tree_id
LEFT JOIN LATERAL (
    SELECT nodes.depth, nodes.visits, nodes.value, nodes.outcome, nodes.flawed
    FROM nodes
    WHERE nodes.artifact = t.artifact AND nodes.tree_id = t.tree_id AND nodes.node_id = p.node_id
) AS parent ON true
LEFT JOIN LATERAL (
    SELECT nodes.visits, nodes.prior, nodes.outcome, nodes.correct, nodes.flawed, nodes.given
    FROM nodes
    WHERE nodes.artifact = t.artifact AND nodes.tree_id = t.tree_id AND nodes.node_id = p.chosen_node
) AS chosen_node ON true
LEFT JOIN LATERAL (
    SELECT nodes.visits, nodes.prior, nodes.flawed
    FROM nodes
    WHERE nodes.artifact = t.artifact AND nodes.tree_id = t.tree_id AND nodes.node_id = p.rejected_node
) AS rejected_node ON true
LEFT JOIN examples AS e ON e.artifact = o.examples_artifact AND e.example_id = t.example_id
LEFT JOIN splits AS d ON d.artifact = o.splits_artifact AND d.example_id = t.example_id
LEFT JOIN materializations AS policy ON policy.experiment = m.experiment AND policy.artifact = t.policy;

-- What the policy that each iteration starts from answers wrong in the replay buffer (select_by: mistakes), by type of
-- mistake: how many answers make it and their share of the wrong ones, how many examples make it most often, and how many
-- of these are searched.
CREATE OR REPLACE VIEW deficiencies AS
WITH buffered AS (
    SELECT m.experiment, iteration_of(m.asset) AS iteration, m.stale, b.mistakes, b.mistake, b.selected
    FROM experiment_artifacts AS m
    JOIN buffer AS b ON b.artifact = m.artifact
    WHERE b.mistakes IS NOT NULL
),
made AS (
    SELECT experiment, iteration, stale, entry.key AS mistake, sum(entry.value)::BIGINT AS answers
    FROM (
        SELECT experiment, iteration, stale, unnest(map_entries(CAST(mistakes AS MAP (VARCHAR, BIGINT)))) AS entry
        FROM buffered
    )
    GROUP BY ALL
),
grouped AS (
    SELECT experiment, iteration, mistake, count(*) AS examples, count(*) FILTER (selected) AS selected
    FROM buffered
    GROUP BY ALL
)
SELECT
    made.experiment,
    made.iteration,
    made.mistake,
    made.answers,
    made.answers / sum(made.answers) OVER (PARTITION BY made.experiment, made.iteration) AS share,
    coalesce(grouped.examples, 0) AS examples,
    coalesce(grouped.selected, 0) AS selected,
    made.stale
FROM made
LEFT JOIN grouped USING (experiment, iteration, mistake)
ORDER BY made.experiment, made.iteration, made.answers DESC, made.mistake;

-- What became of the pairs that came into question, and how many of these are true by gold, see `pair_truths`.
CREATE OR REPLACE VIEW pair_reasons AS
SELECT
    m.experiment,
    iteration_of(m.asset) AS iteration,
    t.* EXCLUDE (artifact),
    m.stale
FROM experiment_artifacts AS m
JOIN pair_truths AS t ON t.artifact = m.artifact
ORDER BY m.experiment, iteration, t.reason <> 'kept', t.pairs DESC, t.reason;

-- The kept pairs of each iteration: how many are true by gold, with a 95% Wilson interval, and what they cost. `seconds`
-- of the search alone.
CREATE OR REPLACE VIEW pair_quality AS
WITH counted AS (
    SELECT
        m.experiment,
        iteration_of(m.asset) AS iteration,
        m.artifact,
        m.stale,
        sum(t.pairs)::BIGINT AS candidates,
        coalesce(sum(t.pairs) FILTER (t.reason = 'kept'), 0)::BIGINT AS kept,
        coalesce(sum(t.true_pairs) FILTER (t.reason = 'kept'), 0)::BIGINT AS true_pairs
    FROM experiment_artifacts AS m
    JOIN pair_truths AS t ON t.artifact = m.artifact
    GROUP BY ALL
)
SELECT
    c.experiment,
    c.iteration,
    c.candidates,
    c.kept,
    c.true_pairs,
    c.true_pairs / nullif(c.kept, 0) AS true_share,
    wilson_low(c.true_pairs, c.kept) AS low,
    wilson_high(c.true_pairs, c.kept) AS high,
    searched.seconds,
    c.kept / nullif(searched.seconds / 60, 0) AS kept_per_minute,
    c.true_pairs / nullif(searched.seconds / 60, 0) AS true_per_minute,
    c.stale
FROM counted AS c
LEFT JOIN pair_origins AS o ON o.pairs_artifact = c.artifact
LEFT JOIN materializations AS searched ON searched.experiment = c.experiment AND searched.artifact = o.trees_artifact
ORDER BY c.experiment, c.iteration;

-- What the signals of each search tell, see `tree_signals`.
CREATE OR REPLACE VIEW signal_quality AS
SELECT m.experiment, iteration_of(m.asset) AS iteration, s.* EXCLUDE (artifact), m.stale
FROM experiment_artifacts AS m
JOIN tree_signals AS s ON s.artifact = m.artifact
ORDER BY m.experiment, iteration, s.truth, s.among, s.signal;

CREATE OR REPLACE VIEW leaderboard_categories AS
SELECT
    m.experiment,
    checkpoint_sequence(s.checkpoint) AS sequence,
    s.* EXCLUDE (artifact),
    m.stale
FROM experiment_artifacts AS m
JOIN category_scores AS s ON s.artifact = m.artifact
ORDER BY m.experiment, s.benchmark, sequence, s.checkpoint, s.category;

CREATE OR REPLACE VIEW leaderboard AS
SELECT
    m.experiment,
    checkpoint_sequence(s.checkpoint) AS sequence,
    s.* EXCLUDE (artifact),
    m.stale
FROM experiment_artifacts AS m
JOIN benchmark_scores AS s ON s.artifact = m.artifact
ORDER BY m.experiment, s.benchmark, sequence, s.checkpoint;

-- Precision and recall of calling, beside each score.
CREATE OR REPLACE VIEW calling AS
SELECT
    m.experiment,
    checkpoint_sequence(c.checkpoint) AS sequence,
    c.* EXCLUDE (artifact),
    m.stale
FROM experiment_artifacts AS m
JOIN benchmark_calling AS c ON c.artifact = m.artifact
ORDER BY m.experiment, c.benchmark, sequence, c.checkpoint;

-- Numbers by the benchmark's own rules; `accuracy` is NULL, and `missing` says why, where not all was evaluated.
CREATE OR REPLACE VIEW aggregates AS
SELECT
    m.experiment,
    checkpoint_sequence(a.checkpoint) AS sequence,
    a.* EXCLUDE (artifact),
    m.stale
FROM experiment_artifacts AS m
JOIN benchmark_aggregates AS a ON a.artifact = m.artifact
ORDER BY m.experiment, a.benchmark, sequence, a.checkpoint, a.rule, a.part;

-- Two checkpoints of one experiment on the same cases.
CREATE OR REPLACE VIEW checkpoint_comparisons AS
SELECT m.experiment, c.* EXCLUDE (artifact), m.stale
FROM experiment_artifacts AS m
JOIN comparisons AS c ON c.artifact = m.artifact
ORDER BY
    m.experiment,
    c.benchmark,
    checkpoint_sequence(c.second_checkpoint) - checkpoint_sequence(c.first_checkpoint),
    checkpoint_sequence(c.first_checkpoint);

-- Every wrong case of a scored checkpoint, with its type of error.
CREATE OR REPLACE VIEW wrong_cases AS
SELECT
    m.experiment,
    checkpoint_sequence(c.checkpoint) AS sequence,
    c.* EXCLUDE (artifact, correct) REPLACE (coalesce(c.mistake, 'unclassified') AS mistake),
    m.stale
FROM experiment_artifacts AS m
JOIN cases AS c ON c.artifact = m.artifact
WHERE NOT c.correct
ORDER BY m.experiment, c.benchmark, sequence, c.checkpoint, c.category, c.case_id;

-- `share`: of the wrong cases of that checkpoint in that category.
CREATE OR REPLACE VIEW error_types AS
SELECT
    experiment,
    sequence,
    checkpoint,
    benchmark,
    category,
    mistake,
    count(*) AS cases,
    count(*) / sum(count(*)) OVER (PARTITION BY experiment, checkpoint, benchmark, category) AS share,
    stale
FROM wrong_cases
GROUP BY experiment, sequence, checkpoint, benchmark, category, mistake, stale
ORDER BY experiment, benchmark, sequence, checkpoint, category, cases DESC, mistake;

-- What fails: functions, and of them the parameters where one is to blame.
CREATE OR REPLACE VIEW parameter_errors AS
SELECT experiment, sequence, checkpoint, benchmark, function, parameter, mistake, count(*) AS cases, stale
FROM wrong_cases
WHERE parameter <> ''
GROUP BY ALL
ORDER BY experiment, benchmark, sequence, checkpoint, cases DESC, function, parameter, mistake;

CREATE OR REPLACE VIEW function_errors AS
SELECT experiment, sequence, checkpoint, benchmark, function, mistake, count(*) AS cases, stale
FROM wrong_cases
WHERE function <> ''
GROUP BY ALL
ORDER BY experiment, benchmark, sequence, checkpoint, cases DESC, function, mistake;

-- Every trained checkpoint with its losses, and every scored one with its accuracy on each benchmark.
CREATE OR REPLACE VIEW learning_curve AS
WITH trained AS (
    SELECT m.experiment, m.asset, c.artifact, c.train_loss, c.validation_loss
    FROM materializations AS m
    JOIN checkpoints AS c ON c.artifact = m.artifact
)
SELECT
    coalesce(t.experiment, l.experiment) AS experiment,
    coalesce(checkpoint_sequence(t.asset), l.sequence) AS sequence,
    coalesce(t.asset, l.checkpoint) AS checkpoint,
    l.benchmark,
    l.accuracy,
    l.correct,
    l.total,
    t.train_loss,
    t.validation_loss
FROM trained AS t
FULL JOIN leaderboard AS l ON l.experiment = t.experiment AND l.checkpoint_artifact = t.artifact
ORDER BY 1, 4, 2, 3;

CREATE OR REPLACE VIEW cost AS
SELECT experiment, asset, seconds, reused, run_id AS run, made_by_run, materialized_at, stale
FROM experiment_artifacts
ORDER BY experiment, materialized_at, asset;
