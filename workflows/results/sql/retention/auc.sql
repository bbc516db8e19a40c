SELECT model, stream, method, cohort, count(*) AS seeds, sum(n)::INT AS n,
       CASE WHEN count(immediate) = count(*) THEN avg(immediate) END AS immediate,
       CASE WHEN count(final) = count(*) THEN avg(final) END AS final,
       CASE WHEN count(final) = count(*) THEN avg(auc) END AS auc,
       CASE WHEN count(final) = count(*) THEN stddev_samp(auc) END AS auc_sd
FROM areas JOIN trajectories USING (trajectory_id) GROUP BY model, stream, method, cohort
ORDER BY min(place), cohort
