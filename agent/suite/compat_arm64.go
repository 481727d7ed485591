package main

import "errors"

func byCompat(*cell) error {
	return errors.New("a 64-bit program cannot make 32-bit calls on arm64")
}
