// Command kaimon-agent watches what happens to files on a Linux host and ships it to kaimon.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"time"

	"kaimon/agent/internal/agent"
	"kaimon/agent/internal/probe"
)

const usage = `kaimon-agent watches what happens to files and ships it to kaimon.

  kaimon-agent run --server URL --state-dir DIR [--ca FILE] [--token-file FILE|-] [--exclude DIR]...
  kaimon-agent probe [--json]     try what this kernel allows: mode, blind spots and why
  kaimon-agent version

`

func main() {
	os.Exit(command(os.Args[1:]))
}

func command(args []string) int {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	switch name {
	case "run":
		return run(args[1:])
	case "probe":
		return show(args[1:])
	case "version":
		fmt.Println("kaimon-agent", agent.Version)
		return 0
	case "help", "-h", "--help":
		fmt.Print(usage)
		return 0
	}
	fmt.Fprint(os.Stderr, usage)
	return 2
}

type dirs []string

func (d *dirs) String() string     { return strings.Join(*d, ",") }
func (d *dirs) Set(v string) error { *d = append(*d, v); return nil }

func run(args []string) int {
	var o agent.Options
	var level string
	flags := flag.NewFlagSet("kaimon-agent run", flag.ContinueOnError)
	flags.StringVar(&o.Server, "server", "", "`URL` of ingest, https only")
	flags.StringVar(&o.CAFile, "ca", "", "PEM `FILE` of certificate authorities (default: the system's)")
	flags.StringVar(&o.TokenFile, "token-file", "", "`FILE` of the enrollment token, - for standard input; needed once")
	flags.StringVar(&o.StateDir, "state-dir", "", "`DIR` of the agent's own, for its credential")
	flags.Var((*dirs)(&o.Exclude), "exclude", "`DIR` to leave out, in the kernel; repeatable")
	flags.DurationVar(&o.CutInterval, "cut-interval", 2*time.Second, "how long rows wait for company")
	flags.DurationVar(&o.Heartbeat, "heartbeat", 30*time.Second, "longest silence; then an empty batch")
	flags.IntVar(&o.BufferBytes, "buffer-bytes", 64<<20, "rows held in memory at most, in bytes")
	flags.DurationVar(&o.AuthRetry, "auth-retry", 5*time.Minute, "time between attempts after 401 or 403")
	flags.DurationVar(&o.SendTimeout, "send-timeout", 30*time.Second, "how long an answer is waited for")
	flags.DurationVar(&o.StopTimeout, "stop-timeout", 10*time.Second, "how long the last rows may take")
	flags.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
	}
	var least slog.Level
	if err := errors.Join(least.UnmarshalText([]byte(level)), check(o, flags.Args())); err != nil {
		fmt.Fprintln(os.Stderr, "kaimon-agent run:", err)
		return 2
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: least}))
	stop := make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	go func() {
		<-signals
		close(stop)
	}()
	err := agent.Run(stop, o, os.Stdin, log)
	if errors.Is(err, agent.ErrStopped) {
		log.Info("stopped", "reason", err.Error())
		return 0
	}
	if err != nil {
		log.Error("failed", "error", err.Error())
		return 1
	}
	return 0
}

const leastBuffer = 1 << 20

func check(o agent.Options, rest []string) error {
	switch {
	case len(rest) > 0:
		return fmt.Errorf("what is %q?", rest[0])
	case o.Server == "":
		return errors.New("--server is needed")
	case o.StateDir == "":
		return errors.New("--state-dir is needed")
	case o.BufferBytes < leastBuffer:
		return fmt.Errorf("--buffer-bytes must be %d at least", leastBuffer)
	case o.CutInterval <= 0 || o.Heartbeat <= 0 || o.AuthRetry <= 0 || o.SendTimeout <= 0 || o.StopTimeout <= 0:
		return errors.New("a duration must be more than nothing")
	}
	return nil
}

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
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0
		}
		return 2
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
