package metrics

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/ship"
)

func well() *State {
	now := time.Now()
	return &State{
		Version: "1", Mode: "kprobe", Started: now, Heartbeat: 30 * time.Second, Limit: 64 << 20, Held: 5,
		Counters: account.Snapshot{
			{Seen: 10, Filtered: 3, Pending: 1, NextSeq: 6, Ring: account.Tally{Rows: 1, Events: 2}},
			{Seen: 20, NextSeq: 20, Scratch: account.Tally{Rows: 4, Events: 4}},
		},
		Shed:       account.Tally{Rows: 7, Events: 9},
		Sent:       ship.Sent{Batches: 2, Refused: 3, RefusedEvents: 5, Answers: map[int]uint64{200: 2, 0: 1}, Success: now, Covered: now},
		BlindSpots: []string{"aio_writes"},
	}
}

func TestEveryMetricIsDocumented(t *testing.T) {
	raw, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := regexp.MustCompile("(?m)^\\| `(kaimon_agent_[a-z_]+)(?:\\{[a-z]+\\})?` \\|").FindAllStringSubmatch(string(raw), -1)
	var names []string
	for _, m := range documented {
		names = append(names, m[1])
	}
	var want []string
	for _, m := range all {
		want = append(want, m.name)
	}
	if !slices.Equal(names, want) {
		t.Errorf("the README documents %q\nnot %q", names, want)
	}
}

func TestTheStateIsToldInNumbers(t *testing.T) {
	s := well()
	text := string(s.Text(s.Started.Add(time.Second)))
	for _, line := range []string{
		"kaimon_agent_healthy 1", `kaimon_agent_mode{mode="kprobe"} 1`, `kaimon_agent_blind_spot{word="aio_writes"} 1`,
		"kaimon_agent_seen_events_total 30", "kaimon_agent_filtered_events_total 3", "kaimon_agent_pending_events 1",
		`kaimon_agent_lost_rows_total{cause="ring"} 1`, `kaimon_agent_lost_events_total{cause="ring"} 2`,
		`kaimon_agent_lost_rows_total{cause="scratch"} 4`, `kaimon_agent_lost_events_total{cause="shed"} 9`,
		`kaimon_agent_lost_rows_total{cause="refused"} 3`, `kaimon_agent_lost_events_total{cause="refused"} 5`,
		`kaimon_agent_answers_total{status="none"} 1`, `kaimon_agent_answers_total{status="200"} 2`,
		"kaimon_agent_accepted 1", "kaimon_agent_last_success_age_seconds 1", "kaimon_agent_lag_seconds 1",
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("it does not say %s", line)
		}
	}
	for line := range strings.Lines(text) {
		if !regexp.MustCompile(`^(# (HELP|TYPE) kaimon_agent_\w+ .+|kaimon_agent_\w+(\{\w+="[^"]*"\})? [-+0-9.e]+)\n$`).MatchString(line) {
			t.Errorf("not in the format: %q", line)
		}
	}
}

func TestEachIllnessIsTold(t *testing.T) {
	for want, ail := range map[string]func(*State){
		"nothing was delivered for 2m0s":         func(s *State) { s.Sent.Success = s.Started.Add(-2 * time.Minute) },
		"ingest does not accept this host (403)": func(s *State) { s.Sent.Unwelcome = 403 },
		"the accounts did not add up":            func(s *State) { s.Sent.Violations = 1 },
		"a hook did not fire":                    func(s *State) { s.CanaryFailures = 1 },
		"the settings file was refused":          func(s *State) { s.ConfigBad = true },
	} {
		s := well()
		ail(s)
		if why := s.Unwell(s.Started); !slices.Equal(why, []string{want}) {
			t.Errorf("%q is not %q", why, want)
		}
		if !strings.Contains(string(s.Text(s.Started)), "\nkaimon_agent_healthy 0\n") && want != "" {
			t.Errorf("%s, and it is healthy", want)
		}
	}
}

func get(t *testing.T, socket, path string) (int, string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) },
		DisableKeepAlives: true,
	}}
	answer, err := client.Get("http://agent" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	raw, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(raw)
}

func TestTheSocketAnswersAndIsTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.sock")
	for round := range 2 { // the second finds the first one's socket
		server, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		s := well()
		if round == 1 {
			s.ConfigBad = true
		}
		server.Serve(func() *State { return s })
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
			t.Errorf("%v %v", info.Mode(), err)
		}
		if code, text := get(t, path, "/metrics"); code != 200 || !strings.Contains(text, "kaimon_agent_healthy") {
			t.Error(code, text)
		}
		code, text := get(t, path, "/healthz")
		if want := []int{200, 503}[round]; code != want || strings.Contains(text, "settings") != (round == 1) {
			t.Error(code, text)
		}
		if code, _ := get(t, path, "/debug/pprof/"); code != 404 {
			t.Error("it answers other things")
		}
		if _, err := Listen(path); err == nil {
			t.Error("a socket in use is taken over")
		}
		server.Close()
	}
	if err := os.WriteFile(path+"x", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path + "x"); err == nil {
		t.Error("a file that is no socket is replaced")
	}
}
