-- One row for each trajectory, with what it cost so far, on what, its hyperparameters, and its values of grids.
CREATE VIEW trajectories AS
WITH cost AS (
    SELECT trajectory_id,
           sum(seconds) FILTER (stage = 'edit') AS edit_seconds,
           sum(edits_written) FILTER (stage = 'edit') / nullif(sum(seconds) FILTER (stage = 'edit'), 0)
               AS edits_per_second,
           sum(seconds) FILTER (stage NOT IN ('edit', 'tune')) AS score_seconds,
           string_agg(DISTINCT device, ', ' ORDER BY device) AS device,
           string_agg(DISTINCT code_version, ', ' ORDER BY code_version) AS code_version,
           string_agg(DISTINCT code_commit, ', ' ORDER BY code_commit) AS code_commit
    FROM timings WHERE trajectory_id IS NOT NULL GROUP BY ALL
)
SELECT p.*, c.* EXCLUDE (trajectory_id), s.* EXCLUDE (trajectory_id), a.* EXCLUDE (trajectory_id)
FROM planned AS p LEFT JOIN cost AS c USING (trajectory_id) LEFT JOIN specifications AS s USING (trajectory_id)
LEFT JOIN axes AS a USING (trajectory_id)
