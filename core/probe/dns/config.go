package dns

import (
	"bytes"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"netmon/core/kernelfs"
	"netmon/core/probe"
)

// Names of the files below the root.
const (
	configPath   = "etc/resolv.conf"
	hostsPath    = "etc/hosts"
	switchPath   = "etc/nsswitch.conf"
	hostnamePath = "proc/sys/kernel/hostname"
)

const port = 53

// config is what resolv.conf says.
type config struct {
	servers  []netip.AddrPort
	search   []string // domains without a dot at their end
	ndots    int
	timeout  time.Duration
	attempts int

	rotate, useTCP, edns, single, noIPv6 bool
}

// parseConfig reads resolv.conf(5). Lines that are not understood are passed over, as the C library does. hostname gives the domain
// that is searched where none is named.
//
// A name server may be written [127.0.0.1]:5353 too, as OpenBSD allows.
func parseConfig(text []byte, hostname string) config {
	c := config{ndots: 1, timeout: 5 * time.Second, attempts: 2}
	searched := false
	for len(text) > 0 {
		var line []byte
		line, text = kernelfs.Line(text)
		if len(line) > 0 && (line[0] == ';' || line[0] == '#') {
			continue
		}
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			continue
		}
		switch rest := fields[1:]; fields[0] {
		case "nameserver":
			if server, ok := parseServer(rest[0]); ok && len(c.servers) < mostServers {
				c.servers = append(c.servers, server)
			}
		case "domain":
			c.search, searched = domains(rest[:1]), true
		case "search":
			c.search, searched = domains(rest), true
		case "options":
			for _, option := range rest {
				c.set(option)
			}
		}
	}
	if len(c.servers) == 0 {
		c.servers = []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)}
	}
	if _, domain, found := strings.Cut(hostname, "."); found && !searched {
		c.search = domains([]string{domain})
	}
	return c
}

func parseServer(text string) (netip.AddrPort, bool) {
	if strings.HasPrefix(text, "[") {
		server, err := netip.ParseAddrPort(bracketless(text))
		return netip.AddrPortFrom(server.Addr().Unmap(), server.Port()), err == nil && server.Port() != 0
	}
	address, err := netip.ParseAddr(text)
	return netip.AddrPortFrom(address.Unmap(), port), err == nil
}

// bracketless takes the brackets off an IPv4 address with a port.
func bracketless(text string) string {
	if address, portText, found := strings.Cut(text[1:], "]:"); found && !strings.Contains(address, ":") {
		return address + ":" + portText
	}
	return text
}

func domains(names []string) (search []string) {
	for _, name := range names {
		name = strings.TrimSuffix(name, ".")
		if len(search) < mostSearch && name != "" && probe.CheckName(name) == nil {
			search = append(search, name)
		}
	}
	return search
}

func (c *config) set(option string) {
	name, text, _ := strings.Cut(option, ":")
	number, err := strconv.Atoi(text)
	if err != nil {
		number = -1
	}
	switch name {
	case "ndots":
		if number >= 0 {
			c.ndots = min(number, mostNdots)
		}
	case "timeout":
		if number > 0 {
			c.timeout = min(time.Duration(min(number, 3600))*time.Second, mostTimeout)
		}
	case "attempts":
		if number > 0 {
			c.attempts = min(number, mostAttempts)
		}
	case "rotate":
		c.rotate = true
	case "use-vc", "usevc", "tcp":
		c.useTCP = true
	case "edns0":
		c.edns = true
	case "single-request", "single-request-reopen":
		c.single = true
	case "no-aaaa":
		c.noIPv6 = true
	}
}

// names are the full names to ask for, in order: a name with as many dots as ndots is tried as it is first, another one last.
func (c *config) names(name string) []string {
	if absolute, is := strings.CutSuffix(name, "."); is {
		return []string{absolute}
	}
	var list []string
	for _, domain := range c.search {
		full := name + "." + domain
		if probe.CheckName(full) == nil && !slices.Contains(list, full) {
			list = append(list, full)
		}
	}
	if strings.Count(name, ".") >= c.ndots {
		return slices.Insert(list, 0, name)
	}
	return append(list, name)
}

// parseHosts returns the addresses that hosts(5) gives a name, in the order of the file, IPv4 first. A name may stand in many lines.
func parseHosts(text []byte, name string) (addresses []netip.Addr) {
	wanted := []byte(strings.TrimSuffix(name, "."))
	for len(text) > 0 {
		var line []byte
		line, text = kernelfs.Line(text)
		line, _, _ = bytes.Cut(line, []byte("#"))
		// Most lines are not about this name; some hosts files have a hundred thousand of them.
		first, rest := field(line)
		for len(rest) > 0 {
			var alias []byte
			if alias, rest = field(rest); len(alias) == 0 || !bytes.EqualFold(bytes.TrimSuffix(alias, []byte(".")), wanted) {
				continue
			}
			if address, err := netip.ParseAddr(string(first)); err == nil && len(addresses) < mostAddresses {
				addresses = append(addresses, address.Unmap())
			}
			break
		}
	}
	return tidy(addresses)
}

// field is kernelfs.Field for files that people write, in which a carriage return may end a line.
func field(line []byte) (first, rest []byte) {
	first, rest = kernelfs.Field(line)
	return bytes.TrimRight(first, "\r"), rest
}

// tidy puts IPv4 first and drops what stands twice.
func tidy(addresses []netip.Addr) []netip.Addr {
	var unique []netip.Addr
	for _, address := range addresses {
		if !slices.Contains(unique, address) {
			unique = append(unique, address)
		}
	}
	slices.SortStableFunc(unique, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return unique
}

// parseSwitch returns the services that nsswitch.conf(5) names for hosts beside files and dns.
func parseSwitch(text []byte) (others []string) {
	const mostServices, mostService = 8, 32 // named, and bytes of a name
	for len(text) > 0 {
		var line []byte
		line, text = kernelfs.Line(text)
		line, _, _ = bytes.Cut(line, []byte("#"))
		services, is := strings.CutPrefix(strings.TrimSpace(string(line)), "hosts:")
		if !is {
			continue
		}
		others = nil
		action := false // [NOTFOUND=return] and the like may have blanks in them
		for _, service := range strings.Fields(services) {
			action = action || strings.HasPrefix(service, "[")
			known := service == "files" || service == "dns"
			if !action && !known && len(others) < mostServices && len(service) <= mostService && probe.CheckName(service) == nil {
				others = append(others, service)
			}
			if strings.HasSuffix(service, "]") {
				action = false
			}
		}
	}
	return others
}
