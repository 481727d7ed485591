package enrich

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"kaimon/agent/internal/decode"
)

func TestContainersAreFoundWhereverTheirGroupsLie(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for raw, want := range map[string]string{
		"0::/system.slice/docker-" + id + ".scope\n":                                 id,
		"12:pids:/docker/" + id + "\n0::/\n":                                         id,
		"0::/kubepods.slice/kubepods-pod1_2.slice/cri-containerd-" + id + ".scope\n": id,
		"0::/machine.slice/libpod-" + id + ".scope/container\n":                      id,
		"0::/user.slice/user-0.slice/session-1.scope\n":                              "",
		"0::/x/" + id + "0\n":                                                        "",
		"4:memory:/process_api/0c1f7b825cf2bfcb43d75932877bb127\n":                   "",
		"": "",
	} {
		if got := parseCgroup([]byte(raw)); got != want {
			t.Errorf("%q: %q", raw, got)
		}
	}
}

func TestUsersAreNamedAndANewOneIsNoticed(t *testing.T) {
	file := filepath.Join(t.TempDir(), "passwd")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:\n#no:x:5:5::/:\nbroken\nbad:x:many:0::/:\n+::::::\n")
	u := NewUsers(file)
	now := time.Now()
	for uid, want := range map[uint32]string{0: "root", 5: "", 1000: ""} {
		if got := u.Name(uid, now); got != want {
			t.Errorf("%d is %q", uid, got)
		}
	}
	write("root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:\n")
	if got := u.Name(1000, now.Add(time.Second)); got != "ann" {
		t.Errorf("the new user is %q", got)
	}
}

func TestAProgramIsRememberedUntilItExecutesAnother(t *testing.T) {
	p := NewProcesses(2)
	first := decode.Record{PID: 1, StartNs: 5, ExecID: 1, Has: decode.HasExe, Exe: []byte("sh/bin/")}
	again := decode.Record{PID: 1, StartNs: 5, ExecID: 1}
	other := decode.Record{PID: 1, StartNs: 5, ExecID: 2}
	if got := string(p.Of(&first).Exe); got != "/bin/sh" {
		t.Errorf("the program is %q", got)
	}
	if got := string(p.Of(&again).Exe); got != "/bin/sh" {
		t.Errorf("the program is then %q", got)
	}
	if p.Of(&other).Exe != nil {
		t.Error("another program has its path")
	}
	p.Of(&decode.Record{PID: 2})
	p.Of(&decode.Record{PID: 3})
	if len(p.at) != 2 || len(p.all) != 3 {
		t.Errorf("%d are remembered", len(p.at))
	}
}

func TestTheProgramsSeenLastAreTheOnesRemembered(t *testing.T) {
	const most = 5
	p := NewProcesses(most)
	var order []uint32 // as it should be, the latest last
	random := rand.New(rand.NewPCG(1, 2))
	for range 2_000 {
		pid := random.Uint32N(2 * most)
		if i := slices.Index(order, pid); i >= 0 {
			order = slices.Delete(order, i, i+1)
		}
		order = append(order, pid)
		order = order[max(0, len(order)-most):]
		exe := fmt.Appendf(nil, "%d/", pid)
		if got := p.Of(&decode.Record{PID: pid, Has: decode.HasExe, Exe: exe}); string(got.Exe) != fmt.Sprintf("/%d", pid) {
			t.Fatalf("%d runs %q", pid, got.Exe)
		}
		var kept []uint32
		for i := p.all[0].later; i != 0; i = p.all[i].later {
			kept = append(kept, p.all[i].key.pid)
		}
		if !slices.Equal(kept, order) || len(p.at) != len(order) {
			t.Fatalf("%v are remembered, not %v", kept, order)
		}
	}
}

func TestAMomentHasOneTimeUntilTheClockIsSet(t *testing.T) {
	var c Clock
	now := time.Now()
	c.Refresh(now)
	if d := time.Since(time.UnixMicro(c.Micros(uint64(now.UnixNano() - c.offset)))); d < 0 || d > time.Minute {
		t.Errorf("off by %s", d)
	}
	before := c.offset
	c.Refresh(now.Add(2 * time.Second))
	if c.offset != before {
		t.Errorf("the offset moved by %d ns", c.offset-before)
	}
	c.offset += int64(time.Hour)
	c.Refresh(now.Add(4 * time.Second))
	if d := c.offset - before; d > clockStep || d < -clockStep {
		t.Errorf("a clock that was set is not noticed: %d ns", d)
	}
}
