"""Does every watched operation in every way it knows, below a folder, and prints what the agent should say of each.

Run as a program: `deeds.py FOLDER`. Each line of its output is a row's expected values; rows of this process below
FOLDER that it does not name are a defect of the agent. Calls go through libc's `syscall`, so that one deed is one call.
"""

# One deed is to be one system call; pathlib makes several.
# ruff: noqa: PTH102, PTH109, PTH120, PTH123, PTH211
from __future__ import annotations

import ctypes
import json
import mmap
import os
import platform
import struct
import sys
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
NR = {
    "open": 2, "creat": 85, "write": 1, "pwrite64": 18, "writev": 20, "pwritev": 296, "pwritev2": 328, "sendfile": 40,
    "copy_file_range": 326, "splice": 275, "fallocate": 285, "openat": 257, "openat2": 437, "mkdir": 83,
    "mkdirat": 258, "mknod": 133, "mknodat": 259, "unlink": 87, "rmdir": 84, "unlinkat": 263, "rename": 82,
    "renameat": 264, "renameat2": 316, "chmod": 90, "fchmod": 91, "fchmodat": 268, "fchmodat2": 452, "link": 86,
    "linkat": 265, "symlink": 88, "symlinkat": 266, "truncate": 76, "ftruncate": 77, "chown": 92, "fchown": 93,
    "lchown": 94, "fchownat": 260, "mmap": 9, "mprotect": 10, "read": 0, "memfd_create": 319, "io_uring_setup": 425,
    "io_uring_enter": 426, "name_to_handle_at": 303, "open_by_handle_at": 304,
}  # fmt: skip
CWD = -100
WR, RW, CREAT, EXCL, TRUNC, PATH, TMPFILE = 1, 2, 0o100, 0o200, 0o1000, 0o10000000, 0o20200000
REMOVEDIR, EMPTY = 0x200, 0x1000


def call(name: str, *arguments: Any, fails: int = 0) -> int:
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    LIBC.syscall.restype = ctypes.c_long
    result = int(LIBC.syscall(ctypes.c_long(NR[name]), *converted))
    error = ctypes.get_errno() if result == -1 else 0
    assert error == fails, f"{name}{arguments}: {os.strerror(error)}"
    return result


def expect(operation: str, path: bytes, status: str = "resolved", *, target: bytes | None = None, **more: Any) -> None:
    row = {"operation": operation, "path": path.hex(), "path_status": status, "result": 0, **more}
    row["target_path"] = target.hex() if target is not None else None
    print(json.dumps(row), flush=True)


class Uring:
    """Just enough of io_uring: one request, wait for its completion."""

    def __init__(self) -> None:
        params = ctypes.create_string_buffer(120)
        self.fd = call("io_uring_setup", 4, params)
        p = struct.unpack("<30I", params.raw)
        sq, cq = p[10:20], p[20:30]
        size = max(sq[6] + 4 * 4, cq[5] + 8 * 16)
        flags, prot = mmap.MAP_SHARED | 0x8000, mmap.PROT_READ | mmap.PROT_WRITE
        self.rings = mmap.mmap(self.fd, size, flags, prot, offset=0)
        self.entries = mmap.mmap(self.fd, 64 * 4, flags, prot, offset=0x10000000)
        self.sq, self.cq, self.keep = sq, cq, []

    def request(  # noqa: PLR0917 - the fields of a request, in their order
        self, opcode: int, fd: int, address: Any, length: int, offset: Any, flags: int = 0
    ) -> int:
        def pointer(value: Any) -> int:
            if isinstance(value, bytes):
                value = ctypes.create_string_buffer(value)
            if isinstance(value, int):
                return value
            self.keep.append(value)
            return ctypes.addressof(value)

        tail = struct.unpack_from("<I", self.rings, self.sq[1])[0]
        sqe = struct.pack(
            "<BBHiQQIIQ24x", opcode, 0, 0, fd, pointer(offset), pointer(address), length & 0xFFFFFFFF, flags, 7
        )
        index = tail & 3
        self.entries[index * 64 : index * 64 + 64] = sqe
        struct.pack_into("<I", self.rings, self.sq[6] + 4 * index, index)
        struct.pack_into("<I", self.rings, self.sq[1], tail + 1)
        call("io_uring_enter", self.fd, 1, 1, 1, 0, 0)
        head = struct.unpack_from("<I", self.rings, self.cq[0])[0]
        result: int = struct.unpack_from("<QiI", self.rings, self.cq[5] + 16 * (head & 7))[1]
        struct.pack_into("<I", self.rings, self.cq[0], head + 1)
        return result


