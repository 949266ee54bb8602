//go:build !linux

package dns

import (
	"context"
	"net"
	"net/netip"
	"time"

	"netmon/core/kernelfs"
)

// Hosts would be the addresses that a name has without asking anybody.
func Hosts(kernelfs.FS, string) []netip.Addr { return nil }

// Resolve looks a name up by the system's resolver and waits for the answer, timeout at most: IPv4 addresses first. What was sent is
// not known.
func Resolve(_ kernelfs.FS, name string, timeout time.Duration, _ func() bool) (found []netip.Addr, sent int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, 0, err
	}
	for i := range addresses {
		addresses[i] = addresses[i].Unmap()
	}
	return tidy(addresses), 0, nil
}
