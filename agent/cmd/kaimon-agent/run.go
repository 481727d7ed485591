package main

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"kaimon/agent/internal/agent"
	"kaimon/agent/internal/config"
)

func run(args []string) int {
	return work("run", args, agent.Run)
}

func enroll(args []string) int {
	return work("enroll", args, agent.Enroll)
}

// work reads the settings and hands them to one of the agent's two ways to work, until it ends or is told to.
func work(name string, args []string, do func(<-chan struct{}, agent.Options) error) int {
	o := agent.Options{Source: &config.Source{}, Stdin: os.Stdin}
	flags := flag.NewFlagSet("kaimon-agent "+name, flag.ContinueOnError)
	o.Source.Flags(flags)
	flags.StringVar(&o.TokenFile, "token-file", "", "`FILE` of the enrollment token, - for standard input; needed once")
	if code, done := parse(flags, args); done {
		return code
	}
	var err error
	if o.Config, err = o.Source.Load(); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", flags.Name(), err)
		return 2
	}
	o.Level = &slog.LevelVar{}
	least, _ := config.Level(o.Config.LogLevel) // Load has checked it
	o.Level.Set(least)
	o.Log = slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: o.Level}))
	stop, end := make(chan struct{}), make(chan os.Signal, 2)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	o.Reload = reload
	go func() {
		<-end
		close(stop)
	}()
	err = do(stop, o)
	if errors.Is(err, agent.ErrStopped) && name == "run" { // who asked to enroll has not got it
		o.Log.Info("stopped", "reason", err.Error())
		return 0
	}
	if err != nil {
		o.Log.Error("failed", "error", err.Error())
		return 1
	}
	return 0
}

func settings(args []string) int {
	source := &config.Source{}
	flags := flag.NewFlagSet("kaimon-agent settings", flag.ContinueOnError)
	source.Flags(flags)
	if code, done := parse(flags, args); done {
		return code
	}
	c, err := source.Load()
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", flags.Name(), err)
		return 2
	}
	_, _ = os.Stdout.Write(c.YAML())
	return 0
}
