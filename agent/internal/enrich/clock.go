// Package enrich adds what the kernel does not say in a record: wall-clock time, names, programs and containers.
package enrich

import (
	"time"

	"golang.org/x/sys/unix"
)

// Clock turns boot time into wall-clock time. It keeps its offset until the wall clock is set, so that one moment has
// one time in every row.
type Clock struct {
	offset  int64 // ns
	checked time.Time
}

const (
	clockEvery = time.Second
	clockStep  = int64(time.Millisecond)
)

// Refresh measures the offset, once a second at most.
func (c *Clock) Refresh(now time.Time) {
	if now.Sub(c.checked) < clockEvery {
		return
	}
	c.checked = now
	if offset := measure(); c.offset == 0 || offset-c.offset > clockStep || c.offset-offset > clockStep {
		c.offset = offset
	}
}

// Micros is the wall-clock time in µs of a moment in ns of boot time.
func (c *Clock) Micros(bootNs uint64) int64 {
	return (int64(bootNs) + c.offset) / 1000
}

func measure() int64 {
	var before, wall, after unix.Timespec
	best, offset := int64(1)<<62, int64(0)
	for range 5 {
		if unix.ClockGettime(unix.CLOCK_BOOTTIME, &before) != nil ||
			unix.ClockGettime(unix.CLOCK_REALTIME, &wall) != nil ||
			unix.ClockGettime(unix.CLOCK_BOOTTIME, &after) != nil {
			continue
		}
		if took := after.Nano() - before.Nano(); took < best {
			best, offset = took, wall.Nano()-before.Nano()-took/2
		}
	}
	return offset
}
