"""What the scripts of this folder and their tests share."""
import importlib.machinery
import importlib.util
import os
import pathlib


def default_model():
    """Where tools/fetch_model puts the model."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "kvmerger", "models", "SmolLM2-135M-Instruct.Q4_1.gguf")


def load(name):
    """A script of this folder as a module, for its test."""
    loader = importlib.machinery.SourceFileLoader(name, str(pathlib.Path(__file__).resolve().parent / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
    loader.exec_module(module)
    return module
