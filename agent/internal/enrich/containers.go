package enrich

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Containers finds a process's container by its control group.
type Containers struct {
	byGroup map[uint64]string // of the unified hierarchy, whose ids outlive their processes
	mount   int               // a descriptor of that hierarchy, or -1
}

const (
	rootGroup   = 1
	mostGroups  = 8192
	kernfsByID  = 0xfe // FILEID_KERNFS
	containerID = 64   // hexadecimal digits
)

// NewContainers looks for the unified hierarchy where it is usually mounted.
func NewContainers() *Containers {
	c := &Containers{byGroup: make(map[uint64]string), mount: -1}
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var st unix.Statfs_t
		if unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC {
			if fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC|unix.O_RDONLY, 0); err == nil {
				c.mount = fd
				break
			}
		}
	}
	return c
}

// Of is the id of the container that the process is in, or "".
func (c *Containers) Of(pid uint32, group uint64) string {
	if id, ok := c.byGroup[group]; ok && group > rootGroup {
		return id
	}
	raw, err := os.ReadFile("/proc/" + strconv.FormatUint(uint64(pid), 10) + "/cgroup")
	id := parseCgroup(raw)
	if err != nil && group > rootGroup {
		id = parseCgroup(c.pathOf(group))
	}
	if group > rootGroup {
		if len(c.byGroup) >= mostGroups {
			clear(c.byGroup)
		}
		c.byGroup[group] = id
	}
	return id
}

// pathOf asks the hierarchy itself, for a process that is gone.
func (c *Containers) pathOf(group uint64) []byte {
	if c.mount < 0 {
		return nil
	}
	handle := unix.NewFileHandle(kernfsByID, binary.LittleEndian.AppendUint64(nil, group))
	fd, err := unix.OpenByHandleAt(c.mount, handle, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	path, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		return nil
	}
	return []byte(path)
}

// parseCgroup finds the last run of 64 hexadecimal digits that stands alone in a control group's path: what Docker,
// containerd, CRI-O and Podman name their groups by.
func parseCgroup(raw []byte) string {
	for line := range bytes.Lines(raw) {
		for end := len(line); end > 0; {
			for end > 0 && !isHex(line[end-1]) {
				end--
			}
			start := end
			for start > 0 && isHex(line[start-1]) {
				start--
			}
			if end-start == containerID {
				return string(line[start:end])
			}
			end = start
		}
	}
	return ""
}

func isHex(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'f'
}
