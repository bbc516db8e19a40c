-- Seconds of each stage per 100 edits: the sum over a trajectory, then the mean over seeds.
WITH laps AS (
    SELECT t.place, t.model, t.stream, t.method, t.trajectory_id, s.stage, sum(s.seconds) AS seconds,
           max(max(s.edits)) OVER (PARTITION BY t.trajectory_id) AS edits
    FROM timings AS s JOIN planned AS t ON s.trajectory_id = t.trajectory_id
    GROUP BY t.place, t.model, t.stream, t.method, t.trajectory_id, s.stage
)
SELECT model, stream, method, stage, count(*) AS seeds, avg(seconds) AS seconds, avg(edits) AS edits,
       avg(100 * seconds / edits) AS seconds_per_100_edits, stddev_samp(100 * seconds / edits) AS sd
FROM laps GROUP BY model, stream, method, stage ORDER BY model, stream, min(place), stage
