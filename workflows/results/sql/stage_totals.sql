-- Seconds of every stage over all trajectories of a method: methods in the plan's order, editing first, long stages first.
WITH totals AS (
    SELECT s.model, s.method, s.work, s.stage, s.beside, s.device, s.versions,
           sum(s.seconds) AS seconds, count(*) AS pieces, sum(s.edits_written) AS edits,
           min(coalesce(p.place, -1)) AS place
    FROM stages AS s LEFT JOIN planned AS p USING (trajectory_id)
    GROUP BY ALL
)
SELECT * EXCLUDE (place),
       CASE WHEN NOT beside THEN seconds / nullif(sum(seconds) FILTER (NOT beside) OVER (), 0) END AS share,
       seconds / nullif(edits, 0) AS per_edit
FROM totals
ORDER BY min(place) OVER (PARTITION BY model, method), work <> 'edit', work, beside, seconds DESC, stage
