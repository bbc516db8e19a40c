-- Shares are of the edits of all seeds, with Wilson's interval. A collapsed trajectory leaves its row without numbers.
SELECT model, stream, method, count(*) AS seeds,
       CASE WHEN bool_and(finite) THEN avg(immediate) END AS immediate,
       CASE WHEN bool_and(finite) THEN avg(final) END AS final,
       CASE WHEN bool_and(finite) THEN stddev_samp(final) END AS final_sd,
       CASE WHEN bool_and(finite) THEN sum(lost) / sum(installed) END AS forgotten,
       low(sum(lost) / sum(installed), CASE WHEN bool_and(finite) THEN sum(installed) END) AS low,
       high(sum(lost) / sum(installed), CASE WHEN bool_and(finite) THEN sum(installed) END) AS high,
       CASE WHEN bool_and(finite) THEN sum(never_back) / nullif(sum(ever_lost), 0) END AS monotone,
       CASE WHEN bool_and(finite) THEN avg(auc) END AS auc,
       CASE WHEN bool_and(finite) THEN stddev_samp(auc) END AS auc_sd,
       count(*) FILTER (NOT finite) AS collapsed
FROM ends JOIN trajectories USING (trajectory_id)
GROUP BY model, stream, method ORDER BY min(place)
