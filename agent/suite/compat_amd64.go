package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// int80 enters the kernel as 32-bit programs do.
func int80(number, a, b, c, d, e, f uint32) int32

var low []byte // memory that 32 bits can address

// compat is one call of the 32-bit table (i386).
func compat(number uint32, arguments ...any) (int, error) {
	var raw [6]uint32
	next := 0
	for i, a := range arguments {
		switch a := a.(type) {
		case string:
			raw[i] = uint32(address(low)) + uint32(next)
			next += copy(low[next:], a+"\x00")
		case int:
			raw[i] = uint32(a)
		}
	}
	result := int80(number, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5])
	if result < 0 && result > -4096 {
		return 0, unix.Errno(-result)
	}
	return int(result), nil
}

func byCompat(c *cell) error {
	if low == nil {
		made, err := unix.Mmap(-1, 0, 1<<16, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_32BIT)
		if err != nil {
			return err
		}
		low = made
	}
	// getpid: a kernel without these calls would end us by a signal, but says so beforehand.
	if _, err := os.Stat("/proc/sys/abi/vsyscall32"); errors.Is(err, os.ErrNotExist) {
		return errors.New("the kernel has no 32-bit calls")
	}
	path, to := c.path, join(c.folder, c.renamed)
	if err := prepare(c.Operation, path); err != nil {
		return err
	}
	fd := -1
	switch c.Operation {
	case "write", "mmap_write":
		var err error
		if fd, err = unix.Open(path, unix.O_RDWR, 0); err != nil {
			return err
		}
		defer unix.Close(fd)
	}
	return c.deed(func() error {
		switch c.Operation {
		case "open_read":
			return closing(compat(5, path, unix.O_RDONLY, 0))
		case "open_write":
			return closing(compat(5, path, unix.O_WRONLY, 0))
		case "create":
			return closing(compat(8, path, 0o644))
		case "write":
			return status(compat(4, fd, "abc", 3))
		case "rename":
			return status(compat(38, path, to))
		case "delete":
			return status(compat(10, path))
		case "chmod":
			return status(compat(15, path, 0o600))
		case "link":
			return status(compat(9, path, to))
		case "symlink":
			return status(compat(83, to, path))
		case "truncate":
			return status(compat(92, path, 5))
		case "chown":
			return status(compat(212, path, 0, 12))
		case "mmap_write":
			return status(compat(192, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, fd, 0))
		case "mkdir":
			return status(compat(39, path, 0o755))
		case "mknod":
			return status(compat(14, path, unix.S_IFIFO|0o644, 0))
		case "rmdir":
			return status(compat(40, path))
		}
		return fmt.Errorf("no such operation: %s", c.Operation)
	})
}
