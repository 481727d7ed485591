package agent

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/decode"
	"kaimon/agent/internal/enrich"
	"kaimon/agent/internal/paths"
	"kaimon/agent/internal/ship"
)

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
