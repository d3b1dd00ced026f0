"""House rules that no linter knows, with the reason in each message."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROXY = sorted((ROOT / "proxy").glob("**/*.py"))
SHIPPED = sorted(path for package in ("wire", "proxy", "certs") for path in (ROOT / package).glob("**/*.py"))
MOST_LINES = 450

# Where each proof is made, and nowhere else.
PROOFS = {
    "AdmittedPeer": "admission.py",
    "GreetingSource": "source.py",
    "GreetedReplica": "greeting.py",
    "EncryptedReplica": "tls.py",
    "VerifiedReplica": "identity.py",
    "AuthenticatedReplica": "authentication.py",
    "StartedDump": "command_phase.py",
}
DOORS = {"OpenSSL": "openssl", "prometheus_client": "metrics"}
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
    """The module or package of the proxy that a file belongs to."""
    return path.relative_to(ROOT / "proxy").parts[0].removesuffix(".py")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("proof", PROOFS)
def test_a_proof_is_made_by_its_own_stage_alone(proof: str) -> None:
    makers = {path.name for path in PROXY if proof in called_names(tree_of(path))}
    assert makers == {PROOFS[proof]}, f"{proof} proves that its stage was passed; only {PROOFS[proof]} may make one"


@pytest.mark.parametrize("proof", PROOFS)
def test_a_proof_is_a_frozen_class_of_its_own_stage(proof: str) -> None:
    classes = {
        node.name: node for node in tree_of(ROOT / "proxy" / PROOFS[proof]).body if isinstance(node, ast.ClassDef)
    }
    decorators = [ast.unparse(decorator) for decorator in classes[proof].decorator_list]
    assert any("frozen=True" in decorator for decorator in decorators), f"{proof} could be changed after it was made"


def test_no_proof_is_made_behind_its_constructors_back() -> None:
    for path in PROXY:
        for name in called_names(tree_of(path)):
            assert name not in {"__new__", "deepcopy"} or room(path) == "openssl", f"{named(path)} calls {name}"


@pytest.mark.parametrize("library", DOORS)
def test_a_library_has_one_door(library: str) -> None:
    importers = {room(path) for path in PROXY if library in imported_packages(tree_of(path))}
    assert importers == {DOORS[library]}, f"{library} is imported in {DOORS[library]} alone"


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
