package ship

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/klauspost/compress/zstd"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/wire"
)

// Limits of a batch: what the server takes, and what we aim at.
const (
	mostBody  = 8 << 20
	mostLines = 60 << 20
)

var aim = buffer.Aim{Wire: 1 << 20, Lines: 16 << 20, MostWire: 4 << 20, MostLines: 32 << 20}

// Settings of a Shipper. The zero value of a duration is its default.
type Settings struct {
	AuthRetry   time.Duration // between attempts after 401 and 403; 5 min
	BackoffBase time.Duration // 250 ms
	BackoffMost time.Duration // 30 s
	MostBody    int           // bytes on the wire; 8 MiB
}

// Shipper takes segments from the buffer and delivers them as batches.
type Shipper struct {
	Client     *Client
	Credential string
	Header     wire.Header // what does not change from batch to batch
	BlindSpots func() []string
	Online     func(cpu int) bool
	Buffer     *buffer.Buffer
	Log        *slog.Logger
	Settings   Settings

	ledger  *account.Ledger
	settled account.Snapshot // the kernel's counters where the last settled segment ends
	seq     uint64
	digest  *string
	todo    [][]*buffer.Segment // groups to send before anything else, the last one first
	encoder *zstd.Encoder
	notice  string // the last that was logged
	record
}

// NewShipper prepares a shipper for n CPUs.
func NewShipper(n int) (*Shipper, error) {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	return &Shipper{
		ledger: account.NewLedger(n), settled: make(account.Snapshot, n), encoder: encoder, record: newRecord(),
	}, nil
}

// Run delivers until the final segment is settled (nil) or ctx ends (its error). Closing `hurry` ends a wait at once.
func (s *Shipper) Run(ctx context.Context, hurry <-chan struct{}) error {
	s.defaults()
	for {
		group := s.next(ctx)
		if group == nil {
			return ctx.Err()
		}
		final, err := s.deliver(ctx, hurry, group)
		if err != nil {
			return err
		}
		if final {
			return nil
		}
	}
}

func (s *Shipper) defaults() {
	if s.Settings.AuthRetry == 0 {
		s.Settings.AuthRetry = 5 * time.Minute
	}
	if s.Settings.BackoffBase == 0 {
		s.Settings.BackoffBase = 250 * time.Millisecond
	}
	if s.Settings.BackoffMost == 0 {
		s.Settings.BackoffMost = 30 * time.Second
	}
	if s.Settings.MostBody == 0 {
		s.Settings.MostBody = mostBody
	}
}

func (s *Shipper) next(ctx context.Context) []*buffer.Segment {
	if n := len(s.todo); n > 0 {
		group := s.todo[n-1]
		s.todo = s.todo[:n-1]
		return group
	}
	return s.Buffer.Take(ctx, aim)
}

// batch is what one request carries. It does not change once it is made.
type batch struct {
	seq    uint64
	body   []byte
	digest string
	rows   account.Tallies
	shed   account.Tallies
	now    account.Snapshot
	final  bool
	held   int
	at     time.Time // up to when it tells
}

// deliver settles one group of segments: as one batch, or halved if it is too large.
func (s *Shipper) deliver(ctx context.Context, hurry <-chan struct{}, group []*buffer.Segment) (bool, error) {
	b, err := s.form(group)
	if err != nil {
		return false, err
	}
	if len(b.body) > s.Settings.MostBody || lines(group) > mostLines {
		if s.halve(group) {
			s.Buffer.Release(cap(b.body))
			return false, nil
		}
	}
	s.seq = b.seq
	s.digest = &b.digest
	answer, err := s.settle(ctx, hurry, b)
	if err != nil {
		s.todo = append(s.todo, group)
		return false, err
	}
	if answer.Status == http.StatusRequestEntityTooLarge && s.halve(group) {
		s.Buffer.Release(cap(b.body))
		s.Log.Warn("batch_halved", "batch_seq", b.seq, "bytes", len(b.body), "code", answer.Code)
		return false, nil
	}
	s.ledger.Shed.Add(b.shed)
	s.settled = b.now
	sum := b.rows.Sum()
	if answer.Status == http.StatusOK {
		s.ledger.Delivered.Add(b.rows)
		s.delivered(b, sum, answer)
		s.noted(answer.Notice)
		s.Log.Debug("batch_delivered", "batch_seq", b.seq, "rows", sum.Rows, "bytes", len(b.body),
			"duplicate", answer.Duplicate)
		if answer.Rejected > 0 {
			s.Log.Warn("lines_rejected", "batch_seq", b.seq, "rejected", answer.Rejected, "errors", answer.Errors)
		}
	} else {
		s.ledger.Refused.Add(b.rows)
		s.refused(b, sum)
		s.Log.Error("batch_refused", "batch_seq", b.seq, "rows", sum.Rows, "status", answer.Status,
			"code", answer.Code, "detail", answer.Detail)
	}
	s.Buffer.Release(b.held)
	return b.final, nil
}

// noted logs what the server says of the subscription, once.
func (s *Shipper) noted(notice string) {
	switch {
	case notice == s.notice:
		return
	case notice == "":
		s.Log.Info("subscription_in_order")
	default:
		s.Log.Warn("subscription_notice", "notice", notice)
	}
	s.notice = notice
}

