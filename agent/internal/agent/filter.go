package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"kaimon/agent/internal/config"
	"kaimon/agent/internal/paths"
	"kaimon/agent/internal/probe"
)

// filterOf is what the settings say of what is captured.
func filterOf(c *config.Config) probe.Filter {
	return probe.Filter{
		Include: c.Include, Exclude: c.Exclude, OnlyProcesses: c.OnlyProcesses, ExcludeProcesses: c.ExcludeProcesses,
		Sensitive: c.Sensitive, Collapse: c.CollapseWindow,
	}
}

// openCapture loads the programs with the filters of the settings.
func openCapture(c *config.Config) (*probe.Capture, error) {
	return probe.Open(c.Mode, []string{c.StateDir}, filterOf(c))
}

// apply puts hot settings into force, all or none.
func apply(capture *probe.Capture, sensitive *atomic.Pointer[paths.Patterns], level *slog.LevelVar, c *config.Config) error {
	least, err := config.Level(c.LogLevel)
	if err != nil {
		return err
	}
	if err := capture.Apply(filterOf(c)); err != nil {
		return fmt.Errorf("filter anew: %w", err)
	}
	sensitive.Store(paths.NewPatterns(c.Sensitive))
	level.Set(least)
	return nil
}

// rehearse does what a running agent does to the kernel from time to time.
func rehearse(capture *probe.Capture, o *Options) error {
	_, err := capture.Check()
	_, canary := capture.Canary()
	return errors.Join(err, canary, capture.Sweep(), capture.Apply(filterOf(&o.Config)))
}
