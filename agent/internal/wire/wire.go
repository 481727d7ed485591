// Package wire writes the lines of a batch: a header with the counters, then one event a line.
package wire

import (
	"encoding/json"
	"strconv"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/decode"
	"kaimon/agent/internal/paths"
	"kaimon/agent/internal/text"
)

// Host is what a batch says of the machine.
type Host struct {
	OS     string  `json:"os"`
	Kernel string  `json:"kernel"`
	Arch   string  `json:"arch"`
	Cloud  *string `json:"cloud"`
}

// Header is a batch's first line.
type Header struct {
	Kind           string   `json:"kind"`
	AgentID        string   `json:"agent_id"`
	Hostname       string   `json:"hostname"`
	BootID         string   `json:"boot_id"`
	LoadID         string   `json:"load_id"`
	BatchSeq       uint64   `json:"batch_seq"`
	PreviousDigest *string  `json:"previous_digest"`
	AgentVersion   string   `json:"agent_version"`
	CaptureMode    string   `json:"capture_mode"`
	BlindSpots     []string `json:"blind_spots"`
	Host           Host     `json:"host"`
	CPUs           []CPU    `json:"cpus"`
	SentAt         int64    `json:"sent_at"`
	Final          bool     `json:"final"`
}

// CPU is one CPU's counters since load.
type CPU struct {
	CPU        int    `json:"cpu"`
	Seen       uint64 `json:"seen"`
	Filtered   uint64 `json:"filtered"`
	NextSeq    uint64 `json:"next_seq"`
	Pending    uint64 `json:"pending"`
	LostRows   Causes `json:"lost_rows"`
	LostEvents Causes `json:"lost_events"`
}

// Causes are the ways to lose a row.
type Causes struct {
	Ring    uint64 `json:"ring"`
	Scratch uint64 `json:"scratch"`
	Shed    uint64 `json:"shed"`
	Refused uint64 `json:"refused"`
	Evicted uint64 `json:"evicted"`
}

// CPUs are the counters of a batch cut at now: of each CPU in online, and of each other one that saw something.
func CPUs(now account.Snapshot, ledger *account.Ledger, online func(cpu int) bool) []CPU {
	all := make([]CPU, 0, len(now))
	for i, c := range now {
		if c.Seen == 0 && !online(i) {
			continue
		}
		shed, refused := ledger.Shed[i], ledger.Refused[i]
		all = append(all, CPU{
			CPU: i, Seen: c.Seen, Filtered: c.Filtered, NextSeq: c.NextSeq, Pending: c.Pending,
			LostRows:   Causes{Ring: c.Ring.Rows, Scratch: c.Scratch.Rows, Shed: shed.Rows, Refused: refused.Rows},
			LostEvents: Causes{Ring: c.Ring.Events, Scratch: c.Scratch.Events, Shed: shed.Events, Refused: refused.Events},
		})
	}
	return all
}

// Line returns the header as a line.
func (h *Header) Line() ([]byte, error) {
	line, err := json.Marshal(h)
	return append(line, '\n'), err
}

// Event is a record with what user space knows about it. Byte slices are raw; AppendTo escapes them.
type Event struct {
	Record       *decode.Record
	StartUs      int64
	Path, Target []byte
	HasTarget    bool
	Status       paths.Status
	FileType     string
	Access       string // "" = none
	User         string // "" = unknown
	Exe          []byte // nil = unknown
	ContainerID  string // "" = none
}

// Moment is what differs between a row and the row that tells of its repeats.
type Moment struct {
	TimeUs, LastUs int64 // LastUs counts if there are several
	TimeNs         uint64
	Count          uint64
	CPU            uint32
	Seq            uint64
}

const nobody = 1<<32 - 1

// AppendTo begins a line. It is whole with the rest that Event.AppendTo appends.
func (m Moment) AppendTo(dst []byte) []byte {
	dst = append(dst, `{"time":`...)
	dst = strconv.AppendInt(dst, m.TimeUs, 10)
	dst = number(dst, `,"monotonic_ns":`, m.TimeNs)
	dst = number(dst, `,"count":`, m.Count)
	if m.Count > 1 {
		dst = append(dst, `,"last_time":`...)
		dst = strconv.AppendInt(dst, m.LastUs, 10)
	}
	dst = number(dst, `,"cpu":`, uint64(m.CPU))
	return number(dst, `,"seq":`, m.Seq)
}

// AppendTo ends a line that a Moment began.
func (e *Event) AppendTo(dst []byte) []byte {
	r := e.Record
	dst = word(dst, `,"operation":"`, r.Operation.String())
	if e.Access != "" {
		dst = word(dst, `,"access":"`, e.Access)
	}
	dst = text.AppendJSON(append(dst, `,"path":`...), e.Path)
	if e.HasTarget {
		dst = text.AppendJSON(append(dst, `,"target_path":`...), e.Target)
	}
	dst = word(dst, `,"path_status":"`, e.Status.String())
	dst = word(dst, `,"file_type":"`, e.FileType)
	if r.Has&decode.HasMode != 0 {
		dst = number(dst, `,"mode":`, uint64(r.Mode))
	}
	if r.Has&decode.HasModeBefore != 0 {
		dst = number(dst, `,"mode_before":`, uint64(r.ModeBefore))
	}
	if r.Has&decode.HasFlags != 0 {
		dst = append(dst, `,"flags":`...)
		dst = strconv.AppendInt(dst, int64(int32(r.Flags)), 10)
	}
	if r.Has&decode.HasResult != 0 {
		dst = append(dst, `,"result":`...)
		dst = strconv.AppendInt(dst, int64(r.Result), 10)
	}
	dst = number(dst, `,"uid":`, uint64(r.UID))
	dst = number(dst, `,"euid":`, uint64(r.EUID))
	dst = number(dst, `,"gid":`, uint64(r.GID))
	if r.LoginUID != nobody {
		dst = number(dst, `,"login_uid":`, uint64(r.LoginUID))
	}
	if e.User != "" {
		dst = text.AppendJSON(append(dst, `,"user":`...), []byte(e.User))
	}
	dst = number(dst, `,"pid":`, uint64(r.PID))
	dst = number(dst, `,"ppid":`, uint64(r.PPID))
	dst = text.AppendJSON(append(dst, `,"process":`...), r.Comm)
	if e.Exe != nil {
		dst = text.AppendJSON(append(dst, `,"exe":`...), e.Exe)
	}
	dst = append(dst, `,"process_start":`...)
	dst = strconv.AppendInt(dst, e.StartUs, 10)
	dst = text.AppendJSON(append(dst, `,"parent_process":`...), r.ParentComm)
	if e.ContainerID != "" {
		dst = text.AppendJSON(append(dst, `,"container_id":`...), []byte(e.ContainerID))
	}
	dst = number(dst, `,"mount_ns":`, uint64(r.MountNS))
	if r.Has&decode.HasInode != 0 {
		dst = append(dst, `,"inode":`...)
		dst = strconv.AppendInt(dst, int64(r.Inode), 10)
		dst = number(dst, `,"dev":`, uint64(r.Dev))
	}
	return append(dst, '}', '\n')
}

func number(dst []byte, key string, n uint64) []byte {
	return strconv.AppendUint(append(dst, key...), n, 10)
}

func word(dst []byte, key, w string) []byte {
	return append(append(append(dst, key...), w...), '"')
}
