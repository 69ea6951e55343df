"""The formats of exports, a row each, and what is asked of one; light, as the help reads it."""

from __future__ import annotations

from dataclasses import dataclass

from engines.errors import ResultsError

__all__ = ["FORMATS", "ExportOptions", "Format"]


@dataclass(frozen=True, slots=True)
class Format:
    """
    A format of exports; its module has ``write(exported, path)`` and ``is_ours(path)``.

    Attributes:
        name: As it is asked for.
        ending: Of its files.
        module: What writes it.
        slides: Whether slides can be written in it, too.
    """

    name: str
    ending: str
    module: str
    slides: bool = False


FORMATS = {
    row.name: row
    for row in (
        Format("csv", ".csv", "screen.export.to_csv", slides=True),
        Format("xlsx", ".xlsx", "screen.export.to_xlsx", slides=True),
        Format("parquet", ".parquet", "screen.export.to_parquet", slides=True),
        Format("geojson", ".geojson", "screen.export.to_geojson"),
        Format("fiftyone", ".json", "screen.export.to_fiftyone"),
    )
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """
    What to export, and how.

    Attributes:
        to: One of FORMATS.
        slides: Slides instead of cells.
        wanted: Names of slides; none are all.
        force: Whether to replace a file that slidescreen did not write.

    Raises:
        ResultsError: If the format holds no slides.
    """

    to: str
    slides: bool = False
    wanted: tuple[str, ...] = ()
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse what the format has no place for."""
        if self.slides and not FORMATS[self.to].slides:
            able = ", ".join(name for name, row in FORMATS.items() if row.slides)
            raise ResultsError(
                f"slides cannot be exported to {self.to}, which holds cells",
                hint=f"leave out --slides, or choose one of {able}",
            )
