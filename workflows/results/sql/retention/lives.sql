-- One row for each edit. Immediate: at the first checkpoint at or after the edit's batch. Final: at the last checkpoint
-- of its trajectory. An edit that a later one contradicts is no longer asked and has no final answer; one left out of a
-- sample has a gap.
CREATE TABLE lives AS
WITH checkpoints AS (SELECT DISTINCT trajectory_id, edits FROM answers),
ends AS (SELECT trajectory_id, max(edits) AS last FROM checkpoints GROUP BY ALL),
installs AS (
    SELECT w.trajectory_id, w.written, min(c.edits) AS installed_at
    FROM (SELECT DISTINCT trajectory_id, written FROM answers) AS w
    JOIN checkpoints AS c ON c.trajectory_id = w.trajectory_id AND c.edits >= w.written
    GROUP BY ALL
),
reported AS (
    SELECT a.*, i.installed_at, e.last, a.success = 1 AS is_right,
           max(a.edits) FILTER (a.success = 1) OVER (PARTITION BY a.trajectory_id, a.edit) AS last_right
    FROM answers AS a JOIN installs AS i USING (trajectory_id, written) JOIN ends AS e USING (trajectory_id)
)
SELECT trajectory_id, edit, any_value(written) AS written, any_value(installed_at) AS installed_at,
       any_value(last) AS last_checkpoint,
       bool_or(is_right) FILTER (edits = installed_at) AS installed,
       max(margin) FILTER (edits = installed_at) AS strength,
       bool_or(is_right) FILTER (edits = last) AS kept,
       max(margin) FILTER (edits = last) AS final_margin,
       CASE WHEN installed THEN min(edits) FILTER (NOT is_right AND edits > installed_at) END AS first_lost,
       any_value(last_right) AS last_right,
       bool_and(finite) AS finite
FROM reported GROUP BY trajectory_id, edit
