package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"unsafe"

	"golang.org/x/sys/unix"
)

// contents are the ways to change what is in a file, beside write.
func contents() []way {
	wide := []string{"write"}
	return []way{
		{"pwrite", wide, filled(func(fd, _ int) error { return status(unix.Pwrite(fd, []byte("abc"), 1)) })},
		{"writev", wide, filled(func(fd, _ int) error { return status(unix.Writev(fd, [][]byte{[]byte("abc")})) })},
		{"pwritev2", wide, filled(func(fd, _ int) error {
			return status(unix.Pwritev2(fd, [][]byte{[]byte("abc")}, 1, 0))
		})},
		{"fallocate", wide, filled(func(fd, _ int) error { return unix.Fallocate(fd, 0, 0, 16384) })},
		{"sendfile", wide, filled(func(fd, from int) error { return status(unix.Sendfile(fd, from, nil, 50)) })},
		{"copy_file_range", wide, filled(func(fd, from int) error {
			return status(unix.CopyFileRange(from, nil, fd, nil, 50, 0))
		})},
		{"splice", wide, filled(bySplice)},
		{"ficlone", wide, filled(func(fd, from int) error { return unix.IoctlFileClone(fd, from) })},
		{"aio", wide, filled(byAIO)},
		{"io_uring_fallocate", wide, func(c *cell) error {
			return onRing(c, request{opcode: uringFallocate, length: 0})
		}},
		{"io_uring_fixed", wide, func(c *cell) error {
			return onFixed(c, request{opcode: uringWrite, first: "abc", length: 3})
		}},
		{"memfd", wide, onMemory},
		{"mprotect", []string{"mmap_write"}, byMprotect},
	}
}