def opens(at: bytes, dir_fd: int) -> None:
    ways = {
        b"creat": lambda p, _: call("creat", p, 0o640),
        b"open": lambda p, _: call("open", p, CREAT | RW, 0o640),
        b"openat": lambda _, n: call("openat", dir_fd, n, CREAT | RW | EXCL, 0o640),
        b"openat2": lambda _, n: call("openat2", dir_fd, n, struct.pack("<QQQ", CREAT | RW, 0o640, 0), 24),
    }
    for name, way in ways.items():
        path = at + b"/" + name
        os.close(way(path, name))
        flags = {b"creat": WR | CREAT | TRUNC, b"openat": CREAT | RW | EXCL}.get(name, CREAT | RW)
        access = "write" if name == b"creat" else "read_write"
        expect("create", path, file_type="regular", flags=flags, access=access, mode=0o640)
        os.close(call("openat", CWD, path, os.O_RDONLY))
        expect("open", path, access="read", flags=0, file_type="regular")
    os.close(call("open", at + b"/creat", WR | CREAT | TRUNC, 0o600))
    expect("open", at + b"/creat", access="write", flags=WR | CREAT | TRUNC)
    os.close(call("open", at + b"/creat", PATH))
    expect("open", at + b"/creat", access=None, flags=PATH)
    os.symlink(b"creat", at + b"/way")
    expect("symlink", at + b"/way", "requested", target=at + b"/creat")
    os.close(call("open", at + b"/way", os.O_RDONLY))
    expect("open", at + b"/creat", access="read")
    handle, mount = struct.pack("<I", 64).ljust(80, b"\0"), ctypes.c_int()
    handle_buffer = ctypes.create_string_buffer(handle, 80)
    call("name_to_handle_at", dir_fd, b"creat", handle_buffer, ctypes.byref(mount), 0)
    os.close(call("open_by_handle_at", dir_fd, handle_buffer, os.O_RDONLY))
    expect("open", at + b"/creat", access="read")
    call("open", at + b"/no such file", 0, fails=2)
    call("open", at + b"/creat", CREAT | EXCL, 0o600, fails=17)


def writes(at: bytes) -> None:
    path = at + b"/written"
    fd = call("open", path, CREAT | RW, 0o600)
    expect("create", path)
    source = call("open", at + b"/open", RW)
    expect("open", at + b"/open", access="read_write")
    text = ctypes.create_string_buffer(b"abc")
    vector = struct.pack("<QQ", ctypes.addressof(text), 3)
    read, write = os.pipe()
    os.write(write, b"through a pipe")
    deeds = {
        "write": (fd, b"abc", 3),
        "pwrite64": (fd, b"abc", 3, 0),
        "writev": (fd, vector, 1),
        "pwritev": (fd, vector, 1, 0, 0),
        "pwritev2": (fd, vector, 1, 0, 0, 0),
        "fallocate": (fd, 0, 0, 4096),
        "splice": (read, None, fd, None, 14, 0),
    }
    for name, arguments in deeds.items():
        call(name, *arguments)
        expect("write", path, file_type="regular")
    call("write", source, b"x" * 100, 100)
    expect("write", at + b"/open")
    os.lseek(source, 0, 0)
    call("sendfile", fd, source, None, 50)
    expect("write", path)
    call("copy_file_range", source, None, fd, None, 50, 0)
    expect("write", path)
    call("copy_file_range", source, None, fd, None, 50, 0)  # at its end: nothing is written
    call("write", fd, b"", 0)
    address = call("mmap", 0, 4096, 3, 1, fd, 0)
    expect("mmap_write", path, result=0)
    assert address
    call("mmap", 0, 4096, 3, 2, fd, 0)  # private: no file changes
    call("mmap", 0, 4096, 1, 1, fd, 0)  # read-only
    call("ftruncate", fd, 10)
    expect("truncate", path)
    call("truncate", path, 5)
    expect("truncate", path, "requested")
    call("fchmod", fd, 0o2604)
    expect("chmod", path, mode=0o2604)
    call("fchown", fd, 0, 12)
    expect("chown", path)
    os.write(write, b"x")  # pipes, sockets, terminals and memory files are none of our business
    memory = call("memfd_create", b"m", 0)
    os.write(memory, b"x")
    with open("/dev/null", "wb") as null:
        null.write(b"x")
    with open("/proc/self/status", "rb") as status:
        status.read()
    for one in (fd, source, read, write, memory):
        os.close(one)


