//go:build !linux

package dns

import (
	"context"
	"net"
	"net/netip"
	"time"

	"netmon/core/kernelfs"
)

// Resolve looks a name up by the system's resolver and waits for the answer, timeout at most: IPv4 addresses first.
func Resolve(_ kernelfs.FS, name string, timeout time.Duration) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil, err
	}
	for i := range addresses {
		addresses[i] = addresses[i].Unmap()
	}
	return tidy(addresses), nil
}
