-- Edit quality under one protocol and general means at the last checkpoint of every trajectory, over seeds.
SELECT model, stream, method, coalesce(task, metric) AS score, protocol, count(*) AS seeds,
       count(*) FILTER (status = 'collapsed') AS collapsed,
       CASE WHEN count(value) = count(*) THEN avg(value) END AS mean,
       CASE WHEN count(value) = count(*) THEN stddev_samp(value) END AS sd,
       min(value) AS smallest, max(value) AS largest, any_value(published) AS published
FROM points
WHERE site IS NULL AND edits = last_edits
  AND (evaluator = 'edit_quality' AND list_contains($metrics, metric)
           AND (protocol = $protocol OR metric IN ('fluency', 'consistency'))
       OR evaluator = 'general' AND (list_contains($tasks, task) AND metric NOT IN ('top_answer_share', 'empty_share')
           OR $tasks = [] AND metric = 'general_mean'))
GROUP BY model, stream, method, evaluator, metric, task, protocol
ORDER BY model, stream, evaluator, list_position($metrics, metric), task, min(place)
