package identity

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// askHidden asks on the terminal for one line that is not shown; ok is false if file is no terminal.
func askHidden(file io.Reader, question string) (line string, ok bool, err error) {
	terminal, isFile := file.(*os.File)
	if !isFile {
		return "", false, nil
	}
	fd := int(terminal.Fd())
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return "", false, nil // no terminal
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	hidden.Lflag |= unix.ICANON | unix.ISIG | unix.ECHONL
	show := func() { _ = unix.IoctlSetTermios(fd, unix.TCSETSF, before) }

	// Who interrupts gets the terminal back as it was, then what the signal does otherwise.
	interrupted, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(interrupted, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(interrupted)
	defer close(done)
	go func() {
		select {
		case <-interrupted:
			show()
			os.Exit(1)
		case <-done:
		}
	}()
	if err := unix.IoctlSetTermios(fd, unix.TCSETSF, &hidden); err != nil {
		return "", true, fmt.Errorf("hide what is typed: %w", err)
	}
	defer show()
	fmt.Fprint(os.Stderr, question)
	line, err = bufio.NewReader(io.LimitReader(terminal, mostToken)).ReadString('\n')
	if err == io.EOF {
		err = nil
	}
	return line, true, err
}
