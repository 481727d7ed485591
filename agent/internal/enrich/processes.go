package enrich

import (
	"container/list"
	"time"

	"kaimon/agent/internal/decode"
	"kaimon/agent/internal/paths"
)

// Process is what is known once of a program that runs: an execve makes it another.
type Process struct {
	StartUs     int64
	Exe         []byte // nil = unknown
	ContainerID string
	key         key
}

type key struct {
	pid           uint32
	start, execID uint64
}

// Processes remembers the most recently seen programs.
type Processes struct {
	Clock      *Clock
	Users      *Users
	Containers *Containers
	most       int
	known      map[key]*list.Element
	recent     *list.List // of *Process, most recent first
}

// NewProcesses remembers at most `most` programs. The kernel sends a program's path again once it has forgotten it;
// `most` is to exceed what the kernel remembers.
func NewProcesses(most int) *Processes {
	return &Processes{
		Clock: &Clock{}, Users: NewUsers("/etc/passwd"), Containers: NewContainers(),
		most: most, known: make(map[key]*list.Element), recent: list.New(),
	}
}

// Of is the process of a record; what it points to is not to be changed.
func (p *Processes) Of(r *decode.Record) *Process {
	k := key{r.PID, r.StartNs, r.ExecID}
	element, ok := p.known[k]
	if ok {
		p.recent.MoveToFront(element)
	} else {
		if len(p.known) >= p.most {
			oldest := p.recent.Back()
			delete(p.known, p.recent.Remove(oldest).(*Process).key)
		}
		element = p.recent.PushFront(&Process{
			StartUs: p.Clock.Micros(r.StartNs), ContainerID: p.Containers.Of(r.PID, r.Cgroup), key: k,
		})
		p.known[k] = element
	}
	process := element.Value.(*Process)
	if process.Exe == nil && r.Has&decode.HasExe != 0 {
		process.Exe, _ = paths.Resolve(nil, r.Exe, r.ExeBits)
	}
	return process
}

// User is the name of the user whom a process belongs to. In a container only root is the host's.
func (p *Processes) User(r *decode.Record, process *Process, now time.Time) string {
	if process.ContainerID != "" && r.UID != 0 {
		return ""
	}
	return p.Users.Name(r.UID, now)
}
