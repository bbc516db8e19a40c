"""The fault table: full disks, kills and damaged files, each against a run that nothing happened to."""
