"""What the READMEs say is so: commands, addresses, paths, settings, states."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from aiohttp import web
from django.core.management import get_commands
from django.urls import resolve

from config import configuration
from deploy.demo.afterwards import Afterwards
from deploy.demo.verdict import judge
from deploy.sandbox.controls import Controls
from pems_sync.states import FINAL, TRANSITIONS, State

ROOT = Path(__file__).resolve().parents[2]
READMES = sorted(
    path for pattern in ("*.md", "*/*.md", "deploy/*/*.md") for path in ROOT.glob(pattern) if "var" not in path.parts
)
README = (ROOT / "README.md").read_text()
ENGINE = (ROOT / "pems_sync" / "README.md").read_text()
LINES = [line.strip() for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]
CURLS = [line for line in LINES if re.match(r"(curl|api) ", line)]


def section(title: str) -> str:
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def named(readme: Path) -> str:
    return str(readme.relative_to(ROOT))


def test_every_make_target_named_exists():
    named_as_code = re.findall(r"`(?:[A-Z_]+=\S+ )*make ([a-z-]+)", "".join(readme.read_text() for readme in READMES))
    commanded = [line.removeprefix("make ") for line in LINES if line.startswith("make ")]
    targets = {*named_as_code, *commanded}
    assert targets >= {"demo", "test", "up", "check", "bench", "help", "requirements"}
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_every_management_command_and_module_named_exists():
    for readme in READMES:
        text = readme.read_text()
        commands = set(re.findall(r"manage\.py ([a-z_]+)", text)) - {"shell"}
        assert commands <= set(get_commands()), named(readme)
        for module in re.findall(r"python -m ([a-z_.]+[a-z])", text):
            assert importlib.util.find_spec(module), f"{named(readme)} names {module}"


@pytest.mark.parametrize("line", CURLS)
def test_every_address_called_takes_that_method(line: str):
    found = re.search(r"\$(APP|S)(/[^\s\"']*)", line)
    assert found, line
    path = urlsplit(found[2].replace("$ID", str(uuid4()))).path
    method = m[1] if (m := re.search(r"-X ([A-Z]+)", line)) else "POST" if " -d " in line else "GET"
    if found[1] == "S":
        assert (method, f"/sandbox{path}") in sandbox_controls()
    else:
        view = cast(Any, resolve(path).func)
        assert hasattr(getattr(view, "cls", view), method.lower()), line
    for body in re.findall(r"-d '([^']*)'", line):
        json.loads(body)


def sandbox_controls() -> set[tuple[str, str]]:
    router = web.UrlDispatcher()
    Controls(cast(Any, None)).add_to(router)
    return {(route.method, route.resource.canonical) for route in router.routes() if route.resource}


def test_the_addresses_of_the_table_exist():
    for path in re.findall(r"`(/(?:admin|api)/[^`]*)`", README):
        if "/ws/" not in path:
            resolve(path)


def test_every_knob_named_is_read_and_every_knob_read_is_named():
    options = set(re.findall(r'"([A-Z][A-Z_]{3,})"[,)]', (ROOT / "deploy/local/options.py").read_text()))
    settings = {setting.name for setting in configuration.SETTINGS}
    rows = [line.split("|")[1] for line in section("Keep it running").splitlines() if line.startswith("| `")]
    knobs = {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row)}
    assert options - {"DEMO"} <= knobs  # DEMO: the sandbox's tenant
    assert knobs <= options | settings
    assert knobs | settings >= set(
        re.findall(r"\b(?:PEMS|WRITE|API|DEMO|FLOWER|SANDBOX|DATABASE)_[A-Z_]+\b", README)
    ) - {"PEMS_GATEWAY"}


def test_the_table_of_settings_is_the_one_the_code_reads():
    shown = re.search(r"<!-- settings: .*? -->\n(.*?)<!-- end of settings -->", README, re.DOTALL)
    assert shown, "the markers of the table are gone"
    assert shown[1] == configuration.table(), "print it anew: .venv/bin/python -m config.configuration"


def test_the_demo_ends_with_the_figures_shown():
    shown = re.search(r"```json\n(\{.*\})\n```", README)
    assert shown, "the last line of the demo is gone"
    stats = {"requests": {"total": 0}, "peakRequestsPerSecond": 0, "limit": 10}
    assert list(json.loads(shown[1])) == list(
        judge([], [], [], stats, [], 0.0).followed_by(Afterwards(0, 0, 0), stats).figures
    )


@pytest.mark.parametrize("readme", READMES, ids=named)
def test_every_link_leads_to_a_file(readme: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", readme.read_text()):
        if not re.match(r"[a-z]+:|#", target):
            assert (readme.parent / target.split("#")[0]).exists(), target


def test_every_path_of_the_codemap_exists():
    for word in re.findall(r"`([a-z_0-9/.]+(?:/|\.py|\.in))`", section("Codemap")):
        assert (ROOT / word).exists() or (ROOT / "pems_sync" / word).exists(), word


def test_the_codemap_names_every_module_of_the_engine():
    map_of_engine = section("Codemap").split("The engine, in reading order")[1]
    for path in (ROOT / "pems_sync").iterdir():
        if path.suffix == ".py" and path.name != "__init__.py":
            assert f"`{path.name}`" in map_of_engine, path.name
        if path.is_dir() and path.name != "__pycache__":
            assert f"`{path.name}/`" in map_of_engine, path.name
    for path in (ROOT / "pems_sync" / "services").glob("[a-z]*.py"):
        assert path.stem in map_of_engine, path.name


@pytest.mark.parametrize("readme", READMES, ids=named)
def test_every_file_of_a_file_table_exists(readme: Path):
    """Tables that begin `| file | its story |`."""
    for table in re.findall(r"\| file \| its story \|\n(.*?)\n\n", readme.read_text() + "\n\n", re.DOTALL):
        for row in table.splitlines():
            for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
                assert (readme.parent / name).exists(), name


def test_the_state_diagram_is_the_transition_table():
    drawn = set(
        re.findall(r"^ {4}(\S+) --> ([^\s:]+)", ENGINE.split("stateDiagram-v2")[1].split("```")[0], re.MULTILINE)
    )
    legal = {(str(old), str(new)) for old, ways in TRANSITIONS.items() for new in ways}
    legal |= {("[*]", str(State.DRAFT)), *((str(state), "[*]") for state in FINAL)}
    assert drawn - legal == set(), "pems_sync/README.md draws ways that states.TRANSITIONS does not know"
    assert legal - drawn == set(), "the diagram of pems_sync/README.md lacks these ways of states.TRANSITIONS"


@pytest.mark.parametrize("readme", READMES, ids=named)
def test_no_path_of_a_single_machine_is_written_down(readme: Path):
    text = readme.read_text()
    assert str(ROOT) not in text
    assert not re.search(r"(?<![\w.])/(?:home|root|work|Users)/", text)
