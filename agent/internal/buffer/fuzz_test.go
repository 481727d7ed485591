package buffer

import (
	"fmt"
	"testing"

	"kaimon/agent/internal/account"
)

// FuzzHalvesSayTogetherWhatTheWholeSaid makes a segment of 2 CPUs from bytes, two a row: what becomes of it, and its count.
func FuzzHalvesSayTogetherWhatTheWholeSaid(f *testing.F) {
	f.Add([]byte{0, 1, 1, 2, 2, 3, 3, 1, 4, 1, 5, 9, 6, 1, 7, 1}, uint8(3), uint8(0))
	f.Add([]byte{8, 1, 9, 1, 24, 1, 25, 1, 16, 5, 0, 1, 1, 1}, uint8(0), uint8(2))
	f.Fuzz(func(t *testing.T, of []byte, pending, drop uint8) {
		before := account.Snapshot{{Seen: 10, NextSeq: 7, Pending: uint64(pending)}, {}}
		before[0].Seen += uint64(pending)
		s := NewSegment(2)
		s.Now = append(account.Snapshot(nil), before...)
		for ; len(of) >= 2; of = of[2:] {
			cpu, fate, class, count := of[0]&1, of[0]>>1&7, Class(of[0]>>4)%Classes, uint64(of[1])+1
			c, one := &s.Now[cpu], account.Tally{Rows: 1, Events: count}
			if told := min(c.Pending, count-1); fate == 7 && told > 0 { // a window closes
				c.Pending -= told
				c.Seen += count - told
			} else {
				c.Seen += count
			}
			switch seq := c.NextSeq; fate {
			case 1:
				c.Ring.Add(one)
			case 2:
				c.Scratch.Add(one)
			default:
				s.Append(class, fmt.Appendf(s.Lines(class), `{"cpu":%d,"seq":%d,"count":%d}`+"\n", cpu, seq, count), uint32(cpu), count)
			}
			c.NextSeq++
		}
		for c := range min(Class(drop), Classes) {
			s.drop(c)
		}
		ledger := account.NewLedger(2)
		ledger.Delivered[0] = account.Tally{Rows: 7, Events: 10}
		balanced := func(what string, part *Segment) {
			ledger.Shed.Add(part.Shed)
			if err := ledger.Check(part.Now, part.Rows()); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			ledger.Delivered.Add(part.Rows())
		}
		rows := s.Rows().Sum()
		first, second, err := Split(s, before)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			if rows.Rows > 1 {
				t.Fatalf("%d rows are not halved", rows.Rows)
			}
			balanced("the whole", s)
			return
		}
		balanced("the first half", first)
		balanced("the second half", second)
		both := first.Rows().Sum()
		both.Add(second.Rows().Sum())
		if both != rows || first.Rows().Sum().Rows == 0 || second.Rows().Sum().Rows == 0 {
			t.Fatalf("%+v of %+v", both, rows)
		}
		for cpu := range s.Now {
			if first.Now[cpu].Seen > s.Now[cpu].Seen || first.Now[cpu].NextSeq > s.Now[cpu].NextSeq {
				t.Fatalf("cpu %d goes back: %+v then %+v", cpu, first.Now[cpu], s.Now[cpu])
			}
		}
	})
}
