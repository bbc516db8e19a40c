-- Each editor with a regularizer beside the same editor alone, at the last checkpoint, over seeds.
WITH ends AS (
    SELECT min(p.place) AS place, p.model, p.stream, p.method, t.editor, t.regularizer, p.evaluator, p.metric, p.task,
           p.protocol, count(*) AS seeds, CASE WHEN count(p.value) = count(*) THEN avg(p.value) END AS mean,
           CASE WHEN count(p.value) = count(*) THEN stddev_samp(p.value) END AS sd
    FROM points AS p JOIN trajectories AS t ON p.trajectory_id = t.trajectory_id
    WHERE p.site IS NULL AND p.edits = p.last_edits AND list_contains($metrics, p.metric)
      AND (p.evaluator = 'edit_quality' AND p.protocol = $protocol OR p.evaluator = 'general')
    GROUP BY p.model, p.stream, p.method, t.editor, t.regularizer, p.evaluator, p.metric, p.task, p.protocol
),
-- The first of the plan, if an editor has several settings.
alone AS (
    SELECT model, stream, editor, metric, task, protocol, arg_min(method, place) AS base, arg_min(mean, place) AS base_mean,
           arg_min(sd, place) AS base_sd, arg_min(seeds, place) AS base_seeds
    FROM ends WHERE regularizer IS NULL GROUP BY ALL
)
SELECT e.model, e.stream, e.method, e.regularizer, a.base, coalesce(e.task, e.metric) AS score, e.protocol,
       a.base_mean, a.base_sd, a.base_seeds, e.mean, e.sd, e.seeds
FROM ends AS e JOIN alone AS a
  ON e.model = a.model AND e.stream = a.stream AND e.editor = a.editor AND e.metric = a.metric
 AND e.protocol = a.protocol AND e.task IS NOT DISTINCT FROM a.task
WHERE e.regularizer IS NOT NULL
ORDER BY e.model, e.stream, list_position($metrics, e.metric), e.task, e.place
