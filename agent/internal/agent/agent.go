package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync/atomic"
	"time"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/config"
	"kaimon/agent/internal/enrich"
	"kaimon/agent/internal/harden"
	"kaimon/agent/internal/identity"
	"kaimon/agent/internal/metrics"
	"kaimon/agent/internal/paths"
	"kaimon/agent/internal/probe"
	"kaimon/agent/internal/ship"
	"kaimon/agent/internal/wire"
)

// Options are what `run` is told.
type Options struct {
	Config    config.Config
	Source    *config.Source // where Config came from
	TokenFile string
	Stdin     io.Reader
	Log       *slog.Logger
	Level     *slog.LevelVar
	Reload    <-chan os.Signal
}

const (
	knownProcesses = 32768
	beside         = 2 << 20 // bytes of memory aimed at beside the buffer, not counting the ring and the program itself
	checkEvery     = 10 * time.Second
	canaryRounds   = 3 // of checkEvery
	finishWithin   = 2 * time.Second
)

// Run captures and delivers until stop is closed, then says goodbye. Its error says what was not delivered.
func Run(stop <-chan struct{}, o Options) error {
	if err := probe.Supported(); err != nil {
		return err
	}
	memory := harden.Guard()
	if !memory.Locked {
		o.Log.Warn("memory_not_locked", "error", memory.WhyNot)
	}
	debug.SetMemoryLimit(int64(o.Config.BufferBytes) + beside)
	debug.SetGCPercent(30)
	h, err := openHome(o)
	if err != nil {
		return err
	}
	defer h.close()
	credential, _, err := h.credential(stop, o)
	if err != nil {
		return err
	}
	capture, err := openCapture(&o.Config)
	if err != nil {
		return err
	}
	defer capture.Close()
	w := &watched{capture: capture, started: time.Now(), beat: o.Config.Heartbeat, memory: memory}
	if path := o.Config.MetricsSocket; path != "" {
		if w.server, err = metrics.Listen(path); err != nil {
			return err
		}
		defer w.server.Close()
	}
	sealed, err := harden.Seal(memory, func() error { return rehearse(capture, &o) })
	if err != nil {
		o.Log.Warn("not_all_hardened", "error", err.Error())
	}
	w.hardened = err == nil
	o.Log.Info("hardened", "capabilities", sealed.Capabilities, "bounding", sealed.Bounding,
		"no_new_privileges", sealed.NoNewPrivs, "calls_allowed", sealed.Calls, "writes_confined", sealed.Confined,
		"memory_locked", memory.Locked, "no_core_dump", memory.NoCoreDump)
	rows := buffer.New(o.Config.BufferBytes)
	shipper, err := ship.NewShipper(capture.CPUs())
	if err != nil {
		return err
	}
	shipper.Client, shipper.Credential, shipper.Buffer, shipper.Log = h.client, credential.Credential, rows, o.Log
	shipper.Settings.AuthRetry = o.Config.AuthRetry
	shipper.BlindSpots = capture.BlindSpots
	shipper.Online = onlineCPUs()
	shipper.Header = wire.Header{
		AgentID: credential.AgentID, Hostname: credential.Hostname, BootID: h.bootID, LoadID: identity.NewID(),
		AgentVersion: Version, CaptureMode: capture.Mode, Host: h.host,
	}
	o.Log.Info("capturing", "agent_id", credential.AgentID, "load_id", shipper.Header.LoadID, "mode", capture.Mode,
		"blind_spots", capture.BlindSpots())
	w.rows, w.shipper = rows, shipper
	return work(stop, o, w)
}

