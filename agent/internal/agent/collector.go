// Package agent is the loop that carries rows from the ring to the buffer, and everything that starts and stops it.
package agent

import (
	"log/slog"
	"sync/atomic"
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
	Begin() uint64
	End() uint64
	Read(end uint64, f func(sample []byte)) bool
	Wait(milliseconds int) error
	Sweep() error
	Windows() int
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
	jobs      chan job                        // for pack; nil = here and now
	unpacked  atomic.Int64                    // bytes of lines in jobs
	sensitive *atomic.Pointer[paths.Patterns] // opens of such files are shed last

	openers []opener // by window: what the row said that opened it
	swept   time.Time
	open    *buffer.Segment
	lastDue time.Time
	now     time.Time
	record  decode.Record
	path    []byte
	target  []byte
	rest    []byte
	events  uint64
}

// opener is the row that opened a window: its repeats are told like it.
type opener struct {
	seq   uint64
	class buffer.Class
	rest  []byte // of its line, behind the Moment
}

const (
	pollMilliseconds = 50
	sweepEvery       = 250 * time.Millisecond
	cutSize          = 1 << 20
	firstWithin      = time.Second // a host shows up at once, also one where nothing happens
	readAtOnce       = 1 << 20     // bytes of the ring between two looks at what else is due
	mostUnpacked     = 2 << 20     // bytes of lines that may wait to be packed
	leftLoose        = 8           // part of the buffer that lines about to be sent may take
	// stuckSize is how much an open segment may hold when no cut can be had; then the ring fills, and counts.
	stuckSize = 16 << 20
	// aBusyRecord is how long a cut waits for a record that another CPU is still writing.
	aBusyRecord = time.Second
)

// run collects until stop is closed. What is then in the ring is for finish.
func (c *collector) run(stop <-chan struct{}) error {
	c.open = buffer.NewSegment(c.cpus)
	c.openers = make([]opener, c.from.Windows())
	c.lastDue = time.Now().Add(firstWithin - max(c.beatEvery, firstWithin))
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if c.from.End()-c.from.Begin() < readAtOnce {
			if err := c.from.Wait(pollMilliseconds); err != nil {
				return err
			}
		}
		if err := c.step(); err != nil {
			return err
		}
	}
}

// job is lines to pack, then the segment to queue that holds them.
type job struct {
	chunk   *buffer.Chunk
	segment *buffer.Segment
}

// pack does jobs until there will be no more: compressing takes longer than reading, and the ring does not wait.
func (c *collector) pack(done chan<- struct{}) {
	left := 0
	for j := range c.jobs {
		if j.chunk == nil {
			loose := j.segment.Loose()
			c.to.Push(j.segment)
			c.unpacked.Add(int64(-loose))
			left = 0
			continue
		}
		if left += j.chunk.Size(); left > c.to.Limit()/leftLoose || !c.to.Idle() {
			j.chunk.Pack() // else it is about to be sent, which packs it
		}
		c.to.Expect(-j.chunk.Size())
		c.unpacked.Add(int64(-j.chunk.Size()))
	}
	close(done)
}

func (c *collector) packLater(k *buffer.Chunk) {
	if c.jobs == nil {
		k.Pack()
		return
	}
	c.awaitPacking()
	c.unpacked.Add(int64(k.Size()))
	c.to.Expect(k.Size())
	c.jobs <- job{chunk: k}
}

func (c *collector) awaitPacking() {
	for c.unpacked.Load() > int64(min(mostUnpacked, c.cutSize)) {
		time.Sleep(time.Millisecond) // meanwhile the ring fills
	}
}

func (c *collector) push(s *buffer.Segment) {
	if c.jobs == nil {
		c.to.Push(s)
		return
	}
	c.awaitPacking()
	c.unpacked.Add(int64(s.Loose()))
	c.jobs <- job{segment: s}
}

// step has windows closed, empties the ring and cuts if it is time to.
func (c *collector) step() error {
	c.tick()
	if c.now.Sub(c.swept) >= sweepEvery {
		c.swept = c.now
		if err := c.from.Sweep(); err != nil {
			return err
		}
	}
	if c.open.Size() < stuckSize {
		c.from.Read(min(c.from.End(), c.from.Begin()+readAtOnce), func(sample []byte) { c.take(sample, nil, nil) })
	}
	age := c.now.Sub(c.lastDue)
	due := age >= c.beatEvery || age >= c.cutEvery && c.to.Idle() && c.open.Size()+c.to.Waiting() > 0
	if due || c.open.Size() >= c.cutSize {
		c.cut(due, false)
	}
	return nil
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
	late := buffer.After(c.open)
	for began := time.Now(); !c.from.Read(end, func(sample []byte) { c.take(sample, now, late) }); {
		if time.Since(began) > aBusyRecord {
			c.open.Join(late)
			c.log.Warn("record_never_finished", "open_bytes", c.open.Size())
			return false
		}
		time.Sleep(100 * time.Microsecond)
	}
	c.open.Now, c.open.Due, c.open.Final = now, due, final
	c.push(c.open)
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
	class, rest := c.tell(r)
	moment := wire.Moment{
		TimeUs: c.processes.Clock.Micros(r.TimeNs), LastUs: c.processes.Clock.Micros(r.LastNs), TimeNs: r.TimeNs,
		Count: uint64(r.Count), CPU: r.CPU, Seq: r.Seq,
	}
	to.Append(class, append(moment.AppendTo(to.Lines(class)), rest...), r.CPU, uint64(r.Count))
	if chunk := to.Chunk(class, c.cutSize); chunk != nil {
		c.packLater(chunk)
	}
	c.events += uint64(r.Count)
}

// tell says how dear the record at hand is, and what its line says behind the moment. The result is valid until the
// next call.
func (c *collector) tell(r *decode.Record) (buffer.Class, []byte) {
	var slot *opener
	if n := int(r.Window); n > 0 && n <= len(c.openers) {
		slot = &c.openers[n-1]
	}
	if r.Has&decode.HasRest != 0 && slot != nil && slot.rest != nil && slot.seq == r.First {
		return slot.class, slot.rest
	}
	path := c.describe(r)
	class := classOf(r)
	if class == buffer.Opens && c.sensitive.Load().Match(path) {
		class = buffer.Dearest
	}
	if slot != nil && r.Has&decode.HasRest == 0 {
		slot.seq, slot.class, slot.rest = r.Seq, class, append(slot.rest[:0], c.rest...)
	}
	return class, c.rest
}

// describe puts into c.rest what the record's line says behind the moment, and returns its path.
func (c *collector) describe(r *decode.Record) []byte {
	process := c.processes.Of(r)
	event := wire.Event{
		Record: r, StartUs: process.StartUs,
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
	c.rest = event.AppendTo(c.rest[:0])
	return c.path
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
