-- Measured change of preserved outputs divided by its lower bound, over sites and seeds.
WITH methods AS (SELECT method, min(place) AS place FROM trajectories GROUP BY ALL)
SELECT p.model, p.stream, p.method, r.edits, r.protocol,
       count(*) FILTER (status = 'ok') AS n, min(value) AS smallest, median(value) AS median, max(value) AS largest,
       count(*) FILTER (value < 1) AS below_one, count(*) FILTER (status <> 'ok') AS collapsed
FROM rows AS r JOIN trajectories AS p ON r.trajectory_id = p.trajectory_id JOIN methods AS m ON p.method = m.method
WHERE metric = 'output_change_ratio' AND site IS NOT NULL AND edits > 0
GROUP BY p.model, p.stream, p.method, m.place, r.edits, r.protocol
ORDER BY p.model, p.stream, r.protocol, m.place, r.edits
