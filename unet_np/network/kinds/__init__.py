"""The kinds of layers, one file for each: all that the package knows of it."""

from importlib import import_module
from pkgutil import iter_modules

from unet_np.network.kinds.kind import KINDS, Graph, Kind, Shape, find, names, register

__all__ = ["KINDS", "Graph", "Kind", "Shape", "find", "names", "register"]

# A file in this folder registers its kind; nothing else lists them.
for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
