// Package paths makes absolute paths of what the kernel saw: walks from a dentry to its root, and callers' strings.
package paths

import (
	"bytes"
)

// What is known of a path; the values are those of enum path_bits in bpf/include/record.h.
const (
	String   = 1 << iota // a caller's string, else a walk
	Cut                  // the walk ended before the root
	Foreign              // its root is another mount namespace's
	Detached             // its mount is in no namespace
	Unread               // the string could not be read
	Baseless             // the folder it starts from is unknown
	Unlinked             // the name is gone
	Chroot               // the caller's root is not the namespace's
)

// Max is how many bytes of a path are kept, its end rather than its beginning.
const Max = 4096

// Status says how far a path can be trusted; of two, the greater holds for both.
type Status uint8

// The statuses, best first.
const (
	Resolved Status = iota
	Requested
	Namespace
	Truncated
	Unresolved
)

var words = [...]string{"resolved", "requested", "namespace", "truncated", "unresolved"}

func (s Status) String() string { return words[s] }

var ellipsis = []byte("…")

// Resolve appends to dst the path that raw holds. raw is a walk (components from leaf to root, each followed by a
// slash) or, with String, a string, a NUL and the walk of the folder it starts from.
func Resolve(dst, raw []byte, bits uint8) ([]byte, Status) {
	if bits&String == 0 {
		return walked(dst, raw, bits)
	}
	if bits&Unread != 0 {
		return dst, Unresolved
	}
	text, base := split(raw)
	if len(text) == 0 {
		return walked(dst, base, bits)
	}
	status := max(Requested, ofWalk(bits))
	start := len(dst)
	if bits&Baseless != 0 {
		return shorten(normalize(append(dst, ellipsis...), start, text), start, Unresolved)
	}
	if text[0] == '/' {
		dst, _ = walked(dst, base, bits)
		floor := len(dst)
		if floor-start == 1 {
			dst, floor = dst[:start], start
		}
		return shorten(normalize(dst, floor, text), start, status)
	}
	if bits&Chroot != 0 && climbs(text) {
		status = Unresolved
	}
	dst, _ = walked(dst, base, bits)
	if len(dst)-start == 1 {
		dst = dst[:start]
	}
	return shorten(normalize(dst, start, text), start, status)
}

// LinkTarget appends where a symlink at link leads whose contents raw holds, as Resolve's strings do.
func LinkTarget(dst, link, raw []byte, bits uint8) ([]byte, Status) {
	text, _ := split(raw)
	if bits&Unread != 0 || len(text) == 0 {
		return dst, Unresolved
	}
	if text[0] == '/' {
		return Resolve(dst, raw, bits)
	}
	start := len(dst)
	if i := bytes.LastIndexByte(link, '/'); i > 0 {
		dst = append(dst, link[:i]...)
	}
	return shorten(normalize(dst, start, text), start, Requested)
}

func split(raw []byte) (text, base []byte) {
	text, base, _ = bytes.Cut(raw, []byte{0})
	return text, base
}

func ofWalk(bits uint8) Status {
	switch {
	case bits&(Detached|Unlinked|Baseless) != 0:
		return Unresolved
	case bits&Cut != 0:
		return Truncated
	case bits&Foreign != 0:
		return Namespace
	}
	return Resolved
}

func walked(dst, raw []byte, bits uint8) ([]byte, Status) {
	if bits&Baseless != 0 {
		return dst, Unresolved
	}
	start := len(dst)
	if bits&Cut != 0 {
		dst = append(dst, ellipsis...)
	}
	for end := len(raw); end > 0; {
		from := bytes.LastIndexByte(raw[:end-1], '/') + 1
		dst = append(dst, '/')
		dst = append(dst, raw[from:end-1]...)
		end = from
	}
	if len(dst) == start || bits&Cut != 0 && len(raw) == 0 {
		dst = append(dst, '/')
	}
	return shorten(dst, start, ofWalk(bits))
}

// normalize appends text's components to dst, lexically: ".." removes one, but none before floor, and never the
// mark of a truncated beginning.
func normalize(dst []byte, floor int, text []byte) []byte {
	for len(text) > 0 {
		part := text
		if i := bytes.IndexByte(text, '/'); i >= 0 {
			part, text = text[:i], text[i+1:]
		} else {
			text = nil
		}
		switch {
		case len(part) == 0 || len(part) == 1 && part[0] == '.':
		case len(part) == 2 && part[0] == '.' && part[1] == '.':
			if i := bytes.LastIndexByte(dst[floor:], '/'); i >= 0 {
				dst = dst[:floor+i]
			}
		default:
			dst = append(dst, '/')
			dst = append(dst, part...)
		}
	}
	if len(dst) == floor || bytes.Equal(dst[floor:], ellipsis) {
		dst = append(dst, '/')
	}
	return dst
}

func climbs(text []byte) bool {
	for part := range bytes.SplitSeq(text, []byte{'/'}) {
		if len(part) == 2 && part[0] == '.' && part[1] == '.' {
			return true
		}
	}
	return false
}

// shorten keeps the last Max bytes of the path that begins at start, from a component's beginning on.
func shorten(dst []byte, start int, status Status) ([]byte, Status) {
	path := dst[start:]
	if len(path) <= Max {
		return dst, status
	}
	keep := path[len(path)-Max+len(ellipsis):]
	if i := bytes.IndexByte(keep, '/'); i >= 0 {
		keep = keep[i:]
	}
	n := copy(path[len(ellipsis):], keep)
	copy(path, ellipsis)
	return dst[:start+len(ellipsis)+n], max(status, Truncated)
}
