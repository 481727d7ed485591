package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// plain is the operation by path. arm64 has only the calls that take a folder, and is given none.
func plain(operation, path, to string) error {
	switch operation {
	case "open_read":
		return closing(call(unix.SYS_OPENAT, cwd, path, unix.O_RDONLY, 0))
	case "open_write":
		return closing(call(unix.SYS_OPENAT, cwd, path, unix.O_WRONLY, 0))
	case "create":
		return closing(call(unix.SYS_OPENAT, cwd, path, unix.O_CREAT|unix.O_WRONLY|unix.O_TRUNC, 0o644))
	case "rename":
		return status(call(unix.SYS_RENAMEAT, cwd, path, cwd, to))
	case "delete":
		return status(call(unix.SYS_UNLINKAT, cwd, path, 0))
	case "chmod":
		return status(call(unix.SYS_FCHMODAT, cwd, path, 0o600))
	case "link":
		return status(call(unix.SYS_LINKAT, cwd, path, cwd, to, 0))
	case "symlink":
		return status(call(unix.SYS_SYMLINKAT, to, cwd, path))
	case "truncate":
		return status(call(unix.SYS_TRUNCATE, path, 5))
	case "chown":
		return status(call(unix.SYS_FCHOWNAT, cwd, path, 0, 12, 0))
	case "mkdir":
		return status(call(unix.SYS_MKDIRAT, cwd, path, 0o755))
	case "mknod":
		return status(call(unix.SYS_MKNODAT, cwd, path, unix.S_IFIFO|0o644, 0))
	case "rmdir":
		return status(call(unix.SYS_UNLINKAT, cwd, path, unix.AT_REMOVEDIR))
	}
	return fmt.Errorf("no such operation: %s", operation)
}
