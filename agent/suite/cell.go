package main

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// A cell of the table: one operation done once in one way, on a name of its own. What was done, then what was seen.
type cell struct {
	Operation  string   `json:"operation"`
	Way        string   `json:"way"`
	Found      string   `json:"found"` // once, twice, missed, impossible
	Why        string   `json:"why,omitempty"`
	Seen       string   `json:"seen,omitempty"` // the operation of the row, where it is not the expected one
	Status     string   `json:"path_status,omitempty"`
	Path       string   `json:"path,omitempty"` // right, as_asked, partial, wrong
	PathSeen   string   `json:"path_seen,omitempty"`
	Result     *int     `json:"result"`
	Extra      []string `json:"extra,omitempty"` // rows that the deed brought beside its own
	ExcusedBy  string   `json:"excused_by,omitempty"`
	folder     string   // fresh, the cell's own
	name       string   // the last component of the file's path, unique
	wants      string   // the operation of the row
	path       string   // the file's true path
	asked      []string // the caller's own strings, if they differ
	renamed    string   // the last component of the target path
	inode      uint64
	result     int
	notOurs    bool // done by another process
	foreign    bool // the path can only be another namespace's
	nameless   bool // the file has no path
	start, end uint64
}

// How far from a deed a row's clock may be. Deeds keep four times this distance.
const slack = 100 * time.Microsecond

func now() uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t)
	return uint64(t.Nano())
}

// deed runs what is to be seen, alone: what was done before it to prepare is out of its reach.
func (c *cell) deed(what func() error) error {
	time.Sleep(4 * slack)
	c.start = now()
	err := undisturbed(what)
	c.end = now()
	time.Sleep(4 * slack)
	if c.result != 0 {
		if err == unix.Errno(c.result) {
			return nil
		}
		return fmt.Errorf("refused with %v, not with %v", err, unix.Errno(c.result))
	}
	return err
}

// undisturbed keeps the signal away by which Go's runtime stirs a thread that it finds busy: under it a call may end with
// EINTR (fallocate on tmpfs does) instead of its deed done.
func undisturbed(what func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var stir, before unix.Sigset_t
	stir.Val[0] = 1 << (unix.SIGURG - 1)
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &stir, &before); err != nil {
		return err
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }()
	return what()
}

// judge looks for the deed among the rows, and returns what no blind spot excuses.
func (c *cell) judge(rows []row, blind []string) []string {
	if c.Found == "impossible" {
		return nil
	}
	failures := []string{}
	fail := func(format string, arguments ...any) {
		failures = append(failures, c.Operation+" by "+c.Way+": "+fmt.Sprintf(format, arguments...))
	}
	var hits []row
	sum := 0
	for _, r := range rows {
		if r.MonotonicNs+uint64(slack) < c.start || r.MonotonicNs > c.end+uint64(slack) || !c.notOurs && r.PID != self {
			continue
		}
		switch {
		case c.names(&r) && r.Operation == c.wants, c.names(&r) && c.wants == "create" && r.Operation == "open":
			hits = append(hits, r)
			sum += r.Count
		case !c.notOurs || c.names(&r):
			c.Extra = append(c.Extra, r.Operation+" "+r.Path)
		}
	}
	switch {
	case len(hits) == 0:
		c.Found = "missed"
		if c.ExcusedBy = first(missedBecause(c.Operation, c.Way), blind); c.ExcusedBy == "" {
			fail("missed, and no blind spot says so (rows beside it: %q)", c.Extra)
		}
		return failures
	case sum > 1:
		c.Found = "twice"
		if c.ExcusedBy = first(twiceBecause(c.Way), blind); c.ExcusedBy == "" {
			fail("told %d times: %s", sum, told(hits))
		}
	default:
		c.Found = "once"
	}
	hit := hits[0]
	if hit.Operation != c.wants {
		c.Seen = hit.Operation
		if c.Way != "io_uring" || first([]string{"io_uring_results"}, blind) == "" {
			fail("told as %s", hit.Operation)
		}
	}
	if len(c.Extra) > 0 {
		fail("brought further rows: %q", c.Extra)
	}
	c.Status, c.Result = hit.Status, hit.Result
	c.judgePath(&hit, fail)
	if hit.Result == nil {
		if first([]string{"results", "write_results", "io_uring_results", "some_results"}, blind) == "" {
			fail("no result, and no blind spot says so")
		}
	} else if *hit.Result != c.result {
		fail("result %d, not %d", *hit.Result, c.result)
	}
	return failures
}

func (c *cell) judgePath(hit *row, fail func(string, ...any)) {
	want := escape(c.path)
	rest, cut := strings.CutPrefix(hit.Path, "…")
	switch {
	case c.nameless && hit.Status == "unresolved":
		c.Path = "unknown"
	case hit.Path == want:
		c.Path = "right"
	case hit.Status == "truncated" && cut && strings.HasSuffix(want, rest):
		c.Path = "partial"
	case hit.Status != "resolved" && slices.ContainsFunc(c.asked, func(p string) bool { return escape(p) == hit.Path }):
		c.Path = "as_asked"
	case hit.Status == "unresolved":
		c.Path = "unknown"
	default:
		c.Path = "wrong"
		fail("the path %s (%s) is not %s", short(hit.Path), hit.Status, short(want))
	}
	if c.Path != "right" {
		c.PathSeen = short(hit.Path)
	}
	if (c.foreign || c.nameless) && hit.Status == "resolved" {
		fail("the path %s says `resolved`, which it cannot be", short(hit.Path))
	}
	if c.renamed == "" {
		return
	}
	if hit.Target == nil {
		fail("no target path")
	} else if filepath.Base(*hit.Target) != escape(c.renamed) {
		fail("the target path %s does not end in %s", short(*hit.Target), c.renamed)
	}
}

// names says whether a row is about the cell's file.
func (c *cell) names(r *row) bool {
	if filepath.Base(r.Path) == escape(c.name) || c.inode != 0 && r.Inode != nil && uint64(*r.Inode) == c.inode {
		return true
	}
	return slices.ContainsFunc(c.asked, func(p string) bool { return escape(p) == r.Path })
}

func told(rows []row) string {
	var all []string
	for _, r := range rows {
		all = append(all, fmt.Sprintf("%s %s (%s) ×%d", r.Operation, short(r.Path), r.Status, r.Count))
	}
	return strings.Join(all, ", ")
}

func first(words, of []string) string {
	for _, w := range words {
		if slices.Contains(of, w) {
			return w
		}
	}
	return ""
}

func short(path string) string {
	if len(path) <= 160 {
		return path
	}
	return path[:60] + "[…]" + path[len(path)-90:]
}

// escape is the wire's way to write a path, made anew so that one error is not made twice.
func escape(raw string) string {
	var out strings.Builder
	for len(raw) > 0 {
		r, size := utf8.DecodeRuneInString(raw)
		switch {
		case r == '\\':
			out.WriteString(`\\`)
		case r == utf8.RuneError && size == 1, r < 0x20, r >= 0x7f && r < 0xa0:
			for i := range size {
				fmt.Fprintf(&out, `\x%02x`, raw[i])
			}
		default:
			out.WriteString(raw[:size])
		}
		raw = raw[size:]
	}
	return out.String()
}
