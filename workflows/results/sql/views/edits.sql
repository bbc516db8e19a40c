-- One row for each edit of each trajectory: its first probe is the rewrite.
CREATE VIEW edits AS
SELECT root, trajectory_id, edit, case_id, relation, prompt, target, contrast FROM texts WHERE probe = 0
