package buffer

import (
	"context"
	"sync"
	"time"

	"kaimon/agent/internal/account"
)

// loose is how many bytes of lines may wait uncompressed.
const loose = 4 << 20

// Buffer is a bounded queue of closed segments. One goroutine pushes, one takes.
type Buffer struct {
	mu      sync.Mutex
	limit   int
	queue   []*Segment
	taken   int // bytes held by segments that were taken and not yet released
	coming  int // bytes of rows on their way here
	shed    account.Tally
	idle    bool // somebody waits in Take
	changed chan struct{}
}

// working is what the open segment, compressing and the collector of garbage take beside what is queued, out of the
// same limit.
const working = 20 << 20

// New returns a buffer that, with what working on it takes, holds about limit bytes at most.
func New(limit int) *Buffer {
	return &Buffer{limit: limit - min(working, limit/3), changed: make(chan struct{}, 1)}
}

// Push adds a closed segment, and lets the oldest of the cheapest rows go while there is no room.
func (b *Buffer) Push(s *Segment) {
	s.At = time.Now()
	s.trim()
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.queue); n > 0 && b.queue[n-1].Size() == 0 && !b.queue[n-1].Final {
		s.Shed.Add(b.queue[n-1].Shed)
		s.Due = s.Due || b.queue[n-1].Due
		b.queue = b.queue[:n-1]
	}
	b.queue = append(b.queue, s)
	b.packLocked(min(loose, b.limit/4))
	b.shedLocked()
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// Aim is what a batch should come to, and what it may: bytes on the wire and bytes of lines.
type Aim struct {
	Wire, Lines         int // enough to be worth a batch
	MostWire, MostLines int // as much as is taken at once
	mostHeld            int
}

// within is the aim for a buffer of so many bytes: what was taken is held until the server has it, and if that were
// most of the room, dear rows would be shed for want of it.
func (a Aim) within(limit int) Aim {
	a.Wire = min(a.Wire, limit/8)
	a.MostWire = min(a.MostWire, limit/8)
	a.mostHeld = limit / 8
	return a
}

// Take waits until a segment is due, or there is enough for a batch, and returns the oldest segments: one at least,
// more while they fit. They stay the buffer's burden until released. It returns nil when ctx ends.
func (b *Buffer) Take(ctx context.Context, aim Aim) []*Segment {
	aim = aim.within(b.limit)
	for {
		if got := b.take(aim); got != nil {
			return got
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.changed:
		}
	}
}

func (b *Buffer) take(aim Aim) []*Segment {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, wire, lines, held, due := 0, 0, 0, 0, false
	for _, s := range b.queue {
		due = due || s.Due
		wire += s.Wire()
		lines += s.Size()
		held += s.Held()
		if n == 0 || wire <= aim.MostWire && lines <= aim.MostLines && held <= aim.mostHeld {
			n++
		}
	}
	if b.idle = !due && wire < aim.Wire && lines < aim.Lines; b.idle {
		return nil
	}
	got := append([]*Segment(nil), b.queue[:n]...)
	b.queue = append([]*Segment(nil), b.queue[n:]...)
	for _, s := range got {
		b.taken += s.Held()
	}
	return got
}

// Limit is about how many bytes of rows are held at most.
func (b *Buffer) Limit() int { return b.limit }

// Expect counts bytes more (or, below 0, fewer) of rows on their way here among what is held.
func (b *Buffer) Expect(bytes int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.coming += bytes
}

// Idle says whether somebody waits for segments.
func (b *Buffer) Idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.idle
}

// Release gives back the room of segments that were taken; held is what Held said of them then.
func (b *Buffer) Release(held int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken -= held
}

// Waiting is the number of segments that nobody has taken.
func (b *Buffer) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

// State says how many bytes are held, the rows that wait, and those let go so far.
func (b *Buffer) State() (held int, waiting, shed account.Tally) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.queue {
		waiting.Add(s.Rows().Sum())
	}
	return b.heldLocked(), waiting, b.shed
}

func (b *Buffer) heldLocked() int {
	held := b.taken + b.coming
	for _, s := range b.queue {
		held += s.Held()
	}
	return held
}

// packLocked compresses all but the newest lines, as many bytes as most.
func (b *Buffer) packLocked(most int) {
	open := 0
	for i := len(b.queue) - 1; i >= 0; i-- {
		s := b.queue[i]
		n := s.unpacked()
		if n == 0 {
			continue
		}
		if open += n; open > most {
			s.pack()
		}
	}
}

func (b *Buffer) shedLocked() {
	if b.heldLocked() > b.limit {
		b.packLocked(0) // before anything is let go
	}
	held := b.heldLocked()
	for c := Opens; c < Classes && held > b.limit; c++ {
		for _, s := range b.queue {
			if held <= b.limit {
				break
			}
			was := s.Held()
			b.shed.Add(s.drop(c))
			held += s.Held() - was
		}
	}
	b.foldLocked()
}

// foldLocked merges segments without rows into the ones after them, whose counters say all that theirs do.
func (b *Buffer) foldLocked() {
	kept := b.queue[:0]
	for i, s := range b.queue {
		if i < len(b.queue)-1 && s.Size() == 0 {
			b.queue[i+1].Shed.Add(s.Shed)
			b.queue[i+1].Due = b.queue[i+1].Due || s.Due
			continue
		}
		kept = append(kept, s)
	}
	clear(b.queue[len(kept):])
	b.queue = kept
}

// Retake adds to the burden of what was taken: its halves may hold more than it did.
func (b *Buffer) Retake(held int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.taken += held
}
