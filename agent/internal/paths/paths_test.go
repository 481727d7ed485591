package paths

import (
	"bytes"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	long := strings.Repeat("x", 250)
	var tall, tallWalk string
	for range 20 {
		tall, tallWalk = tall+"/"+long, tallWalk+long+"/"
	}
	for _, c := range []struct {
		name, raw string
		bits      uint8
		path      string
		status    Status
	}{
		{"a walk", "f/b/a/", 0, "/a/b/f", Resolved},
		{"the root", "", 0, "/", Resolved},
		{"a walk cut short", "f/b/", Cut, "…/b/f", Truncated},
		{"a walk cut at once", "", Cut, "…/", Truncated},
		{"a walk in another namespace", "f/", Foreign, "/f", Namespace},
		{"a walk that is cut there", "f/", Foreign | Cut, "…/f", Truncated},
		{"a mount that is gone", "f/", Detached, "/f", Unresolved},
		{"a name that is gone", "f/a/", Unlinked, "/a/f", Unresolved},
		{"a walk that failed", "", Baseless, "", Unresolved},
		{"an absolute string", "/a/./b//c/../f\x00", String, "/a/b/f", Requested},
		{"a string above the root", "/../../f\x00", String, "/f", Requested},
		{"a string that is the root", "/..\x00", String, "/", Requested},
		{"a trailing slash", "/a/f/\x00", String, "/a/f", Requested},
		{"a relative string", "../f\x00b/a/", String, "/a/f", Requested},
		{"a relative string at the root", "f\x00", String, "/f", Requested},
		{"a relative string above the root", "../../../f\x00b/a/", String, "/f", Requested},
		{"the folder itself", ".\x00b/a/", String, "/a/b", Requested},
		{"the root from below", "..\x00a/", String, "/", Requested},
		{"three dots", ".../..f\x00a/", String, "/a/.../..f", Requested},
		{"from a folder cut short", "../f\x00b/a/", String | Cut, "…/a/f", Truncated},
		{"above what was cut", "../../../../f\x00b/a/", String | Cut, "…/f", Truncated},
		{"only above what was cut", "../../..\x00b/a/", String | Cut, "…/", Truncated},
		{"from another namespace", "f\x00a/", String | Foreign, "/a/f", Namespace},
		{"from nowhere", "a/../f\x00", String | Baseless, "…/f", Unresolved},
		{"a string that could not be read", "", String | Unread, "", Unresolved},
		{"an empty string is the descriptor's file", "\x00f/a/", String, "/a/f", Resolved},
		{"an empty string of no descriptor", "\x00", String | Baseless, "", Unresolved},
		{"absolute in a chroot", "/../f\x00jail/srv/", String | Chroot, "/srv/jail/f", Requested},
		{"the root of a chroot", "/\x00jail/", String | Chroot, "/jail/", Requested},
		{"relative in a chroot", "f\x00in/jail/", String | Chroot, "/jail/in/f", Requested},
		{"climbing in a chroot", "../f\x00in/jail/", String | Chroot, "/jail/f", Unresolved},
		{"a path of 5,000 bytes", tallWalk, 0, "…" + tall[len(tall)-16*251:], Truncated},
		{"a string of 5,000 bytes", tall + "\x00", String, "…" + tall[len(tall)-16*251:], Truncated},
		{"a backslash and a newline", "a\\\n\x00", String, "/a\\\n", Requested},
	} {
		got, status := Resolve([]byte("kept"), []byte(c.raw), c.bits)
		if string(got) != "kept"+c.path || status != c.status {
			t.Errorf("%s: %q %s, want %q %s", c.name, got, status, "kept"+c.path, c.status)
		}
	}
}

func TestLinkTargets(t *testing.T) {
	for _, c := range []struct{ link, raw, path string }{
		{"/a/b/l", "../f\x00elsewhere/", "/a/f"},
		{"/a/b/l", "f\x00elsewhere/", "/a/b/f"},
		{"/l", "f\x00", "/f"},
		{"/a/l", "/x/../f\x00", "/f"},
		{"…/a/l", "../../f\x00", "…/f"},
	} {
		got, status := LinkTarget(nil, []byte(c.link), []byte(c.raw), String)
		if string(got) != c.path || status != Requested {
			t.Errorf("%s -> %q: %q %s", c.link, c.raw, got, status)
		}
	}
}

func FuzzAPathIsAbsoluteBoundedAndHonest(f *testing.F) {
	f.Add([]byte("f/b/a/"), uint8(0))
	f.Add([]byte("../f\x00b/a/"), uint8(String|Cut))
	f.Add([]byte("/../f\x00jail/"), uint8(String|Chroot))
	f.Fuzz(func(t *testing.T, raw []byte, bits uint8) {
		if bits&String == 0 && len(raw) > 0 && (raw[len(raw)-1] != '/' || raw[0] == '/') {
			return // no walk looks like that
		}
		path, status := Resolve(nil, raw, bits)
		if len(path) > Max {
			t.Fatalf("%d bytes", len(path))
		}
		if bits&(Unread|Baseless) != 0 && bits&String != 0 && status != Unresolved {
			t.Fatalf("%q is %s", path, status)
		}
		switch {
		case len(path) == 0:
			if status != Unresolved {
				t.Fatalf("nothing, yet %s", status)
			}
		case path[0] == '/':
			if status == Truncated {
				t.Fatalf("%q is truncated", path)
			}
		case !bytes.HasPrefix(path, []byte("…/")):
			t.Fatalf("%q is not absolute", path)
		case status < Truncated:
			t.Fatalf("%q is %s", path, status)
		}
		if bits&String != 0 && bits&(Chroot|Cut|Baseless) == 0 && len(raw) > 0 && raw[0] == '/' {
			text, _, _ := bytes.Cut(raw, []byte{0})
			_, base := split(raw)
			if len(base) == 0 && len(text) < Max && (bytes.Contains(path, []byte("//")) || bytes.HasSuffix(path, []byte("/.."))) {
				t.Fatalf("%q is not normal", path)
			}
		}
	})
}
