package ship

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/wire"
)

// scripted answers request n with the n-th of its steps, then with 200s, and keeps what it was sent.
type scripted struct {
	mu     sync.Mutex
	steps  []http.HandlerFunc
	bodies [][]byte
	times  []time.Time
}

func (s *scripted) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	n := len(s.bodies)
	s.bodies, s.times = append(s.bodies, body), append(s.times, time.Now())
	s.mu.Unlock()
	if n < len(s.steps) && s.steps[n] != nil {
		s.steps[n](w, r)
		return
	}
	fmt.Fprint(w, `{"accepted":1,"rejected":0,"duplicate":false,"errors":[]}`)
}

func status(code int, pairs ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(pairs); i += 2 {
			w.Header().Set(pairs[i], pairs[i+1])
		}
		w.WriteHeader(code)
		fmt.Fprint(w, `{"code":"a_code","detail":"a detail"}`)
	}
}

func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func garbage(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "<html>sign in to the network</html>")
}

func serve(t *testing.T, handler http.Handler, change func(*tls.Config)) (url, ca string) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.TLS = &tls.Config{}
	if change != nil {
		change(server.TLS)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	raw := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(ca, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return server.URL, ca
}

// segment holds n rows of CPU 0 numbered from `from`.
func segment(from, n uint64, final bool) *buffer.Segment {
	s := buffer.NewSegment(1)
	for seq := from; seq < from+n; seq++ {
		line := fmt.Appendf(s.Lines(buffer.Opens), `{"cpu":0,"seq":%d,"count":1}`+"\n", seq)
		s.Append(buffer.Opens, line, 0, 1)
	}
	s.Now = account.Snapshot{{Seen: from + n, NextSeq: from + n}}
	s.Final, s.Due = final, true
	return s
}

type run struct {
	*scripted
	shipper *Shipper
	headers []wire.Header
	rows    [][]uint64
}

// deliver ships two segments of four rows, one batch each, to a server that follows the steps.
func deliver(t *testing.T, settings Settings, steps ...http.HandlerFunc) *run {
	t.Helper()
	server := &scripted{steps: steps}
	url, ca := serve(t, server, nil)
	client, err := NewClient(url, ca, "test", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	shipper, err := NewShipper(1)
	if err != nil {
		t.Fatal(err)
	}
	shipper.Client, shipper.Buffer, shipper.Log = client, buffer.New(1<<20), slog.New(slog.DiscardHandler)
	shipper.Online, shipper.BlindSpots = func(int) bool { return true }, func() []string { return []string{} }
	if settings == (Settings{}) {
		settings = Settings{AuthRetry: time.Millisecond, BackoffBase: time.Millisecond, BackoffMost: time.Millisecond}
	}
	shipper.Settings = settings
	shipper.Buffer.Push(segment(0, 4, false))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	shipped := make(chan error, 1)
	go func() { shipped <- shipper.Run(ctx, nil) }()
	for shipper.Buffer.Waiting() > 0 {
		time.Sleep(time.Millisecond)
	}
	shipper.Buffer.Push(segment(4, 4, true))
	if err := <-shipped; err != nil {
		t.Fatal(err)
	}
	r := &run{scripted: server, shipper: shipper}
	for _, body := range server.bodies {
		header, rows := read(t, body)
		r.headers, r.rows = append(r.headers, header), append(r.rows, rows)
	}
	return r
}

func read(t *testing.T, body []byte) (wire.Header, []uint64) {
	t.Helper()
	decoder, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer decoder.Close()
	raw, err := decoder.DecodeAll(body, nil)
	if err != nil {
		t.Fatal(err)
	}
	var header wire.Header
	var rows []uint64
	for i, line := range bytes.Split(bytes.TrimSuffix(raw, []byte("\n")), []byte("\n")) {
		if i == 0 {
			err = json.Unmarshal(line, &header)
		} else {
			var row struct{ Seq uint64 }
			err = json.Unmarshal(line, &row)
			rows = append(rows, row.Seq)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return header, rows
}

func (r *run) numbers() []uint64 {
	all := make([]uint64, len(r.headers))
	for i, h := range r.headers {
		all[i] = h.BatchSeq
	}
	return all
}

func TestABatchWhoseFateIsOpenIsSentAgainAsItIs(t *testing.T) {
	for name, step := range map[string]http.HandlerFunc{
		"429": status(429), "502": status(502), "503": status(503), "504": status(504), "500": status(500),
		"a broken connection": hangUp, "a 200 that is none": garbage, "a redirect": status(302, "Location", "/elsewhere"),
		"401": status(401), "403": status(403),
	} {
		r := deliver(t, Settings{}, step, step, step)
		if got := r.numbers(); !slices.Equal(got, []uint64{1, 1, 1, 1, 2}) {
			t.Errorf("%s: %v", name, got)
		}
		for _, body := range r.bodies[1:4] {
			if !bytes.Equal(body, r.bodies[0]) {
				t.Errorf("%s: it was cut anew", name)
			}
		}
		if r.headers[0].PreviousDigest != nil || r.headers[4].PreviousDigest == nil {
			t.Errorf("%s: the chain is broken", name)
		}
		if r.headers[4].CPUs[0].LostRows != (wire.Causes{}) || !r.headers[4].Final {
			t.Errorf("%s: %+v", name, r.headers[4])
		}
	}
}

func TestARefusedBatchIsCountedAndTheChainGoesOn(t *testing.T) {
	for _, code := range []int{400, 404, 415, 422} {
		r := deliver(t, Settings{}, status(code))
		if got := r.numbers(); !slices.Equal(got, []uint64{1, 2}) {
			t.Errorf("%d: %v", code, got)
		}
		c := r.headers[1].CPUs[0]
		if c.LostRows != (wire.Causes{Refused: 4}) || c.LostEvents != (wire.Causes{Refused: 4}) || c.NextSeq != 8 {
			t.Errorf("%d: %+v", code, c)
		}
		if r.shipper.Sent().Refused != 4 {
			t.Errorf("%d: %+v", code, r.shipper.Sent())
		}
	}
}

func TestABatchThatIsTooLargeIsHalvedUnderNewNumbers(t *testing.T) {
	r := deliver(t, Settings{}, status(413), status(413), nil, nil)
	if got := r.numbers(); !slices.Equal(got, []uint64{1, 2, 3, 4, 5, 6}[:len(got)]) || len(got) != 6 {
		t.Fatalf("%v", got)
	}
	want := [][]uint64{{0, 1, 2, 3}, {0, 1}, {0}, {1}, {2, 3}, {4, 5, 6, 7}}
	for i, rows := range r.rows {
		if !slices.Equal(rows, want[i]) {
			t.Errorf("batch %d: %v", i+1, rows)
		}
		if next := r.headers[i].CPUs[0].NextSeq; next != want[i][len(want[i])-1]+1 {
			t.Errorf("batch %d: next_seq %d", i+1, next)
		}
		if i > 0 && r.headers[i].PreviousDigest == nil {
			t.Errorf("batch %d does not chain", i+1)
		}
	}
}

func TestARowThatAloneIsTooLargeIsCountedAsRefused(t *testing.T) {
	big := status(413)
	r := deliver(t, Settings{}, big, big, big)
	want := [][]uint64{{0, 1, 2, 3}, {0, 1}, {0}, {1}, {2, 3}, {4, 5, 6, 7}}
	if len(r.rows) != len(want) {
		t.Fatal(r.rows)
	}
	if got := r.headers[5].CPUs[0].LostRows; got != (wire.Causes{Refused: 1}) {
		t.Errorf("%+v", got)
	}
}

func TestTheServersWishToWaitIsHonoured(t *testing.T) {
	r := deliver(t, Settings{}, status(429, "Retry-After", "1"))
	if waited := r.times[1].Sub(r.times[0]); waited < time.Second {
		t.Errorf("waited %s", waited)
	}
}

func TestWhatTheServerSaysOfTheSubscriptionIsLoggedOnceAndTakenBack(t *testing.T) {
	var log bytes.Buffer
	s := Shipper{Log: slog.New(slog.NewTextHandler(&log, nil))}
	for _, notice := range []string{"", "past_due", "past_due", "", ""} {
		s.noted(notice)
	}
	said := log.String()
	if strings.Count(said, "subscription_notice") != 1 || strings.Count(said, "subscription_in_order") != 1 {
		t.Error(said)
	}
	server := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Kaimon-Subscription", strings.Repeat("x", 300))
		fmt.Fprint(w, `{"accepted":1}`)
	}
	url, ca := serve(t, http.HandlerFunc(server), nil)
	client, err := NewClient(url, ca, "test", 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := client.Send(context.Background(), "kmn_hst_", nil)
	if err != nil || answer.Notice != strings.Repeat("x", longestNotice) {
		t.Errorf("%+v %v", answer, err)
	}
}

func TestRetryAfterIsReadAsSecondsOrAsADate(t *testing.T) {
	now := time.Now()
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-7": 0, "soon": 0, "999999999": longestWait,
		now.Add(-time.Minute).UTC().Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s", value, got)
		}
	}
	if got := retryAfter(now.Add(time.Minute).UTC().Format(http.TimeFormat), now); got < 58*time.Second || got > time.Minute {
		t.Errorf("a date in a minute: %s", got)
	}
}

func TestBackoffIsRandomAndBounded(t *testing.T) {
	s := Shipper{}
	s.defaults()
	var longest time.Duration
	for failures := range 100 {
		for range 20 {
			longest = max(longest, s.backoff(failures))
		}
	}
	if longest < 20*time.Second || longest > 31*time.Second {
		t.Errorf("the longest of many waits was %s", longest)
	}
	if first := s.backoff(0); first > 300*time.Millisecond {
		t.Errorf("the first wait was %s", first)
	}
}

func TestWhatWasNotDeliveredIsKnown(t *testing.T) {
	away := slices.Repeat([]http.HandlerFunc{status(503)}, 10_000)
	url, ca := serve(t, &scripted{steps: away}, nil)
	client, err := NewClient(url, ca, "test", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	shipper, err := NewShipper(1)
	if err != nil {
		t.Fatal(err)
	}
	shipper.Client, shipper.Buffer, shipper.Log = client, buffer.New(1<<20), slog.New(slog.DiscardHandler)
	shipper.Online, shipper.BlindSpots = func(int) bool { return true }, func() []string { return nil }
	shipper.Buffer.Push(segment(0, 4, true))
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := shipper.Run(ctx, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if got := shipper.Undelivered().Rows; got != 4 {
		t.Errorf("%d rows", got)
	}
}

func TestOnlyAVerifiedServerOverNewEnoughTLSIsSpokenTo(t *testing.T) {
	good := &scripted{}
	url, ca := serve(t, good, nil)
	oldURL, oldCA := serve(t, good, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })
	for _, plain := range []string{strings.Replace(url, "https:", "http:", 1), "127.0.0.1:8443", "https://", "ftp://x"} {
		if _, err := NewClient(plain, ca, "test", time.Second); err == nil {
			t.Errorf("%s is accepted", plain)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(url, empty, "test", time.Second); err == nil {
		t.Error("a file without certificates is accepted")
	}
	for name, try := range map[string][2]string{"the system's authorities": {url, ""}, "TLS 1.1": {oldURL, oldCA}} {
		client, err := NewClient(try[0], try[1], "test", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := client.Send(context.Background(), "secret", []byte("x")); err == nil {
			t.Errorf("%s: a batch was sent", name)
		}
	}
	if len(good.bodies) != 0 {
		t.Error("a server that is not to be trusted got a batch")
	}
}
