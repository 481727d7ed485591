package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// log keeps what the agent says; it is written by one goroutine and read by another.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// running is the real agent, as a process that delivers to the sink.
type running struct {
	command *exec.Cmd
	said    log
	ended   chan error
}

func start(binary, mode, folder string, to *sink) (*running, error) {
	ca := filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(ca, to.ca, 0o600); err != nil {
		return nil, err
	}
	// Nothing collapses, so that each deed is a row; patience, since the machine may be interpreted.
	a := &running{ended: make(chan error, 1), command: exec.Command(binary, "run", "--server", "https://"+to.address,
		"--ca", ca, "--state-dir", filepath.Join(folder, "state"), "--token-file", "-", "--mode", mode,
		"--collapse-window", "0", "--cut-interval", "200ms", "--heartbeat", "2s", "--send-timeout", "60s",
		"--stop-timeout", "60s")}
	a.command.Stdin, a.command.Stderr = strings.NewReader(token("enr")+"\n"), &a.said
	if err := a.command.Start(); err != nil {
		return nil, err
	}
	go func() { a.ended <- a.command.Wait() }()
	for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if strings.Contains(a.said.String(), `"msg":"capturing"`) {
			return a, nil
		}
		select {
		case err := <-a.ended:
			return nil, fmt.Errorf("the agent ended before it captured: %w: %s", err, a.tail())
		default:
		}
	}
	_ = a.command.Process.Kill()
	return nil, fmt.Errorf("the agent does not capture after 2 minutes: %s", a.tail())
}

// stop ends the agent as systemd does; it must have delivered everything.
func (a *running) stop() error {
	if err := a.command.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-a.ended:
		if err != nil {
			return fmt.Errorf("the agent ended badly: %w: %s", err, a.tail())
		}
		return nil
	case <-time.After(2 * time.Minute):
		_ = a.command.Process.Kill()
		return fmt.Errorf("the agent does not stop: %s", a.tail())
	}
}

func (a *running) tail() string {
	text := a.said.String()
	return text[max(0, len(text)-1500):]
}
