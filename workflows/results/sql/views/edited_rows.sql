-- Every row of an edited checkpoint; of a fine-tuning those of its last step, which are compared at its edit count.
CREATE VIEW edited_rows AS
SELECT * FROM stored_rows
WHERE steps IS NULL OR (trajectory_id, steps) IN (SELECT (trajectory_id, last_steps) FROM planned)
