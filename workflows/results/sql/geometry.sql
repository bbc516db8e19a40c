-- Mean absolute value over sites of every figure of geometry, NULL where one of them collapsed; of a figure that belongs
-- to no site, such as the shift of hidden states, its absolute value.
WITH figures AS (FROM rows WHERE evaluator = 'geometry' AND trajectory_id IS NOT NULL AND edits > 0),
of_sites AS (SELECT DISTINCT metric, protocol FROM figures WHERE site IS NOT NULL)
SELECT trajectory_id, edits, metric, protocol,
       CASE WHEN count(*) FILTER (status <> 'ok') = 0 THEN avg(abs(value)) END AS value
FROM figures
WHERE site IS NOT NULL OR (metric, protocol) NOT IN (FROM of_sites)
GROUP BY ALL
