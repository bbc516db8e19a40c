-- One row for each subject and metric: the mean over a row's seeds.
WITH picked AS (
    SELECT p.model, p.stream, p.method, r.edits, r.value, r.status, r.task, r.metric, r.protocol, r.evaluator
    FROM rows AS r JOIN trajectories AS p ON r.trajectory_id = p.trajectory_id
    WHERE r.site IS NULL AND ($by_edits OR r.edits = p.last_edits)
    UNION ALL
    SELECT b.model, b.stream, b.method, r.edits, r.value, r.status, r.task, r.metric, r.protocol, r.evaluator
    FROM rows AS r JOIN bases AS b
      ON r.root = b.root AND r.trajectory_id IS NULL AND r.model_digest = b.model_digest AND r.dtype = b.dtype
     AND r.evaluator = b.evaluator AND r.evaluation_id = b.evaluation_id
    WHERE r.site IS NULL
)
SELECT model, stream, method, CASE WHEN $by_edits THEN edits END AS edits, metric, protocol, task, evaluator,
       count(*) AS n, count(*) FILTER (status = 'collapsed') AS collapsed,
       count(*) FILTER (status = 'failed') AS failed, avg(value) AS mean, stddev_samp(value) AS sd
FROM picked
GROUP BY ALL