// work runs the collector and the shipper until stop, then within a bounded time delivers what is left.
func work(stop <-chan struct{}, o Options, w *watched) error {
	log, capture, rows, shipper := o.Log, w.capture, w.rows, w.shipper
	var sensitive atomic.Pointer[paths.Patterns]
	sensitive.Store(paths.NewPatterns(o.Config.Sensitive))
	c := &collector{
		from: kernel{capture}, to: rows, processes: enrich.NewProcesses(knownProcesses), log: log,
		cpus: capture.CPUs(), cutEvery: o.Config.CutInterval, beatEvery: o.Config.Heartbeat,
		cutSize: min(cutSize, o.Config.BufferBytes/8), sensitive: &sensitive,
	}
	c.jobs = make(chan job, 64)
	packed := make(chan struct{})
	go c.pack(packed)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	shipped := make(chan error, 1)
	go func() { shipped <- shipper.Run(ctx, stop) }()
	go watch(ctx, w, log)
	w.config = &config.Watcher{
		Source: o.Source, Now: o.Config, Ask: o.Reload, Log: log,
		Apply: func(next config.Config) error { return apply(capture, &sensitive, o.Level, &next) },
	}
	go w.config.Run(ctx)
	if w.server != nil {
		w.server.Serve(w.state)
	}

	if err := c.run(stop); err != nil {
		return err
	}
	log.Info("stopping")
	deadline := time.AfterFunc(o.Config.StopTimeout, cancel)
	defer deadline.Stop()
	problem := capture.Detach()
	whole, err := capture.SweepAll(finishWithin)
	if err != nil || !whole {
		problem = errors.Join(problem, err, errors.New("some repeats could not be told; they stay pending"))
	}
	if !c.finish(finishWithin) {
		problem = errors.Join(problem, errors.New("the counters never came to rest"))
		cancel()
	}
	close(c.jobs)
	<-packed
	err = <-shipped
	if err != nil {
		_, waiting, _ := rows.State()
		waiting.Add(shipper.Undelivered())
		err = fmt.Errorf("not delivered within %s: %d rows and the goodbye", o.Config.StopTimeout, waiting.Rows)
	}
	sent := shipper.Sent()
	if sent.Refused > 0 {
		err = errors.Join(err, fmt.Errorf("refused by the server: %d rows", sent.Refused))
	}
	_, _, shed := rows.State()
	log.Info("stopped", "batches", sent.Batches, "rows", sent.Rows, "bytes", sent.Bytes, "retries", sent.Retries,
		"shed", shed.Rows, "refused", sent.Refused, "rejected", sent.Rejected)
	return errors.Join(problem, err)
}

// watch looks after what nobody else does: runs that the kernel skipped, and a word on how things stand.
func watch(ctx context.Context, w *watched, log *slog.Logger) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for round := 0; ; round++ {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if round%canaryRounds == 0 {
			w.lookAfterHooks(log)
		}
		missed, err := w.capture.Check()
		if err != nil {
			log.Warn("check_failed", "error", err.Error())
		} else {
			w.skipped.Store(missed)
		}
		held, waiting, shed := w.rows.State()
		log.Debug("state", "held_bytes", held, "waiting_rows", waiting.Rows, "shed_rows", shed.Rows, "missed", missed)
	}
}

func (w *watched) lookAfterHooks(log *slog.Logger) {
	silent, err := w.capture.Canary()
	if err != nil {
		log.Warn("canary_failed", "error", err.Error())
	}
	w.silent.Add(uint64(len(silent)))
	for _, s := range silent {
		log.Error("hook_silent", "cpu", s.CPU, "hook", s.Hook)
	}
}

// kernel is a capture as the collector sees it.
type kernel struct{ *probe.Capture }

func (k kernel) Snapshot() (account.Snapshot, bool)          { return k.Capture.Snapshot() }
func (k kernel) Begin() uint64                               { return k.Ring.Begin() }
func (k kernel) End() uint64                                 { return k.Ring.End() }
func (k kernel) Read(end uint64, f func(sample []byte)) bool { return k.Ring.Read(end, f) }
func (k kernel) Wait(milliseconds int) error                 { return k.Ring.Wait(milliseconds) }
func (k kernel) Windows() int                                { return k.CPUs() * probe.Windows }
