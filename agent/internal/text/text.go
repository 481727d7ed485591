// Package text turns bytes that an attacker may have chosen into text: lossless, and harmless in a log or a table.
package text

import (
	"unicode/utf8"
)

const digits = "0123456789abcdef"

// Append appends raw as text: a backslash doubled; a byte that is not UTF-8, and each byte of a control character,
// as \xNN; everything else as it is.
func Append(dst, raw []byte) []byte {
	for i := 0; i < len(raw); {
		c := raw[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '\\':
				dst = append(dst, '\\', '\\')
			case c < 0x20 || c == 0x7f:
				dst = appendHex(dst, c)
			default:
				dst = append(dst, c)
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && size == 1 || r >= 0x80 && r <= 0x9f {
			for _, b := range raw[i : i+size] {
				dst = appendHex(dst, b)
			}
		} else {
			dst = append(dst, raw[i:i+size]...)
		}
		i += size
	}
	return dst
}

// AppendJSON appends raw, escaped as Append does, as a JSON string with its quotes.
func AppendJSON(dst, raw []byte) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(raw); {
		c := raw[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '\\' && c != '"' && c != 0x7f {
				i++
				continue
			}
			dst = append(dst, raw[start:i]...)
			switch c {
			case '\\':
				dst = append(dst, `\\\\`...)
			case '"':
				dst = append(dst, '\\', '"')
			default:
				dst = append(dst, '\\')
				dst = appendHex(dst, c)
			}
			i++
			start = i
			continue
		}
		r, size := utf8.DecodeRune(raw[i:])
		if r == utf8.RuneError && size == 1 || r >= 0x80 && r <= 0x9f {
			dst = append(dst, raw[start:i]...)
			for _, b := range raw[i : i+size] {
				dst = append(dst, '\\')
				dst = appendHex(dst, b)
			}
			start = i + size
		}
		i += size
	}
	dst = append(dst, raw[start:]...)
	return append(dst, '"')
}

// String is Append to a new string.
func String(raw string) string {
	return string(Append(nil, []byte(raw)))
}

func appendHex(dst []byte, c byte) []byte {
	return append(dst, '\\', 'x', digits[c>>4], digits[c&15])
}
