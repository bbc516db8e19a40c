-- What a fine-tuning leaves, at each of its checkpoints: one row for the edits and one for the control. Edits: probes of
-- one role that were right in the checkpoint that is fine-tuned. Control (intrinsic): neighborhood probes that the
-- unedited model answers rightly and that were right in that checkpoint too, each prompt once. Flipped: the share of
-- these that are wrong afterwards (EFR of arXiv 2511.05852), with Wilson's interval.
WITH asked AS (
    SELECT p.root, p.trajectory_id, p.model_digest, p.dtype, p.stream_digest, p.edits, p.steps, p.edit, p.probe, p.role,
           CASE $measure WHEN 'argmax' THEN p.correct = p.tokens ELSE p.won END AS is_right,
           p.finite AND coalesce(p.contrast_finite, true) AS finite
    FROM probes AS p
    WHERE p.protocol = $protocol AND p.role IN ($role, 'neighborhood') AND is_right IS NOT NULL
),
known AS (
    SELECT DISTINCT model_digest, dtype, stream_digest, edit, probe
    FROM asked WHERE trajectory_id IS NULL AND role = 'neighborhood' AND is_right
),
paired AS (
    SELECT c.place, c.model, c.stream, q.method, c.tuning, c.seed, c.last_edits, c.trajectory_id, a.steps,
           CASE WHEN a.role = 'neighborhood' THEN 'intrinsic' ELSE 'edits' END AS facts,
           CASE WHEN a.role = 'neighborhood' THEN x.prompt || chr(31) || x.target
                ELSE a.edit || ' ' || a.probe END AS fact,
           b.is_right AS before, a.is_right AS after, a.finite
    FROM planned AS c
    JOIN planned AS q ON q.trajectory_id = c.parent
    JOIN asked AS a ON a.trajectory_id = c.trajectory_id
    JOIN asked AS b
      ON b.trajectory_id = c.parent AND b.edits = c.last_edits AND b.edit = a.edit AND b.probe = a.probe
    JOIN texts AS x ON x.trajectory_id = c.trajectory_id AND x.edit = a.edit AND x.probe = a.probe
    LEFT JOIN known AS k
      ON k.model_digest = a.model_digest AND k.dtype = a.dtype AND k.stream_digest = a.stream_digest
     AND k.edit = a.edit AND k.probe = a.probe
    WHERE a.role <> 'neighborhood' OR k.edit IS NOT NULL
),
facts AS (
    SELECT place, model, stream, method, tuning, seed, last_edits, trajectory_id, steps, facts, fact,
           bool_and(before) AS before, bool_and(after) AS after, bool_and(finite) AS finite
    FROM paired GROUP BY ALL
),
seeds AS (
    SELECT place, model, stream, method, tuning, last_edits, trajectory_id, steps, facts, count(*) AS asked,
           bool_and(finite) AS finite, count(*) FILTER (before)::INT AS n, count(*) FILTER (before AND NOT after) AS lost,
           count(*) FILTER (after) AS right_after
    FROM facts GROUP BY ALL
)
SELECT model, stream, method, last_edits AS edits, tuning, steps, facts, count(*) AS seeds, sum(n)::INT AS n,
       sum(n) / sum(asked) AS right_before,
       CASE WHEN bool_and(finite) THEN sum(right_after) / sum(asked) END AS right_after,
       CASE WHEN bool_and(finite) THEN sum(lost) / nullif(sum(n), 0) END AS flipped,
       low(flipped, sum(n)) AS low, high(flipped, sum(n)) AS high,
       CASE WHEN bool_and(finite) THEN stddev_samp(lost / nullif(n, 0)) END AS sd_over_seeds,
       count(*) FILTER (NOT finite) AS collapsed
FROM seeds GROUP BY model, stream, method, last_edits, tuning, steps, facts
ORDER BY min(place), steps, facts
