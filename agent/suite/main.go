// Command suite does every watched operation in every way it knows under the real agent, and prints what became of each
// as one JSON document. It is a test's tool, static, so that it runs in a virtual machine that has nothing else.
//
//	suite --agent FILE --mode auto|fentry|kprobe|sys_exit [--folder DIR]
//
// The exit status is 0 if the document was printed, whatever it says.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// report is the document. Failures are what no blind spot excuses.
type report struct {
	Kernel     string   `json:"kernel"`
	Arch       string   `json:"arch"`
	Asked      string   `json:"asked"`
	Mode       string   `json:"mode"`
	BlindSpots []string `json:"blind_spots"`
	Rows       int      `json:"rows"`
	LostRows   uint64   `json:"lost_rows"`
	Cells      []*cell  `json:"cells"`
	Failures   []string `json:"failures"`
}

func main() {
	binary := flag.String("agent", "", "the agent's binary")
	mode := flag.String("mode", "auto", "where it is to capture")
	folder := flag.String("folder", "", "an existing folder to work in, that every user may enter (default: a temporary one)")
	nothing := flag.Bool("nothing", false, "do nothing: what is run to see that programs run are seen")
	flag.Parse()
	if *nothing {
		return
	}
	r, err := run(*binary, *mode, *folder)
	if err != nil {
		fmt.Fprintln(os.Stderr, "suite:", err)
		os.Exit(1)
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r); err != nil {
		os.Exit(1)
	}
}

func run(binary, mode, in string) (*report, error) {
	own, err := os.MkdirTemp("", "suite-agent-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(own)
	work, err := os.MkdirTemp(in, "suite-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return nil, err
	}
	unix.Umask(0o022)
	to, err := newSink()
	if err != nil {
		return nil, fmt.Errorf("start the sink: %w", err)
	}
	defer to.server.Close()
	agent, err := start(binary, mode, own, to)
	if err != nil {
		return nil, err
	}
	cells := do(work)
	stopped := agent.stop()
	to.mu.Lock()
	defer to.mu.Unlock()
	if to.header == nil {
		return nil, fmt.Errorf("no batch arrived: %s", agent.tail())
	}
	r := &report{
		Arch: runtime.GOARCH, Asked: mode, Mode: to.header.Mode, BlindSpots: to.header.BlindSpots, Rows: len(to.rows),
		LostRows: to.lost(), Cells: cells, Failures: append([]string{}, to.problems...),
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		r.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	if stopped != nil {
		r.Failures = append(r.Failures, stopped.Error())
	}
	if !to.header.Final {
		r.Failures = append(r.Failures, "the last batch does not say that it is final")
	}
	if r.LostRows != 0 {
		r.Failures = append(r.Failures, fmt.Sprintf("%d rows were lost, so the cells prove nothing", r.LostRows))
	}
	for _, c := range cells {
		r.Failures = append(r.Failures, c.judge(to.rows, to.header.BlindSpots)...)
	}
	return r, nil
}
