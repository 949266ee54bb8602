package monitor

import (
	"errors"
	"syscall"
)

// isExhausted tells whether the process has no descriptor left.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
