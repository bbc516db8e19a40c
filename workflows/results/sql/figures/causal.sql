-- General ability after each step of REVIVE's causal experiments: the level of the step, and the band of the noise.
WITH ranked AS (
    SELECT *, CASE metric WHEN 'general_mean' THEN 0 WHEN 'f1' THEN 1 WHEN 'acc' THEN 2 WHEN 'exact_match' THEN 3
                   ELSE 4 END AS rank
    FROM points
    WHERE evaluator = 'general' AND metric NOT IN ('top_answer_share', 'empty_share')
),
first AS (
    SELECT task, arg_min(metric, (rank, metric)) AS metric, min(rank) AS rank FROM ranked
    GROUP BY task HAVING list_contains($tasks, task) OR ($tasks = [] AND min(rank) = (SELECT min(rank) FROM ranked))
),
own AS (SELECT r.*, f.rank AS task_rank FROM ranked AS r JOIN first AS f ON r.task = f.task AND r.metric = f.metric),
unedited AS (SELECT model, stream, task, avg(value) AS unedited FROM own WHERE trajectory_id IS NULL GROUP BY ALL)
SELECT o.model, o.stream, l.experiment, o.task, o.metric, o.protocol, l.low, l.high, l.share, l.level,
       arg_min(o.method, o.place) AS method, any_value(u.unedited) AS unedited, count(*) AS trajectories,
       CASE WHEN count(o.value) = count(*) THEN avg(o.value) END AS mean,
       CASE WHEN count(o.value) = count(*) THEN stddev_samp(o.value) END AS sd
FROM own AS o JOIN levels AS l ON o.trajectory_id = l.trajectory_id AND o.edits = l.edits
LEFT JOIN unedited AS u ON o.model = u.model AND o.stream = u.stream AND o.task = u.task
GROUP BY o.model, o.stream, l.experiment, o.task, o.task_rank, o.metric, o.protocol, l.low, l.high, l.share, l.level
ORDER BY o.model, o.stream, o.task_rank, o.task, l.experiment DESC, l.level, l.low, l.high
