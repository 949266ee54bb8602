//go:build !linux

package tcpinfo

import (
	"errors"

	"netmon/core/kernelfs"
)

// Own reads the TCP connections of this process; not on this system.
type Own struct{}

// OpenOwn returns errors.ErrUnsupported.
func OpenOwn(kernelfs.FS) (*Own, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (o *Own) Close() {}

// Begin does nothing.
func (o *Own) Begin() {}

// Hidden is 0.
func (o *Own) Hidden() int { return 0 }

// Next returns errors.ErrUnsupported.
func (o *Own) Next(int, func(*Socket)) (bool, error) { return false, errors.ErrUnsupported }

// Diag asks for all TCP connections; not on this system.
type Diag struct{}

// OpenDiag returns errors.ErrUnsupported.
func OpenDiag() (*Diag, error) { return nil, errors.ErrUnsupported }

// Close does nothing.
func (d *Diag) Close() {}

// Dump returns errors.ErrUnsupported.
func (d *Diag) Dump(func(*Socket)) error { return errors.ErrUnsupported }
