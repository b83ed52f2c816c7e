"""Finds the code that a stage runs. Comes in: its command and the files. Goes out: sorted paths.

The command is read about as a shell would read it. For `python path.py` and `python -m module` the
script and all that it imports of the repository count (:mod:`mlspec.modules`); so do shell scripts
and what they run, and any other word that names a file: a configuration, say. What a program loads
in ways that can't be seen is named under `code:`.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Sequence, Set
from itertools import pairwise

from mlspec.modules import INSTALLED, Modules
from mlspec.worktree import Worktree

_PYTHON = re.compile(r"(?:python|pypy)[0-9.]*")
_SHELL = re.compile(r"(?:ba|da|z|k)?sh")
_SEPARATOR = re.compile(r"[;&|()]+")
_PLAIN = re.compile(r"[A-Za-z0-9_./=:,@%+ \t-]*")
"""A line that a shell only splits at blanks; the lexer would take ten times as long."""
_OPERATOR = re.compile(r"[;&|()<>]+")
_HERE = re.compile(r"\$(?:PWD|DVC_ROOT|\{PWD\}|\{DVC_ROOT\})/")
_OPTION_WITH_VALUE = re.compile(r"-[A-VY-Zabd-ln-z]*([WXmc])(.*)", re.DOTALL)
_MAKEFILES = ("GNUmakefile", "makefile", "Makefile")
_CODE_SUFFIX = re.compile(
    r"\.(?:bash|c|cfg|conf|cpp|cu|go|h|hpp|ini|ipynb|java|jl|js|json|lua|mk|pl|py|r|rb|rs|scala|sh"
    r"|sql|toml|ts|yaml|yml)",
    re.IGNORECASE,
)


def trace_code(
    command: str, tree: Worktree, extra: Sequence[str] = (), data: Set[str] = frozenset()
) -> tuple[str, ...]:
    """The files of code that `command` depends on, with those that `extra` names.

    `extra`: paths, folders and globs. `data`: normal paths, files or folders, that stages read or
    write; a word of the command that lies in one is no code.
    """
    trace = _Trace(tree, data)
    trace.command(command, "", ())
    for pattern in extra:
        trace.modules.found.update(_files_named(pattern, tree))
    return tuple(sorted(trace.modules.found))


def trace_class(name: str, tree: Worktree, extra: Sequence[str] = ()) -> tuple[str, ...]:
    """The files that `module:Class` needs to be imported, with those that `extra` names.

    Nothing if the module is not one of the repository.
    """
    module = name.partition(":")[0]
    modules = Modules(tree)
    modules.code(f"import {module}", "", ())
    path = module.replace(".", "/")
    own = (f"{path}.py", f"{path}/__init__.py")
    if modules.found.isdisjoint(posixpath.join(root, file) for root in INSTALLED for file in own):
        return ()
    for pattern in extra:
        modules.found.update(_files_named(pattern, tree))
    return tuple(sorted(modules.found))


class _Trace:
    """Walks through commands; what they need is collected in `modules.found`."""

    def __init__(self, tree: Worktree, data: Set[str]) -> None:
        self.modules = Modules(tree)
        self._tree = tree
        self._data = data

    def command(self, text: str, folder: str, path: tuple[str, ...]) -> None:
        """Every simple command in `text`; `cd` and an exported PYTHONPATH hold for those after."""
        for words in simple_commands(text):
            own = path
            for word in words:
                name, equals, value = word.partition("=")
                if name == "PYTHONPATH" and equals:
                    entries = (self._local(entry, folder) for entry in value.split(":") if entry)
                    own = (*entries, *path)
            if words[0] == "export" or words[-1].startswith("PYTHONPATH="):
                path = own
            elif words[0] == "cd" and len(words) == 2:
                folder = self._local(words[1], folder)
            else:
                self._simple(words, folder, own)

    def _simple(self, words: list[str], folder: str, path: tuple[str, ...]) -> None:
        for index, word in enumerate(words):
            name = posixpath.basename(word)
            if _PYTHON.fullmatch(name):
                self._words(words[:index], folder)
                self._python(words[index + 1 :], folder, path)
                return
            if _SHELL.fullmatch(name) and words[index + 1 : index + 2] == ["-c"]:
                self.command("".join(words[index + 2 : index + 3]), folder, path)
                return
            if name == "make":
                files = (self._local(makefile, folder) for makefile in _MAKEFILES)
                self.modules.found.update(filter(self._is_file, files))
        self._launch(words, folder, path)

    def _python(self, words: list[str], folder: str, path: tuple[str, ...]) -> None:
        """The words after `python`: options, then a script, a module or a text."""
        left = list(words)
        while left and left[0].startswith("-"):
            match = _OPTION_WITH_VALUE.fullmatch(left.pop(0))
            if match is None:
                continue
            option, value = match.groups()
            if not value and left:
                value = left.pop(0)
            if option == "c":
                self.modules.code(value, folder, path)
            elif option == "m" and not self.modules.module(value, folder, path):
                # a module from elsewhere may start one of ours, as in `-m coverage run x.py`
                self._launch(left, folder, path)
                return
            if option in "mc":
                self._words(left, folder)
                return
        if left:
            script = self._local(left[0], folder)
            main = posixpath.join(script, "__main__.py")
            for file in (script, main):
                if self._is_file(file):
                    self._script(file, path)
            self._words(left[1:], folder)

    def _launch(self, words: list[str], folder: str, path: tuple[str, ...]) -> None:
        """A program of any kind, that may start Python as `torchrun` does, or a shell script."""
        self._words(words, folder)
        for option, module in pairwise(words[1:]):
            if option == "-m":
                self.modules.module(module, folder, path)
        for word in words:
            file = self._local(word, folder)
            if not self._is_code(file):
                continue
            if file.endswith(".py"):
                self._script(file, path)
                return
            if file.endswith((".sh", ".bash")):
                self.command(self._text(file), folder, path)
                return

    def _script(self, file: str, path: tuple[str, ...]) -> None:
        """Thousands of stages run the same script: what it imports is found once."""
        key = f"script {file} {':'.join(path)}"
        self.modules.found |= self._tree.shared(key, lambda: _imported(self._tree, file, path))

    def _words(self, words: list[str], folder: str) -> None:
        for word in words:
            for candidate in (word, word.partition("=")[2]):
                file = self._local(candidate, folder)
                if self._is_code(file):
                    self.modules.found.add(file)

    def _text(self, file: str) -> str:
        return (self._tree.read_bytes(file) or b"").decode(errors="replace")

    def _is_code(self, file: str) -> bool:
        """A file that is written by hand: by its suffix, else because Git has it.

        A log or a report that the command writes must not become its input after the first run.
        """
        if not self._is_file(file):
            return False
        known = _CODE_SUFFIX.fullmatch(posixpath.splitext(file)[1])
        return known is not None or self._tree.is_tracked(file)

    def _is_file(self, file: str) -> bool:
        if not file or "\0" in file or file.startswith(("/", "../")):
            return False
        around = [file]
        while around[-1]:
            around.append(posixpath.dirname(around[-1]))
        return self._data.isdisjoint(around) and self._tree.is_file(file)

    def _local(self, word: str, folder: str) -> str:
        """A word of a command as a path from the root; absolute if it is not the repository's."""
        root = f"{self._tree.root}/"
        if word.startswith(root):
            return posixpath.normpath(word.removeprefix(root))
        if match := _HERE.match(word):
            return posixpath.normpath(word[match.end() :])
        path = posixpath.normpath(posixpath.join(folder, word)) if word else folder
        return "" if path == "." else path


