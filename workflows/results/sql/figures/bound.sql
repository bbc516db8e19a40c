-- Measured change of preserved outputs divided by its lower bound, over sites and seeds.
SELECT model, stream, method, edits, protocol, count(value) AS n, min(value) AS smallest, median(value) AS median,
       max(value) AS largest, count(*) FILTER (value < 1) AS below_one, count(*) FILTER (status <> 'ok') AS collapsed
FROM points
WHERE metric = 'output_change_ratio' AND site IS NOT NULL AND edits > 0
GROUP BY ALL ORDER BY model, stream, protocol, min(place), edits