def names(at: bytes, dir_fd: int) -> None:  # noqa: PLR0915 - a list of calls
    here = os.getcwdb()
    os.chdir(at)
    call("mkdir", b"d1", 0o777)
    expect("create", at + b"/d1", "requested", file_type="directory", mode=0o755)
    call("mkdirat", dir_fd, b"./d2/", 0o700)
    expect("create", at + b"/d2", "requested", file_type="directory", mode=0o700)
    call("mknod", at + b"//d1/../fifo", 0o10600, 0)
    expect("create", at + b"/fifo", "requested", file_type="fifo", mode=0o600)
    call("mknodat", CWD, b"d1/node", 0o600, 0)
    expect("create", at + b"/d1/node", "requested", file_type="regular", mode=0o600)
    call("rename", b"d1/node", at + b"/n1")
    expect("rename", at + b"/d1/node", "requested", target=at + b"/n1")
    call("renameat", dir_fd, b"n1", CWD, b"n2")
    expect("rename", at + b"/n1", "requested", target=at + b"/n2")
    call("renameat2", dir_fd, b"n2", dir_fd, b"openat", 2)  # EXCHANGE
    expect("rename", at + b"/n2", "requested", target=at + b"/openat")
    call("link", b"n2", b"l1")
    expect("link", at + b"/n2", "requested", target=at + b"/l1")
    call("linkat", dir_fd, b"n2", dir_fd, b"l2", 0)
    expect("link", at + b"/n2", "requested", target=at + b"/l2")
    call("symlink", b"../over/there", b"s1")
    expect("symlink", at + b"/s1", "requested", target=os.path.dirname(at) + b"/over/there", file_type="symlink")
    call("symlinkat", b"/etc/passwd", dir_fd, b"s2")
    expect("symlink", at + b"/s2", "requested", target=b"/etc/passwd")
    call("chmod", b"n2", 0o604)
    expect("chmod", at + b"/n2", "requested", mode=0o604)
    call("fchmodat", dir_fd, b"n2", 0o640)
    expect("chmod", at + b"/n2", "requested", mode=0o640)
    call("fchmodat2", dir_fd, b"n2", 0o600, 0x100)
    expect("chmod", at + b"/n2", "requested", mode=0o600)
    call("chown", b"n2", 1, 1)
    expect("chown", at + b"/n2", "requested")
    call("lchown", b"s1", 1, 1)
    expect("chown", at + b"/s1", "requested")
    call("fchownat", dir_fd, b"n2", 0, 0, 0)
    expect("chown", at + b"/n2", "requested")
    fd = call("openat", dir_fd, b"n2", PATH)
    expect("open", at + b"/n2", access=None)
    call("fchownat", fd, b"", 0, 0, EMPTY)
    expect("chown", at + b"/n2", "resolved")
    call("linkat", fd, b"", CWD, b"l3", EMPTY)
    expect("link", at + b"/n2", "requested", target=at + b"/l3")
    os.close(fd)
    call("unlink", b"l1")
    expect("delete", at + b"/l1", "requested")
    call("unlinkat", dir_fd, b"l2", 0)
    expect("delete", at + b"/l2", "requested")
    call("unlinkat", CWD, b"d2", REMOVEDIR)
    expect("delete", at + b"/d2", "requested", file_type="directory")
    call("rmdir", b"d1/../d1")
    expect("delete", at + b"/d1", "requested", file_type="directory")
    call("rmdir", at, fails=39)
    os.chdir(here)


