package probe

import (
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Filter says what is captured. It can be changed while programs run.
type Filter struct {
	Include, Exclude                []string      // folders; the deepest that holds a file decides
	OnlyProcesses, ExcludeProcesses []string      // executables; one of the two
	Sensitive                       []string      // patterns of paths whose opens are always kept; see paths.Patterns
	Collapse                        time.Duration // how long repeats are collapsed; 0 = never
}

const (
	mostPrefix       = 250
	mostFolders      = 200
	mostPatternBytes = 126
	prefixSize       = 4 + 256
	tailSize         = 4 + 128
	endingSize       = 4 + 16

	excluded = 1 // enum verdict
	included = 2
	above    = 4

	onlyFolders  = 1 // enum config_flags
	onlyPrograms = 2
	notPrograms  = 4
)

// config is struct config of bpf/include/filter.h.
type config struct {
	SelfTGID, MountNS, Flags, SysExit                 uint32
	FolderBits, ProgramBits, WindowNS                 uint64
	Results, OverlayUpper, MkdirReturnsDentry, Unused uint32
}

func (c *Capture) setConfig() error {
	if err := c.configVariable.Set(c.config); err != nil {
		return fmt.Errorf("set the programs' configuration: %w", err)
	}
	return nil
}

// Apply makes f what is captured. After an error, what was captured before still is.
func (c *Capture) Apply(f Filter) error {
	c.applying.Lock()
	defer c.applying.Unlock()
	if len(f.OnlyProcesses) > 0 && len(f.ExcludeProcesses) > 0 {
		return errors.New("processes can be included or excluded, not both")
	}
	if n := len(f.Include) + len(f.Exclude) + len(c.own); n > mostFolders {
		return fmt.Errorf("%d folders to include or exclude; at most %d can be", n, mostFolders)
	}
	next := c.config
	next.FolderBits, next.ProgramBits, next.Flags = 0, 0, 0
	next.WindowNS = uint64(f.Collapse)
	t := tables{folders: map[string]uint8{}, prefixes: map[string]uint8{}, programs: map[string]uint8{}}
	defer func() { closeAll(t.holds) }()
	for _, dir := range slices.Concat(c.own, f.Exclude) {
		if err := c.folder(dir, excluded, &t, &next); err != nil {
			return fmt.Errorf("exclude %s: %w", dir, err)
		}
	}
	for _, dir := range f.Include {
		if err := c.folder(dir, included, &t, &next); err != nil {
			return fmt.Errorf("include %s: %w", dir, err)
		}
		next.Flags |= onlyFolders
	}
	for _, exe := range slices.Concat(f.OnlyProcesses, f.ExcludeProcesses) {
		if err := c.executable(exe, &t, &next); err != nil {
			return fmt.Errorf("the process %s: %w", exe, err)
		}
	}
	if len(f.OnlyProcesses) > 0 {
		next.Flags |= onlyPrograms
	} else if len(f.ExcludeProcesses) > 0 {
		next.Flags |= notPrograms
	}
	tails, endings, err := patternKeys(f.Sensitive)
	if err != nil {
		return err
	}
	return c.swap(next, &t, tails, endings)
}

// tables are the contents of the maps, by key.
type tables struct {
	folders, prefixes, programs map[string]uint8
	holds                       []int // descriptors that keep the inodes from being reused
}

// swap puts the tables in the kernel's place. Entries come before the bits that lead to them, and go after.
func (c *Capture) swap(next config, t *tables, tails, endings map[string]uint8) error {
	sets := []struct {
		m    *ebpf.Map
		want map[string]uint8
	}{
		{c.maps[captureMapFolders], t.folders}, {c.maps[captureMapPrefixes], t.prefixes},
		{c.maps[captureMapPrograms], t.programs}, {c.maps[captureMapTails], tails}, {c.maps[captureMapEndings], endings},
	}
	for _, set := range sets {
		for key, value := range set.want {
			if err := set.m.Put([]byte(key), value); err != nil {
				return fmt.Errorf("fill %s: %w", set.m, err)
			}
		}
	}
	c.config = next
	c.windowNS.Store(next.WindowNS)
	if err := c.setConfig(); err != nil {
		return err
	}
	for _, set := range sets {
		if err := keepOnly(set.m, set.want); err != nil {
			return fmt.Errorf("empty %s: %w", set.m, err)
		}
	}
	c.holds, t.holds = t.holds, c.holds // the caller closes the old ones
	return nil
}

func keepOnly(m *ebpf.Map, want map[string]uint8) error {
	var stale [][]byte
	key, value := []byte{}, uint8(0)
	entries := m.Iterate()
	for entries.Next(&key, &value) {
		if _, ok := want[string(key)]; !ok {
			stale = append(stale, slices.Clone(key))
		}
	}
	if err := entries.Err(); err != nil {
		return err
	}
	for _, key := range stale {
		if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// inode is the map key of the file at path, which stays open.
func (c *Capture) inode(path string, flags int, t *tables) (string, uint64, error) {
	fd, err := unix.Open(path, flags|unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", 0, err
	}
	t.holds = append(t.holds, fd)
	d, err := c.describe(fd)
	if err != nil {
		return "", 0, err
	}
	key := make([]byte, 16)
	binary.NativeEndian.PutUint64(key, d.Inode)
	binary.NativeEndian.PutUint32(key[8:], d.Dev)
	return string(key), d.Inode, nil
}

func (c *Capture) folder(dir string, verdict uint8, t *tables, next *config) error {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	if real, err = filepath.Abs(real); err != nil {
		return err
	}
	if real == "/" {
		return errors.New("that is everything")
	}
	key, number, err := c.inode(real, unix.O_DIRECTORY, t)
	if err != nil {
		return err
	}
	t.folders[key] |= verdict
	next.FolderBits |= 1 << (number % 64)
	if verdict == included {
		for up := filepath.Dir(real); ; up = filepath.Dir(up) {
			key, number, err := c.inode(up, unix.O_DIRECTORY, t)
			if err != nil {
				return err
			}
			t.folders[key] |= above
			next.FolderBits |= 1 << (number % 64)
			if up == "/" {
				break
			}
		}
	}
	if len(real) > mostPrefix {
		return nil // paths given as strings are then not filtered out: too much is told, not too little
	}
	for _, end := range []byte{'/', 0} {
		t.prefixes[textKey(prefixSize, append([]byte(real), end))] |= verdict
	}
	return nil
}

func (c *Capture) executable(path string, t *tables, next *config) error {
	if !filepath.IsAbs(path) {
		return errors.New("its path is not absolute")
	}
	key, number, err := c.inode(path, 0, t)
	if err != nil {
		return err
	}
	t.programs[key] = 1
	next.ProgramBits |= 1 << (number % 64)
	return nil
}

// textKey is the key of a trie: how many bits count, then the text.
func textKey(size int, text []byte) string {
	key := make([]byte, size)
	binary.NativeEndian.PutUint32(key, uint32(len(text))*8)
	copy(key[4:], text)
	return string(key)
}

// patternKeys are the sensitive patterns as the kernel looks for them: the components from the leaf on, or the end of
// the name backwards.
func patternKeys(patterns []string) (tails, endings map[string]uint8, err error) {
	tails, endings = map[string]uint8{}, map[string]uint8{}
	for _, pattern := range patterns {
		if ending, ok := strings.CutPrefix(pattern, "*"); ok {
			if ending == "" || len(ending) > 16 || strings.ContainsAny(ending, "*/") {
				return nil, nil, fmt.Errorf("sensitive pattern %q: an ending has 1 to 16 characters, and no slash or star", pattern)
			}
			reversed := []byte(ending)
			slices.Reverse(reversed)
			endings[textKey(endingSize, reversed)] = 1
			continue
		}
		parts := strings.Split(strings.TrimPrefix(pattern, "/"), "/")
		slices.Reverse(parts)
		text := strings.Join(parts, "/") + "/"
		if slices.Contains(parts, "") || strings.Contains(pattern, "*") || len(text) > mostPatternBytes {
			return nil, nil, fmt.Errorf("sensitive pattern %q: it is neither a path, nor the end of one, nor *ENDING", pattern)
		}
		if strings.HasPrefix(pattern, "/") {
			text += "\x00"
		}
		tails[textKey(tailSize, []byte(text))] = 1
	}
	return tails, endings, nil
}
