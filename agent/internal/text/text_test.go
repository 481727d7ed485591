package text

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

type vector struct {
	Hex  string `json:"hex"`
	Text string `json:"text"`
}

func vectors(t testing.TB) []vector {
	t.Helper()
	raw, err := os.ReadFile("../../../tests/vectors/escape.json")
	if err != nil {
		t.Fatal(err)
	}
	var all []vector
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d vectors", len(all))
	}
	return all
}

func TestTheVectorsHoldHereAsTheyDoInPython(t *testing.T) {
	for _, v := range vectors(t) {
		raw, err := hex.DecodeString(v.Hex)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(Append(nil, raw)); got != v.Text {
			t.Errorf("%s: got %q, want %q", v.Hex, got, v.Text)
		}
	}
}

func unescape(t *testing.T, s string) []byte {
	var out []byte
	for len(s) > 0 {
		switch {
		case strings.HasPrefix(s, `\\`):
			out, s = append(out, '\\'), s[2:]
		case strings.HasPrefix(s, `\x`):
			b, err := hex.DecodeString(s[2:4])
			if err != nil {
				t.Fatal(err)
			}
			out, s = append(out, b...), s[4:]
		case s[0] == '\\':
			t.Fatalf("stray backslash in %q", s)
		default:
			out, s = append(out, s[0]), s[1:]
		}
	}
	return out
}

func FuzzEscapingIsLosslessAndHarmless(f *testing.F) {
	for _, v := range vectors(f) {
		raw, _ := hex.DecodeString(v.Hex)
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := string(Append(nil, raw))
		if !utf8.ValidString(got) {
			t.Fatalf("not UTF-8: %q", got)
		}
		for _, r := range got {
			if unicode.Is(unicode.Cc, r) {
				t.Fatalf("control character in %q", got)
			}
		}
		if !bytes.Equal(unescape(t, got), raw) {
			t.Fatalf("%q does not lead back to %x", got, raw)
		}
		var back string
		if err := json.Unmarshal(AppendJSON(nil, raw), &back); err != nil {
			t.Fatal(err)
		}
		if back != got {
			t.Fatalf("JSON says %q, text says %q", back, got)
		}
	})
}
