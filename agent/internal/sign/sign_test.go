package sign

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOnlyTheKeysOwnSignatureOverTheVeryBytesPasses(t *testing.T) {
	dir := t.TempDir()
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	other, _, _ := ed25519.GenerateKey(rand.Reader)
	content := []byte(strings.Repeat("agent", 1000))
	signature := ed25519.Sign(private, content)
	at := func(name string, raw []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file, good := at("file", content), at("file.sig", signature)
	if err := (Key{public}).Verify(file, good); err != nil {
		t.Error(err)
	}
	flipped := append([]byte(nil), signature...)
	flipped[10] ^= 1
	for name, err := range map[string]error{
		"another key":         Key{other}.Verify(file, good),
		"a flipped bit":       Key{public}.Verify(file, at("flipped", flipped)),
		"a short signature":   Key{public}.Verify(file, at("short", signature[:63])),
		"a long signature":    Key{public}.Verify(file, at("long", append(flipped, 0))),
		"a signature in PEM":  Key{public}.Verify(file, at("pem", pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: signature}))),
		"a truncated file":    Key{public}.Verify(at("cut", content[:len(content)-1]), good),
		"a longer file":       Key{public}.Verify(at("more", append(content, 0)), good),
		"an empty file":       Key{public}.Verify(at("none", nil), good),
		"no file":             Key{public}.Verify(filepath.Join(dir, "absent"), good),
		"no signature at all": Key{public}.Verify(file, filepath.Join(dir, "absent")),
	} {
		if err == nil {
			t.Errorf("%s passes", name)
		}
	}
}

func TestOnlyEd25519PublicKeysAreTrusted(t *testing.T) {
	dir := t.TempDir()
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	curve, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der := func(key any) []byte {
		raw, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	secret, _ := x509.MarshalPKCS8PrivateKey(private)
	read := func(kind string, raw []byte) (Key, error) {
		path := filepath.Join(dir, "key")
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: raw}), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadKey(path)
	}
	if key, err := read("PUBLIC KEY", der(public)); err != nil || !key.public.Equal(public) {
		t.Error(key, err)
	}
	for name, c := range map[string]struct {
		kind string
		raw  []byte
	}{
		"a private key": {"PRIVATE KEY", secret}, "a key on another curve": {"PUBLIC KEY", der(&curve.PublicKey)},
		"half a key": {"PUBLIC KEY", der(public)[:20]}, "nothing": {"PUBLIC KEY", nil},
	} {
		if _, err := read(c.kind, c.raw); err == nil {
			t.Errorf("%s is trusted", name)
		}
	}

	defer func(before string) { ReleaseKey = before }(ReleaseKey)
	ReleaseKey = ""
	if _, err := Trusted(); !errors.Is(err, ErrNoKey) {
		t.Error(err)
	}
	ReleaseKey = base64.StdEncoding.EncodeToString(der(public))
	if key, err := Trusted(); err != nil || !key.public.Equal(public) {
		t.Error(key, err)
	}
	ReleaseKey = ReleaseKey[:len(ReleaseKey)-8]
	if _, err := Trusted(); err == nil || errors.Is(err, ErrNoKey) {
		t.Error("a broken key of the build is taken for none:", err)
	}
}
