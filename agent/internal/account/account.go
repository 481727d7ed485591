// Package account keeps the books: what each CPU's hooks saw, what was delivered, and what was lost and why.
//
// At every batch it holds, for each CPU, exactly:
//
//	rows delivered so far + Σ lost rows = NextSeq
//	Σ count delivered so far + Σ lost events + Filtered + Pending = Seen
package account

import "fmt"

// Tally is a number of rows and of the occurrences that they stand for.
type Tally struct {
	Rows, Events uint64
}

// Add adds b to t.
func (t *Tally) Add(b Tally) {
	t.Rows += b.Rows
	t.Events += b.Events
}

// CPU is what the kernel counted for one CPU since load, at one moment at which no program ran there.
type CPU struct {
	Seen, Filtered, NextSeq, Pending uint64
	Ring, Scratch                    Tally
}

// Snapshot is one moment of every CPU, by number; the moments of two CPUs need not be the same.
type Snapshot []CPU

// Tallies are one tally a CPU, by number.
type Tallies []Tally

// Add adds b to t.
func (t Tallies) Add(b Tallies) {
	for i := range b {
		t[i].Add(b[i])
	}
}

// Sum is the tally of all CPUs.
func (t Tallies) Sum() Tally {
	var sum Tally
	for _, one := range t {
		sum.Add(one)
	}
	return sum
}

// Ledger holds what became of every row after the ring, for one load.
type Ledger struct {
	Delivered, Shed, Refused Tallies
}

// NewLedger returns an empty ledger for n CPUs.
func NewLedger(n int) *Ledger {
	return &Ledger{make(Tallies, n), make(Tallies, n), make(Tallies, n)}
}

// Check reports the CPUs for which an equation does not hold when batch is delivered under the kernel's counters in
// now, with the shed rows of that batch's time already in the ledger.
func (l *Ledger) Check(now Snapshot, batch Tallies) error {
	for cpu, c := range now {
		rows := l.Delivered[cpu].Rows + batch[cpu].Rows + c.Ring.Rows + c.Scratch.Rows +
			l.Shed[cpu].Rows + l.Refused[cpu].Rows
		events := l.Delivered[cpu].Events + batch[cpu].Events + c.Ring.Events + c.Scratch.Events +
			l.Shed[cpu].Events + l.Refused[cpu].Events + c.Filtered + c.Pending
		if rows != c.NextSeq || events != c.Seen {
			return fmt.Errorf("cpu %d: %d rows of %d, %d events of %d are accounted for",
				cpu, rows, c.NextSeq, events, c.Seen)
		}
	}
	return nil
}
