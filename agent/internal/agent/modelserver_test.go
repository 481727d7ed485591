package agent

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"

	"kaimon/agent/internal/wire"
)

// modelServer checks every batch that it takes as anybody could, and answers by chance.
type modelServer struct {
	t       *testing.T
	random  *rand.Rand
	mu      sync.Mutex
	rows    map[int]map[uint64]bool
	events  map[int]uint64
	digests map[uint64]string
	taken   map[string]bool
	last    []wire.CPU
	answers map[int]int
	final   bool
	most    int // bytes of a body; more is 413
	calm    bool
}

type line struct {
	CPU   int    `json:"cpu"`
	Seq   uint64 `json:"seq"`
	Count uint64 `json:"count"`
}

func (s *modelServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	raw := sha256.Sum256(body)
	if got := r.Header.Get("Content-Digest"); got != "sha-256=:"+base64.StdEncoding.EncodeToString(raw[:])+":" {
		s.t.Errorf("digest %s", got)
	}
	digest := hex.EncodeToString(raw[:])
	header, lines := s.parse(body)
	if known, ok := s.digests[header.BatchSeq]; ok && known != digest {
		s.t.Errorf("batch %d came as two", header.BatchSeq)
	}
	s.digests[header.BatchSeq] = digest
	if before, ok := s.digests[header.BatchSeq-1]; ok && *header.PreviousDigest != before {
		s.t.Errorf("batch %d does not chain", header.BatchSeq)
	}
	answer := func(status int) {
		s.answers[status]++
		w.WriteHeader(status)
	}
	if len(body) > s.most && len(lines) > 1 {
		answer(http.StatusRequestEntityTooLarge)
		return
	}
	if !s.calm && !s.taken[digest] {
		switch s.random.IntN(12) {
		case 0:
			answer(http.StatusServiceUnavailable)
			return
		case 1:
			answer(http.StatusUnauthorized)
			return
		case 2:
			if !header.Final {
				answer(http.StatusBadRequest)
				return
			}
		case 3:
			s.answers[0]++
			s.take(digest, header, lines) // stored, but the answer is lost
			panic(http.ErrAbortHandler)
		case 4:
			if len(lines) > 1 {
				answer(http.StatusRequestEntityTooLarge)
				return
			}
		}
	}
	duplicate := s.taken[digest]
	if !duplicate {
		s.take(digest, header, lines)
	}
	s.answers[http.StatusOK]++
	fmt.Fprintf(w, `{"accepted":%d,"rejected":0,"duplicate":%t,"errors":[]}`, len(lines), duplicate)
}

func (s *modelServer) parse(body []byte) (wire.Header, []line) {
	decoder, err := zstd.NewReader(bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	defer decoder.Close()
	raw, err := io.ReadAll(decoder)
	if err != nil {
		s.t.Error(err)
	}
	all := strings.Split(strings.TrimSuffix(string(raw), "\n"), "\n")
	var header wire.Header
	if err := json.Unmarshal([]byte(all[0]), &header); err != nil {
		s.t.Error(err)
	}
	lines := make([]line, len(all)-1)
	for i, text := range all[1:] {
		if err := json.Unmarshal([]byte(text), &lines[i]); err != nil {
			s.t.Errorf("%s: %s", err, text)
		}
	}
	return header, lines
}

func sumOf(c wire.Causes) uint64 { return c.Ring + c.Scratch + c.Shed + c.Refused + c.Evicted }

func (s *modelServer) take(digest string, header wire.Header, lines []line) {
	s.taken[digest] = true
	for _, l := range lines {
		if s.rows[l.CPU] == nil {
			s.rows[l.CPU] = make(map[uint64]bool)
		}
		if s.rows[l.CPU][l.Seq] {
			s.t.Errorf("row %d of cpu %d came twice", l.Seq, l.CPU)
		}
		s.rows[l.CPU][l.Seq] = true
		s.events[l.CPU] += l.Count
	}
	for i, c := range header.CPUs {
		if got := uint64(len(s.rows[c.CPU])) + sumOf(c.LostRows); got != c.NextSeq {
			s.t.Errorf("batch %d cpu %d: %d rows of %d", header.BatchSeq, c.CPU, got, c.NextSeq)
		}
		if got := s.events[c.CPU] + sumOf(c.LostEvents) + c.Filtered + c.Pending; got != c.Seen {
			s.t.Errorf("batch %d cpu %d: %d events of %d", header.BatchSeq, c.CPU, got, c.Seen)
		}
		for _, l := range lines {
			if l.CPU == c.CPU && l.Seq >= c.NextSeq {
				s.t.Errorf("batch %d cpu %d: row %d is not below %d", header.BatchSeq, c.CPU, l.Seq, c.NextSeq)
			}
		}
		if i < len(s.last) {
			b := s.last[i]
			if b.Seen > c.Seen || b.NextSeq > c.NextSeq || b.Filtered > c.Filtered ||
				b.LostRows.Ring > c.LostRows.Ring || b.LostRows.Scratch > c.LostRows.Scratch ||
				b.LostRows.Shed > c.LostRows.Shed || b.LostRows.Refused > c.LostRows.Refused {
				s.t.Errorf("batch %d: counters of cpu %d go back", header.BatchSeq, c.CPU)
			}
		}
	}
	s.last = header.CPUs
	s.final = header.Final
}
