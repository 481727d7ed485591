package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/decode"
	"kaimon/agent/internal/enrich"
	"kaimon/agent/internal/paths"
	"kaimon/agent/internal/ship"
	"kaimon/agent/internal/wire"
)

// modelKernel behaves as the programs do: it counts, numbers, loses, and puts samples into a ring, also between a
// snapshot and the look at the ring's end.
type modelKernel struct {
	random   *rand.Rand
	cpus     account.Snapshot
	samples  [][]byte
	consumed uint64
	longest  int
	unquiet  int // how many snapshots will find no quiet moment
	windows  []modelWindow
}

// modelWindow is an open window: its slot, and what its first row said.
type modelWindow struct {
	cpu       int
	first     uint64
	count     uint64
	operation decode.Operation
}

const modelWindows = 8 // a CPU

// repeat counts one more occurrence in a window, or closes it.
func (k *modelKernel) repeat(slot int) {
	w := &k.windows[slot]
	c := &k.cpus[w.cpu]
	if k.random.IntN(4) > 0 {
		c.Seen++
		c.Pending++
		w.count++
		return
	}
	k.closeWindow(slot)
}

func (k *modelKernel) closeWindow(slot int) {
	w := &k.windows[slot]
	c := &k.cpus[w.cpu]
	if w.count > 0 {
		raw := sample(uint32(w.cpu), c.NextSeq, w.operation, uint32(w.count), nil)
		binary.LittleEndian.PutUint64(raw[24:], w.first)
		binary.LittleEndian.PutUint32(raw[124:], uint32(slot+1))
		binary.LittleEndian.PutUint16(raw[134:], decode.HasRest)
		raw[128] = paths.String | paths.Unread
		k.samples = append(k.samples, raw)
		c.NextSeq++
		c.Pending -= w.count
	}
	*w = modelWindow{}
}

func (k *modelKernel) Sweep() error {
	if k.windows == nil {
		k.windows = make([]modelWindow, k.Windows())
	}
	k.closeWindow(k.random.IntN(len(k.windows)))
	return nil
}

func (k *modelKernel) Windows() int { return len(k.cpus) * modelWindows }

func (k *modelKernel) happen(n int) {
	for range n {
		cpu := k.random.IntN(len(k.cpus))
		c := &k.cpus[cpu]
		count := uint64(1)
		if k.random.IntN(10) == 0 {
			count += uint64(k.random.IntN(5))
		}
		c.Seen += count
		switch k.random.IntN(20) {
		case 0, 1, 2:
			c.Filtered += count
			continue
		case 3:
			c.NextSeq++
			c.Ring.Add(account.Tally{Rows: 1, Events: count})
			continue
		case 4:
			c.NextSeq++
			c.Scratch.Add(account.Tally{Rows: 1, Events: count})
			continue
		}
		if len(k.windows) > 0 && k.random.IntN(3) == 0 {
			slot := k.random.IntN(len(k.windows))
			if c.Seen -= count; k.windows[slot].operation != 0 {
				k.repeat(slot)
			}
			continue
		}
		operation := decode.Operation(1 + k.random.IntN(int(decode.MmapWrite)))
		name := make([]byte, 1+k.random.IntN(k.longest))
		for i := range name {
			name[i] = byte(1 + k.random.IntN(255))
		}
		name = append(bytes.ReplaceAll(name, []byte{'/'}, []byte{'.'}), '/')
		raw := sample(uint32(cpu), c.NextSeq, operation, uint32(count), name)
		if len(k.windows) > 0 && k.random.IntN(3) == 0 {
			slot := cpu*modelWindows + k.random.IntN(modelWindows)
			k.closeWindow(slot)
			binary.LittleEndian.PutUint64(raw, c.NextSeq)
			binary.LittleEndian.PutUint32(raw[124:], uint32(slot+1))
			k.windows[slot] = modelWindow{cpu: cpu, first: c.NextSeq, operation: operation}
		}
		k.samples = append(k.samples, raw)
		c.NextSeq++
	}
}

