package enrich

import (
	"time"

	"kaimon/agent/internal/decode"
	"kaimon/agent/internal/paths"
)

// Process is what is known once of a program that runs: an execve makes it another.
type Process struct {
	StartUs     int64
	Exe         []byte // nil = unknown
	ContainerID string
}

type key struct {
	pid           uint32
	start, execID uint64
}

// known is a remembered program, between one that was seen later and one that was seen earlier.
type known struct {
	Process
	key            key
	later, earlier int32
}

// Processes remembers the most recently seen programs, in room that is all set aside from the beginning: else it would
// grow for as long as a host takes to start so many.
type Processes struct {
	Clock      *Clock
	Users      *Users
	Containers *Containers
	at         map[key]int32
	all        []known // in a circle; the first is no program, but between the earliest and the latest
	exes       map[string][]byte
	scratch    []byte
}

// mostExes is how many paths of programs are held once each; past it they are held anew.
const mostExes = 4096

// NewProcesses remembers at most `most` programs. The kernel sends a program's path again once it has forgotten it;
// `most` is to exceed what the kernel remembers.
func NewProcesses(most int) *Processes {
	return &Processes{
		Clock: &Clock{}, Users: NewUsers("/etc/passwd"), Containers: NewContainers(),
		at: make(map[key]int32, most), all: make([]known, 1, most+1), exes: make(map[string][]byte),
	}
}

// Of is the process of a record; what it points to is not to be changed, and valid until the next call.
func (p *Processes) Of(r *decode.Record) *Process {
	k := key{r.PID, r.StartNs, r.ExecID}
	i, ok := p.at[k]
	if !ok {
		i = p.room()
		p.at[k] = i
		p.all[i].key = k
		p.all[i].Process = Process{StartUs: p.Clock.Micros(r.StartNs), ContainerID: p.Containers.Of(r.PID, r.Cgroup)}
	}
	p.seen(i)
	process := &p.all[i].Process
	if process.Exe == nil && r.Has&decode.HasExe != 0 {
		p.scratch, _ = paths.Resolve(p.scratch[:0], r.Exe, r.ExeBits)
		process.Exe = p.once(p.scratch)
	}
	return process
}

// room is a place of its own in the circle, or that of the program which was seen before all others.
func (p *Processes) room() int32 {
	if n := len(p.all); n < cap(p.all) {
		p.all = append(p.all, known{later: int32(n), earlier: int32(n)})
		return int32(n)
	}
	i := p.all[0].later
	delete(p.at, p.all[i].key)
	return i
}

// seen makes a program the latest.
func (p *Processes) seen(i int32) {
	one := &p.all[i]
	p.all[one.later].earlier, p.all[one.earlier].later = one.earlier, one.later
	one.later, one.earlier = 0, p.all[0].earlier
	p.all[one.earlier].later, p.all[0].earlier = i, i
}

// once is a path of which all processes that run it share one copy.
func (p *Processes) once(path []byte) []byte {
	if exe, ok := p.exes[string(path)]; ok {
		return exe
	}
	if len(p.exes) >= mostExes {
		clear(p.exes)
	}
	exe := append([]byte{}, path...)
	p.exes[string(exe)] = exe
	return exe
}

// User is the name of the user whom a process belongs to. In a container only root is the host's.
func (p *Processes) User(r *decode.Record, process *Process, now time.Time) string {
	if process.ContainerID != "" && r.UID != 0 {
		return ""
	}
	return p.Users.Name(r.UID, now)
}
