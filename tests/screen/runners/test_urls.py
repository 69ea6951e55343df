"""The laws where cells, results or both are behind URLs, against an S3 server on this machine."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import islice

import pytest
import zoo
from click.testing import CliRunner

import screen
from engines.errors import BackendMissingError, ResultsError, SourceError
from engines.locations import location
from screen.cli.main import cli
from screen.results.folder import ResultsFolder
from screen.runners.events import ShardDone


def uploaded(cells, place):
    """Copy a folder of cells to a URL, and return that."""
    root = location(place)
    for path in cells.rglob("*.*"):
        root.fs.pipe_file(f"{root.path}/{path.relative_to(cells)}", path.read_bytes())
    return place


@pytest.fixture
def here(bundle, cells, tmp_path):
    """A run on this machine alone."""
    return screen.RunOptions(
        source=cells, out=tmp_path / "results", model=bundle.folder, shard_cells=3, threads=2
    )


@pytest.fixture
def there(here, cells, bucket):
    """The same cells, and the results, in a bucket."""
    source = uploaded(cells, f"{bucket}/in/cells")
    return replace(here, source=source, out=f"{bucket}/some/results")


def ran(options):
    """Run to the end and return the rows."""
    list(screen.run(options))
    return screen.open_results(options.out).to_table().to_pylist()


def test_a_bucket_is_screened_into_a_bucket(here, there, bucket):
    """Every row is that of the folder; nothing is left lying about."""
    expected = ran(here)

    assert ran(there) == expected

    names = {name.partition("/")[2] for name in location(bucket).fs.find(bucket)}
    assert {name for name in names if not name.startswith("in/")} == {
        f"some/results/{path.relative_to(here.out)}"
        for path in here.out.rglob("*")
        if path.is_file() and path.name != ".lock"
    }


def test_resuming_in_a_bucket_equals_never_stopping(here, there):
    """Left after a shard, and gone on with."""
    expected = ran(here)
    stream = screen.run(there)
    next(islice((event for event in stream if isinstance(event, ShardDone)), 0, None))
    stream.close()

    assert ran(there) == expected


def test_every_command_reads_results_from_a_bucket(there, bucket, tmp_path):
    """Verify, export and report; the report is in the bucket, and has its pictures."""
    ran(there)
    runner = CliRunner()

    verified = runner.invoke(cli, ["verify", str(there.out)], standalone_mode=False)
    exported = runner.invoke(
        cli,
        ["export", str(there.out), "--out", str(tmp_path / "cells.csv")],
        standalone_mode=False,
    )
    reported = runner.invoke(cli, ["report", str(there.out)], standalone_mode=False)

    assert (verified.return_value, exported.return_value, reported.return_value) == (0, 0, 0)
    assert len((tmp_path / "cells.csv").read_text().splitlines()) == 12
    assert ResultsFolder(location(there.out)).report.exists()
    assert "9 of 9 chosen cells with a picture" in reported.output


def test_a_finished_run_in_a_bucket_says_what_has_changed(there, caplog):
    """Asked again, it lists the bucket; and it is brought up to date there."""
    ran(there)
    source = location(there.source)
    source.fs.rm_file(f"{source.path}/first/plain.bmp")

    with caplog.at_level(logging.WARNING, "screen"):
        *_, finished = screen.run(there)

    assert str(finished.changes) == "1 gone"
    before = screen.open_results(there.out).to_table().to_pylist()
    source.fs.pipe_file(f"{source.path}/first/new.png", zoo.good()["rgb.png"])

    updated = ran(replace(there, update=True))

    kept = [row for row in before if row["path"] != "first/plain.bmp"]
    assert updated[:-1] == kept
    assert updated[-1]["path"] == "first/new.png"


def test_single_images_and_patterns_of_a_bucket(here, there, cells):
    """They are called as those of a folder are."""
    of_folder = ran(replace(here, source=sorted(cells.glob("second/*.bmp"))))
    named = ran(
        replace(
            there,
            source=[f"{there.source}/second/drawn{n}.bmp" for n in range(2)],
        )
    )
    globbed = ran(
        replace(there, source=f"{there.source}/second/drawn*.bmp", out=f"{there.out}-globbed")
    )

    assert named == of_folder
    assert globbed == of_folder


def test_a_web_page_is_no_place_for_results(here):
    """It says what is."""
    with pytest.raises(ResultsError, match="cannot be written to https://host/x") as caught:
        replace(here, out="https://host/x")

    assert "s3://" in caught.value.hint


def test_a_missing_bucket_is_said_before_anything_takes_time(here, there):
    """As a source, and as a place for results."""
    with pytest.raises(SourceError, match="nothing at s3://no-such-bucket/cells"):
        ran(replace(here, source="s3://no-such-bucket/cells"))
    with pytest.raises(ResultsError, match="no-such-bucket/results: .*bucket does not exist"):
        ran(replace(here, out="s3://no-such-bucket/results"))


def test_missing_credentials_are_said_with_where_they_are_looked_for(here, there, monkeypatch):
    """For a source as for results."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    type(location(there.out).fs).clear_instance_cache()

    with pytest.raises(SourceError, match="Unable to locate credentials") as caught:
        ran(replace(here, source=str(there.source)))
    assert "AWS_PROFILE" in caught.value.hint
    with pytest.raises(ResultsError, match="Unable to locate credentials") as caught:
        ran(replace(here, out=str(there.out)))
    assert "AWS_PROFILE" in caught.value.hint
    type(location(there.out).fs).clear_instance_cache()


def test_a_missing_package_is_named_with_what_installs_it(here, monkeypatch):
    """Before anything else."""
    monkeypatch.setattr("engines.locations.importlib.util.find_spec", lambda _: None)

    with pytest.raises(BackendMissingError, match="needs the package s3fs") as caught:
        replace(here, out="s3://bucket/results")

    assert caught.value.hint == "pip install 'slidescreen[s3]'"
