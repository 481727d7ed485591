// Package metrics answers on a Unix socket whether the agent is well, in Prometheus' text format.
package metrics

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/ship"
)

// State is how things stand at one moment. Nothing in it tells of files, users, tenants or secrets.
type State struct {
	Version, Mode                     string
	Started                           time.Time
	Heartbeat                         time.Duration
	Counters                          account.Snapshot
	Shed                              account.Tally
	Waiting                           account.Tally
	Held, Limit                       int
	Sent                              ship.Sent
	BlindSpots                        []string
	SkippedRuns, CanaryFailures       uint64
	ConfigsTaken, ConfigsRefused      uint64
	ConfigBad, MemoryLocked, Hardened bool
}

// sample is one value of a metric, with its label if it has one.
type sample struct {
	label, word string
	value       float64
}

// metric is one name: what it means, and how to get it.
type metric struct {
	name, kind, help string
	values           func(*State, time.Time) []sample
}

func one(f func(*State, time.Time) float64) func(*State, time.Time) []sample {
	return func(s *State, now time.Time) []sample { return []sample{{value: f(s, now)}} }
}

func sum(f func(c account.CPU) uint64) func(*State, time.Time) []sample {
	return one(func(s *State, _ time.Time) float64 {
		var n uint64
		for _, c := range s.Counters {
			n += f(c)
		}
		return float64(n)
	})
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// lost is one sample a cause; of is what of a tally counts.
func lost(of func(account.Tally) uint64, refused func(*ship.Sent) uint64) func(*State, time.Time) []sample {
	return func(s *State, _ time.Time) []sample {
		var ring, scratch account.Tally
		for _, c := range s.Counters {
			ring.Add(c.Ring)
			scratch.Add(c.Scratch)
		}
		return []sample{
			{"cause", "ring", float64(of(ring))}, {"cause", "scratch", float64(of(scratch))},
			{"cause", "shed", float64(of(s.Shed))}, {"cause", "refused", float64(refused(&s.Sent))},
		}
	}
}

// Unwell says why the agent is not healthy; nothing if it is.
func (s *State) Unwell(now time.Time) []string {
	var why []string
	if late := now.Sub(s.Sent.Success); late > patience(s.Heartbeat) {
		why = append(why, fmt.Sprintf("nothing was delivered for %s", late.Round(time.Second)))
	}
	if s.Sent.Unwelcome != 0 {
		why = append(why, fmt.Sprintf("ingest does not accept this host (%d)", s.Sent.Unwelcome))
	}
	if s.Sent.Violations > 0 {
		why = append(why, "the accounts did not add up")
	}
	if s.CanaryFailures > 0 {
		why = append(why, "a hook did not fire")
	}
	if s.ConfigBad {
		why = append(why, "the settings file was refused")
	}
	return why
}

// patience is how long silence of ingest is no illness yet.
func patience(heartbeat time.Duration) time.Duration { return 3*heartbeat + 10*time.Second }

var escapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

// Text is the state in Prometheus' text format.
func (s *State) Text(now time.Time) []byte {
	var out bytes.Buffer
	for _, m := range all {
		fmt.Fprintf(&out, "# HELP %s %s\n# TYPE %s %s\n", m.name, m.help, m.name, m.kind)
		for _, v := range m.values(s, now) {
			out.WriteString(m.name)
			if v.label != "" {
				fmt.Fprintf(&out, `{%s="%s"}`, v.label, escapes.Replace(v.word))
			}
			out.WriteByte(' ')
			out.WriteString(strconv.FormatFloat(v.value, 'g', -1, 64))
			out.WriteByte('\n')
		}
	}
	return out.Bytes()
}

func answers(s *State, _ time.Time) (samples []sample) {
	statuses := make([]int, 0, len(s.Sent.Answers))
	for status := range s.Sent.Answers {
		statuses = append(statuses, status)
	}
	slices.Sort(statuses)
	for _, status := range statuses {
		word := strconv.Itoa(status)
		if status == 0 {
			word = "none"
		}
		samples = append(samples, sample{"status", word, float64(s.Sent.Answers[status])})
	}
	return samples
}

func resident(*State, time.Time) float64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	var size, pages int
	if _, err := fmt.Sscan(string(raw), &size, &pages); err != nil {
		return 0
	}
	return float64(pages * os.Getpagesize())
}

func cpuSeconds(*State, time.Time) float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func goroutines(*State, time.Time) float64 { return float64(runtime.NumGoroutine()) }
