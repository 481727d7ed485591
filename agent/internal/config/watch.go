package config

import (
	"context"
	"log/slog"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Watcher gives a running agent new settings when their file changes or somebody asks for it.
type Watcher struct {
	Source *Source
	Now    Config        // what the agent runs with; afterwards the hot settings change
	Every  time.Duration // between looks at the file; a second if 0
	Ask    <-chan os.Signal
	// Apply puts hot settings into force. If it fails nothing may have changed.
	Apply func(Config) error
	Log   *slog.Logger

	applied, rejected atomic.Uint64
	bad               atomic.Bool
	started           Config
	last              string // what the last complaint said
}

// Counts say how often new settings were taken and refused, and whether the file as it is now was refused.
func (w *Watcher) Counts() (applied, rejected uint64, bad bool) {
	return w.applied.Load(), w.rejected.Load(), w.bad.Load()
}

// Run watches until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	w.started = w.Now.clone()
	every := w.Every
	if every == 0 {
		every = time.Second
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	before := w.Source.read
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.Ask:
			if w.Source.Path == "" {
				w.Log.Warn("config_not_reloaded", "error", "the agent was started without --config")
				continue
			}
			w.reload()
		case <-ticker.C:
			if w.Source.Path == "" {
				continue
			}
			// A file that is still being written is left until it has been the same twice.
			now := stampOf(w.Source.Path)
			if now != w.Source.read && now == before {
				w.reload()
			}
			before = now
		}
	}
}

// stamp tells two states of the file apart, also if another one is renamed into its place or a link to it is
// turned (as Kubernetes does with ..data).
type stamp struct {
	dev, inode     uint64
	size           int64
	written, moved syscall.Timespec
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{}
	}
	of := info.Sys().(*syscall.Stat_t)
	return stamp{of.Dev, of.Ino, of.Size, of.Mtim, of.Ctim}
}

func (w *Watcher) reload() {
	read, err := w.Source.Load()
	if err == nil {
		if hot, cold := Changed(&w.Now, &read); len(hot) > 0 || len(cold) > 0 {
			err = w.take(read, hot)
		} else {
			w.last = ""
			w.bad.Store(false)
			w.Log.Info("config_unchanged")
			return
		}
	}
	if err != nil {
		w.rejected.Add(1)
		w.bad.Store(true)
		if text := err.Error(); text != w.last {
			w.last = text
			w.Log.Error("config_rejected", "error", text, "kept", "the settings in force")
		}
		return
	}
	w.last = ""
	w.bad.Store(false)
}

func (w *Watcher) take(read Config, hot []string) error {
	next := w.Now.WithHotOf(&read)
	if len(hot) > 0 {
		if err := w.Apply(next); err != nil {
			return err
		}
		w.Now = next
		w.applied.Add(1)
		w.Log.Info("config_reloaded", "changed", hot)
	}
	if _, cold := Changed(&w.started, &read); len(cold) > 0 {
		w.Log.Warn("config_needs_restart", "changed", cold)
	}
	return nil
}
