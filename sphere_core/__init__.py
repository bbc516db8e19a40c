"""What a trajectory is: models, edit requests, editors, regularizers, checkpoints. Knows no cluster."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    # PEP 562: looking a version up reads the metadata of every installed package, which no other command needs.
    if name == "__version__":
        from importlib import metadata

        return metadata.version("sphere-editing")
    raise AttributeError(f"module 'sphere_core' has no attribute '{name}'")
