package text

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"
)

func FuzzEveryNameIsHarmlessTextAndTheSameInJSON(f *testing.F) {
	f.Add([]byte("plain"))
	f.Add([]byte("new\nline\x00\x7f\xff\\\"\u0085"))
	f.Add([]byte("na\xc3\xafve \xe2\x80\xae"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		said := Append(nil, raw)
		if !utf8.Valid(said) || bytes.ContainsFunc(said, func(r rune) bool { return r < 0x20 || r >= 0x7f && r <= 0x9f }) {
			t.Errorf("%q", said)
		}
		var read string
		if err := json.Unmarshal(AppendJSON(nil, raw), &read); err != nil || read != string(said) {
			t.Errorf("%q in JSON is %q, not %q: %v", raw, read, said, err)
		}
	})
}
