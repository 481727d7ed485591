package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// plain is the operation by the oldest call that does it.
func plain(operation, path, to string) error {
	switch operation {
	case "open_read":
		return closing(call(unix.SYS_OPEN, path, unix.O_RDONLY, 0))
	case "open_write":
		return closing(call(unix.SYS_OPEN, path, unix.O_WRONLY, 0))
	case "create":
		return closing(call(unix.SYS_CREAT, path, 0o644))
	case "rename":
		return status(call(unix.SYS_RENAME, path, to))
	case "delete":
		return status(call(unix.SYS_UNLINK, path))
	case "chmod":
		return status(call(unix.SYS_CHMOD, path, 0o600))
	case "link":
		return status(call(unix.SYS_LINK, path, to))
	case "symlink":
		return status(call(unix.SYS_SYMLINK, to, path))
	case "truncate":
		return status(call(unix.SYS_TRUNCATE, path, 5))
	case "chown":
		return status(call(unix.SYS_CHOWN, path, 0, 12))
	case "mkdir":
		return status(call(unix.SYS_MKDIR, path, 0o755))
	case "mknod":
		return status(call(unix.SYS_MKNOD, path, unix.S_IFIFO|0o644, 0))
	case "rmdir":
		return status(call(unix.SYS_RMDIR, path))
	}
	return fmt.Errorf("no such operation: %s", operation)
}
