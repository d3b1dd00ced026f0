"""House rules that no linter knows, with the reason in each message."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROXY = sorted((ROOT / "proxy").glob("**/*.py"))
MONITOR = sorted((ROOT / "monitor").glob("**/*.py"))
PACKAGES = ("wire", "endpoint", "proxy", "monitor", "certs", "audit", "supervision")
SHIPPED = sorted(path for package in PACKAGES for path in (ROOT / package).glob("**/*.py"))
MOST_LINES = 410

# Where each proof is made, and nowhere else.
PROOFS = {
    "AdmittedPeer": "admission",
    "GreetingSource": "source",
    "GreetedReplica": "greeting",
    "EncryptedReplica": "tls",
    "VerifiedReplica": "identity",
    "AuthenticatedReplica": "authentication",
    "StartedDump": "command_phase",
}
# By package and library: the module or package in which alone it is imported.
DOORS = {
    ("endpoint", "h11"): "serving",
    ("endpoint", "ssl"): "tls",
    ("endpoint", "prometheus_client"): "exposition",
    ("proxy", "OpenSSL"): "openssl",
    ("proxy", "prometheus_client"): "reporting",
    ("monitor", "scapy"): "scapy",
    ("monitor", "prometheus_client"): "reporting",
    ("audit", "pymysql"): "mysql",
    ("certs", "ssl"): "probing",
    ("certs", "socket"): "probing",
    ("certs", "getpass"): "command_line",
}
MAY_PRINT = {"command_line.py", "__main__.py"}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def called_names(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    yield name


def imported_packages(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def room(path: Path) -> str:
    """The module or package, within its package, that a file belongs to."""
    return path.relative_to(ROOT).parts[1].removesuffix(".py")


def stage(proof: str) -> Path:
    """The file that makes a proof."""
    return ROOT / "proxy" / "stages" / f"{PROOFS[proof]}.py"


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("proof", PROOFS)
def test_a_proof_is_made_by_its_own_stage_alone(proof: str) -> None:
    makers = {path for path in PROXY if proof in called_names(tree_of(path))}
    assert makers == {stage(proof)}, f"{proof} proves that its stage was passed; only {PROOFS[proof]} may make one"


@pytest.mark.parametrize("proof", PROOFS)
def test_a_proof_is_a_frozen_class_of_its_own_stage(proof: str) -> None:
    classes = {node.name: node for node in tree_of(stage(proof)).body if isinstance(node, ast.ClassDef)}
    decorators = [ast.unparse(decorator) for decorator in classes[proof].decorator_list]
    assert any("frozen=True" in decorator for decorator in decorators), f"{proof} could be changed after it was made"


def test_no_proof_is_made_behind_its_constructors_back() -> None:
    for path in PROXY:
        for name in called_names(tree_of(path)):
            assert name not in {"__new__", "deepcopy"} or room(path) == "openssl", f"{named(path)} calls {name}"


@pytest.mark.parametrize(("package", "library"), DOORS)
def test_a_library_has_one_door(package: str, library: str) -> None:
    paths = [path for path in SHIPPED if path.relative_to(ROOT).parts[0] == package]
    importers = {room(path) for path in paths if library in imported_packages(tree_of(path))}
    door = DOORS[package, library]
    assert importers == {door}, f"{library} is imported in {package}/{door} alone"


def test_detection_knows_neither_clocks_nor_files_nor_sockets() -> None:
    for path in (path for path in MONITOR if room(path) in {"detection", "tracking"}):
        found = {"time", "socket", "select", "trio", "os", "pathlib", "logging"} & set(imported_packages(tree_of(path)))
        assert not found, f"{named(path)} imports {found}; what it knows of time and packets it is given"


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_only_command_lines_print_or_exit(path: Path) -> None:
    if path.name in MAY_PRINT:
        return
    calls = set(called_names(tree_of(path))) & {"print", "exit", "_exit", "quit"}
    assert not calls, f"{named(path)} calls {calls}; only command_line.py and __main__.py print or exit"


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_shipped_code_asserts_nothing(path: Path) -> None:
    lines = [node.lineno for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)]
    assert not lines, (
        f"{named(path)} asserts in lines {lines}; python -O would not, and a peer's bytes must not be able to"
    )


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_every_file_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree_of(path)), f"{named(path)} has no docstring"


@pytest.mark.parametrize("path", SHIPPED, ids=named)
def test_no_file_is_longer_than_a_sitting(path: Path) -> None:
    count = len(path.read_text(encoding="utf-8").splitlines())
    assert count <= MOST_LINES, f"{named(path)} has {count} lines; {MOST_LINES} are the most"
