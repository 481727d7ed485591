package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"

	"kaimon/agent/internal/harden"
	"kaimon/agent/internal/probe"
)

type report struct {
	Works      bool              `json:"works"`
	Mode       string            `json:"mode,omitempty"`
	BlindSpots []probe.BlindSpot `json:"blind_spots,omitempty"`
	Refused    map[string]string `json:"refused,omitempty"`
	Error      string            `json:"error,omitempty"`
	Hardening  *hardening        `json:"hardening,omitempty"`
}

// hardening is what a running agent could still do here: this process has gone through the same, and then tried.
type hardening struct {
	harden.Memory
	harden.Sealed
	Problem  string           `json:"problem,omitempty"`
	Attempts []harden.Attempt `json:"attempts"`
}

func show(args []string) int {
	flags := flag.NewFlagSet("kaimon-agent probe", flag.ContinueOnError)
	asJSON := flags.Bool("json", false, "print one JSON object")
	if code, done := parse(flags, args); done {
		return code
	}
	r := try()
	if *asJSON {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		encoder.SetEscapeHTML(false)
		_ = encoder.Encode(r)
	} else {
		r.print(os.Stdout)
	}
	if !r.Works {
		return 1
	}
	return 0
}

func try() report {
	memory := harden.Guard()
	if err := probe.Supported(); err != nil {
		return report{Error: err.Error()}
	}
	capture, err := probe.Open(probe.Auto, nil, probe.Filter{})
	if err != nil {
		return report{Error: err.Error()}
	}
	defer capture.Close()
	spots := capture.Spots()
	sort.Slice(spots, func(i, j int) bool { return spots[i].Word < spots[j].Word })
	r := report{Works: true, Mode: capture.Mode, BlindSpots: spots, Refused: capture.Refused}
	r.Hardening = &hardening{Memory: memory}
	r.Hardening.Sealed, err = harden.Seal(memory, func() error {
		_, err := capture.Check()
		return err
	})
	if err != nil {
		r.Hardening.Problem = err.Error()
	}
	r.Hardening.Attempts = harden.Attempts()
	return r
}

func (r report) print(w io.Writer) {
	if !r.Works {
		fmt.Fprintln(w, "This machine cannot be watched:", r.Error)
		return
	}
	fmt.Fprintf(w, "mode: %s\n", r.Mode)
	byReason := make(map[string][]string)
	for hook, why := range r.Refused {
		byReason[why] = append(byReason[why], hook)
	}
	for _, why := range slices.Sorted(maps.Keys(byReason)) {
		slices.Sort(byReason[why])
		fmt.Fprintf(w, "refused: %s\n      %s\n", why, strings.Join(byReason[why], " "))
	}
	fmt.Fprintln(w, "blind spots:")
	for _, s := range r.BlindSpots {
		fmt.Fprintf(w, "  %s\n      %s\n", s.Word, s.Why)
	}
	r.Hardening.print(w)
}

func (h *hardening) print(w io.Writer) {
	fmt.Fprintln(w, "once it captures, the agent")
	fmt.Fprintf(w, "  keeps of its capabilities: %s\n", listed(h.Capabilities))
	fmt.Fprintf(w, "  may make %d system calls, and gain no privileges: %t\n", h.Calls, h.NoNewPrivs)
	fmt.Fprintf(w, "  can change no file: %t\n", h.Confined)
	if h.Locked {
		fmt.Fprintln(w, "  has its memory locked: it is never swapped")
	} else {
		fmt.Fprintf(w, "  has memory that may be swapped (MemorySwapMax=0 of its unit keeps it from that): %s\n", h.WhyNot)
	}
	fmt.Fprintf(w, "  leaves no core dump: %t\n", h.NoCoreDump)
	if h.Problem != "" {
		fmt.Fprintf(w, "  problem: %s\n", h.Problem)
	}
	for _, a := range h.Attempts {
		if !a.Refused {
			fmt.Fprintf(w, "  was not refused: %s (%s)\n", a.What, a.Said)
		}
	}
}

func listed(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
