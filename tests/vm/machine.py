"""A virtual machine for one job: boots a stock kernel with an initramfs of busybox and a few files, and runs a script.

No KVM is needed: QEMU interprets (TCG), which takes about a minute a boot.
"""

from __future__ import annotations

import lzma
import os
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kernels import Kernel, UnavailableError

DONE = "=== exit "
# Only what the cloud kernels do not have built in.
MODULES = ("loop", "overlay")
# switch_root, since the kernel refuses pivot_root to whoever lives on the initramfs.
INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /new
/bin/busybox mount -t tmpfs -o mode=755 root /new
/bin/busybox cp -a /bin /lib /job /tmp /etc /dev /proc /sys /root /new/
/bin/busybox cp /init2 /new/init2
exec /bin/busybox switch_root /new /init2
"""
INIT2 = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tracefs t /sys/kernel/tracing; mount -t debugfs d /sys/kernel/debug; mount -t bpf b /sys/fs/bpf
mount -t tmpfs -o mode=1777 tmp /tmp; mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
for module in {modules}; do insmod /lib/$module.ko; done
echo "=== up $(uname -r) $(uname -m) after $(cut -d' ' -f1 /proc/uptime) s"
cd /job; sh ./script </dev/null; echo "{done}$?"
poweroff -f
"""


def boot(
    kernel: Kernel, files: dict[str, Path], script: str, heard: Callable[[str], None], seconds: float = 600
) -> int:
    """Run `script` in /job, where `files` are; every line of the console goes to `heard`. Returns its exit status.

    Raises UnavailableError without QEMU, TimeoutError when the script does not end in time, RuntimeError when the
    machine goes down without it.
    """
    command = _qemu(kernel)
    with tempfile.TemporaryDirectory(prefix="kaimon-vm-") as made:
        folder = Path(made)
        _initramfs(kernel, files, script, folder)
        command += ["-initrd", str(folder / "initramfs")]
        return _listen(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE), heard, seconds)


def _qemu(kernel: Kernel) -> list[str]:
    binary = {"amd64": "qemu-system-x86_64", "arm64": "qemu-system-aarch64"}[kernel.arch]
    if shutil.which(binary) is None:
        raise UnavailableError(f"{binary} is not installed (script/bootstrap vm)")
    if kernel.arch == "arm64":
        # `-cpu max` does not come up with 6.1, and its pointer authentication makes an interpreted machine crawl.
        machine, console = ["-M", "virt", "-cpu", "cortex-a72", "-smp", "2", "-accel", "tcg"], "ttyAMA0"
    elif kernel.name.startswith("6.12"):
        # Newer processors, and a second one, do not come up under TCG with this kernel.
        cpu = "Skylake-Client-noTSX-IBRS"
        machine, console = ["-cpu", cpu, "-smp", "1", "-accel", "tcg,thread=single"], "ttyS0"
    else:
        machine, console = ["-cpu", "max", "-smp", "2", "-accel", "tcg"], "ttyS0"
    words = f"console={console} quiet loglevel=1 panic=-1 mitigations=off nokaslr"
    fixed = ["-m", "1536", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]
    return [binary, *machine, *fixed, "-kernel", str(kernel.image), "-append", words]


def _initramfs(kernel: Kernel, files: dict[str, Path], script: str, folder: Path) -> None:
    root = folder / "root"
    for name in ("bin", "dev", "proc", "sys", "tmp", "lib", "job", "etc", "root"):
        (root / name).mkdir(parents=True)
    shutil.copy(kernel.busybox, root / "bin/busybox")
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    for module in MODULES:
        for found in kernel.modules.rglob(f"{module}.ko*"):
            raw = found.read_bytes()
            (root / f"lib/{module}.ko").write_bytes(lzma.decompress(raw) if found.suffix == ".xz" else raw)
    for name, file in files.items():
        shutil.copy(file, root / "job" / name)
    (root / "job/script").write_text(script)
    for name, text in (("init", INIT), ("init2", INIT2.format(modules=" ".join(MODULES), done=DONE))):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    names = "\0".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    try:
        with (folder / "initramfs").open("wb") as out:
            pack = ["cpio", "--quiet", "--null", "-o", "-H", "newc", "-R", "0:0"]
            subprocess.run(pack, cwd=root, input=names.encode(), stdout=out, check=True)
    except FileNotFoundError:
        raise UnavailableError("cpio is not installed (script/bootstrap test)") from None
    shutil.rmtree(root)


def _listen(machine: subprocess.Popen[bytes], heard: Callable[[str], None], seconds: float) -> int:
    assert machine.stdout is not None
    deadline, rest, status = time.monotonic() + seconds, b"", None
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(machine.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"the virtual machine was not done in {seconds:.0f} s")
                piece = os.read(machine.stdout.fileno(), 1 << 16)
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    text = line.decode(errors="replace").rstrip("\r")
                    heard(text)
                    if text.startswith(DONE):
                        status = int(text.removeprefix(DONE))
                if not piece:
                    break
    finally:
        # `poweroff` ends QEMU; after an error nothing else does.
        if status is None:
            machine.send_signal(signal.SIGKILL)
        machine.wait(30)
        machine.stdout.close()
    if status is None:
        raise RuntimeError("the virtual machine went down before its script ended")
    return status
