package main

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of io_uring.
const (
	uringFallocate = 17
	uringOpenat    = 18
	uringWrite     = 23
	uringRename    = 35
	uringUnlink    = 36
	uringMkdir     = 37
	uringSymlink   = 38
	uringLink      = 39
	uringFtruncate = 55

	fixedFile = 1 // flag of a request
)

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(&b[0])) }

// ring is an io_uring for one request at a time. The offsets are those of struct io_uring_params.
type ring struct {
	fd           int
	sq, cq, sqes []byte
	params       [120]byte
}

func newRing() (*ring, error) {
	r := &ring{}
	fd, err := call(unix.SYS_IO_URING_SETUP, 4, unsafe.Pointer(&r.params))
	if err != nil {
		return nil, fmt.Errorf("io_uring_setup: %w", err)
	}
	r.fd = fd
	for _, m := range []struct {
		to     *[]byte
		at     int64
		length int
	}{
		{&r.sq, 0, int(r.param(64)) + 4*int(r.param(0))},
		{&r.cq, 0x8000000, int(r.param(100)) + 16*int(r.param(4))},
		{&r.sqes, 0x10000000, 64 * int(r.param(0))},
	} {
		if *m.to, err = unix.Mmap(fd, m.at, m.length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE); err != nil {
			r.close()
			return nil, fmt.Errorf("map the ring: %w", err)
		}
	}
	return r, nil
}

func (r *ring) param(offset int) uint32 { return binary.NativeEndian.Uint32(r.params[offset:]) }

func (r *ring) close() {
	for _, m := range [][]byte{r.sq, r.cq, r.sqes} {
		if m != nil {
			_ = unix.Munmap(m)
		}
	}
	_ = unix.Close(r.fd)
}

func word(of []byte, offset uint32) *uint32 { return (*uint32)(unsafe.Pointer(&of[offset])) }

// A request as struct io_uring_sqe has it; strings are addressed by `address` and `second`.
type request struct {
	opcode, flags uint8
	fd            int
	first, second string
	off           uint64 // instead of second
	length, extra uint32
}

// do submits one request and waits for its end.
func (r *ring) do(q request) (int, error) {
	first, err := unix.BytePtrFromString(q.first)
	if err != nil {
		return 0, err
	}
	second, err := unix.BytePtrFromString(q.second)
	if err != nil {
		return 0, err
	}
	s := r.sqes[:64]
	clear(s)
	s[0], s[1] = q.opcode, q.flags
	binary.NativeEndian.PutUint32(s[4:], uint32(int32(q.fd)))
	binary.NativeEndian.PutUint64(s[8:], q.off)
	if q.second != "" {
		binary.NativeEndian.PutUint64(s[8:], uint64(uintptr(unsafe.Pointer(second))))
	}
	if q.first != "" {
		binary.NativeEndian.PutUint64(s[16:], uint64(uintptr(unsafe.Pointer(first))))
	}
	if q.opcode == uringFallocate {
		binary.NativeEndian.PutUint64(s[16:], 4096)
	}
	binary.NativeEndian.PutUint32(s[24:], q.length)
	binary.NativeEndian.PutUint32(s[28:], q.extra)
	tail := word(r.sq, r.param(44))
	*word(r.sq, r.param(64)+4*(*tail&*word(r.sq, r.param(48)))) = 0
	atomic.AddUint32(tail, 1)
	if _, err := call(unix.SYS_IO_URING_ENTER, r.fd, 1, 1, 1, 0, 0); err != nil {
		return 0, fmt.Errorf("io_uring_enter: %w", err)
	}
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
	head := word(r.cq, r.param(80))
	entry := r.param(100) + 16*(*head&*word(r.cq, r.param(88)))
	result := int32(*word(r.cq, entry+8))
	atomic.AddUint32(head, 1)
	if result < 0 {
		return 0, unix.Errno(-result)
	}
	return int(result), nil
}

func byRing(c *cell) error {
	r, err := newRing()
	if err != nil {
		return err
	}
	defer r.close()
	if err := prepare(c.Operation, c.path); err != nil {
		return err
	}
	folder, err := unix.Open(c.folder, unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(folder)
	file := -1
	if c.Operation == "write" || c.Operation == "truncate" {
		if file, err = unix.Open(c.path, unix.O_RDWR, 0); err != nil {
			return err
		}
		defer unix.Close(file)
	}
	q := map[string]request{
		"open_read":  {opcode: uringOpenat, fd: folder, first: c.name, extra: unix.O_RDONLY},
		"open_write": {opcode: uringOpenat, fd: folder, first: c.name, extra: unix.O_WRONLY},
		"create":     {opcode: uringOpenat, fd: folder, first: c.name, length: 0o644, extra: unix.O_CREAT | unix.O_WRONLY},
		"write":      {opcode: uringWrite, fd: file, first: "abc", length: 3},
		"rename":     {opcode: uringRename, fd: folder, first: c.name, length: uint32(folder), second: c.renamed},
		"delete":     {opcode: uringUnlink, fd: folder, first: c.name},
		"link":       {opcode: uringLink, fd: folder, first: c.name, length: uint32(folder), second: c.renamed},
		"symlink":    {opcode: uringSymlink, fd: folder, first: c.renamed, second: c.name},
		"truncate":   {opcode: uringFtruncate, fd: file, off: 5},
		"mkdir":      {opcode: uringMkdir, fd: folder, first: c.name, length: 0o755},
		"rmdir":      {opcode: uringUnlink, fd: folder, first: c.name, extra: unix.AT_REMOVEDIR},
	}[c.Operation]
	fd := -1
	err = c.deed(func() error {
		var err error
		fd, err = r.do(q)
		return err
	})
	if err == nil && q.opcode == uringOpenat {
		return unix.Close(fd)
	}
	return err
}

// onFixed writes or allocates through io_uring, on a file that was registered with the ring.
func onFixed(c *cell, q request) error {
	r, err := newRing()
	if err != nil {
		return err
	}
	defer r.close()
	fd, err := c.open(unix.O_RDWR)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	files := int32(fd)
	if _, err := call(unix.SYS_IO_URING_REGISTER, r.fd, 2, unsafe.Pointer(&files), 1); err != nil {
		return fmt.Errorf("register a file: %w", err)
	}
	q.fd, q.flags = 0, fixedFile
	return c.deed(func() error { return status(r.do(q)) })
}
