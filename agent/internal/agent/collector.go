// Package agent is the loop that carries rows from the ring to the buffer, and everything that starts and stops it.
package agent

import (
	"log/slog"
	"time"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/decode"
	"kaimon/agent/internal/enrich"
	"kaimon/agent/internal/paths"
	"kaimon/agent/internal/wire"
)

// source is what a collector reads: a probe.Capture.
type source interface {
	Snapshot() (account.Snapshot, bool)
	End() uint64
	Read(end uint64, f func(sample []byte)) bool
	Wait(milliseconds int) error
}

// collector turns samples into lines and cuts them into segments whose counters are exact.
type collector struct {
	from      source
	to        *buffer.Buffer
	processes *enrich.Processes
	log       *slog.Logger
	cpus      int
	cutEvery  time.Duration
	beatEvery time.Duration
	cutSize   int

	open    *buffer.Segment
	lastDue time.Time
	now     time.Time
	record  decode.Record
	path    []byte
	target  []byte
	events  uint64
}

const (
	pollMilliseconds = 50
	cutSize          = 1 << 20
	// stuckSize is how much an open segment may hold when no cut can be had; then the ring fills, and counts.
	stuckSize = 16 << 20
	// aBusyRecord is how long a cut waits for a record that another CPU is still writing.
	aBusyRecord = time.Second
)

// run collects until stop is closed. What is then in the ring is for finish.
func (c *collector) run(stop <-chan struct{}) error {
	c.open = buffer.NewSegment(c.cpus)
	c.lastDue = time.Now()
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := c.from.Wait(pollMilliseconds); err != nil {
			return err
		}
		c.step()
	}
}

// step empties the ring and cuts if it is time to.
func (c *collector) step() {
	c.tick()
	if c.open.Size() < stuckSize {
		c.from.Read(c.from.End(), func(sample []byte) { c.take(sample, nil, nil) })
	}
	age := c.now.Sub(c.lastDue)
	due := age >= c.beatEvery || age >= c.cutEvery && c.to.Idle() && c.open.Size()+c.to.Waiting() > 0
	if due || c.open.Size() >= c.cutSize {
		c.cut(due, false)
	}
}

func (c *collector) tick() {
	c.now = time.Now()
	c.processes.Clock.Refresh(c.now)
}

// cut closes the open segment at a moment of the counters. All that was numbered before that moment is in the ring
// before the ring's end just after it, so what is numbered later and lies there too opens the next segment. It
// reports false if there was no such moment; then everything stays open.
func (c *collector) cut(due, final bool) bool {
	now, ok := c.from.Snapshot()
	if !ok {
		c.log.Warn("no_quiet_moment", "open_bytes", c.open.Size())
		return false
	}
	end := c.from.End()
	late := buffer.NewSegment(c.cpus)
	for began := time.Now(); !c.from.Read(end, func(sample []byte) { c.take(sample, now, late) }); {
		if time.Since(began) > aBusyRecord {
			c.open.Join(late)
			c.log.Warn("record_never_finished", "open_bytes", c.open.Size())
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	c.open.Now, c.open.Due, c.open.Final = now, due, final
	c.to.Push(c.open)
	c.open = late
	if due {
		c.lastDue = time.Now()
	}
	return true
}

// take adds a sample to the open segment, or to late if its number is not below the one in now.
func (c *collector) take(sample []byte, now account.Snapshot, late *buffer.Segment) {
	r := &c.record
	err := decode.Decode(sample, r)
	if int(r.CPU) >= c.cpus {
		c.log.Error("record_of_no_cpu", "cpu", r.CPU)
		return
	}
	to := c.open
	if now != nil && r.Seq >= now[r.CPU].NextSeq {
		to = late
	}
	if err != nil {
		to.Shed[r.CPU].Add(account.Tally{Rows: 1, Events: uint64(max(r.Count, 1))})
		c.log.Error("record_malformed", "cpu", r.CPU, "seq", r.Seq, "error", err.Error())
		return
	}
	class := classOf(r)
	to.Append(class, c.line(to.Lines(class)), r.CPU, uint64(r.Count))
	c.events += uint64(r.Count)
}

// line appends the record at hand as a line of the batch.
func (c *collector) line(dst []byte) []byte {
	r := &c.record
	process := c.processes.Of(r)
	event := wire.Event{
		Record: r, TimeUs: c.processes.Clock.Micros(r.TimeNs), StartUs: process.StartUs,
		FileType: fileType(r.Type), Access: access(r), User: c.processes.User(r, process, c.now),
		Exe: process.Exe, ContainerID: process.ContainerID,
	}
	c.path, event.Status = paths.Resolve(c.path[:0], r.Path, r.PathBits)
	event.Path = c.path
	if r.Has&decode.HasTarget != 0 {
		var status paths.Status
		if r.Operation == decode.Symlink {
			c.target, status = paths.LinkTarget(c.target[:0], c.path, r.Target, r.TargetBits)
		} else {
			c.target, status = paths.Resolve(c.target[:0], r.Target, r.TargetBits)
		}
		event.Target, event.HasTarget, event.Status = c.target, true, max(event.Status, status)
	}
	return event.AppendTo(dst)
}

// finish closes the last segment, once the programs are detached.
func (c *collector) finish(within time.Duration) bool {
	c.tick()
	for deadline := c.now.Add(within); !c.cut(true, true); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

const (
	flagsAccess = 0o3
	flagPath    = 0o10000000
)

func access(r *decode.Record) string {
	if r.Has&decode.HasFlags == 0 || r.Flags&flagPath != 0 {
		return ""
	}
	switch r.Flags & flagsAccess {
	case 0:
		return "read"
	case 1:
		return "write"
	case 2:
		return "read_write"
	}
	return ""
}

func fileType(mode uint32) string {
	switch mode & 0o170000 {
	case 0o100000:
		return "regular"
	case 0o040000:
		return "directory"
	case 0o120000:
		return "symlink"
	case 0o060000, 0o020000:
		return "device"
	case 0o140000:
		return "socket"
	case 0o010000:
		return "fifo"
	}
	return "unknown"
}
