package probe

import (
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ring reads the kernel's ring buffer. Unlike a general reader it can say where it ends at a moment, which is what
// exact books need.
type Ring struct {
	control, data []byte
	size          uint64
	consumer      *uint64
	producer      *uint64
	epoll         int
	whole         []byte // of a sample that goes over the end
}

const (
	busy       = 1 << 31
	discarded  = 1 << 30
	headerSize = 8
	giveBack   = 256 << 10 // bytes after which the kernel learns that there is room again
)

func newRing(fd, size int) (*Ring, error) {
	page := os.Getpagesize()
	control, err := unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ring's reader: %w", err)
	}
	// The kernel would map the data twice in a row, so that no record is cut in two; both count as the agent's memory.
	data, err := unix.Mmap(fd, int64(page), page+size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the ring: %w", err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("wait for the ring: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return nil, fmt.Errorf("wait for the ring: %w", err)
	}
	return &Ring{
		control: control, data: data[page:], size: uint64(size), epoll: epoll,
		consumer: (*uint64)(unsafe.Pointer(&control[0])), producer: (*uint64)(unsafe.Pointer(&data[0])),
	}, nil
}

// Wait returns when the kernel asks for attention or the time is up.
func (r *Ring) Wait(milliseconds int) error {
	var events [1]unix.EpollEvent
	if _, err := unix.EpollWait(r.epoll, events[:], milliseconds); err != nil && err != unix.EINTR {
		return fmt.Errorf("wait for the ring: %w", err)
	}
	return nil
}

// Begin is the position of the oldest record that has not been read.
func (r *Ring) Begin() uint64 { return atomic.LoadUint64(r.consumer) }

// End is the position behind the newest record that has been begun.
func (r *Ring) End() uint64 { return atomic.LoadUint64(r.producer) }

// Read gives f each finished record before position end, and reports whether it got there: a record that is still
// being written holds up those behind it. What f is given is valid until it returns.
func (r *Ring) Read(end uint64, f func(sample []byte)) bool {
	at := atomic.LoadUint64(r.consumer)
	given := at
	for at < end {
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at&(r.size-1)])))
		if header&busy != 0 {
			break
		}
		length := uint64(header &^ (busy | discarded))
		if header&discarded == 0 {
			f(r.sample((at+headerSize)&(r.size-1), length))
		}
		at += (length + headerSize + 7) &^ 7
		if at-given >= giveBack {
			atomic.StoreUint64(r.consumer, at)
			given = at
		}
	}
	atomic.StoreUint64(r.consumer, at)
	return at >= end
}

// sample is what lies at a place of the ring, in one piece.
func (r *Ring) sample(from, length uint64) []byte {
	if end := from + length; end <= r.size {
		return r.data[from:end:end]
	}
	r.whole = append(append(r.whole[:0], r.data[from:]...), r.data[:from+length-r.size]...)
	return r.whole
}

// Close gives the mappings back.
func (r *Ring) Close() {
	_ = unix.Close(r.epoll)
	_ = unix.Munmap(r.control)
}
