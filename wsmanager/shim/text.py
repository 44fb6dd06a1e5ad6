"""What is in a shim."""

from __future__ import annotations

from typing import Final

from .. import __all__ as _public
from .._shims import HEADER
from ..compat import __all__ as _compat
from ..compat._deprecated import ALIASES

__all__ = ["module", "package", "parent"]

_FIRST: Final = (
    f"{HEADER} Do not edit: it is written anew, and goes when `wsmanager audit` says so (WSM011).\n"
)
#: Where compat has another thing by a name of the package's, it is the one that old code means.
_FROM_COMPAT: Final = sorted(
    {name for name in _compat if name not in _public} | {"get_manager_registry_status"}
)
_FROM_PUBLIC: Final = sorted(
    {name for name in _public if not name.startswith("_")} - set(_FROM_COMPAT)
)
_PLAIN_ALIASES: Final = {old: new for old, new in ALIASES.items() if new.isidentifier()}
_LIMIT: Final = "MAX_CONNECTIONS_PER_USER"
NAMES: Final = sorted({*_FROM_PUBLIC, *_FROM_COMPAT, *ALIASES})
"""The names that every shim has."""


def module(path: str) -> str:
    """The text of the module with the dotted *path*: it warns when it is first imported."""
    return "".join(
        [
            _FIRST,
            _docstring(path),
            "from __future__ import annotations\n\nimport warnings as _warnings\n\n",
            _imports(""),
            _aliases(""),
            _all(),
            "_warnings.warn(\n",
            f'    "{path} is a legacy path: import from wsmanager",\n',
            "    DeprecationWarning,\n    stacklevel=2,\n)\n",
        ]
    )


def package(path: str) -> str:
    """The text of the package's ``__init__``: it warns when a name is first taken from it.

    Not when it is imported, since that happens with each of its modules as well.
    """
    return (
        "".join(
            [
                _FIRST,
                _docstring(path),
                "from __future__ import annotations\n\nfrom typing import TYPE_CHECKING\n\n",
                "if TYPE_CHECKING:\n",
                _imports("    "),
                _aliases("    "),
                "else:\n\n",
                "    def __getattr__(name):\n",
                "        if name not in __all__:\n",
                '            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")\n',
                "        import warnings\n\n",
                _imports("        "),
                _aliases("        "),
                "        found = locals()\n",
                "        globals().update((each, found[each]) for each in __all__)\n",
                "        warnings.warn(\n",
                f'            "{path} is a legacy path: import from wsmanager",\n',
                "            DeprecationWarning,\n            stacklevel=2,\n        )\n",
                "        return found[name]\n\n\n",
                _all(),
            ]
        ).rstrip("\n")
        + "\n"
    )


def parent() -> str:
    """The text of an ``__init__`` above: nothing."""
    return _FIRST


def _docstring(path: str) -> str:
    return (
        f'"""The legacy path ``{path}``: what it holds is wsmanager\'s.\n\n'
        "New code imports from ``wsmanager``; ``wsmanager audit`` lists what does not yet (WSM007).\n"
        '"""\n\n'
    )


def _imports(indent: str) -> str:
    lines = []
    for home, names in (("wsmanager", _FROM_PUBLIC), ("wsmanager.compat", _FROM_COMPAT)):
        lines.append(f"{indent}from {home} import (\n")
        lines += [f"{indent}    {name} as {name},\n" for name in names]
        lines.append(f"{indent})\n")
    return "".join(lines) + "\n"


def _aliases(indent: str) -> str:
    lines = [f"{indent}{old} = {new}\n" for old, new in sorted(_PLAIN_ALIASES.items())]
    lines.append(f'{indent}{_LIMIT}: int = get_config()["max_connections_per_user"]\n')
    return "".join(lines) + "\n"


def _all() -> str:
    return "__all__ = [\n" + "".join(f'    "{name}",\n' for name in NAMES) + "]\n\n"
