-- Means over seeds at every edit count, by the names that published numbers use; of unedited models at 0 edits, in the
-- streams of as many edits as the paper's. Streams have no common mean.
SELECT min(p.place) AS place, p.method, r.model, p.stream, split_part(p.dataset, ':', 1) AS dataset, r.edits, r.metric, r.protocol,
       avg(r.value) AS mean, stddev_samp(r.value) AS sd, count(*) AS n,
       count(*) FILTER (r.status = 'collapsed') AS collapsed, count(*) FILTER (r.status = 'failed') AS failed
FROM rows AS r JOIN trajectories AS p ON r.trajectory_id = p.trajectory_id
WHERE r.site IS NULL AND r.task IS NULL
GROUP BY ALL
UNION ALL
SELECT min(t.place), b.method, b.model, b.stream, split_part(t.dataset, ':', 1), t.planned_edits, r.metric, r.protocol,
       avg(r.value), stddev_samp(r.value), count(*),
       count(*) FILTER (r.status = 'collapsed'), count(*) FILTER (r.status = 'failed')
FROM unedited_rows AS r
JOIN bases AS b
  ON b.root = r.root AND b.model_digest = r.model_digest AND b.dtype = r.dtype AND b.evaluator = r.evaluator
 AND b.evaluation_id = r.evaluation_id
JOIN (SELECT root, model, stream, dataset, planned_edits, min(place) AS place FROM planned GROUP BY ALL) AS t
  ON t.root = b.root AND t.model = b.model AND t.stream = b.stream
WHERE r.site IS NULL AND r.task IS NULL
GROUP BY ALL
ORDER BY place
