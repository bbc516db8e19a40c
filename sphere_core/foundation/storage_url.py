"""What the URL of a storage stands for: a file system, and a folder on it where files can lie."""

import os
import re
from pathlib import Path

import fsspec

from sphere_core.foundation.errors import InputError

__all__ = ["file_system", "refuse_below_file", "refuse_credentials"]

# Bytes of a name that Linux's file systems take.
_NAME_BYTES = 255
_CREDENTIALS = re.compile(r"(?<=://)[^/:@]*:[^@]*@")


def refuse_credentials(uri: str) -> None:
    """Raise InputError for a storage's URL that holds credentials; asks no file system."""
    if _CREDENTIALS.search(uri):
        raise InputError(
            "the URL of the storage holds credentials, which would end up in logs and files",
            where=_CREDENTIALS.sub("", uri),
            remedy="leave them out of the URL and set them in the environment (AWS_ACCESS_KEY_ID and so on)",
        )


def file_system(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Return the file system of a URL or local path and the path on it.

    Raises InputError if none is installed for it, or if it connects at once and nothing answers.
    """
    try:
        # Others write below the same root; a cached listing would hide what they did.
        filesystem, root = fsspec.core.url_to_fs(uri, use_listings_cache=False)
    except OSError as error:  # some connect at once
        raise InputError(
            f"the storage does not answer: {error}",
            where=uri,
            remedy="check the URL, the network, and the credentials and endpoint in the environment",
        ) from error
    except (ImportError, ValueError) as error:
        raise InputError(
            f"no file system for this storage: {error}",
            where=uri,
            remedy="install its extra: pip install -c constraints.txt -e '.[s3]'; gs:// needs [gcs], az:// [azure]",
        ) from error
    return filesystem, str(root)


def refuse_below_file(folder: Path) -> None:
    """Raise InputError if a local folder has too long a name, or if it or the nearest one above it is a file."""
    too_long = next((part for part in folder.parts if len(os.fsencode(part)) > _NAME_BYTES), None)
    if too_long is not None:
        raise InputError(
            f"a name has {len(os.fsencode(too_long))} bytes; file systems take {_NAME_BYTES}",
            where=f"{str(folder)[:200]}...",
            remedy="give a shorter name",
        )
    found = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), None)
    if found is not None and not os.path.isdir(found):
        is_sweep = found == folder and folder.suffix in (".yaml", ".yml")
        raise InputError(
            "this is not a folder" if found == folder else f"{found} is not a folder: nothing can lie below it",
            where=str(folder),
            remedy="give the root of this sweep, which 'sphere plan' shows" if is_sweep else "give another folder",
        )
