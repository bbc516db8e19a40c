-- A cohort is what was written between two checkpoints; its success at each later checkpoint, over seeds.
SELECT model, stream, method, l.installed_at AS cohort, a.edits, count(DISTINCT seed) AS seeds,
       count(*)::INT AS n, CASE WHEN bool_and(a.finite) THEN avg(a.success) END AS rate,
       low(CASE WHEN bool_and(a.finite) THEN avg(a.success) END, count(*)) AS low,
       high(CASE WHEN bool_and(a.finite) THEN avg(a.success) END, count(*)) AS high
FROM answers AS a JOIN lives AS l USING (trajectory_id, edit)
GROUP BY model, stream, method, l.installed_at, a.edits ORDER BY min(place), cohort, a.edits
