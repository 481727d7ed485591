package decode

import (
	"encoding/binary"
	"errors"
	"testing"
)

func whole() []byte {
	raw := make([]byte, Size)
	binary.LittleEndian.PutUint64(raw[0:], 7)
	binary.LittleEndian.PutUint32(raw[48:], 3)
	binary.LittleEndian.PutUint32(raw[84:], 13)
	binary.LittleEndian.PutUint32(raw[100:], 2)
	raw[104], raw[105], raw[106] = 1, 2, 3
	binary.LittleEndian.PutUint16(raw[108:], uint16(Rename))
	binary.LittleEndian.PutUint16(raw[110:], HasExe|HasTarget)
	binary.LittleEndian.PutUint16(raw[112:], 2)
	binary.LittleEndian.PutUint16(raw[114:], 3)
	binary.LittleEndian.PutUint16(raw[116:], 4)
	copy(raw[120:], "0123456789abcdef")
	copy(raw[136:], "sh\x00old")
	return append(raw, "aabbbcccc"...)
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	var r Record
	if err := Decode(whole(), &r); err != nil {
		t.Fatal(err)
	}
	if r.Seq != 7 || r.CPU != 3 || r.Result != 13 || r.Count != 2 || r.Operation != Rename ||
		r.PathBits != 1 || r.TargetBits != 2 || r.ExeBits != 3 ||
		string(r.Path) != "aa" || string(r.Target) != "bbb" || string(r.Exe) != "cccc" ||
		string(r.Comm) != "0123456789abcdef" || string(r.ParentComm) != "sh" {
		t.Errorf("%+v", r)
	}
}

func TestAMalformedRecordIsRefused(t *testing.T) {
	short, lengths, operation, nothing := whole()[:Size-1], whole(), whole(), whole()
	lengths[112]++
	operation[108] = 200
	nothing[100] = 0
	for _, raw := range [][]byte{nil, short, lengths, operation, nothing} {
		var r Record
		if err := Decode(raw, &r); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", len(raw), err)
		}
	}
}

func FuzzNoBytesBreakTheDecoder(f *testing.F) {
	f.Add(whole())
	f.Fuzz(func(t *testing.T, raw []byte) {
		var r Record
		if err := Decode(raw, &r); err == nil {
			if len(r.Path)+len(r.Target)+len(r.Exe)+Size != len(raw) || r.Operation.String() == "" {
				t.Errorf("%+v", r)
			}
		}
	})
}
