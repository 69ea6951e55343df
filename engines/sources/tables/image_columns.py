"""What the columns of a Parquet file with images in it are, and its rows without the images."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engines.errors import SourceError
from engines.sources.tables.rows import Columns, columns_of, plain_values

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pyarrow.parquet import ParquetFile

    from engines.locations import Location

__all__ = ["ImageColumns", "image_column"]

BATCH_ROWS = 65_536
USUAL_NAMES = ("image", "img", "jpg", "png", "bytes")
HUGGING_FACE = b"huggingface"
BYTES, PATH = "bytes", "path"


def image_column(schema: pa.Schema, asked: Mapping[str, str], file: Location) -> str | None:
    """
    Return the column with images in it, if there is one: binary, or a struct of bytes and path.

    Args:
        schema: Of the table.
        asked: Names of columns by role; an empty one for ``image`` says that there is none.
        file: For people.

    Raises:
        SourceError: If it cannot be told which column it is, or what was asked for is none.
    """
    found = [each.name for each in schema if _holds_bytes(each.type)]
    wanted = asked.get("image")
    if wanted is not None:
        if wanted and wanted not in found:
            raise SourceError(
                f"{file} has no column {wanted} of image bytes",
                hint=f"columns of bytes are: {', '.join(found) or '(none)'}",
            )
        return wanted or None
    if len(found) < 2:  # noqa: PLR2004 - nothing to choose between
        return next(iter(found), None)
    named = next((name for name in USUAL_NAMES if name in found), None)
    if named is None:
        raise SourceError(
            f"{file} has several columns of bytes: {', '.join(found)}",
            hint="say which one the images are in: --column image=NAME",
        )
    return named


def _holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column may hold encoded images."""
    if pa.types.is_struct(kind):
        names = [kind.field(number).name for number in range(kind.num_fields)]
        return BYTES in names and _holds_bytes(kind.field(names.index(BYTES)).type)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


@dataclass(frozen=True, slots=True)
class ImageColumns:
    """
    What a table of images says of each of them.

    Attributes:
        data: The column with the bytes, as Parquet names its leaves.
        path: The leaf of the struct that names the file the bytes came from; empty if none does.
        others: The other columns. Those of bytes are left out.
        carried: What goes into the results: type by name there.
        names: Of classes, where labels are numbers of these.
    """

    data: str
    path: str
    others: Columns
    carried: Mapping[str, pa.DataType]
    names: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, schema: pa.Schema, image: str, asked: Mapping[str, str], file: Location
    ) -> ImageColumns:
        """
        Look at a table.

        Raises:
            SourceError: If a column that was asked for is not there.
        """
        kind = schema.field(image).type
        struct = pa.types.is_struct(kind)
        paths = struct and any(kind.field(n).name == PATH for n in range(kind.num_fields))
        header = [each.name for each in schema if not _holds_bytes(each.type)]
        others = columns_of(header, asked, file, needed=())
        names = _class_names(schema, others.roles.get("label", ""))
        carried = {name: _plain(schema.field(own).type) for name, own in others.said.items()}
        if names:
            carried["label"] = pa.string()
        return cls(
            data=f"{image}.{BYTES}" if struct else image,
            path=f"{image}.{PATH}" if paths else "",
            others=others,
            carried=carried,
            names=names,
        )

    def rows(self, table: ParquetFile, group: int) -> Iterator[dict[str, Any]]:
        """Yield what is said in each row of a group: path, slide, sha256, names of ``carried``."""
        said = self.others.said
        roles = {k: v for k, v in self.others.roles.items() if k not in said}
        wanted = {**roles, **said}
        leaves = list(dict.fromkeys([*wanted.values(), *filter(None, [self.path])]))
        for batch in table.iter_batches(BATCH_ROWS, [group], leaves, use_threads=False):
            columns = {
                name: self._labelled(name, plain_values(batch.column(own), self._kind(name)))
                for name, own in wanted.items()
            }
            if self.path and "path" not in roles:
                columns["path"] = batch.column(self.path.partition(".")[0]).field(PATH).to_pylist()
            for number in range(batch.num_rows):
                yield {name: values[number] for name, values in columns.items()}

    def _kind(self, name: str) -> pa.DataType:
        """Return the type of a column; class numbers are looked up later."""
        if name == "label" and self.names:
            return pa.int64()
        return self.carried.get(name, pa.string())

    def _labelled(self, name: str, values: list[Any]) -> list[Any]:
        """Return class names for class numbers; -1 is what Hugging Face writes for none."""
        if name != "label" or not self.names:
            return values
        known = dict(enumerate(self.names))
        return [known.get(value) for value in values]


def _plain(kind: pa.DataType) -> pa.DataType:
    """Return the type in the results: text but for plain numbers and truth values."""
    tests = (pa.types.is_integer, pa.types.is_float32, pa.types.is_float64, pa.types.is_boolean)
    return kind if any(test(kind) for test in tests) else pa.string()


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Return the names of classes that Hugging Face's ``ClassLabel`` keeps in the schema."""
    try:
        said = json.loads((schema.metadata or {}).get(HUGGING_FACE, b"{}"))
        names = said["info"]["features"][label]["names"]
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()
