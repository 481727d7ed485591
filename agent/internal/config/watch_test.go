package config

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// running is a Watcher at work, what it applied and what it logged.
type running struct {
	t       *testing.T
	watcher *Watcher
	ask     chan os.Signal
	mu      sync.Mutex
	applied []Config
	refuse  error
	log     bytes.Buffer
}

func (r *running) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func watch(t *testing.T, path string) *running {
	t.Helper()
	r := &running{t: t, ask: make(chan os.Signal)}
	source := &Source{Path: path}
	now, err := source.Load()
	must(t, err)
	r.watcher = &Watcher{
		Source: source, Now: now, Every: 5 * time.Millisecond, Ask: r.ask, Log: slog.New(slog.NewJSONHandler(r, nil)),
		Apply: func(c Config) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.refuse != nil {
				return r.refuse
			}
			r.applied = append(r.applied, c)
			return nil
		},
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		r.watcher.Run(ctx)
		close(done)
	}()
	t.Cleanup(func() { cancel(); <-done })
	return r
}

// until waits until what was applied and logged is as wanted.
func (r *running) until(what string, is func(applied []Config, log string) bool) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		ok, log := is(r.applied, r.log.String()), r.log.String()
		r.mu.Unlock()
		if ok {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s\n%s", what, log)
		}
	}
}

func (r *running) untilExcluded(folders ...string) {
	r.t.Helper()
	r.until("exclude "+strings.Join(folders, " "), func(applied []Config, _ string) bool {
		return len(applied) > 0 && reflect.DeepEqual(applied[len(applied)-1].Exclude, folders)
	})
}

const base = "server: https://x\nstate_dir: /s\n"

func replace(t *testing.T, path, text string) {
	t.Helper()
	write(t, path+".new", text)
	must(t, os.Rename(path+".new", path))
}

func TestAChangedFileIsTakenHoweverItChanges(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.yaml")
	write(t, path, base)
	r := watch(t, path)
	write(t, path, base+"exclude: [/in-place]\n")
	r.untilExcluded("/in-place")
	replace(t, path, base+"exclude: [/renamed]\n")
	r.untilExcluded("/renamed")
	must(t, os.Remove(path))
	write(t, path, base+"exclude: [/anew]\n")
	r.untilExcluded("/anew")
}

func TestALinkThatIsTurnedIsTaken(t *testing.T) {
	dir := t.TempDir()
	volume := func(name, text string) {
		must(t, os.Mkdir(filepath.Join(dir, name), 0o755))
		write(t, filepath.Join(dir, name, "agent.yaml"), text)
		must(t, os.Symlink(name, filepath.Join(dir, "..data.new")))
		must(t, os.Rename(filepath.Join(dir, "..data.new"), filepath.Join(dir, "..data")))
	}
	volume("..1", base)
	path := filepath.Join(dir, "agent.yaml")
	must(t, os.Symlink("..data/agent.yaml", path))
	r := watch(t, path)
	volume("..2", base+"exclude: [/turned]\n")
	r.untilExcluded("/turned")
}

func TestABadFileLeavesEverythingAndIsSaidOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	write(t, path, base+"exclude: [/good]\n")
	r := watch(t, path)
	replace(t, path, base+"exclud: [/bad]\n")
	r.until("a complaint", func(_ []Config, log string) bool { return strings.Contains(log, "config_rejected") })
	r.ask <- syscall.SIGHUP
	r.ask <- syscall.SIGHUP
	r.until("three refusals", func([]Config, string) bool { _, rejected, bad := r.watcher.Counts(); return rejected >= 3 && bad })
	r.mu.Lock()
	if n := strings.Count(r.log.String(), "config_rejected"); n != 1 || len(r.applied) != 0 {
		t.Errorf("%d complaints, %d applied", n, len(r.applied))
	}
	if !strings.Contains(r.log.String(), `agent.yaml:3: unknown key \"exclud\"`) {
		t.Error(r.log.String())
	}
	r.mu.Unlock()
	replace(t, path, base+"exclude: [/better]\n")
	r.untilExcluded("/better")
	r.until("peace", func([]Config, string) bool { _, _, bad := r.watcher.Counts(); return !bad })
}

func TestWhatCannotBeAppliedIsNotInForce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	write(t, path, base)
	r := watch(t, path)
	r.mu.Lock()
	r.refuse = errors.New("no such folder")
	r.mu.Unlock()
	replace(t, path, base+"exclude: [/x]\n")
	r.until("a complaint", func(_ []Config, log string) bool { return strings.Contains(log, "no such folder") })
	r.mu.Lock()
	r.refuse = nil
	r.mu.Unlock()
	r.ask <- syscall.SIGHUP
	r.untilExcluded("/x")
}

func TestAColdSettingWaitsForARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	write(t, path, base)
	r := watch(t, path)
	replace(t, path, base+"heartbeat: 1m\nlog_level: debug\n")
	r.until("a word on it", func(applied []Config, log string) bool {
		return strings.Contains(log, "config_needs_restart") && strings.Contains(log, `"changed":["heartbeat"]`) &&
			len(applied) == 1 && applied[0].LogLevel == "debug" && applied[0].Heartbeat == 30*time.Second
	})
}
