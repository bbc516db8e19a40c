"""One file for each long action: run, edit, build moments, calibrate. Commands are thin over it."""
