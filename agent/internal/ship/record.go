package ship

import (
	"maps"
	"net/http"
	"sync"
	"time"

	"kaimon/agent/internal/account"
)

// Sent is what a Shipper has done so far.
type Sent struct {
	Batches, Bytes, Rows, Retries, Refused, Rejected uint64

	RefusedEvents uint64
	Violations    uint64         // batches whose accounts did not add up
	Answers       map[int]uint64 // by status; 0 = none came
	Unwelcome     int            // the last status was this one: 401 or 403; else 0
	Success       time.Time      // when a batch was last accepted
	Covered       time.Time      // up to when everything is delivered, or counted as lost
}

// record is a Sent that others may look at while the Shipper works.
type record struct {
	mu   sync.Mutex
	sent Sent
}

func newRecord() record {
	now := time.Now()
	return record{sent: Sent{Answers: make(map[int]uint64), Success: now, Covered: now}}
}

// Sent says what was done so far.
func (r *record) Sent() Sent {
	r.mu.Lock()
	defer r.mu.Unlock()
	copied := r.sent
	copied.Answers = maps.Clone(r.sent.Answers)
	return copied
}

func (r *record) answered(a *Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	status := 0
	if a != nil {
		status = a.Status
		r.sent.Unwelcome = 0
		if status == http.StatusUnauthorized || status == http.StatusForbidden {
			r.sent.Unwelcome = status
		}
	}
	r.sent.Answers[status]++
}

func (r *record) delivered(b *batch, rows account.Tally, a *Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent.Batches++
	r.sent.Bytes += uint64(len(b.body))
	r.sent.Rows += rows.Rows
	r.sent.Rejected += uint64(a.Rejected)
	r.sent.Success = time.Now()
	r.covered(b.at)
}

func (r *record) refused(b *batch, rows account.Tally) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent.Refused += rows.Rows
	r.sent.RefusedEvents += rows.Events
	r.covered(b.at)
}

func (r *record) covered(at time.Time) {
	if at.After(r.sent.Covered) {
		r.sent.Covered = at
	}
}

func (r *record) retried() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent.Retries++
}

func (r *record) violated() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sent.Violations++
}
