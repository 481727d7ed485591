// Command kaimon-agent watches what happens to files on a Linux host and ships it to kaimon.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"kaimon/agent/internal/agent"
)

const usage = `kaimon-agent watches what happens to files and ships it to kaimon.

  kaimon-agent run [--config FILE] [--token-file FILE|-] [--SETTING VALUE]...
  kaimon-agent enroll [--config FILE] --token-file FILE|- [--SETTING VALUE]...
                                 swap an enrollment token for a credential, and stop
  kaimon-agent settings [--config FILE] [--SETTING VALUE]...
                                 check the settings, and print what holds
  kaimon-agent probe [--json]    try what this kernel allows: mode, blind spots and why
  kaimon-agent verify FILE [--signature FILE.sig] [--key PUB]
                                 check the signature of a file of a release
  kaimon-agent version

Each command that takes settings lists them with --help.
`

func main() {
	os.Exit(command(os.Args[1:]))
}

func command(args []string) int {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	switch name {
	case "run":
		return run(args[1:])
	case "enroll":
		return enroll(args[1:])
	case "settings":
		return settings(args[1:])
	case "probe":
		return show(args[1:])
	case "verify":
		return verify(args[1:])
	case "version":
		fmt.Println("kaimon-agent", agent.Version)
		return 0
	case "help", "-h", "--help":
		fmt.Print(usage)
		return 0
	}
	fmt.Fprint(os.Stderr, usage)
	return 2
}

// parse reads a command's flags; done says that the command ends here, with the exit status code.
func parse(flags *flag.FlagSet, args []string) (code int, done bool) {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0, true
	case err != nil:
		return 2, true
	case flags.NArg() > 0:
		fmt.Fprintf(os.Stderr, "%s: what is %q?\n", flags.Name(), flags.Arg(0))
		return 2, true
	}
	return 0, false
}
