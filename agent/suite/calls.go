package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

var self = os.Getpid()

const cwd = unix.AT_FDCWD

// at is AT_FDCWD as an argument, whose upper half the kernel ignores.
func at(fd int) uintptr { return uintptr(fd) }

// call is one system call: a string becomes its address, an int a number.
func call(number uintptr, arguments ...any) (int, error) {
	var raw [6]uintptr
	for i, a := range arguments {
		switch a := a.(type) {
		case string:
			p, err := unix.BytePtrFromString(a)
			if err != nil {
				return 0, err
			}
			raw[i] = uintptr(unsafe.Pointer(p))
			defer runtime.KeepAlive(p)
		case int:
			raw[i] = at(a)
		case unsafe.Pointer:
			raw[i] = uintptr(a)
		default:
			return 0, fmt.Errorf("an argument of type %T", a)
		}
	}
	result, _, errno := unix.Syscall6(number, raw[0], raw[1], raw[2], raw[3], raw[4], raw[5])
	if errno != 0 {
		return 0, errno
	}
	return int(result), nil
}

// The operations that can be done by path alone. `open` stands in the table as open to read and open to write.
var byNames = []string{
	"open_read", "open_write", "create", "write", "rename", "delete", "chmod", "link", "symlink", "truncate", "chown",
	"mmap_write", "mkdir", "mknod", "rmdir",
}

// rowOf is the operation that a row has for one of ours.
func rowOf(operation string) string {
	switch operation {
	case "open_read", "open_write":
		return "open"
	case "mkdir", "mknod":
		return "create"
	case "rmdir":
		return "delete"
	}
	return operation
}

// prepare makes what the operation needs to find.
func prepare(operation, path string) error {
	switch operation {
	case "create", "symlink", "mkdir", "mknod":
		return nil
	case "rmdir":
		return unix.Mkdir(path, 0o755)
	}
	fd, err := unix.Open(path, unix.O_CREAT|unix.O_RDWR|unix.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Ftruncate(fd, 8192)
}

// closing closes what a call opened.
func closing(fd int, err error) error {
	if err == nil {
		return unix.Close(fd)
	}
	return err
}

func status(_ int, err error) error { return err }

// onDescriptor writes or maps: what is done with an open file, whatever way it was opened.
func onDescriptor(c *cell, fd int) error {
	return c.deed(func() error {
		if c.Operation == "write" {
			return status(call(unix.SYS_WRITE, fd, "abc", 3))
		}
		return status(call(unix.SYS_MMAP, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED, fd, 0))
	})
}

// byPath does the cell's operation with the plain calls.
func byPath(c *cell, path, to string) error {
	if c.Operation == "write" || c.Operation == "mmap_write" {
		fd, err := unix.Open(path, unix.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return onDescriptor(c, fd)
	}
	return c.deed(func() error { return plain(c.Operation, path, to) })
}

// byFolder does the cell's operation with the calls that take a folder.
func byFolder(c *cell) error {
	fd, err := unix.Open(c.folder, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	n := c.name
	return c.deed(func() error {
		switch c.Operation {
		case "open_read":
			return closing(call(unix.SYS_OPENAT, fd, n, unix.O_RDONLY, 0))
		case "open_write":
			how := unix.OpenHow{Flags: unix.O_WRONLY}
			return closing(call(unix.SYS_OPENAT2, fd, n, unsafe.Pointer(&how), int(unsafe.Sizeof(how))))
		case "create":
			return closing(call(unix.SYS_OPENAT, fd, n, unix.O_CREAT|unix.O_WRONLY, 0o644))
		case "rename":
			return status(call(unix.SYS_RENAMEAT2, fd, n, fd, c.renamed, 0))
		case "delete":
			return status(call(unix.SYS_UNLINKAT, fd, n, 0))
		case "chmod":
			return status(call(unix.SYS_FCHMODAT, fd, n, 0o600))
		case "link":
			return status(call(unix.SYS_LINKAT, fd, n, fd, c.renamed, 0))
		case "symlink":
			return status(call(unix.SYS_SYMLINKAT, c.renamed, fd, n))
		case "chown":
			return status(call(unix.SYS_FCHOWNAT, fd, n, 0, 12, 0))
		case "mkdir":
			return status(call(unix.SYS_MKDIRAT, fd, n, 0o755))
		case "mknod":
			return status(call(unix.SYS_MKNODAT, fd, n, unix.S_IFIFO|0o644, 0))
		case "rmdir":
			return status(call(unix.SYS_UNLINKAT, fd, n, unix.AT_REMOVEDIR))
		}
		return fmt.Errorf("no such operation: %s", c.Operation)
	})
}

// open opens the cell's file, made before.
func (c *cell) open(flags int) (int, error) {
	if err := prepare("write", c.path); err != nil {
		return 0, err
	}
	return unix.Open(c.path, flags, 0)
}

// apart runs a function on a thread of its own that ends with it, so that its root, mounts and rights do too.
func apart(what func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- what()
	}()
	return <-done
}

// asNobody runs a function with the rights of a user who may nothing.
func asNobody(what func() error) error {
	return apart(func() error {
		if err := unix.Setfsgid(65534); err != nil {
			return err
		}
		if err := unix.Setfsuid(65534); err != nil {
			return err
		}
		return what()
	})
}

func join(folder, name string) string { return filepath.Join(folder, name) }
