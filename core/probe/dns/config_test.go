package dns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"netmon/core/probe"
)

func servers(list ...string) (parsed []netip.AddrPort) {
	for _, text := range list {
		parsed = append(parsed, netip.MustParseAddrPort(text))
	}
	return parsed
}

func addresses(list ...string) (parsed []netip.Addr) {
	for _, text := range list {
		parsed = append(parsed, netip.MustParseAddr(text))
	}
	return parsed
}

func TestParseConfig(t *testing.T) {
	plain := config{servers: servers("127.0.0.1:53"), ndots: 1, timeout: 5 * time.Second, attempts: 2}
	with := func(change func(*config)) config {
		c := plain
		change(&c)
		return c
	}
	tests := map[string]struct {
		text string
		want config
	}{
		"nothing":         {"", plain},
		"comments":        {"# nameserver 10.0.0.1\n; nameserver 10.0.0.1\n", plain},
		"systemd's":       {"nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n", with(func(c *config) { c.servers, c.edns, c.search = servers("127.0.0.53:53"), true, []string{"lan"} })},
		"IPv6, with zone": {"nameserver 2001:db8::1\nnameserver fe80::1%eth0\n", with(func(c *config) { c.servers = servers("[2001:db8::1]:53", "[fe80::1%eth0]:53") })},
		"IPv4 in IPv6":    {"nameserver ::ffff:10.0.0.1", with(func(c *config) { c.servers = servers("10.0.0.1:53") })},
		"with a port":     {"nameserver [127.0.0.1]:5353\nnameserver [::1]:54", with(func(c *config) { c.servers = servers("127.0.0.1:5353", "[::1]:54") })},
		"three at most":   {"nameserver 10.0.0.1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n", with(func(c *config) { c.servers = servers("10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53") })},
		"no address":      {"nameserver ns.example\nnameserver 10.0.0\nnameserver [10.0.0.1]\nnameserver [10.0.0.1]:0\nnameserver\n", plain},
		"one domain":      {"domain a.example b.example", with(func(c *config) { c.search = []string{"a.example"} })},
		"the last counts": {"search a.example\ndomain b.example\nsearch c.example. d.example\n", with(func(c *config) { c.search = []string{"c.example", "d.example"} })},
		"root is none":    {"search . a..b\n", plain},
		"kubernetes": {"search x.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n", with(func(c *config) {
			c.search, c.servers, c.ndots = []string{"x.svc.cluster.local", "svc.cluster.local"}, servers("10.96.0.10:53"), 5
		})},
		"all options": {"options ndots:3 timeout:2 attempts:4 rotate use-vc single-request no-aaaa edns0 debug\n", with(func(c *config) {
			c.ndots, c.timeout, c.attempts, c.rotate, c.useTCP, c.single, c.noIPv6, c.edns = 3, 2*time.Second, 4, true, true, true, true, true
		})},
		"options too large":   {"options ndots:99 timeout:9999999999 attempts:99", with(func(c *config) { c.ndots, c.timeout, c.attempts = 15, 30*time.Second, 5 })},
		"options of no sense": {"options ndots:-1 timeout:0 attempts:x timeout\noptions\n", plain},
		"blanks and returns":  {"  nameserver\t10.0.0.1  \r\n", with(func(c *config) { c.servers = servers("10.0.0.1:53") })},
	}
	for name, tt := range tests {
		assert.Equal(t, tt.want, parseConfig([]byte(tt.text), "node7"), name)
	}
	assert.Equal(t, []string{"cluster.example"}, parseConfig(nil, "node7.cluster.example").search, "the host's own domain")
	assert.Equal(t, []string{"a.example"}, parseConfig([]byte("search a.example"), "node7.cluster.example").search)
	assert.Empty(t, parseConfig([]byte("search ."), "node7.cluster.example").search, "says that none is searched")
}

func TestConfig_names(t *testing.T) {
	search := config{search: []string{"a.example", "b.example"}, ndots: 1}
	many := config{search: []string{"svc.cluster.local"}, ndots: 5}
	tests := []struct {
		config config
		name   string
		want   []string
	}{
		{search, "node7", []string{"node7.a.example", "node7.b.example", "node7"}},
		{search, "node7.rack", []string{"node7.rack", "node7.rack.a.example", "node7.rack.b.example"}},
		{search, "node7.", []string{"node7"}},
		{many, "www.example.com", []string{"www.example.com.svc.cluster.local", "www.example.com"}},
		{config{ndots: 1}, "node7", []string{"node7"}},
		{search, strings.Repeat("a.", 125) + "a", []string{strings.Repeat("a.", 125) + "a"}},
		{config{search: []string{"a", "a"}, ndots: 1}, "b", []string{"b.a", "b"}},
	}
	for _, tt := range tests {
		assert.Equal(t, tt.want, tt.config.names(tt.name), tt.name)
	}
}

