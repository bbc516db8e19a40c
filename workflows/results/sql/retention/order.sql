SELECT model, dataset, edits, method, stream_order, count(*) AS seeds,
       CASE WHEN bool_and(finite) THEN avg(immediate) END AS immediate,
       CASE WHEN bool_and(finite) THEN avg(final) END AS final,
       CASE WHEN bool_and(finite) THEN stddev_samp(final) END AS final_sd,
       low(sum(final * n) / sum(n), CASE WHEN bool_and(finite) THEN sum(n) END) AS low,
       high(sum(final * n) / sum(n), CASE WHEN bool_and(finite) THEN sum(n) END) AS high,
       CASE WHEN bool_and(finite) THEN avg(auc) END AS auc, count(*) FILTER (NOT finite) AS collapsed
FROM ends JOIN trajectories USING (trajectory_id)
GROUP BY model, dataset, edits, method, stream_order ORDER BY model, dataset, min(place), stream_order
