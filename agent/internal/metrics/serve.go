package metrics

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"time"
)

// Server answers on a Unix socket.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen makes the socket, 0660. One that nobody answers on any more is replaced.
func Listen(path string) (*Server, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("look at the metrics socket: %w", err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, fmt.Errorf("%s is there already and is no socket", path)
	default:
		if other, err := net.DialTimeout("unix", path, time.Second); err == nil {
			other.Close()
			return nil, fmt.Errorf("somebody answers on %s already", path)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("replace the metrics socket: %w", err)
		}
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("make the metrics socket: %w", err)
	}
	// A sealed agent cannot remove it; the next one does, or systemd with the folder.
	listener.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o660); err != nil {
		listener.Close()
		return nil, fmt.Errorf("open the metrics socket to its group: %w", err)
	}
	return &Server{listener: listener}, nil
}

const (
	readWithin  = 5 * time.Second
	writeWithin = 10 * time.Second
	mostHeader  = 8 << 10
)

// Serve answers GET /metrics and GET /healthz (200, or 503 with the reasons) with what state says, until Close.
func (s *Server) Serve(state func() *State) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(state().Text(time.Now()))
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		why := state().Unwell(time.Now())
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if len(why) == 0 {
			fmt.Fprintln(w, "healthy")
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		for _, one := range why {
			fmt.Fprintln(w, one)
		}
	})
	s.http = &http.Server{
		Handler: mux, ReadTimeout: readWithin, WriteTimeout: writeWithin, IdleTimeout: readWithin, MaxHeaderBytes: mostHeader,
	}
	go func() { _ = s.http.Serve(s.listener) }() // it ends with Close
}

// Close stops answering.
func (s *Server) Close() {
	if s.http != nil {
		_ = s.http.Close()
	}
	_ = s.listener.Close()
}
