// Package buffer holds rows in memory between the ring and the wire, within bounds, and counts what it must let go.
package buffer

import (
	"fmt"
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
}

type part struct {
	lines []byte // NDJSON, or nil when packed
	z     []byte // the same, compressed
	size  int    // of the lines
	tally account.Tallies
}

// NewSegment returns an open segment for n CPUs.
func NewSegment(n int) *Segment {
	s := &Segment{Shed: make(account.Tallies, n)}
	for i := range s.part {
		s.part[i].tally = make(account.Tallies, n)
	}
	return s
}

// Lines returns the buffer that the next row's line is to be appended to; Append takes it back.
func (s *Segment) Lines(c Class) []byte { return s.part[c].lines }

// Append takes the buffer of Lines back with one line more, of a row of cpu that stands for count occurrences.
func (s *Segment) Append(c Class, lines []byte, cpu uint32, count uint64) {
	p := &s.part[c]
	p.lines, p.size = lines, len(lines)
	p.tally[cpu].Add(account.Tally{Rows: 1, Events: count})
}

// Join takes over the rows of an open segment that came after.
func (s *Segment) Join(later *Segment) {
	for i := range s.part {
		p, q := &s.part[i], &later.part[i]
		p.lines = append(p.lines, q.lines...)
		p.size = len(p.lines)
		p.tally.Add(q.tally)
	}
	s.Shed.Add(later.Shed)
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
		n += cap(s.part[i].lines) + cap(s.part[i].z)
	}
	return n
}

// Wire is about how many bytes it will take on the wire.
func (s *Segment) Wire() int {
	n := 0
	for i := range s.part {
		if p := &s.part[i]; p.z != nil {
			n += len(p.z)
		} else {
			n += p.size / 8
		}
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

// Each calls f with the lines of each class.
func (s *Segment) Each(f func(lines []byte) error) error {
	for i := range s.part {
		p := &s.part[i]
		lines := p.lines
		if p.z != nil {
			var err error
			if lines, err = unpack(p.z, p.size); err != nil {
				return fmt.Errorf("unpack rows: %w", err)
			}
		}
		if len(lines) > 0 {
			if err := f(lines); err != nil {
				return err
			}
		}
	}
	return nil
}

// pack compresses what is not yet compressed.
func (s *Segment) pack() {
	for i := range s.part {
		if p := &s.part[i]; p.z == nil && p.size > 0 {
			p.z = pack(p.lines)
			p.lines = nil
		}
	}
}

func (s *Segment) packed() bool {
	for i := range s.part {
		if s.part[i].lines != nil {
			return false
		}
	}
	return true
}

// drop lets all rows of one class go.
func (s *Segment) drop(c Class) account.Tally {
	p := &s.part[c]
	s.Shed.Add(p.tally)
	sum := p.tally.Sum()
	*p = part{tally: make(account.Tallies, len(s.Shed))}
	return sum
}