// form makes a batch of segments: the counters are those of the last one, and they cover all of them.
func (s *Shipper) form(group []*buffer.Segment) (*batch, error) {
	newest := group[len(group)-1]
	n := len(s.settled)
	b := &batch{
		seq: s.seq + 1, rows: make(account.Tallies, n), shed: make(account.Tallies, n),
		now: newest.Now, final: newest.Final, at: newest.At,
	}
	for _, segment := range group {
		b.rows.Add(segment.Rows())
		b.shed.Add(segment.Shed)
		b.held += segment.Held()
	}
	ledger := account.NewLedger(n)
	ledger.Delivered.Add(s.ledger.Delivered)
	ledger.Shed.Add(s.ledger.Shed)
	ledger.Shed.Add(b.shed)
	ledger.Refused.Add(s.ledger.Refused)
	if err := ledger.Check(b.now, b.rows); err != nil {
		s.violated()
		s.Log.Error("accounting_violated", "batch_seq", b.seq, "error", err.Error())
	}
	header := s.Header
	header.Kind = "batch"
	header.BatchSeq = b.seq
	header.PreviousDigest = s.digest
	header.BlindSpots = s.BlindSpots()
	header.CPUs = wire.CPUs(b.now, ledger, s.Online)
	header.SentAt = time.Now().UnixMicro()
	header.Final = b.final
	line, err := header.Line()
	if err != nil {
		return nil, fmt.Errorf("write the header: %w", err)
	}
	body := bytes.NewBuffer(make([]byte, 0, len(line)+wireSize(group)))
	s.encoder.ResetContentSize(body, int64(len(line)+lines(group)))
	if _, err := s.encoder.Write(line); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	for _, segment := range group {
		if err := segment.Each(func(lines []byte) error {
			_, err := s.encoder.Write(lines)
			return err
		}); err != nil {
			return nil, fmt.Errorf("compress: %w", err)
		}
	}
	if err := s.encoder.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	b.body = bytes.Clone(body.Bytes()) // it is held for as long as the server is away, without spare room
	s.Buffer.Retake(cap(b.body))
	b.held += cap(b.body)
	digest := sha256.Sum256(b.body)
	b.digest = hex.EncodeToString(digest[:])
	return b, nil
}

func wireSize(group []*buffer.Segment) int {
	n := 0
	for _, segment := range group {
		n += segment.Wire()
	}
	return n
}

func lines(group []*buffer.Segment) int {
	n := 0
	for _, segment := range group {
		n += segment.Size()
	}
	return n
}

// halve puts the two halves of a group before everything else. It reports false if the group cannot be halved.
func (s *Shipper) halve(group []*buffer.Segment) bool {
	if n := len(group); n > 1 {
		s.todo = append(s.todo, group[n/2:], group[:n/2])
		return true
	}
	first, second, err := buffer.Split(group[0], s.settled)
	if err != nil {
		s.Log.Error("halving_failed", "error", err.Error())
	}
	if first == nil {
		return false
	}
	s.Buffer.Retake(first.Held() + second.Held() - group[0].Held())
	s.todo = append(s.todo, []*buffer.Segment{second}, []*buffer.Segment{first})
	return true
}

// settle sends a batch, as it is, until the server has decided about it.
func (s *Shipper) settle(ctx context.Context, hurry <-chan struct{}, b *batch) (*Answer, error) {
	failures := 0
	for {
		answer, err := s.Client.Send(ctx, s.Credential, b.body)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		s.answered(answer)
		var wait time.Duration
		switch {
		case err != nil:
			wait = s.backoff(failures)
			s.Log.Warn("server_unreachable", "batch_seq", b.seq, "error", err.Error(), "wait_ms", wait.Milliseconds())
		case retryable(answer.Status, failures):
			wait = answer.RetryAfter + s.backoff(failures)
			s.Log.Warn("server_busy", "batch_seq", b.seq, "status", answer.Status, "code", answer.Code,
				"detail", answer.Detail, "wait_ms", wait.Milliseconds())
		case answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden:
			wait = max(s.Settings.AuthRetry, answer.RetryAfter)
			s.Log.Error("not_welcome", "batch_seq", b.seq, "status", answer.Status, "code", answer.Code,
				"detail", answer.Detail, "wait_ms", wait.Milliseconds(), "meanwhile", "rows wait in memory, within bounds")
		default:
			if failures > 0 {
				s.Log.Info("server_decides_again", "batch_seq", b.seq, "status", answer.Status, "attempts", failures+1)
			}
			return answer, nil
		}
		failures++
		s.retried()
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-hurry:
			hurry = nil // once; then the waits are as before
			failures = 0
		case <-time.After(wait):
		}
	}
}

// mostOdd is how often an answer is tried again that neither accepts nor refuses.
const mostOdd = 10

// retryable says whether a status leaves the batch's fate open: the server is busy or away, or failed within, or
// something on the way answered in its place.
func retryable(status, failures int) bool {
	switch status {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	case http.StatusInternalServerError, http.StatusRequestTimeout:
		return failures < mostOdd
	}
	return status < 400 && status != http.StatusOK && failures < mostOdd
}

// backoff is a random time up to a bound that doubles with each failure.
func (s *Shipper) backoff(failures int) time.Duration {
	bound := s.Settings.BackoffMost
	if failures < 20 {
		bound = min(bound, s.Settings.BackoffBase<<failures)
	}
	return rand.N(bound) + time.Millisecond
}

// Undelivered is what was not settled: the rows of the batches at hand, beside what the buffer holds.
func (s *Shipper) Undelivered() account.Tally {
	var sum account.Tally
	for _, group := range s.todo {
		for _, segment := range group {
			sum.Add(segment.Rows().Sum())
		}
	}
	return sum
}
