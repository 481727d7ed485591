package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"kaimon/agent/internal/account"
	"kaimon/agent/internal/buffer"
	"kaimon/agent/internal/enrich"
	"kaimon/agent/internal/identity"
	"kaimon/agent/internal/probe"
	"kaimon/agent/internal/ship"
	"kaimon/agent/internal/wire"
)

// Version of the agent.
const Version = "0.1.0"

// Options are what `run` is told.
type Options struct {
	Server      string
	CAFile      string
	TokenFile   string
	StateDir    string
	Exclude     []string
	CutInterval time.Duration
	Heartbeat   time.Duration
	BufferBytes int
	AuthRetry   time.Duration
	SendTimeout time.Duration
	StopTimeout time.Duration
}

const (
	knownProcesses = 32768
	beside         = 20 << 20 // bytes of memory aimed at, beside the buffer
	checkEvery     = 10 * time.Second
	finishWithin   = 2 * time.Second
)

// Run captures and delivers until stop is closed, then says goodbye. Its error says what was not delivered.
func Run(stop <-chan struct{}, o Options, stdin io.Reader, log *slog.Logger) error {
	if err := probe.Supported(); err != nil {
		return err
	}
	debug.SetMemoryLimit(int64(o.BufferBytes) + beside)
	debug.SetGCPercent(30)
	state, err := identity.OpenState(o.StateDir)
	if err != nil {
		return err
	}
	defer state.Close()
	client, err := ship.NewClient(o.Server, o.CAFile, Version, o.SendTimeout)
	if err != nil {
		return err
	}
	bootID, err := identity.BootID()
	if err != nil {
		return fmt.Errorf("read the boot's id: %w", err)
	}
	host := identity.DescribeHost()
	credential, err := state.Load()
	if err != nil {
		return err
	}
	if credential == nil {
		if credential, err = enroll(stop, o, client, bootID, host, stdin, log); err != nil {
			return err
		}
		if err := state.Save(credential); err != nil {
			return err
		}
		log.Info("enrolled", "agent_id", credential.AgentID, "tenant", credential.Tenant)
	}

	capture, err := probe.Open(append([]string{o.StateDir}, o.Exclude...))
	if err != nil {
		return err
	}
	defer capture.Close()
	rows := buffer.New(o.BufferBytes)
	shipper, err := ship.NewShipper(capture.CPUs())
	if err != nil {
		return err
	}
	shipper.Client, shipper.Credential, shipper.Buffer, shipper.Log = client, credential.Credential, rows, log
	shipper.Settings.AuthRetry = o.AuthRetry
	shipper.BlindSpots = capture.BlindSpots
	shipper.Online = onlineCPUs()
	shipper.Header = wire.Header{
		AgentID: credential.AgentID, Hostname: credential.Hostname, BootID: bootID, LoadID: identity.NewID(),
		AgentVersion: Version, CaptureMode: capture.Mode, Host: host,
	}
	log.Info("capturing", "agent_id", credential.AgentID, "load_id", shipper.Header.LoadID, "mode", capture.Mode,
		"blind_spots", capture.BlindSpots(), "excluded", len(capture.Excluded))
	return work(stop, o, capture, rows, shipper, log)
}

