-- General ability, one metric per task: the mean over a suite, else F1, accuracy, exact match, or the first by name.
WITH ranked AS (
    SELECT *, CASE metric WHEN 'general_mean' THEN 0 WHEN 'f1' THEN 1 WHEN 'acc' THEN 2 WHEN 'exact_match' THEN 3
                   ELSE 4 END AS rank
    FROM points
    WHERE evaluator = 'general' AND metric NOT IN ('top_answer_share', 'empty_share')
      AND ($tasks = [] OR list_contains($tasks, task))
),
first AS (SELECT task, arg_min(metric, (rank, metric)) AS metric, min(rank) AS rank FROM ranked GROUP BY task)
SELECT r.model, r.stream, r.method, r.seed, r.edits, r.task, r.metric, r.protocol, r.n, r.status, r.value,
       CASE WHEN count(r.value) OVER here = count(*) OVER here THEN avg(r.value) OVER here END AS mean,
       CASE WHEN count(r.value) OVER here = count(*) OVER here THEN stddev_samp(r.value) OVER here END AS sd,
       min(r.value) OVER here AS smallest, max(r.value) OVER here AS largest, count(*) OVER here AS seeds
FROM ranked AS r JOIN first AS f ON r.task = f.task AND r.metric = f.metric
WINDOW here AS (PARTITION BY r.model, r.stream, r.method, r.edits, r.task, r.metric)
ORDER BY r.model, r.stream, f.rank > 0, r.task, r.place, r.edits
