-- Seconds per 100 edits: the stages of editing, and each evaluator as a whole; summed over a trajectory, then the mean
-- over seeds. What runs beside other work is not waited for.
WITH pieces AS (
    SELECT trajectory_id, edits, work, seconds,
           CASE WHEN work <> 'edit' THEN replace(work, '_', ' ') WHEN stage = 'whole' THEN 'editing' ELSE stage END AS stage
    FROM stages WHERE NOT beside AND trajectory_id IS NOT NULL
),
laps AS (
    SELECT t.place, t.model, t.stream, t.method, t.trajectory_id, s.work, s.stage, sum(s.seconds) AS seconds,
           max(max(s.edits)) OVER (PARTITION BY t.trajectory_id) AS edits
    FROM pieces AS s JOIN planned AS t ON s.trajectory_id = t.trajectory_id
    GROUP BY t.place, t.model, t.stream, t.method, t.trajectory_id, s.work, s.stage
)
SELECT model, stream, method, work, stage, count(*) AS seeds, avg(seconds) AS seconds, avg(edits) AS edits,
       avg(100 * seconds / edits) AS seconds_per_100_edits, stddev_samp(100 * seconds / edits) AS sd
FROM laps GROUP BY model, stream, method, work, stage ORDER BY model, stream, min(place), work, stage
