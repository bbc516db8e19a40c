-- One row for each answer to a probe; the target is right where every one of its tokens is the argmax.
CREATE VIEW probes AS SELECT *, correct = tokens AS is_right FROM probe_answers
