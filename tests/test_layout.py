"""The shape of the package: imports go one way, start-up is light, and what ships loads."""

import ast
import importlib
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nassearch
from nassearch import config

PACKAGE = Path(nassearch.__file__).parent
BASE = {
    "errors",
    "config",
    "files",
    "setting",
    "provenance",
    "budget",
    "progress",
    "interruption",
    "free_memory",
}
NETWORKS = {*BASE, "space", "ops", "networks"}
# room -> what it may import, besides itself; a dotted name allows that module alone
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "config": {"errors"},
    "files": {"errors"},
    "cluster": {"errors"},
    "setting": {"errors", "config"},
    "progress": {"errors"},
    "interruption": {"errors"},
    "free_memory": {"errors"},
    "provenance": {"errors", "setting"},
    "budget": {"errors", "config"},
    "space": BASE,
    "ops": {*BASE, "space"},
    "networks": NETWORKS - {"networks"},
    "adoption": NETWORKS,
    "data": BASE,
    "training": {*NETWORKS, "cluster", "data"},
    "runtimes": NETWORKS,
    "latency": {*NETWORKS, "runtimes"},
    "search": {*BASE, "cluster", "space"},
    "objectives": {
        *NETWORKS, "training.evaluation", "training.sensitivity_record", "training.task", "latency",
        "search.candidate", "search.problem",
    },
    "export": {
        *NETWORKS, "latency", "runtimes", "data", "training.evaluation", "training.task",
        "search.pareto", "search.candidate",
    },
    "recipe": {*BASE, "data.preprocessing", "training.training_recipe"},
}  # fmt: skip
# a report shows what a run holds: its checkpoint's space, its journal, its exports
ALLOWED["report"] = {
    *ALLOWED["export"], "export", "search.journal", "search.problem", "search.algorithm",
    "training.checkpoint", "training.sensitivity_record",
}  # fmt: skip
# these may import every room; of all others, nobody may import them (recipe: one file of a run)
TOP = {"pipeline", "cli", "__main__"}


def _modules() -> Iterator[tuple[str, Path]]:
    """(dotted name below the package, file); the package's own lazy front door is no room."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name:
            yield name, path


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name below the package) for everything of nassearch a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            # `from nassearch.training import data` reads the module training.data
            for alias in node.names:
                inner = PACKAGE.joinpath(*module.split(".")[1:], alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                found.append(f"{module}.{alias.name}" if is_module else module)
        for name in found:
            if name.startswith("nassearch."):
                yield node.lineno, name.removeprefix("nassearch.")


@pytest.mark.parametrize(("module", "path"), list(_modules()), ids=lambda value: str(value))
def test_imports_go_one_way(module: str, path: Path) -> None:
    room = module.partition(".")[0]
    assert room in ALLOWED or room in TOP, f"{room} is a new room: give it its arrows in DESIGN"
    for line, target in _imports(path):
        other = target.partition(".")[0]
        if other == room:
            continue
        assert other not in TOP or room in TOP, f"{path}:{line}: nobody imports {other}"
        if room not in TOP:
            allowed = ALLOWED[room]
            assert other in allowed or target in allowed, f"{path}:{line}: {room} -> {target}"


def test_the_arrows_have_no_cycle() -> None:
    order: list[str] = []
    while len(order) < len(ALLOWED):
        ready = [
            room
            for room, allowed in ALLOWED.items()
            if room not in order and all(name.partition(".")[0] in order for name in allowed)
        ]
        assert ready, f"a cycle among {set(ALLOWED) - set(order)}"
        order += ready


def test_modules_import_one_another_in_no_circle() -> None:
    """Nor under TYPE_CHECKING, nor inside a function; the front door's own laziness is exempt."""
    graph = {name: set[str]() for name, _ in _modules()}
    for name, path in _modules():
        for _, target in _imports(path):
            while target not in graph:
                target = target.rpartition(".")[0]
            graph[name] |= {target} - {name}
    while graph:
        free = {name for name, targets in graph.items() if not targets & set(graph)}
        assert free, f"circles among {sorted(graph)}"
        graph = {name: targets for name, targets in graph.items() if name not in free}


def test_a_file_has_a_name_of_its_own() -> None:
    names = [
        path.name
        for module, path in _modules()
        if not module.startswith("cli") and not path.name.startswith("__")
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_module_hides_behind_a_vague_name() -> None:
    vague = {"util", "utils", "helper", "helpers", "common", "misc", "base", "manager", "tools"}
    assert not [name for name, _ in _modules() if vague & set(name.split("."))]


POSIX_MODULES = {
    "crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource",
    "spwd", "syslog", "termios", "tty",
}  # fmt: skip
# what `os`, `signal` and others have on some systems only, by what Windows or macOS lack
POSIX_NAMES = {
    "fork", "forkpty", "fchmod", "fchown", "chown", "chroot", "getegid", "geteuid", "getgid",
    "getgroups", "getloadavg", "getpgid", "getpriority", "getuid", "killpg", "mkfifo", "nice",
    "posix_fadvise", "pread", "pwrite", "register_at_fork", "sched_getaffinity",
    "sched_setaffinity", "sendfile", "setpgid", "setsid", "setuid", "statvfs", "sync", "sysconf",
    "uname", "wait3", "wait4", "waitpid", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW",
    "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP", "SIGTSTP",
    "SIGUSR1", "SIGUSR2", "SIGWINCH", "alarm", "pthread_kill", "pthread_sigmask", "setitimer",
    "sigwait", "tzset",
}  # fmt: skip
MODULES_OF_NAMES = {"os", "signal", "time"}


def _only_on_posix(source: str) -> list[str]:
    """What of a module's source fails where it is imported, or used unasked, on another system.

    A name counts as asked for where the module gives it to `hasattr` or `getattr`, an import where
    it stands in a function that looks at `sys.platform`.
    """
    tree = ast.parse(source)
    guarded = {
        node
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and "sys.platform" in ast.unparse(function)
        for node in ast.walk(function)
    }
    asked = {
        node.args[1].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("hasattr", "getattr")
        and isinstance(node.args[1], ast.Constant)
    }
    found = []
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import) and node not in guarded:
            names = [name.name for name in node.names if name.name in POSIX_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module in POSIX_MODULES:
            names = [node.module or ""]
        elif isinstance(node, ast.ImportFrom) and node.module in MODULES_OF_NAMES:
            names = [name.name for name in node.names if name.name in POSIX_NAMES]
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id in MODULES_OF_NAMES
            and node.attr in POSIX_NAMES - asked
        ):
            names = [f"{node.value.id}.{node.attr}"]
        found += [f"{node.lineno}: {name}" for name in names]
    return found


