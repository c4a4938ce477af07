"""What is said of the settings: by the page in the documentation, and by `docmill settings`."""

import json
import re
from pathlib import Path, PurePath

import pytest
from pydantic_core import PydanticUndefined
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.settings import Settings

_PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
_ROW = re.compile(r"^\| `DOCMILL_(\w+)` \| (.+?) \| (.+) \|$", re.MULTILINE)


def _shown(monkeypatch: pytest.MonkeyPatch, *, as_json: bool = True, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(f"DOCMILL_{name.upper()}", value)
    ended = CliRunner().invoke(app, ["settings", *(["--json"] if as_json else [])])
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def _by_name(output: str) -> dict[str, dict[str, object]]:
    return {row["name"]: row for row in json.loads(output)["settings"]}


def test_the_page_names_every_setting() -> None:
    """docs/settings.md has one row for each setting, and none for what is no setting."""
    named = [name.lower() for name, _, _ in _ROW.findall(_PAGE.read_text("utf-8"))]
    assert sorted(named) == sorted(Settings.model_fields)


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_the_page_says_the_default(name: str) -> None:
    """The default on the page is the one in the code; what has none is said to be none, or taken from elsewhere."""
    (said,) = [default for found, default, _ in _ROW.findall(_PAGE.read_text("utf-8")) if found.lower() == name]
    default = Settings.model_fields[name].default
    if default is PydanticUndefined:
        assert "/var/lib/docmill" in said
        assert ".local/share/docmill" in said
    elif default is None or default == ():
        assert said == "none" or said in ("embedded", "the broker's", "the results'", "`vectors.sqlite` in the home")
    else:
        assert said.strip("`") == str(default)


def test_every_setting_is_explained() -> None:
    """Each setting says what it means, in less than a line."""
    unexplained = [name for name, field in Settings.model_fields.items() if not 0 < len(field.description or "") <= 90]
    assert unexplained == []


def test_where_a_value_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value is the default, from the environment, or the embedded stack's; an address in another's place is shown."""
    rows = _by_name(_shown(monkeypatch, window="64", modules="a.b, c"))
    assert list(rows) == list(Settings.model_fields)
    assert (rows["window"]["value"], rows["window"]["source"]) == (64, "environment")
    assert rows["modules"]["value"] == ["a.b", "c"]
    assert (rows["chunk_size"]["value"], rows["chunk_size"]["source"]) == (1024, "default")
    assert rows["chunk_size"]["variable"] == "DOCMILL_CHUNK_SIZE"
    assert (rows["database_url"]["value"], rows["database_url"]["source"]) == (None, "embedded stack")
    rows = _by_name(_shown(monkeypatch, database_url="sqlite:///x", broker_url="redis://host/0"))
    assert (rows["database_url"]["source"], rows["cache_url"]["source"]) == ("environment", "default")
    assert rows["cache_url"]["value"] == "redis://host/0"


@pytest.mark.parametrize("as_json", [True, False])
def test_secrets_are_hidden(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    """Keys and passwords are not shown, not even in part; that there is one, is."""
    output = _shown(
        monkeypatch,
        as_json=as_json,
        database_url="postgresql://user:geheim1@host/db",
        broker_url="redis://:geheim2@host/0",
        cache_url="postgresql://host/cache?password=geheim3",
        openai_api_key="geheim4",
    )
    assert "geheim" not in output
    assert output.count("***") >= 4
    assert "user:***@host" in output


def test_a_wrong_address_is_shown_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error about a wrong address names the setting and what is allowed, and gives no password away."""
    monkeypatch.setenv("DOCMILL_CACHE_URL", "mysql://user:geheim@host/cache")
    ended = CliRunner().invoke(app, ["settings"])
    assert "geheim" not in str(ended.exception)
    assert "DOCMILL_CACHE_URL='mysql://user:***@host/cache'" in str(ended.exception)
    assert "memory://" in str(ended.exception)


def test_piped_lines_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal each setting is one line of four cells, which nothing cuts off."""
    monkeypatch.setenv("COLUMNS", "80")
    home = PurePath("/a") / ("long" * 40)
    lines = _shown(monkeypatch, as_json=False, home=str(home)).splitlines()
    assert lines[0].split("\t") == ["name", "value", "source", "meaning"]
    assert {len(line.split("\t")) for line in lines} == {4}
    assert len(lines) == 1 + len(Settings.model_fields)
    assert any(f"\t{home}\t" in line for line in lines)
