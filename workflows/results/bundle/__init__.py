"""A sweep as one archive: what an artefact evaluation or a data repository takes."""