def temporary(at: bytes) -> None:
    fd = call("open", at, TMPFILE | RW, 0o600)
    inode = os.fstat(fd).st_ino
    expect("create", at + b"/#%d" % inode, "unresolved", inode=inode)
    call("write", fd, b"x", 1)
    expect("write", at + b"/#%d" % inode, "unresolved", inode=inode)
    call("linkat", CWD, b"/proc/self/fd/%d" % fd, CWD, at + b"/tmpfile", 0x400)
    # The row's paths are the caller's, and the first of them does not lie below the folder.
    os.close(fd)
    fd = call("open", at + b"/tmpfile", RW)
    expect("open", at + b"/tmpfile", inode=inode)
    call("unlink", at + b"/tmpfile")
    expect("delete", at + b"/tmpfile", "requested")
    call("write", fd, b"x", 1)
    expect("write", at + b"/tmpfile", "unresolved", inode=inode)
    os.close(fd)


def odd_names(at: bytes) -> None:
    for name in (
        b"new\nline",
        b"\xff\xfe not utf-8",
        b"back\\slash",
        "naïve-文件-🙂".encode(),
        b"c1\xc2\x85",
        b"x" * 255,
    ):
        path = at + b"/" + name
        os.close(call("open", path, CREAT | WR, 0o600))
        expect("create", path)
        call("unlink", path)
        expect("delete", path, "requested")


def deep(at: bytes) -> None:
    """300 folders deep the walk gives up above the 256th or so; the caller's own strings are kept whole."""
    here = os.getcwdb()
    os.chdir(at)
    path = at
    for number in range(300):
        name = b"deep%03d" % number
        call("mkdir", name, 0o700)
        path += b"/" + name
        expect("create", path, "requested" if number < 240 else "truncated", loose=number >= 240)
        os.chdir(name)
    fd = call("open", b"bottom", CREAT | WR, 0o600)
    expect("create", path + b"/bottom", "truncated", loose=True)
    os.close(fd)
    os.chdir(at)
    name = b"y" * 250
    path = at
    while len(path) + 251 < 4000:
        path += b"/" + name
        call("mkdir", path, 0o700)
        expect("create", path, "requested")
    os.close(call("open", path + b"/f", CREAT | WR, 0o600))
    expect("create", path + b"/f")
    os.chdir(here)


def refused(at: bytes) -> None:
    """What the system does not allow is told, with its error."""
    os.mkdir(at + b"/closed", 0o755)
    expect("create", at + b"/closed", "requested")
    os.close(call("open", at + b"/closed/secret", CREAT | WR, 0o600))
    expect("create", at + b"/closed/secret")
    LIBC.setfsuid(65534)
    LIBC.setfsgid(65534)
    path = at + b"/closed/secret"
    call("open", path, RW, fails=13)
    expect("open", path, "requested", result=13, access="read_write", flags=RW, inode=None)
    call("openat2", CWD, path, struct.pack("<QQQ", WR, 0, 0), 24, fails=13)
    expect("open", path, "requested", result=13, access="write", flags=WR)
    call("open", at + b"/closed/new", CREAT | WR, 0o600, fails=13)
    expect("open", at + b"/closed/new", "requested", result=13)
    call("unlink", path, fails=13)
    expect("delete", path, "requested", result=13)
    call("rename", path, at + b"/closed/x", fails=13)
    expect("rename", path, "requested", target=at + b"/closed/x", result=13)
    call("chmod", path, 0o777, fails=1)
    expect("chmod", path, "requested", result=1, mode=0o777)
    call("mkdir", at + b"/closed/m", 0o700, fails=13)
    expect("create", at + b"/closed/m", "requested", result=13)
    LIBC.setfsuid(0)
    LIBC.setfsgid(0)