// work runs the collector and the shipper until stop, then within a bounded time delivers what is left.
func work(stop <-chan struct{}, o Options, capture *probe.Capture, rows *buffer.Buffer, shipper *ship.Shipper,
	log *slog.Logger,
) error {
	c := &collector{
		from: kernel{capture}, to: rows, processes: enrich.NewProcesses(knownProcesses), log: log,
		cpus: capture.CPUs(), cutEvery: o.CutInterval, beatEvery: o.Heartbeat, cutSize: min(cutSize, o.BufferBytes/8),
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	shipped := make(chan error, 1)
	go func() { shipped <- shipper.Run(ctx, stop) }()
	go watch(ctx, capture, rows, log)

	if err := c.run(stop); err != nil {
		return err
	}
	log.Info("stopping")
	deadline := time.AfterFunc(o.StopTimeout, cancel)
	defer deadline.Stop()
	problem := capture.Detach()
	if !c.finish(finishWithin) {
		problem = errors.Join(problem, errors.New("the counters never came to rest"))
		cancel()
	}
	err := <-shipped
	if err != nil {
		_, waiting, _ := rows.State()
		waiting.Add(shipper.Undelivered())
		err = fmt.Errorf("not delivered within %s: %d rows and the goodbye", o.StopTimeout, waiting.Rows)
	}
	sent := shipper.Sent()
	if sent.Refused > 0 {
		err = errors.Join(err, fmt.Errorf("refused by the server: %d rows", sent.Refused))
	}
	_, _, shed := rows.State()
	log.Info("stopped", "batches", sent.Batches, "rows", sent.Rows, "bytes", sent.Bytes, "retries", sent.Retries,
		"shed", shed.Rows, "refused", sent.Refused, "rejected", sent.Rejected)
	return errors.Join(problem, err)
}

// watch looks after what nobody else does: runs that the kernel skipped, and a word on how things stand.
func watch(ctx context.Context, capture *probe.Capture, rows *buffer.Buffer, log *slog.Logger) {
	ticker := time.NewTicker(checkEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		missed, err := capture.Check()
		if err != nil {
			log.Warn("check_failed", "error", err.Error())
		}
		held, waiting, shed := rows.State()
		log.Debug("state", "held_bytes", held, "waiting_rows", waiting.Rows, "shed_rows", shed.Rows, "missed", missed)
	}
}

// kernel is a capture as the collector sees it.
type kernel struct{ *probe.Capture }

func (k kernel) Snapshot() (account.Snapshot, bool)          { return k.Capture.Snapshot() }
func (k kernel) End() uint64                                 { return k.Ring.End() }
func (k kernel) Read(end uint64, f func(sample []byte)) bool { return k.Ring.Read(end, f) }
func (k kernel) Wait(milliseconds int) error                 { return k.Ring.Wait(milliseconds) }

// ErrStopped means that the agent was stopped before it had enrolled.
var ErrStopped = errors.New("stopped before it had enrolled")

const mostEnrollWait = 30 * time.Second

// enroll asks until the server has decided.
func enroll(stop <-chan struct{}, o Options, client *ship.Client, bootID string, host wire.Host, stdin io.Reader,
	log *slog.Logger,
) (*identity.Credential, error) {
	if o.TokenFile == "" {
		return nil, fmt.Errorf("no credential in %s: give an enrollment token with --token-file", o.StateDir)
	}
	token, err := identity.ReadToken(o.TokenFile, stdin)
	if err != nil {
		return nil, err
	}
	hostname, err := identity.Hostname()
	if err != nil {
		return nil, fmt.Errorf("read the host's name: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	for bound := 500 * time.Millisecond; ; bound = min(2*bound, mostEnrollWait) {
		credential, answer, err := client.Enroll(ctx, token, hostname, bootID, Version, host)
		wait := rand.N(bound)
		switch {
		case ctx.Err() != nil:
			return nil, ErrStopped
		case err != nil && answer != nil:
			return nil, err
		case err != nil:
			log.Warn("server_unreachable", "error", err.Error(), "wait_ms", wait.Milliseconds())
		case credential != nil:
			return credential, nil
		case answer.Status == http.StatusTooManyRequests || answer.Status >= 500:
			wait += answer.RetryAfter
			log.Warn("server_busy", "status", answer.Status, "wait_ms", wait.Milliseconds())
		default:
			return nil, fmt.Errorf("the server refused the enrollment: %d %s %s", answer.Status, answer.Code, answer.Detail)
		}
		select {
		case <-stop:
			return nil, ErrStopped
		case <-time.After(wait):
		}
	}
}

// onlineCPUs says which CPUs were on at the start; counters of others appear once they see something.
func onlineCPUs() func(int) bool {
	raw, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return func(int) bool { return true }
	}
	online := parseCPUList(strings.TrimSpace(string(raw)))
	return func(cpu int) bool { return online[cpu] }
}

// parseCPUList reads the kernel's lists: "0-3,8".
func parseCPUList(list string) map[int]bool {
	cpus := make(map[int]bool)
	for part := range strings.SplitSeq(list, ",") {
		var from, to int
		if n, _ := fmt.Sscanf(part, "%d-%d", &from, &to); n == 1 {
			to = from
		} else if n == 0 {
			continue
		}
		for cpu := from; cpu <= to; cpu++ {
			cpus[cpu] = true
		}
	}
	return cpus
}
