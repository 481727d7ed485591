// Package sign checks the signatures of a release: raw Ed25519, detached, over the bytes of a file.
package sign

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// ReleaseKey is the public key that this binary was built with (base64 of its DER form), put in by
// script/build-agent --release-key; empty in a build that trusts nobody.
var ReleaseKey string

// Key is a public key that is trusted.
type Key struct{ public ed25519.PublicKey }

// ErrNoKey means that the binary was built without a release key.
var ErrNoKey = errors.New("this build trusts no key")

// Trusted is the key that the binary was built with, or ErrNoKey.
func Trusted() (Key, error) {
	if ReleaseKey == "" {
		return Key{}, ErrNoKey
	}
	der, err := base64.StdEncoding.DecodeString(ReleaseKey)
	if err != nil {
		return Key{}, fmt.Errorf("the key of this build: %w", err)
	}
	return parse(der)
}

// ReadKey reads a public key in PEM form.
func ReadKey(path string) (Key, error) {
	raw, err := read(path, mostKey)
	if err != nil {
		return Key{}, err
	}
	block, _ := pem.Decode(raw)
	if block == nil || block.Type != "PUBLIC KEY" {
		return Key{}, fmt.Errorf("%s holds no public key in PEM form", path)
	}
	key, err := parse(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func parse(der []byte) (Key, error) {
	any, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Key{}, err
	}
	public, ok := any.(ed25519.PublicKey)
	if !ok {
		return Key{}, errors.New("the key is not an Ed25519 key")
	}
	return Key{public}, nil
}

// Fingerprint is the SHA-256 of the key's DER form, as `openssl pkey -pubin -outform DER | sha256sum` tells it.
func (k Key) Fingerprint() string {
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return "unknown" // cannot be: the key came from this form
	}
	sum := sha256.Sum256(der)
	return hex.EncodeToString(sum[:])
}

const (
	mostKey  = 64 << 10
	mostFile = 1 << 30 // Ed25519 needs the whole file at once
)

// Verify returns nil only if the signature in one file is this key's over the bytes of the other.
func (k Key) Verify(path, signaturePath string) error {
	signature, err := read(signaturePath, mostKey)
	if err != nil {
		return err
	}
	if len(signature) != ed25519.SignatureSize {
		return fmt.Errorf("%s is no signature: it has %d bytes, not %d", signaturePath, len(signature), ed25519.SignatureSize)
	}
	content, err := read(path, mostFile)
	if err != nil {
		return err
	}
	if !ed25519.Verify(k.public, content, signature) {
		return fmt.Errorf("%s is not what the key %s signed", path, k.Fingerprint())
	}
	return nil
}

func read(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	raw, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > most {
		return nil, fmt.Errorf("%s is larger than %d bytes", path, most)
	}
	return raw, nil
}