func sample(cpu uint32, seq uint64, operation decode.Operation, count uint32, path []byte) []byte {
	raw := make([]byte, decode.Size, decode.Size+len(path))
	binary.LittleEndian.PutUint64(raw[0:], seq)
	binary.LittleEndian.PutUint32(raw[64:], cpu)
	binary.LittleEndian.PutUint32(raw[68:], 42)
	binary.LittleEndian.PutUint32(raw[120:], count)
	binary.LittleEndian.PutUint16(raw[132:], uint16(operation))
	binary.LittleEndian.PutUint16(raw[136:], uint16(len(path)))
	copy(raw[144:], "model")
	return append(raw, path...)
}

func (k *modelKernel) Snapshot() (account.Snapshot, bool) {
	if k.unquiet > 0 {
		k.unquiet--
		return nil, false
	}
	now := append(account.Snapshot(nil), k.cpus...)
	k.happen(k.random.IntN(30))
	return now, true
}

func (k *modelKernel) Begin() uint64 { return k.consumed }

func (k *modelKernel) End() uint64 { return k.consumed + uint64(len(k.samples)) }

func (k *modelKernel) Read(end uint64, f func([]byte)) bool {
	for k.consumed < end {
		one := k.samples[0]
		k.samples, k.consumed = k.samples[1:], k.consumed+1
		f(one)
	}
	return true
}

func (k *modelKernel) Wait(int) error { return nil }

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

