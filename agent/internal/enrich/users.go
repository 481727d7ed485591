package enrich

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// Users names the host's own users, as /etc/passwd does.
type Users struct {
	path    string
	names   map[uint32]string
	read    time.Time // when the file was last looked at
	changed time.Time // its time of change then
	size    int64
}

// NewUsers reads names from the file at path.
func NewUsers(path string) *Users { return &Users{path: path} }

const (
	usersEvery    = 5 * time.Second
	unknownsEvery = 200 * time.Millisecond
	longestName   = 256
)

// Name is the name of uid, or "".
func (u *Users) Name(uid uint32, now time.Time) string {
	if now.Sub(u.read) >= usersEvery {
		u.refresh(now)
	}
	name, ok := u.names[uid]
	if !ok && now.Sub(u.read) >= unknownsEvery {
		u.refresh(now)
		name = u.names[uid]
	}
	return name
}

func (u *Users) refresh(now time.Time) {
	u.read = now
	info, err := os.Stat(u.path)
	if err != nil || info.ModTime().Equal(u.changed) && info.Size() == u.size {
		return
	}
	raw, err := os.ReadFile(u.path)
	if err != nil {
		return
	}
	u.changed, u.size = info.ModTime(), info.Size()
	u.names = parsePasswd(raw)
}

func parsePasswd(raw []byte) map[uint32]string {
	names := make(map[uint32]string)
	for line := range bytes.Lines(raw) {
		parts := bytes.SplitN(line, []byte{':'}, 4)
		if len(parts) < 4 || len(parts[0]) == 0 || len(parts[0]) > longestName || parts[0][0] == '#' {
			continue
		}
		uid, err := strconv.ParseUint(string(parts[2]), 10, 32)
		if err != nil {
			continue
		}
		if _, taken := names[uint32(uid)]; !taken {
			names[uint32(uid)] = string(parts[0])
		}
	}
	return names
}
