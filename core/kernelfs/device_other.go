//go:build !linux

package kernelfs

import "errors"

// ReadAttribute returns errors.ErrUnsupported.
func (fs FS) ReadAttribute(_ string, buf []byte) ([]byte, error) {
	return buf[:0], errors.ErrUnsupported
}

// List returns errors.ErrUnsupported.
func (fs FS) List(string) ([]string, error) { return nil, errors.ErrUnsupported }
