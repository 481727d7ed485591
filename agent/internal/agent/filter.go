package agent

import (
	"errors"
	"log/slog"
	"slices"

	"kaimon/agent/internal/config"
	"kaimon/agent/internal/probe"
)

// openCapture loads the programs with the filters of the settings.
func openCapture(c *config.Config) (*probe.Capture, error) {
	if len(c.Include)+len(c.OnlyProcesses)+len(c.ExcludeProcesses) > 0 || c.Mode != "auto" && c.Mode != probe.SysExit {
		return nil, errNotYet
	}
	return probe.Open(append([]string{c.StateDir}, c.Exclude...))
}

var errNotYet = errors.New("this version cannot include, tell processes apart, nor capture in another mode than sys_exit")

// apply puts hot settings into force.
func apply(capture *probe.Capture, level *slog.LevelVar, c *config.Config) error {
	if !slices.Equal(capture.Excluded[1:], c.Exclude) {
		return errors.New("this version takes other folders only when it starts")
	}
	least, err := config.Level(c.LogLevel)
	if err != nil {
		return err
	}
	level.Set(least)
	return nil
}

// rehearse does what a running agent does to the kernel from time to time.
func rehearse(capture *probe.Capture, o *Options) error {
	_, err := capture.Check()
	return errors.Join(err, apply(capture, o.Level, &o.Config))
}
