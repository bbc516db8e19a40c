"""Editors that change no weight: what they write is an attachment of the model."""
