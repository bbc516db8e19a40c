-- One row for each edit of each trajectory, from what the unedited model was asked of its stream.
CREATE VIEW edits AS
SELECT t.trajectory_id, p.edit, p.case_id, p.prompt, p.target, p.contrast
FROM probe_texts AS p JOIN trajectories AS t USING (stream_digest, model_digest, dtype)
WHERE p.probe = 0