func model(t *testing.T, seed uint64, limit, longest, rounds, most int, calm bool) *modelServer {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	server := &modelServer{
		t: t, random: rand.New(rand.NewPCG(seed, 2)), rows: make(map[int]map[uint64]bool), most: most, calm: calm,
		events: make(map[int]uint64), digests: make(map[uint64]string), taken: make(map[string]bool),
		answers: make(map[int]int),
	}
	web := httptest.NewUnstartedServer(server)
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.StartTLS()
	defer web.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})
	if err := os.WriteFile(ca, block, 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := ship.NewClient(web.URL, ca, "test", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	const cpus = 3
	shipper, err := ship.NewShipper(cpus)
	if err != nil {
		t.Fatal(err)
	}
	rows := buffer.New(limit)
	shipper.Client, shipper.Buffer, shipper.Log = client, rows, slog.New(slog.DiscardHandler)
	shipper.Online, shipper.BlindSpots = func(int) bool { return true }, func() []string { return nil }
	shipper.Settings = ship.Settings{AuthRetry: time.Millisecond, BackoffBase: time.Millisecond, BackoffMost: time.Millisecond}

	kernel := &modelKernel{random: random, cpus: make(account.Snapshot, cpus), longest: longest}
	c := &collector{
		from: kernel, to: rows, processes: enrich.NewProcesses(16), log: shipper.Log, cpus: cpus,
		cutEvery: time.Hour, beatEvery: time.Hour, cutSize: 1 << 30, open: buffer.NewSegment(cpus), lastDue: time.Now(),
		openers: make([]opener, kernel.Windows()), sensitive: patterns("f"),
	}
	shipped := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	begin := make(chan struct{})
	go func() {
		<-begin
		shipped <- shipper.Run(ctx, nil)
	}()
	for round := range rounds {
		kernel.happen(random.IntN(200))
		if err := c.step(); err != nil {
			t.Fatal(err)
		}
		if random.IntN(3) == 0 {
			kernel.unquiet = random.IntN(2)
			c.cut(random.IntN(2) == 0, false)
		}
		if round == rounds/2 {
			close(begin)
		}
	}
	if !c.finish(time.Second) {
		t.Fatal("no last cut")
	}
	// What happened during the last snapshot is behind it, as on a real host it would not be: the hooks are gone.
	if err := <-shipped; err != nil {
		t.Fatal(err)
	}
	if !server.final {
		t.Fatal("no goodbye")
	}
	return server
}

func TestTheBooksBalanceWhateverTheServerAnswers(t *testing.T) {
	answers := make(map[int]int)
	for seed := range uint64(12) {
		server := model(t, seed, 64<<20, 40, 60, 8<<20, false)
		for status, n := range server.answers {
			answers[status] += n
		}
	}
	for _, status := range []int{0, 200, 400, 401, 413, 503} {
		if answers[status] == 0 {
			t.Errorf("the model never answered %d: %v", status, answers)
		}
	}
}

func TestTheBooksBalanceWhenTheBufferSheds(t *testing.T) {
	server := model(t, 7, 1<<20, 3000, 60, 8<<20, true)
	var shed uint64
	for _, c := range server.last {
		shed += c.LostRows.Shed
	}
	if shed == 0 {
		t.Error("nothing was shed, so nothing was shown")
	}
}

func TestTheBooksBalanceWhenEveryBatchIsTooLarge(t *testing.T) {
	for seed := range uint64(4) {
		server := model(t, seed, 1<<20, 300, 24, 10_000, seed%2 == 0)
		if server.answers[http.StatusRequestEntityTooLarge] < 10 {
			t.Errorf("halved %d times only", server.answers[http.StatusRequestEntityTooLarge])
		}
	}
}

func TestTheBooksBalanceWhenWhatIsLeftAfterSheddingIsTooLarge(t *testing.T) {
	for seed := range uint64(3) {
		server := model(t, seed, 1<<20, 800, 50, 30_000, true)
		if server.answers[http.StatusRequestEntityTooLarge] < 3 || server.last[0].LostRows.Shed == 0 {
			t.Errorf("nothing was shown: %v, %v", server.answers, server.last)
		}
	}
}

func TestAMalformedRecordIsCountedAndTheRestGoesOn(t *testing.T) {
	c := &collector{
		to: buffer.New(1 << 20), processes: enrich.NewProcesses(4), log: slog.New(slog.DiscardHandler), cpus: 2,
		open: buffer.NewSegment(2), sensitive: patterns(), openers: make([]opener, 4),
	}
	good := sample(1, 0, decode.Open, 1, []byte("f/"))
	bad := sample(1, 1, decode.Open, 1, []byte("f/"))
	bad[136]++
	c.take(good, nil, nil)
	c.take(bad, nil, nil)
	if c.open.Rows()[1].Rows != 1 || c.open.Shed[1].Rows != 1 {
		t.Errorf("rows %v, shed %v", c.open.Rows(), c.open.Shed)
	}
}

func patterns(of ...string) *atomic.Pointer[paths.Patterns] {
	var p atomic.Pointer[paths.Patterns]
	p.Store(paths.NewPatterns(of))
	return &p
}

func TestRepeatsAreToldLikeTheRowThatOpenedTheirWindow(t *testing.T) {
	c := &collector{
		to: buffer.New(1 << 20), processes: enrich.NewProcesses(4), log: slog.New(slog.DiscardHandler), cpus: 2,
		open: buffer.NewSegment(2), sensitive: patterns("secret"), openers: make([]opener, 4),
	}
	first := sample(1, 7, decode.Open, 1, []byte("secret/dir/"))
	binary.LittleEndian.PutUint32(first[124:], 3)
	rest := sample(1, 9, decode.Open, 5, nil)
	binary.LittleEndian.PutUint64(rest[24:], 7)
	binary.LittleEndian.PutUint32(rest[124:], 3)
	binary.LittleEndian.PutUint16(rest[134:], decode.HasRest)
	rest[128] = paths.String | paths.Unread
	stranger := bytes.Clone(rest)
	binary.LittleEndian.PutUint64(stranger, 10)
	binary.LittleEndian.PutUint64(stranger[24:], 8)
	for _, raw := range [][]byte{first, sample(1, 8, decode.Open, 1, []byte("other/")), rest, stranger} {
		c.take(raw, nil, nil)
	}
	type row struct {
		Seq, Count uint64
		Path       string
		Status     string `json:"path_status"`
		LastTime   *int64 `json:"last_time"`
	}
	var rows []row
	err := c.open.Each(func(lines []byte) error {
		for one := range bytes.Lines(lines) {
			var r row
			if err := json.Unmarshal(one, &r); err != nil {
				return err
			}
			rows = append(rows, r)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	byNumber := map[uint64]row{}
	for _, r := range rows {
		byNumber[r.Seq] = r
	}
	if len(rows) != 4 || byNumber[7].Path != "/dir/secret" || byNumber[7].LastTime != nil {
		t.Errorf("%+v", rows)
	}
	if r := byNumber[9]; r.Path != "/dir/secret" || r.Count != 5 || r.LastTime == nil || r.Status != "resolved" {
		t.Errorf("the repeats: %+v", r)
	}
	if r := byNumber[10]; r.Path != "" || r.Status != "unresolved" {
		t.Errorf("repeats of an unknown row have its path: %+v", r)
	}
	if c.open.Size() == 0 || len(rows) != 4 {
		t.Error("a row is lost")
	}
}
