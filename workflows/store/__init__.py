"""A sweep on storage: paths, records, locks and states. File names below a root are made and parsed here, except
those of unfinished second moments (`workflows.moments`)."""
