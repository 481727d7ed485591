"""Compiled code of ours: what loads it, if it was made of the source that is here, and what hands it columns."""

from __future__ import annotations

import ctypes
import hashlib
from ctypes import Structure, c_char_p, c_int64, c_void_p
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_BUILD: Final = _HERE.parent / "build"


class ArrowArray(Structure):
    """Arrow's C data interface (`arrow.h`); Python only holds the room for it."""

    _fields_ = (
        *((name, c_int64) for name in ("length", "null_count", "offset", "n_buffers", "n_children")),
        *((name, c_void_p) for name in ("buffers", "children", "dictionary", "release", "private_data")),
    )


def load(name: str, folder: Path, library: Path | None = None) -> ctypes.CDLL:
    """Return compiled code.

    Args:
        name: what its sources in `folder` begin with.
        folder: where these are.
        library: the file, if it is not where `script/build-native` puts it.

    Raises:
        OSError: it is not there, or was not made of this source.
    """
    library = library or _BUILD / f"{name}.so"
    code = ctypes.CDLL(str(library))
    code.source_digest.restype = c_char_p
    sources = [_HERE / "arrow.h", *sorted(folder.glob(f"{name}*.[ch]"))]
    digest = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()
    if code.source_digest().decode() != digest:
        raise OSError(f"{library} was made of another source")
    return code
