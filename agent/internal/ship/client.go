// Package ship delivers batches: one at a time, in order, each until its fate is known.
package ship

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"kaimon/agent/internal/identity"
	"kaimon/agent/internal/wire"
)

// Client speaks to one ingest server over TLS that it verifies.
type Client struct {
	base  *url.URL
	http  *http.Client
	agent string
}

const mostAnswer = 1 << 20

// NewClient verifies servers by the authorities in caFile, or the system's if it is empty.
func NewClient(server, caFile, version string, timeout time.Duration) (*Client, error) {
	base, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("the server's address: %w", err)
	}
	if base.Scheme != "https" || base.Host == "" {
		return nil, errors.New("the server's address must begin with https:// and name a host")
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if caFile != "" {
		raw, err := os.ReadFile(caFile)
		if err != nil {
			return nil, fmt.Errorf("read the certificate authorities: %w", err)
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(raw) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", caFile)
		}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 90 * time.Second, MaxIdleConns: 2,
		ResponseHeaderTimeout: timeout,
	}
	return &Client{
		base: base, agent: "kaimon-agent/" + version,
		http: &http.Client{
			Transport: transport, Timeout: timeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Answer is a server's word on a request.
type Answer struct {
	Status     int
	RetryAfter time.Duration
	Code       string // of a problem
	Detail     string
	Accepted   int
	Rejected   int
	Duplicate  bool
	Errors     []LineError
	Notice     string // what the server says of the subscription: it is past due, and until when it is served
}

// LineError is a line that the server could not use.
type LineError struct {
	Line   int    `json:"line"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Enroll swaps an enrollment token for a credential.
func (c *Client) Enroll(ctx context.Context, token, hostname, bootID, version string, host wire.Host) (
	*identity.Credential, *Answer, error,
) {
	body, err := json.Marshal(map[string]any{
		"hostname": hostname, "boot_id": bootID, "agent_version": version, "host": host,
	})
	if err != nil {
		return nil, nil, err
	}
	raw, answer, err := c.post(ctx, "/v1/enroll", token, body, http.Header{"Content-Type": {"application/json"}})
	if err != nil || answer.Status != http.StatusCreated {
		return nil, answer, err
	}
	credential := identity.Credential{Hostname: hostname}
	if err := json.Unmarshal(raw, &credential); err != nil {
		return nil, answer, fmt.Errorf("the server's answer to the enrollment: %w", err)
	}
	credential.Hostname = hostname
	if err := credential.Check(); err != nil {
		return nil, answer, fmt.Errorf("the server's answer to the enrollment: %w", err)
	}
	return &credential, answer, nil
}

// Send delivers one batch. An error means that its fate is unknown.
func (c *Client) Send(ctx context.Context, credential string, body []byte) (*Answer, error) {
	digest := sha256.Sum256(body)
	raw, answer, err := c.post(ctx, "/v1/batches", credential, body, http.Header{
		"Content-Type":     {"application/x-ndjson"},
		"Content-Encoding": {"zstd"},
		"Content-Digest":   {"sha-256=:" + base64.StdEncoding.EncodeToString(digest[:]) + ":"},
	})
	if err != nil || answer.Status != http.StatusOK {
		return answer, err
	}
	var said struct {
		Accepted  *int        `json:"accepted"`
		Rejected  int         `json:"rejected"`
		Duplicate bool        `json:"duplicate"`
		Errors    []LineError `json:"errors"`
	}
	if err := json.Unmarshal(raw, &said); err != nil || said.Accepted == nil {
		return nil, errors.New("the server's 200 does not say what it accepted")
	}
	answer.Accepted, answer.Rejected = *said.Accepted, said.Rejected
	answer.Duplicate, answer.Errors = said.Duplicate, said.Errors
	return answer, nil
}

func (c *Client) post(ctx context.Context, path, token string, body []byte, header http.Header) (
	[]byte, *Answer, error,
) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath(path).String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	req.Header = header
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("User-Agent", c.agent)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, mostAnswer))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer: %w", err)
	}
	answer := &Answer{Status: resp.StatusCode, RetryAfter: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	answer.Notice = resp.Header.Get("Kaimon-Subscription")
	answer.Notice = answer.Notice[:min(len(answer.Notice), longestNotice)]
	if resp.StatusCode >= 400 {
		var problem struct {
			Code   string `json:"code"`
			Detail string `json:"detail"`
		}
		if json.Unmarshal(raw, &problem) == nil {
			answer.Code, answer.Detail = problem.Code, problem.Detail
		}
	}
	return raw, answer, nil
}

const (
	longestWait   = time.Hour
	longestNotice = 200
)

// retryAfter reads seconds or a date.
func retryAfter(value string, now time.Time) time.Duration {
	value = strings.TrimSpace(value)
	var wait time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 32); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		wait = at.Sub(now)
	}
	return min(max(wait, 0), longestWait)
}
