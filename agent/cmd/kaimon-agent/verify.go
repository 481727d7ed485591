package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"kaimon/agent/internal/sign"
)

// verify checks the signature of a file of a release. Exit status: 0 good, 1 not, 2 wrongly asked.
func verify(args []string) int {
	flags := flag.NewFlagSet("kaimon-agent verify", flag.ContinueOnError)
	signature := flags.String("signature", "", "the signature's `FILE` (default: the file's name with .sig)")
	keyFile := flags.String("key", "", "the public key's `FILE`, PEM (default: the key that this binary was built with)")
	// Flags may stand before and after the file.
	var files []string
	for rest := args; ; {
		if err := flags.Parse(rest); errors.Is(err, flag.ErrHelp) {
			return 0
		} else if err != nil {
			return 2
		}
		if flags.NArg() == 0 {
			break
		}
		files, rest = append(files, flags.Arg(0)), flags.Args()[1:]
	}
	if len(files) != 1 {
		fmt.Fprintln(os.Stderr, "kaimon-agent verify: name one file")
		return 2
	}
	file := files[0]
	if *signature == "" {
		*signature = file + ".sig"
	}
	key, err := trusted(*keyFile)
	if errors.Is(err, sign.ErrNoKey) {
		fmt.Fprintln(os.Stderr, "kaimon-agent verify: this build trusts no key; name one with --key")
		return 2
	}
	if err == nil {
		err = key.Verify(file, *signature)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "kaimon-agent verify:", err)
		return 1
	}
	fmt.Printf("%s: good signature by the key %s\n", file, key.Fingerprint())
	return 0
}

func trusted(keyFile string) (sign.Key, error) {
	if keyFile != "" {
		return sign.ReadKey(keyFile)
	}
	return sign.Trusted()
}
