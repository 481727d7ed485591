package buffer

import (
	"fmt"
	"testing"

	"kaimon/agent/internal/account"
)

// fill is a closed segment of one CPU with n rows of each class, each line of about 200 bytes.
func fill(n int, seq *uint64) *Segment {
	s := NewSegment(1)
	for c := range Classes {
		for range n {
			line := fmt.Appendf(s.Lines(c), `{"cpu":0,"seq":%d,"count":1,"pad":"%0150d"}`+"\n", *seq, *seq*7919)
			s.Append(c, line, 0, 1)
			*seq++
		}
	}
	s.Now = account.Snapshot{{Seen: *seq, NextSeq: *seq}}
	return s
}

func (s *Segment) rowsOf(c Class) uint64 { return s.part[c].tally.Sum().Rows }

func TestTheCheapestClassGoesFirstAndTheDearestLast(t *testing.T) {
	var seq uint64
	b := New(1 << 30)
	for range 10 {
		b.Push(fill(100, &seq))
	}
	held := func(c Class) (n uint64) {
		for _, s := range b.queue {
			n += s.rowsOf(c)
		}
		return n
	}
	gone := Opens // every class before this one has been let go
	for limit := b.heldLocked(); limit > 0; limit -= 4096 {
		b.limit = limit
		b.shedLocked()
		for gone < Classes && held(gone) == 0 {
			gone++
		}
		for dearer := gone + 1; dearer < Classes; dearer++ {
			if held(dearer) != 1000 {
				t.Fatalf("limit %d: class %d was shed while %d rows of class %d were held", limit, dearer, held(gone), gone)
			}
		}
		_, waiting, shed := b.State()
		if waiting.Rows+shed.Rows != seq {
			t.Fatalf("limit %d: %d rows wait, %d were shed, of %d", limit, waiting.Rows, shed.Rows, seq)
		}
	}
	if gone != Classes {
		t.Errorf("with no room at all, class %d is still held", gone)
	}
}

func TestTheOldestOfAClassGoesFirst(t *testing.T) {
	var seq uint64
	b := New(1 << 30)
	for range 4 {
		b.Push(fill(100, &seq))
	}
	b.packLocked(0)
	b.limit = b.heldLocked() - 1
	b.shedLocked()
	for i, want := range []uint64{0, 100, 100, 100} {
		if got := b.queue[i].rowsOf(Opens); got != want {
			t.Errorf("segment %d holds %d opens, not %d", i, got, want)
		}
	}
}

func TestABatchUnderWayLeavesASmallBufferRoomForDearRows(t *testing.T) {
	var seq uint64
	b := New(1 << 20)
	for range 8 {
		b.Push(fill(150, &seq))
	}
	b.Push(fill(1, &seq))
	got := b.take(Aim{Wire: 1, MostWire: 4 << 20, MostLines: 32 << 20}.within(b.limit))
	if len(got) == 0 {
		t.Fatal("nothing was taken")
	}
	if b.taken > b.limit/2 {
		t.Errorf("%d of %d bytes are under way", b.taken, b.limit)
	}
}

func TestARowsRoomIsNotUsedAgainWhileSomebodyMayReadIt(t *testing.T) {
	s := NewSegment(1)
	s.Append(Opens, append(s.Lines(Opens), "{\"cpu\":0,\"seq\":0,\"count\":1}\n"...), 0, 1)
	s.pack()
	next := NewSegment(1)
	next.Append(Opens, append(next.Lines(Opens), "something else that is longer than that"...), 0, 1)
	err := s.Each(func(lines []byte) error {
		if string(lines) != "{\"cpu\":0,\"seq\":0,\"count\":1}\n" {
			t.Errorf("the first row became %q", lines)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDearRowsThatFitOnceCompressedAreKeptThoughTheyCameLoose(t *testing.T) {
	const room = 256 << 10
	s, seq := NewSegment(1), uint64(0)
	for s.Size() < 4*room {
		for _, c := range []Class{Opens, Rest} {
			s.Append(c, fmt.Appendf(s.Lines(c), `{"cpu":0,"seq":%d,"count":1,"pad":"%0150d"}`+"\n", seq, seq), 0, 1)
			s.Chunk(c, room/4) // which nobody packs: somebody waits to send it
			seq++
		}
	}
	s.Now = account.Snapshot{{Seen: seq, NextSeq: seq}}
	b := &Buffer{limit: room, changed: make(chan struct{}, 1)}
	b.Push(s)
	if _, waiting, shed := b.State(); waiting.Rows != seq || shed.Rows != 0 {
		t.Errorf("of %d rows %d are held, %d were shed, with %d of %d bytes held", seq, waiting.Rows, shed.Rows, b.heldLocked(), room)
	}
}
