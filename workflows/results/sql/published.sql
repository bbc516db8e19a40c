-- Means over seeds at every edit count, by the names that published numbers use.
SELECT p.method, r.model, split_part(p.dataset, ':', 1) AS dataset, r.edits, r.metric, r.protocol,
       avg(r.value) AS mean, stddev_samp(r.value) AS sd, count(*) AS n,
       count(*) FILTER (r.status = 'collapsed') AS collapsed, count(*) FILTER (r.status = 'failed') AS failed
FROM rows AS r JOIN trajectories AS p ON r.trajectory_id = p.trajectory_id
WHERE r.site IS NULL AND r.task IS NULL
GROUP BY ALL
