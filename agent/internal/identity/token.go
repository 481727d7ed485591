// Package identity holds who the agent is: its tokens, its credential and its folder.
package identity

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
)

const (
	alphabet  = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	random    = 32
	checksum  = 6
	mostToken = 4096
)

// The kinds of token that an agent meets.
const (
	Enrollment = "kmn_enr_"
	Host       = "kmn_hst_"
)

// CheckToken says whether a token is well formed. Its errors never repeat it.
func CheckToken(token, kind string) error {
	body, ok := strings.CutPrefix(token, kind)
	if !ok {
		return fmt.Errorf("the token is not of the kind %s…", kind)
	}
	if len(body) != random+checksum {
		return fmt.Errorf("the token has %d characters after its prefix, not %d", len(body), random+checksum)
	}
	for i := range len(body) {
		if strings.IndexByte(alphabet, body[i]) < 0 {
			return errors.New("the token has a character that is not a letter or digit")
		}
	}
	if body[random:] != sum(kind+body[:random]) {
		return errors.New("the token's checksum is wrong: it is mistyped or cut off")
	}
	return nil
}

func sum(of string) string {
	n := crc32.ChecksumIEEE([]byte(of))
	var out [checksum]byte
	for i := checksum - 1; i >= 0; i-- {
		out[i] = alphabet[n%62]
		n /= 62
	}
	return string(out[:])
}

// ReadToken reads an enrollment token from a file, or from stdin for "-": a line that is not shown, if it is a terminal.
func ReadToken(path string, stdin io.Reader) (string, error) {
	if path == "-" {
		if line, ok, err := askHidden(stdin, "Enrollment token (not shown): "); err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		} else if ok {
			token := strings.TrimSpace(line)
			return token, CheckToken(token, Enrollment)
		}
	}
	from := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", fmt.Errorf("open the token file: %w", err)
		}
		defer file.Close()
		from = file
	}
	raw, err := io.ReadAll(io.LimitReader(from, mostToken))
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(raw))
	return token, CheckToken(token, Enrollment)
}