func TestParseHosts(t *testing.T) {
	const text = "127.0.0.1 localhost localhost.localdomain # node9\n" +
		"::1 localhost ip6-localhost\n" +
		"# 10.0.0.9 node9\n" +
		"10.0.0.7\tnode7.example  Node7\r\n" +
		"fe80::7%eth0 node7\n" +
		"10.0.0.8 node7\n10.0.0.8 node7 node7\n" +
		"nonsense node8\n" +
		"10.0.0.10 node10.\n" +
		"10.0.0.11\n" +
		"::ffff:10.0.0.12 node12"
	tests := map[string][]netip.Addr{
		"localhost":     addresses("127.0.0.1", "::1"),
		"LOCALHOST":     addresses("127.0.0.1", "::1"),
		"node7":         addresses("10.0.0.7", "10.0.0.8", "fe80::7%eth0"),
		"node7.":        addresses("10.0.0.7", "10.0.0.8", "fe80::7%eth0"),
		"node7.example": addresses("10.0.0.7"),
		"node8":         nil,
		"node9":         nil,
		"node10":        addresses("10.0.0.10"),
		"10.0.0.11":     nil,
		"node12":        addresses("10.0.0.12"),
		"node":          nil,
		"":              nil,
	}
	for name, want := range tests {
		assert.Equal(t, want, parseHosts([]byte(text), name), name)
	}
	var many strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&many, "10.0.%d.%d many\n", i/256, i%256)
	}
	assert.Len(t, parseHosts([]byte(many.String()), "many"), mostAddresses)
}

func TestParseSwitch(t *testing.T) {
	tests := map[string][]string{
		"hosts: files dns\n":  nil,
		"passwd: files sss\n": nil,
		"":                    nil,
		"hosts:\tfiles mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns myhostname # wins\n": {"mdns4_minimal", "resolve", "myhostname"},
		"hosts: files [ NOTFOUND=return ] sss": {"sss"},
		"hosts: files \x00\x1b[2J dns":         nil,
		"hosts: a b c d e f g h i j":           {"a", "b", "c", "d", "e", "f", "g", "h"},
	}
	for text, want := range tests {
		assert.Equal(t, want, parseSwitch([]byte(text)), text)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("nameserver 127.0.0.53\noptions edns0 trust-ad ndots:5\nsearch lan\n"), "node7")
	f.Add([]byte("nameserver fe80::1%eth0\nnameserver [127.0.0.1]:5353\ndomain a.example\n"), "a.b.c")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		c := parseConfig(text, name)
		require.NotEmpty(t, c.servers)
		require.LessOrEqual(t, len(c.servers), mostServers)
		for _, server := range c.servers {
			require.True(t, server.IsValid())
			require.NotZero(t, server.Port())
		}
		require.LessOrEqual(t, len(c.search), mostSearch)
		require.True(t, c.timeout >= time.Second && c.timeout <= mostTimeout)
		require.True(t, c.attempts >= 1 && c.attempts <= mostAttempts)
		if probe.CheckName(name) != nil {
			return
		}
		names := c.names(name)
		require.NotEmpty(t, names)
		for _, full := range names {
			require.NoError(t, probe.CheckName(full))
			_, err := newQuestion(full, 1, 0)
			require.NoError(t, err)
		}
	})
}

func FuzzParseHosts(f *testing.F) {
	f.Add([]byte("127.0.0.1 localhost\n::1 localhost ip6-localhost\n"), "localhost")
	f.Add([]byte("10.0.0.7\tnode7.example  Node7\r\n# x\nfe80::7%eth0 node7"), "node7")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		found := parseHosts(text, name)
		require.LessOrEqual(t, len(found), mostAddresses)
		for _, address := range found {
			require.True(t, address.IsValid() && !address.Is4In6())
		}
	})
}

func FuzzParseSwitch(f *testing.F) {
	f.Add([]byte("hosts:\tfiles mdns4_minimal [NOTFOUND=return] resolve [!UNAVAIL=return] dns myhostname\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		for _, service := range parseSwitch(text) {
			require.NoError(t, probe.CheckName(service))
		}
	})
}
