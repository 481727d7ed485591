package agent

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"kaimon/agent/internal/identity"
	"kaimon/agent/internal/ship"
	"kaimon/agent/internal/wire"
)

// home is what the agent knows before it captures: its folder, its server, its machine.
type home struct {
	state  *identity.State
	client *ship.Client
	bootID string
	host   wire.Host
}

func openHome(o Options) (*home, error) {
	state, err := identity.OpenState(o.Config.StateDir)
	if err != nil {
		return nil, err
	}
	h := &home{state: state, host: identity.DescribeHost()}
	if h.client, err = ship.NewClient(o.Config.Server, o.Config.CAFile, Version, o.Config.SendTimeout); err != nil {
		h.close()
		return nil, err
	}
	if h.bootID, err = identity.BootID(); err != nil {
		h.close()
		return nil, fmt.Errorf("read the boot's id: %w", err)
	}
	return h, nil
}

func (h *home) close() { h.state.Close() }

// credential reads the credential, or enrolls for it, once.
func (h *home) credential(stop <-chan struct{}, o Options) (c *identity.Credential, fresh bool, err error) {
	if c, err = h.state.Load(); c != nil || err != nil {
		return c, false, err
	}
	if c, err = h.enroll(stop, o); err != nil {
		return nil, false, err
	}
	if err := h.state.Save(c); err != nil {
		return nil, false, err
	}
	o.Log.Info("enrolled", "agent_id", c.AgentID, "tenant", c.Tenant)
	return c, true, nil
}

// Enroll swaps the enrollment token for a credential, unless there is one, and stops.
func Enroll(stop <-chan struct{}, o Options) error {
	h, err := openHome(o)
	if err != nil {
		return err
	}
	defer h.close()
	c, fresh, err := h.credential(stop, o)
	if err == nil && !fresh {
		o.Log.Info("already_enrolled", "agent_id", c.AgentID, "tenant", c.Tenant)
	}
	return err
}

// ErrStopped means that the agent was stopped before it had enrolled.
var ErrStopped = errors.New("stopped before it had enrolled")

const mostEnrollWait = 30 * time.Second

// enroll asks until the server has decided.
func (h *home) enroll(stop <-chan struct{}, o Options) (*identity.Credential, error) {
	if o.TokenFile == "" {
		return nil, fmt.Errorf("no credential in %s: give an enrollment token with --token-file", o.Config.StateDir)
	}
	token, err := identity.ReadToken(o.TokenFile, o.Stdin)
	if err != nil {
		return nil, err
	}
	if err := h.state.Rehearse(); err != nil {
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
		credential, answer, err := h.client.Enroll(ctx, token, hostname, h.bootID, Version, h.host)
		wait := rand.N(bound)
		switch {
		case ctx.Err() != nil:
			return nil, ErrStopped
		case err != nil && answer != nil:
			return nil, err
		case err != nil:
			o.Log.Warn("server_unreachable", "error", err.Error(), "wait_ms", wait.Milliseconds())
		case credential != nil:
			return credential, nil
		case answer.Status == http.StatusTooManyRequests || answer.Status >= 500:
			wait += answer.RetryAfter
			o.Log.Warn("server_busy", "status", answer.Status, "wait_ms", wait.Milliseconds())
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