def ring(at: bytes) -> None:
    """io_uring: attempts, so without a result."""
    u = Uring()
    dir_fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    fd = u.request(18, dir_fd, b"uring", 0o600, 0, CREAT | RW)
    assert fd >= 0, os.strerror(-fd)
    expect("open", at + b"/uring", "requested", result=None, flags=CREAT | RW | 0o100000)  # O_LARGEFILE, always
    assert u.request(23, fd, b"hello", 5, 0) == 5
    expect("write", at + b"/uring", result=None)
    assert u.request(35, dir_fd, b"uring", dir_fd, b"uring2") == 0
    expect("rename", at + b"/uring", "requested", target=at + b"/uring2", result=None)
    assert u.request(39, dir_fd, b"uring2", dir_fd, b"uring3") == 0
    expect("link", at + b"/uring2", "requested", target=at + b"/uring3", result=None)
    assert u.request(37, dir_fd, b"udir", 0o700, 0) == 0
    expect("create", at + b"/udir", "requested", result=None, file_type="directory")
    assert u.request(38, dir_fd, b"uring2", 0, b"usym") == 0
    expect("symlink", at + b"/usym", "requested", target=at + b"/uring2", result=None)
    assert u.request(36, dir_fd, b"udir", 0, 0, REMOVEDIR) == 0
    expect("delete", at + b"/udir", "requested", result=None, file_type="directory")
    assert u.request(36, dir_fd, b"uring2", 0, 0) == 0
    expect("delete", at + b"/uring2", "requested", result=None)
    os.close(fd)
    os.close(dir_fd)


def compat(at: bytes) -> None:
    """int 0x80: 32-bit calls, with their own numbers and registers."""
    low = mmap.mmap(-1, 8192, mmap.MAP_PRIVATE | 0x40, 7)  # MAP_32BIT
    base = ctypes.addressof(ctypes.c_char.from_buffer(low))
    # push rbx; mov eax,edi; mov ebx,esi; mov r8d,edx; mov edx,ecx; mov ecx,r8d; int 0x80; pop rbx; ret
    low[:17] = bytes.fromhex("53 89f8 89f3 4189d0 89ca 4489c1 cd80 5b c3")
    function = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_uint, ctypes.c_uint, ctypes.c_uint)(base)

    def enter(number: int, *arguments: int | bytes) -> int:
        at_byte, converted = 1024, []
        for argument in arguments:
            if isinstance(argument, bytes):
                low[at_byte : at_byte + len(argument) + 1] = argument + b"\0"
                converted.append(base + at_byte)
                at_byte += len(argument) + 1
            else:
                converted.append(argument & 0xFFFFFFFF)
        a, b, c = (*converted, 0, 0)[:3]
        result = function(number, a, b, c)
        assert result >= 0, os.strerror(-result)
        return result

    path = at + b"/compat"
    fd = enter(5, path, CREAT | WR, 0o600)
    expect("create", path, access="write", flags=CREAT | WR)
    enter(4, fd, b"abc", 3)
    expect("write", path)
    enter(94, fd, 0o640)
    expect("chmod", path, mode=0o640)
    enter(38, path, at + b"/compat2")
    expect("rename", path, "requested", target=at + b"/compat2")
    enter(10, at + b"/compat2")
    expect("delete", at + b"/compat2", "requested")
    os.close(fd)


def main() -> None:
    at = os.fsencode(sys.argv[1])
    os.umask(0o022)
    dir_fd = os.open(at, os.O_RDONLY | os.O_DIRECTORY)
    opens(at, dir_fd)
    writes(at)
    names(at, dir_fd)
    temporary(at)
    odd_names(at)
    refused(at)
    deep(at)
    ring(at)
    if platform.machine() == "x86_64":
        compat(at)


if __name__ == "__main__":
    main()
