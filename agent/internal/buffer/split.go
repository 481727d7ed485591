package buffer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sort"

	"kaimon/agent/internal/account"
)

type row struct {
	CPU   uint32 `json:"cpu"`
	Seq   uint64 `json:"seq"`
	Count uint64 `json:"count"`
	class Class
	line  []byte
}

// Split halves a segment that is too large for the wire. The first half holds each CPU's earlier rows, under counters
// made for it: the kernel's counters at `before`, where the segment begins, moved on to just behind the half's last
// row. Row numbers missing up to there are put down to the causes that the segment knows (ring, scratch, then shed).
// The second half carries the segment's own snapshot, so nothing is made up beyond the moment between the halves.
// It returns nils if there are fewer than two rows.
func Split(s *Segment, before account.Snapshot) (first, second *Segment, err error) {
	perCPU := make([][]row, len(s.Shed))
	total := 0
	for c := range s.part {
		err := s.part[c].each(func(lines []byte) error {
			for line := range bytes.Lines(bytes.Clone(lines)) {
				r := row{class: Class(c), line: line}
				if err := json.Unmarshal(line, &r); err != nil {
					return fmt.Errorf("read back a row: %w", err)
				}
				perCPU[r.CPU] = append(perCPU[r.CPU], r)
				total++
			}
			return nil
		})
		if err != nil {
			return nil, nil, err
		}
	}
	if total < 2 {
		return nil, nil, nil
	}
	n := len(s.Shed)
	first, second = NewSegment(n), NewSegment(n)
	first.Now = append(account.Snapshot(nil), before...)
	second.Now, second.Final, second.At = s.Now, s.Final, s.At
	copy(second.Shed, s.Shed)
	early := true // of a CPU with an odd number, one half takes the greater part, then the other
	for cpu, rows := range perCPU {
		sort.Slice(rows, func(i, j int) bool { return rows[i].Seq < rows[j].Seq })
		half := len(rows) / 2
		if len(rows)%2 == 1 {
			if early {
				half++
			}
			early = !early
		}
		var got account.Tally
		for i, r := range rows {
			to := second
			if i < half {
				to = first
				got.Add(account.Tally{Rows: 1, Events: r.Count})
			}
			to.Append(r.class, append(to.Lines(r.class), r.line...), r.CPU, r.Count)
		}
		if half == 0 {
			continue
		}
		c, end := &first.Now[cpu], s.Now[cpu]
		c.NextSeq = rows[half-1].Seq + 1
		missing := c.NextSeq - before[cpu].NextSeq - got.Rows
		ring := share(&missing, end.Ring, c.Ring)
		scratch := share(&missing, end.Scratch, c.Scratch)
		shed := share(&missing, s.Shed[cpu], account.Tally{})
		if missing != 0 {
			return nil, nil, fmt.Errorf("cpu %d: %d rows are missing before %d", cpu, missing, c.NextSeq)
		}
		c.Ring.Add(ring)
		c.Scratch.Add(scratch)
		first.Shed[cpu] = shed
		second.Shed[cpu].Rows -= shed.Rows
		second.Shed[cpu].Events -= shed.Events
		// Some of them were pending before, and so are among what had been seen.
		events := got.Events + ring.Events + scratch.Events + shed.Events
		told := min(c.Pending, events)
		c.Pending -= told
		c.Seen += events - told
	}
	return first, second, nil
}

// share takes of `missing` what a cause can have lost between two counts: whole, or one occurrence a row.
func share(missing *uint64, now, before account.Tally) account.Tally {
	can := account.Tally{Rows: now.Rows - before.Rows, Events: now.Events - before.Events}
	if can.Rows > *missing {
		can = account.Tally{Rows: *missing, Events: *missing}
	}
	*missing -= can.Rows
	return can
}
