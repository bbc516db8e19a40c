-- One row for each probe of each trajectory's stream, from what the unedited model was asked.
CREATE VIEW texts AS
SELECT t.root, t.trajectory_id, p.edit, p.probe, p.case_id, p.relation, p.role, p.probe_group, p.prompt, p.target, p.contrast
FROM probe_texts AS p
JOIN planned AS t
  ON p.root = t.root AND p.stream_digest = t.stream_digest AND p.model_digest = t.model_digest AND p.dtype = t.dtype