// filled changes the cell's file, open, out of another that holds something.
func filled(change func(fd, from int) error) func(*cell) error {
	return func(c *cell) error {
		fd, err := c.open(unix.O_RDWR)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		source := join(c.folder, "source")
		if err := os.WriteFile(source, make([]byte, 8192), 0o600); err != nil {
			return err
		}
		from, err := unix.Open(source, unix.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer unix.Close(from)
		return c.deed(func() error { return change(fd, from) })
	}
}

func bySplice(fd, _ int) error {
	var ends [2]int
	if err := unix.Pipe(ends[:]); err != nil {
		return err
	}
	defer unix.Close(ends[0])
	defer unix.Close(ends[1])
	if _, err := unix.Write(ends[1], []byte("through a pipe")); err != nil {
		return err
	}
	_, err := unix.Splice(ends[0], nil, fd, nil, 14, 0)
	return err
}

// byAIO writes through Linux AIO; the fields are those of struct iocb.
func byAIO(fd, _ int) error {
	var context uintptr
	if _, err := call(unix.SYS_IO_SETUP, 1, unsafe.Pointer(&context)); err != nil {
		return fmt.Errorf("io_setup: %w", err)
	}
	defer func() { _, _ = call(unix.SYS_IO_DESTROY, int(context)) }()
	text := []byte("abc")
	one := struct {
		data          uint64
		key, flags    uint32
		opcode        uint16
		priority      int16
		fd            uint32
		buffer, bytes uint64
		offset        int64
		rest          [2]uint64
	}{opcode: 1, fd: uint32(fd), buffer: uint64(address(text)), bytes: 3}
	list := unsafe.Pointer(&one)
	if _, err := call(unix.SYS_IO_SUBMIT, int(context), 1, unsafe.Pointer(&list)); err != nil {
		return fmt.Errorf("io_submit: %w", err)
	}
	var event [4]uint64
	_, err := call(unix.SYS_IO_GETEVENTS, int(context), 1, 1, unsafe.Pointer(&event), 0)
	if err == nil && event[2] != 3 {
		err = unix.Errno(-int64(event[2]))
	}
	return err
}

func onRing(c *cell, q request) error {
	r, err := newRing()
	if err != nil {
		return err
	}
	defer r.close()
	if q.fd, err = c.open(unix.O_RDWR); err != nil {
		return err
	}
	defer unix.Close(q.fd)
	return c.deed(func() error { return status(r.do(q)) })
}

func onMemory(c *cell) error {
	fd, err := unix.MemfdCreate(c.name, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return onDescriptor(c, fd)
}

func byMprotect(c *cell) error {
	fd, err := c.open(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	memory, err := unix.Mmap(fd, 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	return errors.Join(
		c.deed(func() error { return unix.Mprotect(memory, unix.PROT_READ|unix.PROT_WRITE) }),
		unix.Munmap(memory))
}

// peculiar are the ways that do only one or two things.
func peculiar() []way {
	return []way{
		{"tmpfile", []string{"create", "write", "link"}, byTmpfile},
		{"o_path", []string{"open_read"}, func(c *cell) error {
			if err := prepare("write", c.path); err != nil {
				return err
			}
			return c.deed(func() error { return closing(unix.Open(c.path, unix.O_PATH, 0)) })
		}},
		{"handle", []string{"open_read"}, byHandle},
		{"exec", []string{"open_read"}, byExec},
		{"bind_socket", []string{"create"}, byBind},
		{"mknod_regular", []string{"create"}, func(c *cell) error {
			return c.deed(func() error { return unix.Mknod(c.path, unix.S_IFREG|0o644, 0) })
		}},
		{"exchange", []string{"rename"}, func(c *cell) error {
			to := join(c.folder, c.renamed)
			if err := errors.Join(prepare("write", c.path), prepare("write", to)); err != nil {
				return err
			}
			return c.deed(func() error { return unix.Renameat2(cwd, c.path, cwd, to, unix.RENAME_EXCHANGE) })
		}},
	}
}

// byTmpfile makes a file without a name, and then gives it one.
func byTmpfile(c *cell) error {
	made := -1
	make := func() error {
		fd, err := unix.Open(c.folder, unix.O_TMPFILE|unix.O_RDWR, 0o644)
		made = fd
		return err
	}
	stat := func() error {
		var s unix.Stat_t
		err := unix.Fstat(made, &s)
		c.inode, c.path, c.nameless = s.Ino, "", true
		return err
	}
	defer func() { _ = unix.Close(made) }()
	if c.Operation == "create" {
		return errors.Join(c.deed(make), stat())
	}
	if err := errors.Join(make(), stat()); err != nil {
		return err
	}
	if c.Operation == "write" {
		return onDescriptor(c, made)
	}
	proc := fmt.Sprintf("/proc/self/fd/%d", made)
	c.asked = []string{proc}
	return c.deed(func() error {
		return unix.Linkat(cwd, proc, cwd, join(c.folder, c.renamed), unix.AT_SYMLINK_FOLLOW)
	})
}

func byHandle(c *cell) error {
	if err := prepare("write", c.path); err != nil {
		return err
	}
	folder, err := unix.Open(c.folder, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(folder)
	handle, _, err := unix.NameToHandleAt(folder, c.name, 0)
	if err != nil {
		return fmt.Errorf("name_to_handle_at: %w", err)
	}
	return c.deed(func() error { return closing(unix.OpenByHandleAt(folder, handle, unix.O_RDONLY)) })
}

func byExec(c *cell) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(c.path, os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	if err := to.Close(); err != nil {
		return err
	}
	c.notOurs = true
	return c.deed(func() error { return exec.Command(c.path, "--nothing").Run() })
}

func byBind(c *cell) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return c.deed(func() error { return unix.Bind(fd, &unix.SockaddrUnix{Name: c.path}) })
}

func byDescriptor(c *cell) error {
	fd, err := c.open(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if c.Operation == "write" {
		return onDescriptor(c, fd)
	}
	return c.deed(func() error {
		switch c.Operation {
		case "chmod":
			return unix.Fchmod(fd, 0o600)
		case "truncate":
			return unix.Ftruncate(fd, 5)
		}
		return unix.Fchown(fd, 0, 12)
	})
}

func byEmptyPath(c *cell) error {
	fd, err := c.open(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return c.deed(func() error {
		if c.Operation == "link" {
			return unix.Linkat(fd, "", cwd, join(c.folder, c.renamed), unix.AT_EMPTY_PATH)
		}
		return unix.Fchownat(fd, "", 0, 12, unix.AT_EMPTY_PATH)
	})
}

func byProc(c *cell) error {
	fd, err := c.open(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	proc := fmt.Sprintf("/proc/self/fd/%d", fd)
	c.asked = []string{proc}
	if c.Operation == "link" {
		return c.deed(func() error {
			return unix.Linkat(cwd, proc, cwd, join(c.folder, c.renamed), unix.AT_SYMLINK_FOLLOW)
		})
	}
	return c.deed(func() error { return plain(c.Operation, proc, "") })
}

// denied tries what the rights of the file's folder and of the file forbid: EPERM where only the owner may, else EACCES.
func denied(mode uint32) func(*cell) error {
	return func(c *cell) error {
		if err := prepare(c.Operation, c.path); err != nil {
			return err
		}
		if c.Operation != "mkdir" && c.Operation != "create" {
			if err := unix.Chmod(c.path, 0o600); err != nil {
				return err
			}
		}
		if err := unix.Chmod(c.folder, mode); err != nil {
			return err
		}
		c.result = int(unix.EACCES)
		if mode == 0o755 && (c.Operation == "chmod" || c.Operation == "chown") {
			c.result = int(unix.EPERM)
		}
		if c.Operation == "create" { // nothing was made
			c.wants = "open"
		}
		return asNobody(func() error { return byPath(c, c.path, join(c.folder, c.renamed)) })
	}
}
