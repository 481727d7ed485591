// Package buffer holds rows in memory between the ring and the wire, within bounds, and counts what it must let go.
package buffer

import (
	"time"

	"kaimon/agent/internal/account"
)

// Class says how dear a row is: the cheapest go first when there is no room.
type Class uint8

// The classes, cheapest first.
const (
	Opens Class = iota
	Writes
	Rest
	Dearest // renames, deletes, chmods: what a trace is covered up with
	Classes
)

// Segment is the rows between two snapshots of the counters. With its rows delivered or counted, and those of all
// segments before it, both equations hold under its snapshot.
type Segment struct {
	Now   account.Snapshot
	Shed  account.Tallies // rows of this segment that were let go
	Final bool
	Due   bool      // it is not to wait for company
	At    time.Time // when it was closed
	part  [Classes]part
	about [Classes]int // bytes of lines to expect
}

type part struct {
	chunks []*Chunk // earlier lines
	lines  []byte   // NDJSON, or nil when packed
	size   int      // of all lines
	tally  account.Tallies
}

// NewSegment returns an open segment for n CPUs.
func NewSegment(n int) *Segment {
	s := &Segment{Shed: make(account.Tallies, n)}
	for i := range s.part {
		s.part[i].tally = make(account.Tallies, n)
	}
	return s
}

// After returns an open segment that will be much like s.
func After(s *Segment) *Segment {
	next := NewSegment(len(s.Shed))
	for c := range s.part {
		n := len(s.part[c].lines)
		next.about[c] = min(n+n/8, chunkRoom)
	}
	return next
}

// Lines returns the buffer that the next row's line is to be appended to; Append takes it back.
func (s *Segment) Lines(c Class) []byte {
	p := &s.part[c]
	if p.lines == nil {
		room := s.about[c]
		if n := len(p.chunks); n > 0 { // there were many, so there will be
			room = min(p.chunks[n-1].size+p.chunks[n-1].size/8, chunkRoom)
		}
		p.lines = newLines(room)
	}
	return p.lines
}

// Append takes the buffer of Lines back with one line more, of a row of cpu that stands for count occurrences.
func (s *Segment) Append(c Class, lines []byte, cpu uint32, count uint64) {
	p := &s.part[c]
	p.size += len(lines) - len(p.lines)
	p.lines = lines
	p.tally[cpu].Add(account.Tally{Rows: 1, Events: count})
}

// Join takes over the rows of an open segment that came after.
func (s *Segment) Join(later *Segment) {
	for i := range s.part {
		p, q := &s.part[i], &later.part[i]
		p.chunks = append(p.chunks, q.chunks...)
		p.lines = append(p.lines, q.lines...)
		p.size += q.size
		p.tally.Add(q.tally)
	}
	s.Shed.Add(later.Shed)
}

// Chunk closes the newest lines of a class once they are so many bytes (or 1 MiB), for somebody to pack while the
// segment goes on; else it returns nil. The segment must not be pushed before that is done.
func (s *Segment) Chunk(c Class, many int) *Chunk {
	p := &s.part[c]
	if len(p.lines) < min(many, chunkBytes) {
		return nil
	}
	p.close()
	return p.chunks[len(p.chunks)-1]
}

func (p *part) close() {
	p.chunks = append(p.chunks, &Chunk{lines: p.lines, size: len(p.lines)})
	p.lines = nil
}

// Loose is how many bytes its lines take that no chunk holds.
func (s *Segment) Loose() int {
	n := 0
	for i := range s.part {
		n += cap(s.part[i].lines)
	}
	return n
}

// trim gives back room that was expected to be needed and was not.
func (s *Segment) trim() {
	for i := range s.part {
		if p := &s.part[i]; cap(p.lines) > len(p.lines)+len(p.lines)/4 {
			p.lines = append([]byte(nil), p.lines...)
		}
	}
}

// Size is the length of all lines.
func (s *Segment) Size() int {
	n := 0
	for i := range s.part {
		n += s.part[i].size
	}
	return n
}

// Held is how much memory the segment holds.
func (s *Segment) Held() int {
	n := 512 + len(s.Now)*(8*10+16*5)
	for i := range s.part {
		n += cap(s.part[i].lines)
		for _, k := range s.part[i].chunks {
			n += cap(k.lines) + cap(k.z)
		}
	}
	return n
}

// Wire is about how many bytes it will take on the wire.
func (s *Segment) Wire() int {
	n := 0
	for i := range s.part {
		for _, k := range s.part[i].chunks {
			n += k.wire()
		}
		n += len(s.part[i].lines) / aboutPacked
	}
	return n
}

// Rows is the tally of the rows that it holds.
func (s *Segment) Rows() account.Tallies {
	sum := make(account.Tallies, len(s.Shed))
	for i := range s.part {
		sum.Add(s.part[i].tally)
	}
	return sum
}

// Each calls f with lines, class by class. What f is given is valid until it returns.
func (s *Segment) Each(f func(lines []byte) error) error {
	for i := range s.part {
		if err := s.part[i].each(f); err != nil {
			return err
		}
	}
	return nil
}

func (p *part) each(f func(lines []byte) error) error {
	for _, k := range p.chunks {
		lines, err := k.text()
		if err == nil {
			err = f(lines)
		}
		if err != nil {
			return err
		}
	}
	if len(p.lines) > 0 {
		return f(p.lines)
	}
	return nil
}

// pack compresses what is not yet compressed.
func (s *Segment) pack() {
	for i := range s.part {
		p := &s.part[i]
		if len(p.lines) > 0 {
			p.close()
		}
		for _, k := range p.chunks {
			if !k.packed() {
				k.Pack()
			}
		}
	}
}

// unpacked is the length of the lines that are not yet compressed.
func (s *Segment) unpacked() int {
	n := 0
	for i := range s.part {
		n += len(s.part[i].lines)
		for _, k := range s.part[i].chunks {
			if !k.packed() {
				n += k.size
			}
		}
	}
	return n
}

// drop lets all rows of one class go.
func (s *Segment) drop(c Class) account.Tally {
	p := &s.part[c]
	s.Shed.Add(p.tally)
	sum := p.tally.Sum()
	*p = part{tally: make(account.Tallies, len(s.Shed))}
	return sum
}
