package reach

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"

	"netmon/core/clock"
	"netmon/core/kernelfs"
	"netmon/core/probe"
	"netmon/core/probe/dns"
	"netmon/core/probe/icmp"
	"netmon/core/probe/path"
	"netmon/core/probe/tcp"
	"netmon/core/probe/udp"
	"netmon/core/route"
)

// System are the tools of this machine. They work in the network namespace of the thread that uses them.
func System(files kernelfs.FS, clk clock.Clock) Tools {
	return Tools{
		Prober: func(method probe.Method) (probe.Prober, error) {
			switch method {
			case probe.ICMP:
				p, err := icmp.New()
				if err != nil {
					return nil, err
				}
				return p, nil
			case probe.TCP:
				return tcp.New(), nil
			case probe.UDP:
				p, err := udp.New()
				if err != nil {
					return nil, fmt.Errorf("udp: %w", err)
				}
				return p, nil
			default:
				return nil, fmt.Errorf("%s: %w", method, errors.ErrUnsupported)
			}
		},
		Gateway: func() (netip.Addr, error) {
			defaults, opened := route.Open(files)
			v4, v6 := defaults.Read()
			defaults.Close()
			switch {
			case v4.Gateway.IsValid():
				return v4.Gateway, nil
			case v6.Gateway.IsValid():
				return v6.Gateway, nil
			case v4.Interface != "" || v6.Interface != "":
				return netip.Addr{}, errors.New("the default route leads to no gateway")
			case opened != nil && !errors.Is(opened, fs.ErrNotExist):
				return netip.Addr{}, opened
			default:
				return netip.Addr{}, errors.New("there is no default route")
			}
		},
		Names: func() Names { return dns.New(files, clk) },
		Trace: func(o path.Options) (Tracer, error) {
			trace, err := path.Start(o, clk)
			if err != nil {
				return nil, err
			}
			return trace, nil
		},
		Own: ownAddresses,
	}
}

// ownAddresses are those of the thread's namespace.
// Source: RTM_GETADDR (rtnetlink(7)) by way of package net, which opens a socket for the question and closes it.
func ownAddresses() (own []netip.Addr, err error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, one := range all {
		if prefix, err := netip.ParsePrefix(one.String()); err == nil {
			own = append(own, prefix.Addr().Unmap())
		}
	}
	return own, nil
}
