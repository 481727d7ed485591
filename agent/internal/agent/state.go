package agent

import (
	"sync"
	"sync/atomic"
	"time"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/config"
	"kaimon/agent/internal/harden"
	"kaimon/agent/internal/metrics"
	"kaimon/agent/internal/probe"
	"kaimon/agent/internal/ship"
)

// watched is what the metrics tell of.
type watched struct {
	capture *probe.Capture
	rows    *buffer.Buffer
	shipper *ship.Shipper
	config  *config.Watcher
	server  *metrics.Server // nil if nobody wants them
	started time.Time
	beat    time.Duration

	memory   harden.Memory
	hardened bool

	skipped, silent atomic.Uint64

	mu   sync.Mutex
	last account.Snapshot // for when there is no quiet moment
}

func (w *watched) counters() account.Snapshot {
	now, ok := w.capture.Snapshot()
	w.mu.Lock()
	defer w.mu.Unlock()
	if ok {
		w.last = now
	}
	return w.last
}

func (w *watched) state() *metrics.State {
	s := &metrics.State{
		Version: Version, Mode: w.capture.Mode, Started: w.started, Heartbeat: w.beat, Counters: w.counters(),
		Limit: w.rows.Limit(), Sent: w.shipper.Sent(), BlindSpots: w.capture.BlindSpots(),
		SkippedRuns: w.skipped.Load(), CanaryFailures: w.silent.Load(),
		MemoryLocked: w.memory.Locked, Hardened: w.hardened,
	}
	s.Held, s.Waiting, s.Shed = w.rows.State()
	s.ConfigsTaken, s.ConfigsRefused, s.ConfigBad = w.config.Counts()
	return s
}
