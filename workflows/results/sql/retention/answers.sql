-- One row for each edit and checkpoint that asked it, fine-tunings left out. $measure: argmax (every token of the target is the argmax) or
-- probability (the target is likelier than the contrast). An edit is written with its batch; its age counts the edits
-- written after that batch. A checkpoint whose answers are not finite, or of which more than half tie, is not finite.
CREATE TABLE answers AS
WITH asked AS (
    SELECT t.place, t.trajectory_id, t.model, t.stream, t.method, t.seed, t.batch_size, p.edits, p.edit,
           least(ceil(p.edit / t.batch_size)::INT * t.batch_size, t.planned_edits) AS written,
           p.edits - written AS age,
           avg(CASE $measure WHEN 'argmax' THEN (p.correct = p.tokens)::INT ELSE p.won::INT END) AS success,
           avg(p.contrast_nll_mean - p.nll_mean) AS margin,
           bool_and(p.finite AND coalesce(p.contrast_finite, true)) AS finite,
           count(*) AS probes, count(*) FILTER (p.tied) AS ties
    FROM probes AS p JOIN trajectories AS t USING (trajectory_id)
    WHERE p.role = $role AND p.protocol = $protocol AND p.steps IS NULL
      AND (CASE $measure WHEN 'argmax' THEN (p.correct = p.tokens)::INT ELSE p.won::INT END) IS NOT NULL
    GROUP BY ALL
)
SELECT * EXCLUDE (probes, ties) REPLACE (finite AND 2 * sum(ties) OVER here <= sum(probes) OVER here AS finite)
FROM asked WINDOW here AS (PARTITION BY trajectory_id, edits)
