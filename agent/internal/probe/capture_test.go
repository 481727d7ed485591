package probe

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"kaimon/agent/internal/decode"
)

// open captures for real, where this process may.
func open(t *testing.T, f Filter) *Capture {
	t.Helper()
	if err := Supported(); err != nil {
		t.Skip(err)
	}
	c, err := Open(Auto, []string{t.TempDir()}, f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestTheCanaryNoticesAHookThatStoppedFiring(t *testing.T) {
	c := open(t, Filter{})
	silent, err := c.Canary()
	if err != nil || len(silent) > 0 {
		t.Fatal(silent, err)
	}
	if slices.Contains(c.BlindSpots(), silentHooks.Word) {
		t.Error("a blind spot that is none")
	}
	for _, a := range c.attached {
		if err := a.link.Close(); err != nil { // behind the agent's back
			t.Fatal(err)
		}
	}
	silent, err = c.Canary()
	if err != nil {
		t.Fatal(err)
	}
	heard := map[int]bool{}
	for _, s := range silent {
		heard[s.CPU] = true
	}
	if len(silent) == 0 || !slices.Contains(c.BlindSpots(), silentHooks.Word) {
		t.Errorf("%v, blind spots %v", silent, c.BlindSpots())
	}
	if len(heard) < 1 || len(silent) < len(heard) {
		t.Errorf("on %d CPUs: %v", len(heard), silent)
	}
}

func TestAStopIsNoSilence(t *testing.T) {
	c := open(t, Filter{})
	if err := c.Detach(); err != nil {
		t.Fatal(err)
	}
	if silent, err := c.Canary(); err != nil || len(silent) > 0 || slices.Contains(c.BlindSpots(), silentHooks.Word) {
		t.Errorf("%v %v, blind spots %v", silent, err, c.BlindSpots())
	}
}

// TestEverySampleOfTheRingIsWhole writes more than the ring holds, by a process that is not the agent's, so that
// samples go over the ring's end; each must decode.
func TestEverySampleOfTheRingIsWhole(t *testing.T) {
	c := open(t, Filter{})
	dir := filepath.Join(t.TempDir(), string(bytes.Repeat([]byte{'d'}, 250)))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	child, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "i=0; while :; do i=$((i+1)); : > " + dir + "/$i; done"},
		&os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = child.Kill()
		_, _ = child.Wait()
	}()
	rows, bad := 0, 0
	deadline := time.Now().Add(2 * time.Minute)
	for c.Ring.Begin() < 2*c.Ring.size && time.Now().Before(deadline) {
		if err := c.Ring.Wait(50); err != nil {
			t.Fatal(err)
		}
		c.Ring.Read(c.Ring.End(), func(sample []byte) {
			var r decode.Record
			if err := decode.Decode(sample, &r); err != nil {
				bad++
			}
			rows++
		})
	}
	if bad > 0 || rows == 0 || c.Ring.Begin() < 2*c.Ring.size {
		t.Errorf("%d of %d samples are malformed; read to %d", bad, rows, c.Ring.Begin())
	}
}
