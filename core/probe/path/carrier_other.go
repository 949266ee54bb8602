//go:build !linux

package path

import (
	"errors"
	"net/netip"

	"netmon/core/clock"
)

func openCarrier(format, netip.Addr, clock.Clock) (carrier, error) { return nil, errors.ErrUnsupported }
