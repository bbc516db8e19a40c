"""A local cache of hub data sets, as `datasets` leaves one behind after a download."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetInfo, SplitDict, SplitInfo
from datasets.arrow_writer import ArrowWriter

__all__ = ["fill_cache"]

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def fill_cache(
    cache: Path, repository: str, config: str, splits: Mapping[str, Sequence[Mapping[str, Any]]], commit: str = COMMIT
) -> None:
    """Write one configuration of a data set into a cache."""
    name = repository.rsplit("/", maxsplit=1)[-1]
    folder = cache / repository.replace("/", "___") / config / "0.0.0" / commit
    folder.mkdir(parents=True)
    infos = SplitDict(dataset_name=name)
    for split, rows in splits.items():
        data = Dataset.from_list([dict(row) for row in rows])
        with ArrowWriter(path=str(folder / f"{name}-{split}.arrow"), features=data.features) as writer:
            writer.write_table(data.data.table)
            writer.finalize()
        infos.add(SplitInfo(split, num_examples=len(rows), dataset_name=name))
    info = DatasetInfo(
        features=data.features,
        dataset_name=name,
        config_name=config,
        builder_name="parquet",
        version="0.0.0",
        splits=infos,
    )
    info.write_to_directory(str(folder))