@pytest.mark.parametrize(
    "line",
    ["import fcntl", "from resource import getrlimit", "import os, pwd", "x = signal.SIGHUP",
     "from os import fork", "def f():\n    return os.getuid()", "def f():\n    import termios"],
)  # fmt: skip
def test_what_only_posix_has_is_recognised(line: str) -> None:
    assert _only_on_posix(line)
    assert not _only_on_posix("x = os.sysconf('x') if hasattr(os, 'sysconf') else None")
    assert not _only_on_posix("def f():\n    if sys.platform == 'linux':\n        import resource")


@pytest.mark.parametrize(("module", "path"), list(_modules()), ids=lambda value: str(value))
def test_no_module_asks_for_posix(module: str, path: Path) -> None:
    assert _only_on_posix(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("code", ["import nassearch", "import nassearch.space"])
def test_light_imports_bring_no_torch(code: str) -> None:
    check = f"{code}; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_help_brings_no_torch() -> None:
    check = (
        "import sys, runpy; sys.argv = ['nassearch', '--help']\n"
        "from nassearch.cli import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "train-supernet" in done.stdout


def test_each_command_is_in_the_module_of_its_name() -> None:
    from nassearch.cli import COMMANDS

    for name, command in COMMANDS.items():
        expected = "list_plugins" if name == "list" else name.replace("-", "_")
        assert command.__module__ == f"nassearch.cli.{expected}"
        assert command.__doc__, f"{name} has no line in --help"


@pytest.mark.parametrize("name", config.list_files("search_spaces"))
def test_every_shipped_space_loads(name: str) -> None:
    from nassearch.ops import check_space
    from nassearch.space import SearchSpace

    space = check_space(SearchSpace.load(name))
    assert space.name == name, "a space is called as its file"
    assert space.definition.description
    header = Path(space.source).read_text(encoding="utf-8").partition("name:")[0]
    assert header.startswith("#"), "the header says where the numbers come from"


def test_the_page_on_spaces_lists_every_op_and_space() -> None:
    from nassearch.ops import OPS

    page = (PACKAGE.parent / "docs" / "search_spaces.md").read_text(encoding="utf-8")
    listed = {*OPS, *config.list_files("search_spaces")} - {"head"}
    assert not [name for name in listed if f"| `{name}` |" not in page]


def _shipped_devices() -> list[str]:
    return sorted(path.parent.name for path in PACKAGE.parent.glob("latency_tables/*/device.yaml"))


@pytest.mark.parametrize("name", _shipped_devices())
def test_every_shipped_device_and_table_loads(name: str) -> None:
    from nassearch.latency.device import load_device
    from nassearch.latency.table import LatencyTable
    from nassearch.setting import Setting

    device = load_device(name)
    assert device.name == name
    for path in (PACKAGE.parent / "latency_tables" / name).glob("*.csv"):
        if path.stem.endswith("-networks"):
            continue
        runtime, precision, batch, *threads = path.stem.rsplit("-")
        count = int(threads[0].removeprefix("t")) if threads else None
        setting = Setting(name, runtime, precision, int(batch.removeprefix("b")), count)
        assert LatencyTable.load(path, setting).blocks


def _tables() -> Iterator[tuple[str, str]]:
    """Every entry of every plugin table: an upper-case dict of 'module:Attr' in a package."""
    for text in PACKAGE.rglob("__init__.py"):
        for node in ast.parse(text.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Dict):
                continue
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                target = value.value if isinstance(value, ast.Constant) else None
                if isinstance(target, str) and target.startswith("nassearch.") and ":" in target:
                    assert isinstance(key, ast.Constant)
                    yield str(key.value), target


@pytest.mark.parametrize(("name", "target"), list(_tables()))
def test_every_plugin_in_a_table_exists(name: str, target: str) -> None:
    module, _, attribute = target.partition(":")
    assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize(
    "path",
    sorted((PACKAGE.parent / "experiments").rglob("*.py")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_an_experiment_s_script_imports_what_there_is(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nassearch"):
            module = importlib.import_module(node.module or "")
            for name in node.names:
                if not hasattr(module, name.name):
                    importlib.import_module(f"{node.module}.{name.name}")
