"""A sweep on storage: paths, records, locks and states. The only room that knows file names."""
