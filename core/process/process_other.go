//go:build !linux

package process

import (
	"errors"

	"netmon/core/kernelfs"
)

// HasChildren is false: it is not known here.
func HasChildren() bool { return false }

// Read returns errors.ErrUnsupported.
func Read(kernelfs.FS, Ray) (Family, error) { return Family{}, errors.ErrUnsupported }
