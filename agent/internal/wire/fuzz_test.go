package wire

import (
	"bytes"
	"encoding/json"
	"testing"

	"kaimon/agent/internal/decode"
	"kaimon/agent/internal/text"
)

func FuzzALineIsOneObjectThatSaysWhatTheRecordDoes(f *testing.F) {
	f.Add([]byte("/etc/passwd"), []byte("/to"), []byte("sh"), "root", uint64(7), uint32(3), uint16(0xffff), int64(-1))
	f.Add([]byte("new\nline\x00\xff\\\""), []byte(nil), []byte("\x1b[2J"), "\u202e", uint64(1<<63), ^uint32(0), uint16(0), int64(1<<62))
	f.Fuzz(func(t *testing.T, path, target, comm []byte, user string, seq uint64, n uint32, has uint16, at int64) {
		r := decode.Record{
			Seq: seq, CPU: n, PID: n, PPID: n, UID: n, EUID: n, GID: n, LoginUID: n, MountNS: n, Dev: n, Mode: n,
			ModeBefore: n, Flags: n, Result: int32(n), Inode: seq, Operation: decode.Open, Has: has, Comm: comm,
			ParentComm: target,
		}
		e := Event{
			Record: &r, StartUs: at, Path: path, Target: target, HasTarget: has&decode.HasTarget != 0,
			FileType: "regular", Access: "read", User: user, Exe: path, ContainerID: user,
		}
		m := Moment{TimeUs: at, LastUs: at, TimeNs: seq, Count: uint64(n), CPU: n, Seq: seq}
		line := e.AppendTo(m.AppendTo(nil))
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("not one line: %q", line)
		}
		decoder := json.NewDecoder(bytes.NewReader(line))
		decoder.DisallowUnknownFields()
		var told struct {
			Time          int64   `json:"time"`
			Monotonic     uint64  `json:"monotonic_ns"`
			Count         uint64  `json:"count"`
			Last          *int64  `json:"last_time"`
			CPU           uint32  `json:"cpu"`
			Seq           uint64  `json:"seq"`
			Operation     string  `json:"operation"`
			Access        string  `json:"access"`
			Path          string  `json:"path"`
			Target        *string `json:"target_path"`
			Status        string  `json:"path_status"`
			FileType      string  `json:"file_type"`
			Mode          *uint32 `json:"mode"`
			ModeBefore    *uint32 `json:"mode_before"`
			Flags         *int32  `json:"flags"`
			Result        *int32  `json:"result"`
			UID           uint32  `json:"uid"`
			EUID          uint32  `json:"euid"`
			GID           uint32  `json:"gid"`
			LoginUID      *uint32 `json:"login_uid"`
			User          string  `json:"user"`
			PID           uint32  `json:"pid"`
			PPID          uint32  `json:"ppid"`
			Process       string  `json:"process"`
			Exe           *string `json:"exe"`
			ProcessStart  int64   `json:"process_start"`
			ParentProcess string  `json:"parent_process"`
			Container     string  `json:"container_id"`
			MountNS       uint32  `json:"mount_ns"`
			Inode         *int64  `json:"inode"`
			Dev           *uint32 `json:"dev"`
		}
		if err := decoder.Decode(&told); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		said := func(raw []byte) string { return string(text.Append(nil, raw)) }
		if told.Time != at || told.Monotonic != seq || told.Count != uint64(n) || told.CPU != n || told.Seq != seq ||
			told.Path != said(path) || told.Process != said(comm) || told.ParentProcess != said(target) ||
			told.User != said([]byte(user)) || told.UID != n || told.ProcessStart != at {
			t.Errorf("%+v of %q", told, line)
		}
		for bit, there := range map[uint16]bool{
			decode.HasTarget: told.Target != nil, decode.HasMode: told.Mode != nil, decode.HasFlags: told.Flags != nil,
			decode.HasModeBefore: told.ModeBefore != nil, decode.HasResult: told.Result != nil,
			decode.HasInode: told.Inode != nil && told.Dev != nil,
		} {
			if (has&bit != 0) != there {
				t.Errorf("what bit %d stands for is there: %v: %q", bit, there, line)
			}
		}
	})
}
