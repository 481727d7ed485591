package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAFileThatOthersCouldWriteIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files to others takes root")
	}
	for name, c := range map[string]struct {
		mode, dirMode os.FileMode
		uid, gid      int
		dirUID        int
		want          string // "" = read
	}{
		"root's alone":             {0o600, 0o755, 0, 0, 0, ""},
		"readable by all":          {0o644, 0o755, 0, 0, 0, ""},
		"writable by root's group": {0o660, 0o755, 0, 0, 0, ""},
		"writable by all":          {0o602, 0o755, 0, 0, 0, "writable by everybody"},
		"writable by a group":      {0o660, 0o755, 0, 12, 0, "writable by group 12"},
		"somebody's":               {0o600, 0o755, 12, 0, 0, "belongs to user 12"},
		"in a folder for all":      {0o600, 0o777, 0, 0, 0, "writable by everybody"},
		"in a sticky folder":       {0o600, 0o777 | os.ModeSticky, 0, 0, 0, "writable by everybody"},
		"in somebody's folder":     {0o600, 0o755, 0, 0, 12, "belongs to user 12"},
		"readable by a group":      {0o640, 0o755, 0, 12, 0, ""},
		"in a folder of the group": {0o600, 0o775, 0, 0, 0, ""},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		path := filepath.Join(dir, "agent.yaml")
		must(t, os.Mkdir(dir, 0o755))
		write(t, path, "mode: auto\n")
		must(t, os.Chown(path, c.uid, c.gid))
		must(t, os.Chmod(path, c.mode))
		must(t, os.Chown(dir, c.dirUID, 0))
		must(t, os.Chmod(dir, c.dirMode))
		link := filepath.Join(t.TempDir(), "link")
		must(t, os.Symlink(path, link))
		through := filepath.Join(t.TempDir(), "through")
		must(t, os.Symlink(dir, through))
		for way, at := range map[string]string{
			"plain": path, "link": link, "folder link": filepath.Join(through, "agent.yaml"),
		} {
			raw, err := ReadTrusted(at)
			if c.want == "" && (err != nil || string(raw) != "mode: auto\n") {
				t.Errorf("%s (%s): %v", name, way, err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%s (%s) says %v", name, way, err)
			}
		}
	}
}

func TestALinkThatSomebodyElseMadeIsRefused(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving links to others takes root")
	}
	dir := t.TempDir()
	path, link := filepath.Join(dir, "agent.yaml"), filepath.Join(dir, "link")
	write(t, path, "")
	must(t, os.Symlink("agent.yaml", link))
	if _, err := ReadTrusted(link); err != nil {
		t.Fatal(err)
	}
	must(t, os.Lchown(link, 12, 12))
	if _, err := ReadTrusted(link); err == nil {
		t.Error("somebody else's link is followed")
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	loop := filepath.Join(dir, "loop")
	must(t, os.Symlink("loop", loop))
	large := filepath.Join(dir, "large")
	write(t, large, strings.Repeat("#\n", mostFile))
	for _, path := range []string{dir, loop, large, filepath.Join(dir, "none"), "/dev/null"} {
		if _, err := ReadTrusted(path); err == nil {
			t.Errorf("%s is read", path)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