def _imported(tree: Worktree, file: str, path: tuple[str, ...]) -> frozenset[str]:
    modules = Modules(tree)
    modules.script(file, path)
    return frozenset(modules.found)


def simple_commands(text: str) -> Iterator[list[str]]:
    """The words of each command in lists, pipes and substitutions; not what output goes to."""
    for line in text.replace("\\\n", " ").splitlines():
        words: list[str] = []
        skip = False
        for word in _words_of(line):
            if _SEPARATOR.fullmatch(word):
                if words:
                    yield words
                words = []
            elif _OPERATOR.fullmatch(word):
                skip = ">" in word
                continue
            elif not skip:
                words.append(word)
            skip = False
        if words:
            yield words


def _words_of(line: str) -> list[str]:
    if _PLAIN.fullmatch(line):
        return line.split()
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:
        # a quote that stays open, perhaps over several lines
        return re.split(r"[\s'\"]+", line)


def _files_named(pattern: str, tree: Worktree) -> Iterator[str]:
    path = posixpath.normpath(pattern)
    if tree.is_file(path):
        yield path
    elif tree.is_folder(path):
        yield from filter(_is_source, tree.files_below("" if path == "." else path))
    else:
        start = posixpath.dirname(re.split(r"[*?\[]", path, maxsplit=1)[0])
        if not start or tree.is_folder(start):
            wanted = re.compile(_glob(path))
            yield from filter(wanted.fullmatch, tree.files_below(start))


def _is_source(path: str) -> bool:
    return "__pycache__" not in path.split("/")


def _glob(pattern: str) -> str:
    """`*` and `?` stay within a folder; `**/` is any number of folders."""
    meaning = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return "".join(meaning.get(part) or re.escape(part) for part in parts)
