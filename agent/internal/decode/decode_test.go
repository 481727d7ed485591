package decode

import (
	"encoding/binary"
	"errors"
	"testing"
)

func whole() []byte {
	raw := make([]byte, Size)
	binary.LittleEndian.PutUint64(raw[0:], 7)
	binary.LittleEndian.PutUint32(raw[64:], 3)
	binary.LittleEndian.PutUint32(raw[100:], 13)
	binary.LittleEndian.PutUint32(raw[120:], 2)
	raw[128], raw[129], raw[130] = 1, 2, 3
	binary.LittleEndian.PutUint16(raw[132:], uint16(Rename))
	binary.LittleEndian.PutUint16(raw[134:], HasExe|HasTarget)
	binary.LittleEndian.PutUint16(raw[136:], 2)
	binary.LittleEndian.PutUint16(raw[138:], 3)
	binary.LittleEndian.PutUint16(raw[140:], 4)
	copy(raw[144:], "0123456789abcdef")
	copy(raw[160:], "sh\x00old")
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
	short, lengths, operation, nothing, rest := whole()[:Size-1], whole(), whole(), whole(), whole()
	lengths[136]++
	operation[132] = 200
	nothing[120] = 0
	rest[134] |= HasRest
	for _, raw := range [][]byte{nil, short, lengths, operation, nothing, rest} {
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
