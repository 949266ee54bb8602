//go:build !linux

package tool

import (
	"errors"

	"netmon/core/clock"
)

// Run says errors.ErrUnsupported.
func Run(Spawn, string, Program, Limits, clock.Clock) (Output, error) {
	return Output{}, errors.ErrUnsupported
}

// Find says errors.ErrUnsupported.
func Find(string, string) (string, error) { return "", errors.ErrUnsupported }

// Environment is empty.
func Environment(func(name string) (value string, found bool)) []string { return nil }
