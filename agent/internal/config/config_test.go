package config

import (
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestAFileIsReadOverTheDefaults(t *testing.T) {
	c := Default()
	raw := `
server: https://ingest.example:443 # a remark
state_dir: /var/lib/kaimon-agent
exclude: [/var/cache, "/srv/with space"]
sensitive:
  - /etc/shadow
  - "*.pem"
  - .aws/credentials
collapse_window: 0
cut_interval: 500ms
buffer_bytes: 134217728
`
	if err := Parse([]byte(raw), "agent.yaml", &c); err != nil {
		t.Fatal(err)
	}
	want := Default()
	want.Server, want.StateDir = "https://ingest.example:443", "/var/lib/kaimon-agent"
	want.Exclude = []string{"/var/cache", "/srv/with space"}
	want.Sensitive = []string{"/etc/shadow", "*.pem", ".aws/credentials"}
	want.CollapseWindow, want.CutInterval, want.BufferBytes = 0, 500*time.Millisecond, 128<<20
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v\nis not\n%+v", c, want)
	}
	if err := c.Check(); err != nil {
		t.Error(err)
	}
}

func TestAFileOfRemarksChangesNothing(t *testing.T) {
	for _, raw := range []string{"", "\n", "# nothing\n", "---\n# nothing\n"} {
		c := Default()
		if err := Parse([]byte(raw), "f", &c); err != nil {
			t.Errorf("%q: %s", raw, err)
		}
		if !reflect.DeepEqual(c, Default()) {
			t.Errorf("%q changes something", raw)
		}
	}
}

func TestWhatIsWrongIsSaidWithItsLine(t *testing.T) {
	for _, c := range []struct{ raw, want string }{
		{"mode: auto\nexcludes: [/x]\n", `f:2: unknown key "excludes"`},
		{"mode: auto\nmode: kprobe\n", `f:2: mapping key "mode" already defined at line 1`},
		{"heartbeat: 5\n", "f:1: heartbeat: must be a duration such as 2s or 5m"},
		{"heartbeat: -5s\n", "f:1: heartbeat: must be more than nothing"},
		{"exclude: /x\n", "f:1: exclude: must be a list of texts"},
		{"exclude:\n- /x\n- 1\n", "f:2: exclude: must be a list of texts"},
		{"\nexclude: [relative]\n", `f:2: exclude: "relative" is not an absolute path`},
		{"include: [/]\n", `f:1: include: "/" is everything`},
		{"include: [/a/../..]\n", `f:1: include: "/a/../.." is everything`},
		{"include: [/a/../b]\n", `f:1: include: "/a/../b" has .. in it`},
		{"only_processes: [bash]\n", `f:1: only_processes: "bash" is not an absolute path`},
		{"sensitive: ['a*b']\n", `f:1: sensitive: "a*b" has a * elsewhere than at its beginning`},
		{"sensitive: ['*']\n", `f:1: sensitive: "*" must be * and the ending of a name`},
		{"sensitive: [a//b]\n", `f:1: sensitive: "a//b" is not written in its shortest form`},
		{"buffer_bytes: 64MiB\n", "f:1: buffer_bytes: must be a whole number"},
		{"buffer_bytes: 10\n", "f:1: buffer_bytes: must be 1048576 to 4294967296"},
		{"collapse_window: 2m\n", "f:1: collapse_window: must be 0 to 1m0s"},
		{"server: http://x\n", "f:1: server: must begin with https:// and name a host"},
		{"server: https://user:secret@x\n", "f:1: server: must begin with https:// and name a host"},
		{"mode: lsm\n", `f:1: mode: must be one of auto, fentry, kprobe, sys_exit, not "lsm"`},
		{"log_level: INFO\n", "f:1: log_level: must be debug, info, warn or error"},
		{"metrics_socket: x.sock\n", "f:1: metrics_socket: must be an absolute path of 107 bytes at most"},
		{"# a\nserver:\n", "f:2: server: has no value: give one, or leave the key out"},
		{"- a\n", "f:1: must be keys and values"},
		{"mode: auto\nexclude: [\n", "f:3: did not find expected node content"},
		{"a: 1\n---\nb: 2\n", "f: "},
		{"? [a]\n: 1\n", "f:1: unknown key that is not text"},
	} {
		got := Default()
		err := Parse([]byte(c.raw), "f", &got)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%q\n  says  %v\n  not   %s", c.raw, err, c.want)
		}
		if !reflect.DeepEqual(got, Default()) {
			t.Errorf("%q changed the settings", c.raw)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Error("an error repeats a password")
		}
	}
}

func TestFlagsWinOverTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.yaml")
	write(t, path, "server: https://file\nstate_dir: /state\nexclude: [/a, /b]\nheartbeat: 1m\n")
	load := func(args ...string) (Config, error) {
		set, source := flag.NewFlagSet("x", flag.ContinueOnError), &Source{}
		set.SetOutput(io.Discard)
		source.Flags(set)
		if err := set.Parse(args); err != nil {
			return Config{}, err
		}
		return source.Load()
	}
	c, err := load("--config", path, "--exclude", "/c", "--exclude", "/d", "--collapse-window", "0")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.Exclude, []string{"/c", "/d"}) || c.CollapseWindow != 0 {
		t.Errorf("the flags do not win: %+v", c)
	}
	if c.Server != "https://file" || c.Heartbeat != time.Minute || c.SendTimeout != 30*time.Second {
		t.Errorf("what no flag says is not the file's: %+v", c)
	}
	for _, args := range [][]string{
		{"--state-dir", "/x"}, {"--server", "https://x"}, {"--config", path, "--mode", "magic"},
		{"--config", path, "--buffer-bytes", "1e9"}, {"--config", path, "--heartbeat", "7"}, {"--config", path + "x"},
	} {
		if c, err := load(args...); err == nil {
			t.Errorf("%q passes: %+v", args, c)
		}
	}
}

func TestHotAndColdSettingsAreToldApart(t *testing.T) {
	before, after := Default(), Default()
	after.Sensitive, after.LogLevel = []string{"id_rsa"}, "debug"
	after.Server, after.Exclude = "https://x", []string{}
	hot, cold := Changed(&before, &after)
	if !slices.Equal(hot, []string{"sensitive", "log_level"}) || !slices.Equal(cold, []string{"server"}) {
		t.Error(hot, cold)
	}
	mixed := before.WithHotOf(&after)
	if mixed.Server != "" || mixed.LogLevel != "debug" || !slices.Equal(mixed.Sensitive, after.Sensitive) {
		t.Errorf("%+v", mixed)
	}
	var hots []string
	for _, field := range fields() {
		if field.Tag.Get("hot") != "" {
			hots = append(hots, field.Tag.Get("yaml"))
		}
	}
	want := []string{"include", "exclude", "only_processes", "exclude_processes", "sensitive", "collapse_window", "log_level"}
	if !slices.Equal(hots, want) {
		t.Error("hot are", hots)
	}
}

func TestTheDefaultsAreGoodPatterns(t *testing.T) {
	for _, pattern := range Sensitive {
		if problem := badPattern(pattern); problem != "" {
			t.Errorf("%q %s", pattern, problem)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("server: https://x\nexclude: [/a]\nheartbeat: 1s\n"))
	f.Add([]byte("a: &a [*a]\n"))
	f.Add([]byte("<<: {mode: auto}\n"))
	f.Add([]byte("sensitive: ['*.pem', /etc/shadow]\ncollapse_window: 0\n# x"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := Default()
		err := Parse(raw, "f", &c)
		var of *LineError
		switch {
		case err != nil && !errors.As(err, &of):
			t.Fatalf("an error without a place: %s", err)
		case err != nil && !reflect.DeepEqual(c, Default()):
			t.Fatal("a refused file changed the settings")
		case err == nil && c.checkValues() != nil:
			t.Fatalf("settings that cannot be used pass: %s", c.checkValues())
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
