"""Makes the generators of interface packages share one parsed tree per interface; on the path of `./run`'s build only.

An interface package calls seven generators, each of which parses each .idl file again, at half a second a file: three
quarters of the time of the whole build. This keeps the parsed tree under the hash of its text. Python imports a module
of this name at every start, so all it does is to wait for rosidl_parser.
"""

import hashlib
import importlib.abc
import importlib.util
import os
import pickle
import sys
from pathlib import Path


class _WhenImported(importlib.abc.MetaPathFinder):
    """Hands rosidl_parser.parser to its own loader, then replaces its slow function."""

    def find_spec(self, name, path, target=None):
        if name != "rosidl_parser.parser":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.get_ast_from_idl_string = _remembering(module.get_ast_from_idl_string, module.grammar)

        spec.loader.exec_module = exec_module
        return spec


def _remembering(parse, grammar):
    folder = Path(os.environ["REALDIFF_IDL_CACHE"])

    def get_ast_from_idl_string(text):
        key = hashlib.sha256(f"{sys.version}\0{grammar}\0{text}".encode()).hexdigest()
        file = folder / key
        try:
            return pickle.loads(file.read_bytes())
        except FileNotFoundError:
            tree = parse(text)
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{key}.{os.getpid()}"
        temporary.write_bytes(pickle.dumps(tree))
        temporary.replace(file)
        return tree

    return get_ast_from_idl_string


if "REALDIFF_IDL_CACHE" in os.environ:
    sys.meta_path.insert(0, _WhenImported())
