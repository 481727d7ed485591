// Package config reads the agent's settings: one YAML file, and flags that win over it.
package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config is every setting. The tags say its name in the file, its flag, whether a running agent takes a new value,
// and what it means. agent/README.md and deploy/agent/agent.yaml document each; a test holds them to it.
type Config struct {
	Server           string        `yaml:"server" flag:"server" usage:"URL of ingest, https only"`
	CAFile           string        `yaml:"ca_file" flag:"ca" usage:"PEM FILE of certificate authorities (default: the system's)"`
	StateDir         string        `yaml:"state_dir" flag:"state-dir" usage:"DIR of the agent's own, for its credential"`
	Mode             string        `yaml:"mode" flag:"mode" usage:"where to capture: auto, fentry, kprobe or sys_exit"`
	Include          []string      `yaml:"include" flag:"include" hot:"yes" usage:"DIR to watch; if any is given, nothing else; repeatable"`
	Exclude          []string      `yaml:"exclude" flag:"exclude" hot:"yes" usage:"DIR to leave out, in the kernel; repeatable"`
	OnlyProcesses    []string      `yaml:"only_processes" flag:"only-process" hot:"yes" usage:"EXECUTABLE to watch; if any is given, no other; repeatable"`
	ExcludeProcesses []string      `yaml:"exclude_processes" flag:"exclude-process" hot:"yes" usage:"EXECUTABLE to leave out; repeatable"`
	Sensitive        []string      `yaml:"sensitive" flag:"sensitive" hot:"yes" usage:"PATTERN of files whose opens are always kept, instead of the default list; repeatable"`
	CollapseWindow   time.Duration `yaml:"collapse_window" flag:"collapse-window" hot:"yes" usage:"how long repeated opens and writes become one row; 0 = off"`
	BufferBytes      int           `yaml:"buffer_bytes" flag:"buffer-bytes" usage:"rows held in memory at most, in bytes"`
	CutInterval      time.Duration `yaml:"cut_interval" flag:"cut-interval" usage:"how long rows wait for company"`
	Heartbeat        time.Duration `yaml:"heartbeat" flag:"heartbeat" usage:"longest silence; then an empty batch"`
	AuthRetry        time.Duration `yaml:"auth_retry" flag:"auth-retry" usage:"time between attempts after 401 or 403"`
	SendTimeout      time.Duration `yaml:"send_timeout" flag:"send-timeout" usage:"how long an answer is waited for"`
	StopTimeout      time.Duration `yaml:"stop_timeout" flag:"stop-timeout" usage:"how long the last rows may take"`
	LogLevel         string        `yaml:"log_level" flag:"log-level" hot:"yes" usage:"debug, info, warn or error"`
	MetricsSocket    string        `yaml:"metrics_socket" flag:"metrics-socket" usage:"PATH of a Unix socket that answers with Prometheus metrics (default: none)"`
}

// Modes are where the agent can capture; auto tries them in this order.
var Modes = []string{"auto", "fentry", "kprobe", "sys_exit"}

// Default is what holds where neither file nor flag says otherwise.
func Default() Config {
	return Config{
		Mode: "auto", Sensitive: slices.Clone(Sensitive), CollapseWindow: time.Second, BufferBytes: 56 << 20,
		CutInterval: 2 * time.Second, Heartbeat: 30 * time.Second, AuthRetry: 5 * time.Minute,
		SendTimeout: 30 * time.Second, StopTimeout: 10 * time.Second, LogLevel: "info",
	}
}

const (
	leastBuffer  = 1 << 20
	mostBuffer   = 4 << 30
	mostCollapse = time.Minute
	mostSocket   = 107 // bytes of a Unix socket's path
)

// A KeyError is what is wrong with one setting.
type KeyError struct{ Key, Problem string }

func (e *KeyError) Error() string { return e.Key + ": " + e.Problem }

// Check says what is wrong with the settings, the first thing only; nil if they can be run with.
func (c *Config) Check() error {
	switch {
	case c.Server == "":
		return &KeyError{"server", "is needed"}
	case c.StateDir == "":
		return &KeyError{"state_dir", "is needed"}
	}
	return c.checkValues()
}

// checkValues is Check, but for what a file may leave to flags.
func (c *Config) checkValues() error {
	if c.Server != "" {
		if u, err := url.Parse(c.Server); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
			return &KeyError{"server", "must begin with https:// and name a host"}
		}
	}
	if !slices.Contains(Modes, c.Mode) {
		return &KeyError{"mode", fmt.Sprintf("must be one of %s, not %q", strings.Join(Modes, ", "), c.Mode)}
	}
	for _, list := range []struct {
		key   string
		paths []string
	}{
		{"include", c.Include}, {"exclude", c.Exclude},
		{"only_processes", c.OnlyProcesses}, {"exclude_processes", c.ExcludeProcesses},
	} {
		for _, path := range list.paths {
			if problem := badPath(path); problem != "" {
				return &KeyError{list.key, fmt.Sprintf("%q %s", path, problem)}
			}
		}
	}
	for _, pattern := range c.Sensitive {
		if problem := badPattern(pattern); problem != "" {
			return &KeyError{"sensitive", fmt.Sprintf("%q %s", pattern, problem)}
		}
	}
	if c.CollapseWindow < 0 || c.CollapseWindow > mostCollapse {
		return &KeyError{"collapse_window", fmt.Sprintf("must be 0 to %s", mostCollapse)}
	}
	if c.BufferBytes < leastBuffer || c.BufferBytes > mostBuffer {
		return &KeyError{"buffer_bytes", fmt.Sprintf("must be %d to %d", leastBuffer, mostBuffer)}
	}
	for key, d := range map[string]time.Duration{
		"cut_interval": c.CutInterval, "heartbeat": c.Heartbeat, "auth_retry": c.AuthRetry,
		"send_timeout": c.SendTimeout, "stop_timeout": c.StopTimeout,
	} {
		if d <= 0 {
			return &KeyError{key, "must be more than nothing"}
		}
	}
	if _, err := Level(c.LogLevel); err != nil {
		return &KeyError{"log_level", "must be debug, info, warn or error"}
	}
	if c.MetricsSocket != "" && (!filepath.IsAbs(c.MetricsSocket) || len(c.MetricsSocket) > mostSocket) {
		return &KeyError{"metrics_socket", fmt.Sprintf("must be an absolute path of %d bytes at most", mostSocket)}
	}
	return nil
}

// Level is the least level that is logged.
func Level(name string) (slog.Level, error) {
	switch name {
	case "debug", "info", "warn", "error":
		var level slog.Level
		return level, level.UnmarshalText([]byte(name))
	}
	return 0, fmt.Errorf("no level is called %q", name)
}

func badPath(path string) string {
	switch {
	case !filepath.IsAbs(path):
		return "is not an absolute path"
	case filepath.Clean(path) == "/":
		return "is everything"
	case strings.IndexByte(path, 0) >= 0:
		return "holds a NUL"
	case slices.Contains(strings.Split(path, "/"), ".."):
		return "has .. in it"
	}
	return ""
}
