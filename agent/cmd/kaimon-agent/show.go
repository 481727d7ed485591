package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"sort"

	"kaimon/agent/internal/probe"
)

type report struct {
	Works      bool              `json:"works"`
	Mode       string            `json:"mode,omitempty"`
	BlindSpots []probe.BlindSpot `json:"blind_spots,omitempty"`
	Refused    map[string]string `json:"refused,omitempty"`
	Error      string            `json:"error,omitempty"`
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
	if err := probe.Supported(); err != nil {
		return report{Error: err.Error()}
	}
	capture, err := probe.Open(nil)
	if err != nil {
		return report{Error: err.Error()}
	}
	defer capture.Close()
	spots := capture.Spots()
	sort.Slice(spots, func(i, j int) bool { return spots[i].Word < spots[j].Word })
	return report{Works: true, Mode: capture.Mode, BlindSpots: spots, Refused: capture.Refused}
}

func (r report) print(w io.Writer) {
	if !r.Works {
		fmt.Fprintln(w, "This machine cannot be watched:", r.Error)
		return
	}
	fmt.Fprintf(w, "mode: %s\n", r.Mode)
	for hook, why := range r.Refused {
		fmt.Fprintf(w, "refused: %s: %s\n", hook, why)
	}
	fmt.Fprintln(w, "blind spots:")
	for _, s := range r.BlindSpots {
		fmt.Fprintf(w, "  %s\n      %s\n", s.Word, s.Why)
	}
}
