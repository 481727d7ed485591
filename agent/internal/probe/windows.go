package probe

import (
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Windows is WINDOWS of bpf/include/windows.h: how many windows a CPU has.
const Windows = 2048

// sweepAtOnce is SWEEP of bpf/capture.bpf.c.
const sweepAtOnce = 16

// window is struct window of bpf/include/windows.h.
type window struct {
	_     [14]uint32 // lock, state and key: the kernel's side alone
	began uint64
	_     [3]uint64
	count uint32
	_     uint32
}

type windowPage struct {
	memory []byte
	all    []window
}

func mapWindows(m *ebpf.Map, cpus int) (*windowPage, error) {
	p := &windowPage{}
	var err error
	p.memory, p.all, err = shared[window](m, cpus*Windows)
	return p, err
}

func (p *windowPage) close() { _ = unix.Munmap(p.memory) }

// due says whether one of the slots from the first on has repeats to tell of a window that began before a moment.
func (p *windowPage) due(from int, before uint64) bool {
	for i := range p.all[from : from+sweepAtOnce] {
		w := &p.all[from+i]
		if atomic.LoadUint32(&w.count) > 0 && atomic.LoadUint64(&w.began) < before {
			return true
		}
	}
	return false
}

// Sweep has the windows told that are over. The kernel's side closes a window by itself only when something happens in
// its slot again.
func (c *Capture) Sweep() error {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return fmt.Errorf("read the boot clock: %w", err)
	}
	_, err := c.sweep(uint64(now.Nano()) - min(uint64(now.Nano()), c.windowNS.Load()))
	return err
}

// SweepAll has every window told, once the programs are detached. It reports false if some could not be, which is
// then still pending.
func (c *Capture) SweepAll(within time.Duration) (bool, error) {
	for deadline := time.Now().Add(within); ; time.Sleep(time.Millisecond) {
		left, err := c.sweep(math.MaxUint64)
		if err != nil || left == 0 || time.Now().After(deadline) {
			return left == 0, err
		}
	}
}

func (c *Capture) sweep(before uint64) (left int, err error) {
	for from := 0; from < len(c.windows.all); from += sweepAtOnce {
		if !c.windows.due(from, before) {
			continue
		}
		if _, err := c.sweeper.Run(&ebpf.RunOptions{Context: []uint64{uint64(from), before}}); err != nil {
			return 0, fmt.Errorf("close windows: %w", err)
		}
		if before == math.MaxUint64 && c.windows.due(from, before) {
			left++
		}
	}
	return left, nil
}
