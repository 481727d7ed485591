package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// A row is what the suite reads of an event.
type row struct {
	Operation   string  `json:"operation"`
	Path        string  `json:"path"`
	Target      *string `json:"target_path"`
	Status      string  `json:"path_status"`
	MonotonicNs uint64  `json:"monotonic_ns"`
	Result      *int    `json:"result"`
	Count       int     `json:"count"`
	PID         int     `json:"pid"`
	Inode       *int64  `json:"inode"`
	CPU         int     `json:"cpu"`
	Seq         uint64  `json:"seq"`
}

type counters struct {
	CPU        int               `json:"cpu"`
	Seen       uint64            `json:"seen"`
	Filtered   uint64            `json:"filtered"`
	NextSeq    uint64            `json:"next_seq"`
	Pending    uint64            `json:"pending"`
	LostRows   map[string]uint64 `json:"lost_rows"`
	LostEvents map[string]uint64 `json:"lost_events"`
}

type header struct {
	BatchSeq       uint64     `json:"batch_seq"`
	PreviousDigest *string    `json:"previous_digest"`
	Mode           string     `json:"capture_mode"`
	BlindSpots     []string   `json:"blind_spots"`
	CPUs           []counters `json:"cpus"`
	Final          bool       `json:"final"`
}

// sink is a TLS server that answers as ingest does, and holds every batch to its counters.
type sink struct {
	mu       sync.Mutex
	header   *header // the newest
	rows     []row
	problems []string
	digest   string
	known    map[int]map[uint64]bool // CPU -> the numbers that arrived
	events   map[int]uint64
	server   *http.Server
	address  string
	ca       []byte // PEM
}

// token makes one of the kind, well formed.
func token(kind string) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	body := "kmn_" + kind + "_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	n, check := crc32.ChecksumIEEE([]byte(body)), ""
	for range 6 {
		check = string(digits[n%62]) + check
		n /= 62
	}
	return body + check
}

func newSink() (*sink, error) {
	s := &sink{known: map[int]map[uint64]bool{}, events: map[int]uint64{}}
	certificate, err := s.certify()
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		return nil, err
	}
	s.address = listener.Addr().String()
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/enroll", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token("enr") {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"agent_id":"agt_0123456789abcdef","credential":%q,"tenant":"acme"}`, token("hst"))
	})
	mux.HandleFunc("POST /v1/batches", s.batch)
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.server.Serve(listener) }()
	return s, nil
}

func (s *sink) certify() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	// The clock of a virtual machine may be anywhere near.
	plan := x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sink"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, &plan, &plan, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func (s *sink) batch(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	accepted, err := s.take(r.Header, body)
	if err != nil {
		s.problems = append(s.problems, err.Error())
	}
	fmt.Fprintf(w, `{"accepted":%d,"rejected":0,"duplicate":false,"errors":[]}`, accepted)
}

func (s *sink) take(head http.Header, body []byte) (int, error) {
	sum := sha256.Sum256(body)
	want := map[string]string{
		"Authorization": "Bearer " + token("hst"), "Content-Type": "application/x-ndjson", "Content-Encoding": "zstd",
		"Content-Digest": "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":",
	}
	for key, value := range want {
		if head.Get(key) != value {
			return 0, fmt.Errorf("the header %s is not as it should be", key)
		}
	}
	decoder, err := zstd.NewReader(bytes.NewReader(body), zstd.WithDecoderMaxMemory(256<<20))
	if err != nil {
		return 0, err
	}
	defer decoder.Close()
	lines := json.NewDecoder(decoder)
	var h header
	if err := lines.Decode(&h); err != nil {
		return 0, fmt.Errorf("the batch's header: %w", err)
	}
	if s.header != nil && (h.BatchSeq != s.header.BatchSeq+1 || h.PreviousDigest == nil || *h.PreviousDigest != s.digest) {
		return 0, fmt.Errorf("batch %d does not follow on %d", h.BatchSeq, s.header.BatchSeq)
	}
	n := 0
	for {
		var one row
		if err := lines.Decode(&one); err == io.EOF {
			break
		} else if err != nil {
			return n, fmt.Errorf("batch %d, row %d: %w", h.BatchSeq, n, err)
		}
		n++
		if s.known[one.CPU] == nil {
			s.known[one.CPU] = map[uint64]bool{}
		}
		if s.known[one.CPU][one.Seq] {
			return n, fmt.Errorf("CPU %d, row %d came twice", one.CPU, one.Seq)
		}
		s.known[one.CPU][one.Seq] = true
		s.events[one.CPU] += uint64(one.Count)
		s.rows = append(s.rows, one)
	}
	s.digest, s.header = fmt.Sprintf("%x", sum), &h
	return n, s.equations()
}

// equations holds the newest batch's counters to all that arrived.
func (s *sink) equations() error {
	counted := 0
	for _, c := range s.header.CPUs {
		var rows, events uint64
		for _, n := range c.LostRows {
			rows += n
		}
		for _, n := range c.LostEvents {
			events += n
		}
		got := uint64(len(s.known[c.CPU]))
		counted += len(s.known[c.CPU])
		if got+rows != c.NextSeq {
			return fmt.Errorf("batch %d, CPU %d: %d rows delivered + %d lost ≠ next_seq %d",
				s.header.BatchSeq, c.CPU, got, rows, c.NextSeq)
		}
		if s.events[c.CPU]+events+c.Filtered+c.Pending != c.Seen {
			return fmt.Errorf("batch %d, CPU %d: %d events delivered + %d lost + %d filtered + %d pending ≠ %d seen",
				s.header.BatchSeq, c.CPU, s.events[c.CPU], events, c.Filtered, c.Pending, c.Seen)
		}
	}
	if counted != len(s.rows) {
		return fmt.Errorf("batch %d: rows of a CPU that the batch does not count", s.header.BatchSeq)
	}
	return nil
}

// lost are the rows that the newest batch gives up, all causes and CPUs.
func (s *sink) lost() (sum uint64) {
	for _, c := range s.header.CPUs {
		for _, n := range c.LostRows {
			sum += n
		}
	}
	return sum
}
