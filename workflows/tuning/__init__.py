"""The texts that edited models are fine-tuned on: found when a sweep is planned, read again by its replicas."""
