package probe

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"kaimon/agent/internal/account"
)

// counters is struct counters of bpf/include/accounting.h, one a possible CPU, shared with the kernel.
type counters struct {
	started           uint64
	seen              uint64
	filtered          uint64
	nextSeq           uint64
	lostRingRows      uint64
	lostRingEvents    uint64
	lostScratchRows   uint64
	lostScratchEvents uint64
	finished          uint64
	_                 [7]uint64
}

type counterPage struct {
	memory []byte
	cpus   []counters
}

func mapCounters(fd, cpus int) (*counterPage, error) {
	size := cpus * int(unsafe.Sizeof(counters{}))
	memory, err := unix.Mmap(fd, 0, size, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the counters: %w", err)
	}
	return &counterPage{memory, unsafe.Slice((*counters)(unsafe.Pointer(&memory[0])), cpus)}, nil
}

// attempts bounds how long a snapshot is tried for; between two runs of a program there is a system call's time.
const attempts = 100_000

// snapshot reads a moment of each CPU at which no program was under way there. It reports false if a CPU had none.
func (p *counterPage) snapshot() (account.Snapshot, bool) {
	now := make(account.Snapshot, len(p.cpus))
	for i := range p.cpus {
		ok := false
		for n := 0; n < attempts && !ok; n++ {
			if ok = p.cpus[i].read(&now[i]); !ok && n%64 == 63 {
				runtime.Gosched()
			}
		}
		if !ok {
			return nil, false
		}
	}
	return now, true
}

// read reads finished, the counters, then started: if both ends are equal, whatever had started by the end had
// finished by the beginning, so nothing moved in between.
func (c *counters) read(to *account.CPU) bool {
	finished := atomic.LoadUint64(&c.finished)
	to.Seen = atomic.LoadUint64(&c.seen)
	to.Filtered = atomic.LoadUint64(&c.filtered)
	to.NextSeq = atomic.LoadUint64(&c.nextSeq)
	to.Ring.Rows = atomic.LoadUint64(&c.lostRingRows)
	to.Ring.Events = atomic.LoadUint64(&c.lostRingEvents)
	to.Scratch.Rows = atomic.LoadUint64(&c.lostScratchRows)
	to.Scratch.Events = atomic.LoadUint64(&c.lostScratchEvents)
	return atomic.LoadUint64(&c.started) == finished
}

func (p *counterPage) close() { _ = unix.Munmap(p.memory) }
