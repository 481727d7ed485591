package probe

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"kaimon/agent/internal/account"
)

// counters is struct counters of bpf/include/accounting.h, one a possible CPU, shared with the kernel.
type counters struct {
	started           uint64
	swept             uint64
	filtered          uint64
	pending           uint64
	nextSeq           uint64
	lostRingRows      uint64
	lostRingEvents    uint64
	lostScratchRows   uint64
	lostScratchEvents uint64
	finished          uint64
	_                 [6]uint64
}

// own is struct own of bpf/include/report.h, one a possible CPU: how often each hook met the agent itself.
type own struct{ met [hookCount]uint64 }

type counterPage struct {
	memory, ownMemory []byte
	cpus              []counters
	owns              []own
}

// shared maps an array that the kernel's side writes.
func shared[T any](m *ebpf.Map, n int) ([]byte, []T, error) {
	var one T
	memory, err := unix.Mmap(m.FD(), 0, n*int(unsafe.Sizeof(one)), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, nil, fmt.Errorf("map %s: %w", m, err)
	}
	return memory, unsafe.Slice((*T)(unsafe.Pointer(&memory[0])), n), nil
}

func mapCounters(counts, owns *ebpf.Map, cpus int) (*counterPage, error) {
	p := &counterPage{}
	var err error
	if p.memory, p.cpus, err = shared[counters](counts, cpus); err != nil {
		return nil, err
	}
	p.ownMemory, p.owns, err = shared[own](owns, cpus)
	return p, err
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
	swept := atomic.LoadUint64(&c.swept)
	to.Pending = atomic.LoadUint64(&c.pending)
	to.Filtered = atomic.LoadUint64(&c.filtered)
	to.NextSeq = atomic.LoadUint64(&c.nextSeq)
	to.Ring.Rows = atomic.LoadUint64(&c.lostRingRows)
	to.Ring.Events = atomic.LoadUint64(&c.lostRingEvents)
	to.Scratch.Rows = atomic.LoadUint64(&c.lostScratchRows)
	to.Scratch.Events = atomic.LoadUint64(&c.lostScratchEvents)
	to.Seen = finished - swept
	return atomic.LoadUint64(&c.started) == finished
}

func (p *counterPage) close() {
	_ = unix.Munmap(p.memory)
	_ = unix.Munmap(p.ownMemory)
}
