package paths

import (
	"bytes"
	"testing"
)

func FuzzNoBytesMakeAPathThatIsNone(f *testing.F) {
	f.Add([]byte("shadow/etc/"), uint8(0))
	f.Add([]byte("../x\x00dir/home/"), uint8(String))
	f.Add([]byte("/a//./b/..\x00"), uint8(String|Chroot))
	f.Add(bytes.Repeat([]byte("deep/"), 2000), uint8(Cut))
	f.Fuzz(func(t *testing.T, raw []byte, bits uint8) {
		before := []byte("kept")
		dst, status := Resolve(before, raw, bits)
		if !bytes.HasPrefix(dst, before) {
			t.Fatalf("what was there is gone: %q", dst)
		}
		path := dst[len(before):]
		if len(path) > Max {
			t.Errorf("%d bytes", len(path))
		}
		if status == Resolved && bits != 0 {
			text, _ := split(raw)
			if bits&String == 0 && bits&(Cut|Foreign|Detached|Baseless|Unlinked) != 0 || bits&String != 0 && len(text) > 0 {
				t.Errorf("bits %#x are called resolved", bits)
			}
		}
		if len(path) == 0 && status != Unresolved {
			t.Errorf("no path, and %s", status)
		}
		_ = status.String()
	})
}
