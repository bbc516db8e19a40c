"""How a plugin is named in a plan: plain data that identifies its code and says where a worker finds it."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PluginReference"]


class PluginReference(BaseModel):
    """A plugin by the digest of its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="The file's name, or the module of an installed package")
    digest: str = Field(
        pattern="^[0-9a-f]{64}$", description="sha256 of the file, or of all code and data files of the package"
    )
    packaged: bool = Field(
        default=False, description="Installed on every node; a file is stored below the sweep's root"
    )

    @property
    def short(self) -> str:
        """The plugin as tables and notes name it: `my_method.py 3f2a91c04b1d`."""
        return f"{self.name} {self.digest[:12]}"
